"""Networks of real size with random weights, and their conversion, for `tests.bench.runtimes`:

python -m tests.bench.big_networks unet|turbo|sam-mobile|sam-vit_b WORK
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from studio.nets import torchvision_guard

SD15: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
TURBO_CARD: dict[str, Any] = {
    "id": "turbo",
    "title": "SD-Turbo size",
    "tasks": ["generate"],
    "engine": "diffusion",
    "licence": "Apache-2.0",
    "source": {"kind": "none"},
    "defaults": {"steps": 1, "guidance_scale": 0.0, "width": 512, "height": 512},
    "options": {"size": 512},
}


def unet() -> tuple[Any, tuple[Any, ...]]:
    """An SD 1.5-size UNet on torch, and one guided step's inputs."""
    torchvision_guard.install()
    import torch
    from diffusers import UNet2DConditionModel

    from studio.engines.torch_parts import Unet

    torch.manual_seed(0)
    model = Unet(UNet2DConditionModel(**SD15)).eval().requires_grad_(False)
    return model, (torch.randn(2, 4, 64, 64), torch.full((2,), 500.0), torch.randn(2, 77, 768))


def sam(kind: str) -> tuple[Any, Any]:
    """The picture encoder of that published size, and a picture."""
    import torch

    from studio.nets.sam import CONFIGS, build_sam

    torch.manual_seed(0)
    model = build_sam(CONFIGS[kind]).requires_grad_(False)
    return model.image_encoder, torch.randn(1, 3, 1024, 1024)


def convert(work: Path, name: str, module: Any, feed: dict[str, Any], *, output: str) -> None:
    """Straight from torch to OpenVINO, which saves writing 3.4 GB of ONNX: fp32, int8, int8 weights."""
    from studio.compress.quantize import _nncf, _openvino

    ov, nncf = _openvino(), _nncf()
    example = tuple(feed.values())
    model = ov.convert_model(module, example_input=example, input=[tuple(value.shape) for value in example])
    for port, key in zip(model.inputs, feed, strict=True):
        port.get_tensor().set_names({key})
    model.outputs[0].get_tensor().set_names({output})
    arrays = {key: value.numpy() for key, value in feed.items()}
    np.savez(work / f"{name}.inputs.npz", **arrays)
    ov.save_model(model, str(work / f"{name}-fp32.xml"), compress_to_fp16=False)
    rng = np.random.default_rng(0)
    calls = [
        {k: (v + 0.1 * rng.standard_normal(v.shape)).astype(np.float32) for k, v in arrays.items()} for _ in range(2)
    ]
    quantized = nncf.quantize(
        ov.Core().read_model(str(work / f"{name}-fp32.xml")),
        nncf.Dataset(calls),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(calls),
    )
    ov.save_model(quantized, str(work / f"{name}-int8.xml"), compress_to_fp16=True)
    del quantized
    light = nncf.compress_weights(
        ov.Core().read_model(str(work / f"{name}-fp32.xml")), mode=nncf.CompressWeightsMode.INT8_SYM
    )
    ov.save_model(light, str(work / f"{name}-int8-weights.xml"), compress_to_fp16=True)


def make_unet(work: Path) -> None:
    model, (sample, timestep, text) = unet()
    convert(work, "unet", model, {"sample": sample, "timestep": timestep, "text": text}, output="output")


def make_sam(work: Path, kind: str) -> None:
    import torch

    from studio.compress.parts import PARTS
    from studio.engines.torch_parts import SamDecoder, TorchPart, export
    from studio.nets.sam import CONFIGS, build_sam

    encoder, pixels = sam(kind)
    convert(work, f"sam-{kind}", encoder, {"pixels": pixels}, output="features")
    about = PARTS["sam"]
    part = TorchPart(encoder, about["encoder"].inputs, about["encoder"].outputs, (pixels,))
    export(part, about["encoder"], work / f"sam-{kind}-fp32.onnx")
    whole = SamDecoder(build_sam(CONFIGS[kind])).eval().requires_grad_(False)
    inputs = (torch.randn(1, 256, 64, 64), torch.tensor([[[300.0, 400.0], [0.0, 0.0]]]), torch.tensor([[1.0, -1.0]]))
    part = TorchPart(whole, about["decoder"].inputs, about["decoder"].outputs, inputs)
    export(part, about["decoder"], work / f"sam-{kind}-decoder.onnx")
    arrays = {key: value.numpy() for key, value in zip(about["decoder"].inputs, inputs, strict=True)}
    np.savez(work / f"sam-{kind}-decoder.inputs.npz", **arrays)


def make_turbo(work: Path) -> None:
    """A whole pipeline of that size with a tiny decoder, as a folder; and its parts on OpenVINO: the UNet in int8."""
    import json

    torchvision_guard.install()
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from studio.cards import Card
    from studio.compress.conversion import Calls  # noqa: F401 - so that a broken import shows here
    from studio.compress.networks import Place
    from studio.compress.variants import FACTS, VERSION, PartFile
    from studio.engines.torch_parts import load
    from tests.engines.tiny_pipeline import write_tokenizer

    if not (work / "unet-int8.xml").is_file():
        make_unet(work)
    folder, variant = work / "turbo", work / "turbo-int8"
    variant.mkdir(exist_ok=True)
    torch.manual_seed(0)
    tokenizer = write_tokenizer(work)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                        num_attention_heads=12, max_position_embeddings=77))  # fmt: skip
    pipe = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderTiny(), text_encoder=text, tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(**SD15),
        scheduler=diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                                   timestep_spacing="trailing"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    del pipe, text
    from studio.compress.quantize import _nncf, _openvino

    ov, nncf = _openvino(), _nncf()
    part = load(Card.model_validate(TURBO_CARD), folder)
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
    option = Place("openvino", "int8", variant, work / "compiled").to_option()
    options = {**TURBO_CARD["options"], "fast": option}
    (work / "turbo-card.json").write_text(json.dumps({**TURBO_CARD, "options": options}))


def main(what: str, work: Path) -> None:
    if what.startswith("sam-"):
        make_sam(work, what.removeprefix("sam-"))
    else:
        {"unet": make_unet, "turbo": make_turbo}[what](work)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
