"""The parts of a model as torch modules with plain tensors in and out, and their way into ONNX files:

    python -m studio.engines.torch_parts CARD.json FOLDER OUT [PART ...]

Runs in a child process of a conversion: it is where torch is needed, once, for weights that are not ONNX yet. LoRA
files of the card are merged into the weights before they are written. On failure the last line of stderr is JSON.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from studio.cards import Card
from studio.compress.parts import Part, parts_of
from studio.engines import diffusion_load, sam_weights
from studio.errors import IntegrityError, StudioError, Unsupported
from studio.intake.child import fail

OPSET = 17


class TorchPart(NamedTuple):
    """A module, the names of its ports, and inputs of a usual size."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: tuple[Tensor, ...]


class TextEncoder(nn.Module):
    """Tokens int64 (B, N) -> text (B, N, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.model(tokens, return_dict=False)[0]
        return found


class Unet(nn.Module):
    """Latents (B, C, h, w), time steps (B,), text (B, N, D) -> (B, C, h, w)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        found: Tensor = self.model(sample, timestep, text, return_dict=False)[0]
        return found


class Decoder(nn.Module):
    """Latents as the UNet sees them (B, C, h, w) -> pictures (B, 3, H, W), about -1..1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> Tensor:
        found: Tensor = self.model.decode(latents / self.model.config.scaling_factor, return_dict=False)[0]
        return found


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) in -1..1 -> mean of the latents (B, C, h, w), and their deviation where it is a VAE."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        encoded, scale = self.model.encode(pixels), self.model.config.scaling_factor
        if hasattr(encoded, "latents"):
            return encoded.latents * scale
        return encoded.latent_dist.mean * scale, encoded.latent_dist.std * scale


class SamEncoder(nn.Module):
    """Normalised pictures (1, 3, S, S) -> features (1, C, s, s)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.image_encoder = model.image_encoder  # named as in the weights' file

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.model.image_encoder(pixels)  # type: ignore[operator]
        return found


class SamDecoder(nn.Module):
    """Features (1, C, s, s), points (B, K, 2) in px of the encoder's picture, labels (B, K) -> logits (B, 4, h, w),
    scores (B, 4).

    Labels: 1 on the thing, 0 not, 2 and 3 the corners of a box, -1 nothing. As in segment_anything's own ONNX export,
    a prompt of clicks only ends with one point of label -1.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        prompts = self.model.prompt_encoder
        places = (points + 0.5) / prompts.input_image_size[0]  # the pictures are square
        sparse = prompts.pe_layer._pe_encoding(places)  # (B, K, C)
        labels = labels[..., None]
        sparse = sparse * (labels != -1) + prompts.not_a_point_embed.weight * (labels == -1)
        for kind, embedding in enumerate(prompts.point_embeddings):
            sparse = sparse + embedding.weight * (labels == kind)
        dense = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(points.shape[0], -1, *features.shape[-2:])
        found: tuple[Tensor, Tensor] = self.model.mask_decoder.predict_masks(
            features, prompts.get_dense_pe(), sparse, dense
        )
        return found


def build(card: Card, folder: Path, name: str) -> TorchPart:
    """One part of a model. Raises IntegrityError, Unsupported, as loading the model does."""
    return load(card, folder)(name)


def load(card: Card, folder: Path) -> Callable[[str], TorchPart]:
    """The model, loaded once; the answer gives its parts by name."""
    if card.engine not in _LOADERS:
        raise Unsupported(f"{card.title} has no parts on torch.", "It is an ONNX file already.")
    made = _LOADERS[card.engine](card, folder)
    known = parts_of(card.engine)

    def part(name: str) -> TorchPart:
        if name not in made:
            raise Unsupported(f"{card.title} has no part {name!r}.", f"It has: {', '.join(made)}.")
        module, examples = made[name]
        module = module.eval().float().requires_grad_(False)
        outputs = known[name].outputs
        if name == "encoder" and card.engine == "diffusion" and not hasattr(module.model, "quant_conv"):
            outputs = outputs[:1]
        return TorchPart(module, known[name].inputs, outputs, examples)

    return part


def replace_weights(part: TorchPart, file: Path) -> None:
    """Puts the weights of a packed file into the module. Raises IntegrityError where they do not fit."""
    from studio.compress.packed import read_packed

    weights = {name: torch.from_numpy(array) for name, array in read_packed(file).items()}
    missing = part.module.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise IntegrityError(f"{file.name} lacks {missing[0]!r}.", "Convert the model again.")


def export(part: TorchPart, spec: Part, out: Path) -> None:
    """Writes a part as ONNX. Initializers keep the names of the parameters. Raises Unsupported."""
    free = {name: dict(axes) for name, axes in spec.free.items() if name in (*part.inputs, *part.outputs)}
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about Python conditions on shapes, all of them checks
            torch.onnx.export(
                part.module,
                part.examples,
                str(out),
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                dynamic_axes=free,
                opset_version=OPSET,
                do_constant_folding=False,  # folding would rename the weights,
                training=torch.onnx.TrainingMode.PRESERVE,  # and so would melting batch norms into convolutions
                dynamo=False,
            )
    except (RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise Unsupported(f"{spec.title} cannot be written as ONNX: {reason}", "Run this model on torch.") from error


def _diffusion(card: Card, folder: Path) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    family, pipe = diffusion_load.load(card, folder, torch.float32)
    if family is not diffusion_load.SD:
        raise Unsupported("Only Stable Diffusion 1.x and 2.x are converted so far.", "Run this model on torch.")
    unet = pipe.unet.config
    if unet.time_cond_proj_dim is not None or unet.in_channels != pipe.vae.config.latent_channels:
        raise Unsupported("This UNet wants more inputs than the fast path has.", "Run this model on torch.")
    diffusion_load.add_loras(pipe, folder, card.options.get("lora", ()))
    tiny = diffusion_load.tiny_decoder(folder, card.options.get("tiny_decoder"), torch.float32)
    diffusion_load.limit_prompt(pipe)
    side = int(unet.sample_size if unet.sample_size is not None else 64)
    pixels = side * int(pipe.vae_scale_factor)
    tokens = torch.zeros(1, pipe.tokenizer.model_max_length, dtype=torch.int64)
    text = torch.randn(2, tokens.shape[1], pipe.text_encoder.config.hidden_size)
    latents = torch.randn(2, unet.in_channels, side, side)
    return {
        "text_encoder": (TextEncoder(pipe.text_encoder), (tokens,)),
        "unet": (Unet(pipe.unet), (latents, torch.full((2,), 500.0), text)),
        "decoder": (Decoder(pipe.vae if tiny is None else tiny), (latents[:1],)),
        "encoder": (Encoder(pipe.vae), (torch.rand(1, 3, pixels, pixels) * 2 - 1,)),
    }


def _sam(card: Card, folder: Path) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    config = sam_weights.read_config(card, folder)
    model = sam_weights.load(sam_weights.find(folder), config)
    side, grid = int(config["image_size"]), int(config["image_size"]) // int(config["stride"])
    points = torch.tensor([[[side / 3, side / 2], [0.0, 0.0]]])
    return {
        "encoder": (SamEncoder(model), (torch.randn(1, 3, side, side),)),
        "decoder": (
            SamDecoder(model),
            (torch.randn(1, int(config["prompt_dim"]), grid, grid), points, torch.tensor([[1.0, -1.0]])),
        ),
    }


_LOADERS: dict[str, Callable[[Card, Path], dict[str, tuple[nn.Module, tuple[Tensor, ...]]]]] = {
    "diffusion": _diffusion,
    "sam": _sam,
}


def main(argv: list[str]) -> int:
    card_file, folder, out, *names = argv
    try:
        card = Card.model_validate_json(Path(card_file).read_text(encoding="utf-8"))
        torch.manual_seed(0)
        part = load(card, Path(folder))
        for name, spec in parts_of(card.engine).items():
            if not names or name in names:
                export(part(name), spec, Path(out) / f"{name}.onnx")
                sys.stdout.write(f"{name}\n")
                sys.stdout.flush()
    except StudioError as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
