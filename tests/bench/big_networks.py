"""Networks of real size with random weights, and their conversion, for `tests.bench.runtimes`:

    python -m tests.bench.big_networks unet|turbo|text|sam-mobile|sam-vit_b WORK

A file `small` in WORK makes them small: to see within minutes that everything runs.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from studio.nets import torchvision_guard

SMALL = "small"
MAX_TOKENS = 77
TEXT_WAYS = (
    ("onnxruntime", "fp32"), ("onnxruntime", "int4-weights"), ("openvino", "fp32"), ("openvino", "int8-weights"),
    ("openvino", "int4-weights"),
)  # fmt: skip


class Sizes(NamedTuple):
    """Keyword arguments of the UNet and the text encoder; which SAM stands for all; latents along a side."""

    unet: dict[str, Any]
    text: dict[str, Any]
    sam: str | None
    side: int


REAL = Sizes(
    {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    None,
    64,
)
TINY = Sizes(
    {
        "sample_size": 16,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
    },
    {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
    "starter",
    16,
)


def sizes(work: Path) -> Sizes:
    return TINY if (work / SMALL).is_file() else REAL


def turbo_card(work: Path) -> dict[str, Any]:
    side = 8 * sizes(work).side
    return {
        "id": "turbo",
        "title": "SD-Turbo size",
        "tasks": ["generate"],
        "engine": "diffusion",
        "licence": "Apache-2.0",
        "source": {"kind": "none"},
        "defaults": {"steps": 1, "guidance_scale": 0.0, "width": side, "height": side},
        "options": {"size": side},
    }


def unet(work: Path) -> tuple[Any, tuple[Any, ...]]:
    """An SD 1.5-size UNet on torch, and one guided step's inputs."""
    torchvision_guard.install()
    import torch
    from diffusers import UNet2DConditionModel

    from studio.engines.torch_parts import Unet

    torch.manual_seed(0)
    size = sizes(work)
    model = Unet(UNet2DConditionModel(**size.unet)).eval().requires_grad_(False)
    text = torch.randn(2, MAX_TOKENS, size.unet["cross_attention_dim"])
    return model, (torch.randn(2, 4, size.side, size.side), torch.full((2,), 500.0), text)


def sam_config(work: Path, kind: str) -> dict[str, Any]:
    from studio.nets.sam import CONFIGS

    return dict(CONFIGS[sizes(work).sam or kind])


def sam(work: Path, kind: str) -> tuple[Any, Any]:
    """The network of that published size, and a picture."""
    import torch

    from studio.nets.sam import build_sam

    torch.manual_seed(0)
    config = sam_config(work, kind)
    side = int(config["image_size"])
    return build_sam(config).requires_grad_(False), torch.randn(1, 3, side, side)


def convert(work: Path, name: str, module: Any, feed: dict[str, Any], *, output: str, free: bool = False) -> None:
    """Straight from torch to OpenVINO, which saves writing 3.4 GB of ONNX: fp32 in <name>-fp32.xml.

    `free` leaves batch and sizes open, as an engine needs them; the benchmark of one step fixes them again.
    """
    from studio.compress.quantize import _openvino

    ov = _openvino()
    example = tuple(feed.values())
    shapes = [[-1] * value.ndim if free else list(value.shape) for value in example]
    for shape, value in zip(shapes, example, strict=True):
        shape[1:2] = value.shape[1:2] if value.ndim == 4 else shape[1:2]  # channels, and
        shape[2:] = value.shape[2:] if value.ndim == 3 else shape[2:]  # the width of a text, are the network's own
    model = ov.convert_model(module, example_input=example, input=[ov.PartialShape(shape) for shape in shapes])
    for port, key in zip(model.inputs, feed, strict=True):
        port.get_tensor().set_names({key})
    model.outputs[0].get_tensor().set_names({output})
    np.savez(work / f"{name}.inputs.npz", **{key: value.numpy() for key, value in feed.items()})
    ov.save_model(model, str(work / f"{name}-fp32.xml"), compress_to_fp16=False)


def quantize(work: Path, name: str) -> None:
    """int8 and int8 weights beside the fp32 file, once torch's copy of the weights is gone.

    Weights are random, so what only mends the values (bias correction) is left out; the graph is the same without.
    """
    from studio.compress.quantize import _nncf, _openvino

    ov, nncf = _openvino(), _nncf()
    with np.load(work / f"{name}.inputs.npz") as arrays:
        feed = {key: arrays[key] for key in arrays.files}

    def read() -> Any:
        return ov.Core().read_model(str(work / f"{name}-fp32.xml"))

    options = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    made = nncf.quantize(
        read(),
        nncf.Dataset([feed]),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=1,
        advanced_parameters=options,
    )
    ov.save_model(made, str(work / f"{name}-int8.xml"), compress_to_fp16=True)
    del made
    light = nncf.compress_weights(read(), mode=nncf.CompressWeightsMode.INT8_SYM)
    ov.save_model(light, str(work / f"{name}-int8-weights.xml"), compress_to_fp16=True)


def make_unet(work: Path) -> None:
    model, (sample, timestep, text) = unet(work)
    convert(work, "unet", model, {"sample": sample, "timestep": timestep, "text": text}, output="output", free=True)
    del model
    gc.collect()
    quantize(work, "unet")


def make_sam(work: Path, kind: str) -> None:
    import torch

    from studio.compress.parts import PARTS
    from studio.engines.torch_parts import SamDecoder, SamEncoder, TorchPart, export

    whole, pixels = sam(work, kind)
    about, config = PARTS["sam"], sam_config(work, kind)
    encoder = SamEncoder(whole).eval()
    convert(work, f"sam-{kind}", encoder, {"pixels": pixels}, output="features")
    part = TorchPart(encoder, about["encoder"].inputs, about["encoder"].outputs, (pixels,))
    export(part, about["encoder"], work / f"sam-{kind}-fp32.onnx")
    side, grid = int(config["image_size"]), int(config["image_size"]) // int(config["stride"])
    features = torch.randn(1, int(config["prompt_dim"]), grid, grid)
    inputs = (features, torch.tensor([[[side / 3, side / 2], [0.0, 0.0]]]), torch.tensor([[1.0, -1.0]]))
    part = TorchPart(SamDecoder(whole).eval(), about["decoder"].inputs, about["decoder"].outputs, inputs)
    export(part, about["decoder"], work / f"sam-{kind}-decoder.onnx")
    arrays = {key: value.numpy() for key, value in zip(about["decoder"].inputs, inputs, strict=True)}
    np.savez(work / f"sam-{kind}-decoder.inputs.npz", **arrays)
    del whole, encoder, part
    gc.collect()
    quantize(work, f"sam-{kind}")


def make_turbo(work: Path) -> None:
    """A whole pipeline of that size with a tiny decoder, as a folder; and its parts on OpenVINO: the UNet in int8."""
    if not (work / "unet-int8.xml").is_file():
        make_unet(work)
    folder, variant = work / "turbo", work / "turbo-int8"
    _write_pipeline(work, folder)
    gc.collect()
    variant.mkdir(exist_ok=True)
    _convert_rest(work, folder, variant)
    from studio.compress.networks import Place

    card = turbo_card(work)
    option = Place("openvino", "int8", variant, work / "compiled").to_option()
    (work / "turbo-card.json").write_text(json.dumps({**card, "options": {**card["options"], "fast": option}}))


def make_text(work: Path) -> None:
    """An SD 1.5-size text encoder, nearly all of it products of matrices, in every way that its weights stay small in
    memory: text/<runtime>-<precision>/."""
    torchvision_guard.install()
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from studio.compress import quantize as ways
    from studio.compress.parts import PARTS
    from studio.engines.torch_parts import TextEncoder, TorchPart, export

    torch.manual_seed(0)
    about, source = PARTS["diffusion"]["text_encoder"], work / "text_encoder.onnx"
    config = CLIPTextConfig(vocab_size=49408, max_position_embeddings=MAX_TOKENS, **sizes(work).text)
    tokens = torch.randint(0, 49408, (1, MAX_TOKENS))
    part = TorchPart(TextEncoder(CLIPTextModel(config)).eval(), about.inputs, about.outputs, (tokens,))
    export(part, about, source)
    np.savez(work / "text.inputs.npz", tokens=tokens.numpy())
    del part
    gc.collect()
    for runtime, precision in TEXT_WAYS:
        out = work / "text" / f"{runtime}-{precision}"
        out.mkdir(parents=True, exist_ok=True)
        ways.way(runtime, precision)(ways.Job("text_encoder", source, out, []))


def _write_pipeline(work: Path, folder: Path) -> None:
    torchvision_guard.install()
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from tests.engines.tiny_pipeline import write_tokenizer

    torch.manual_seed(0)
    raw = work / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    write_tokenizer(raw)
    files = (str(raw / "raw-tokenizer" / name) for name in ("vocab.json", "merges.txt"))
    text = CLIPTextConfig(vocab_size=49408, max_position_embeddings=MAX_TOKENS, **sizes(work).text)
    pipe = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderTiny(), text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(*files, model_max_length=MAX_TOKENS),
        unet=diffusers.UNet2DConditionModel(**sizes(work).unet),
        scheduler=diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                                   timestep_spacing="trailing"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)


def _convert_rest(work: Path, folder: Path, variant: Path) -> None:
    """Text encoder and decoder with int8 weights, beside the int8 UNet."""
    from studio.cards import Card
    from studio.compress.quantize import _nncf, _openvino
    from studio.compress.variants import FACTS, VERSION, PartFile
    from studio.engines.torch_parts import load

    ov, nncf = _openvino(), _nncf()
    part = load(Card.model_validate(turbo_card(work)), folder)
    rows = {"unet": vars(PartFile("../unet-int8.xml", "openvino", "int8"))}
    for name in ("text_encoder", "decoder"):
        made = part(name)
        model = ov.convert_model(made.module, example_input=made.examples)
        model.inputs[0].get_tensor().set_names(set(made.inputs))
        model.outputs[0].get_tensor().set_names(set(made.outputs))
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        ov.save_model(model, str(variant / f"{name}.xml"), compress_to_fp16=True)
        rows[name] = vars(PartFile(f"{name}.xml", "openvino", "int8-weights"))
    facts = {"version": VERSION, "runtime": "openvino", "precision": "int8", "parts": rows}
    (variant / FACTS).write_text(json.dumps(facts))


def main(what: str, work: Path) -> None:
    if what.startswith("sam-"):
        make_sam(work, what.removeprefix("sam-"))
    else:
        {"unet": make_unet, "turbo": make_turbo, "text": make_text}[what](work)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
