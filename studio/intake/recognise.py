"""What a checkpoint is, told from the names and shapes of its tensors. One table, read top to bottom; no IO."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.intake.safeheader import Tensor
from studio.ops import lora

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Finding:
    """What a file or folder turned out to be.

    Attributes:
        kind: short name of the layout, e.g. "sam-vit_b".
        engine: the engine that loads it; a name that is not in ENGINES where there is none yet.
        tasks: the tasks it serves.
        summary: one sentence for the user.
        options: what the engine needs to know.
    """

    kind: str
    engine: str
    tasks: tuple[str, ...]
    summary: str
    options: dict[str, Any] = field(default_factory=dict)


_SAM_WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def recognise(tensors: Tensors) -> Finding | None:
    """The first row of the table that fits, or None."""
    return next((found for rule in RULES if (found := rule(tensors)) is not None), None)


def _has(tensors: Tensors, *parts: str) -> bool:
    """Whether every part appears in the name of some tensor."""
    return all(any(part in name for name in tensors) for part in parts)


def _checkpoint(tensors: Tensors) -> Finding | None:
    if not _has(tensors, "model.diffusion_model.input_blocks.0.0.weight"):
        return None
    if _has(tensors, "conditioner.embedders.1."):
        family = "sdxl"
    elif _has(tensors, "cond_stage_model.model."):
        family = "sd2"
    elif _has(tensors, "cond_stage_model.transformer."):
        family = "sd1"
    else:
        return None
    text = f"A {family.upper()} checkpoint in a single file."
    return Finding("checkpoint", "diffusion", ("generate",), text, {"layout": "single-file", "family": family})


def _sam(tensors: Tensors) -> Finding | None:
    if not _has(tensors, "mask_decoder.iou_token.weight", "prompt_encoder.", "image_encoder."):
        return None
    if "image_encoder.patch_embed.seq.0.c.weight" in tensors:
        return _sam_of("mobile", "MobileSAM")
    if _has(tensors, ".layers.0.0.weight"):  # EfficientSAM nests its layers
        return None
    patch = tensors.get("image_encoder.patch_embed.proj.weight")
    name = _SAM_WIDTHS.get(patch.shape[0], "") if patch is not None and len(patch.shape) == 4 else ""
    return _sam_of(name, f"Segment Anything ({name or 'of a size of its own'})")


def _sam_of(name: str, title: str) -> Finding:
    """Without a name the engine reads the sizes from a config.json beside the weights."""
    options = {"architecture": name} if name else {}
    return Finding(f"sam-{name or 'custom'}", "sam", ("segment",), f"{title}: clicks and boxes to masks.", options)


def _sam2(tensors: Tensors) -> Finding | None:
    if not _has(tensors, "sam_mask_decoder.", "image_encoder.trunk."):
        return None
    return Finding("sam2", "sam2", ("segment",), "Segment Anything 2.", {"file": "model.safetensors"})


def _efficient_sam(tensors: Tensors) -> Finding | None:
    if not _has(tensors, "image_encoder.", "mask_decoder.", "prompt_encoder."):
        return None
    return Finding("efficientsam", "efficientsam", ("segment",), "A SAM relative.", {})


def _lora(tensors: Tensors) -> Finding | None:
    """Raises Unsupported for a relative of LoRA, which it names."""
    patterns = (*lora.LAYOUTS.values(), *lora.OTHERS.values())
    if not any(pattern.search(name) for name in tensors for pattern in patterns):
        return None
    facts = lora.identify({name: tensor.shape for name, tensor in tensors.items()})
    text = f"A LoRA for {facts.base or 'an unknown base'}, rank {facts.rank}, in the layout of {facts.layout}"
    text += f", with the words {', '.join(facts.tokens)}." if facts.tokens else "."
    options = {"base": facts.base, "layout": facts.layout, "rank": facts.ranks[1], "file": "model.safetensors"}
    return Finding("lora", "lora", ("generate",), text, options)


def _textual_inversion(tensors: Tensors) -> Finding | None:
    """Of diffusers ("<word>"), of A1111 ("*", or "emb_params" in safetensors), for SDXL ("clip_l" and "clip_g")."""
    is_token = all(re.fullmatch(r"<[^<>]+>|\*|emb_params|clip_[lg]", name) for name in tensors)
    if not is_token or len(tensors) > 16:
        return None
    shape = next(iter(tensors.values())).shape
    base = "SDXL" if "clip_g" in tensors else lora.BASES.get(shape[-1] if shape else 0, "an unknown base")
    words = [name for name in tensors if name.startswith("<")]
    count = shape[0] if len(shape) == 2 else 1
    text = f"A textual inversion for {base}, {count} vector{'s' * (count != 1)}"
    text += f": {', '.join(words[:4])}." if words else "."
    options = {"base": base, "tokens": words, "file": "model.safetensors"}
    return Finding("textual-inversion", "textual-inversion", ("generate",), text, options)


def _taesd(tensors: Tensors) -> Finding | None:
    plain = {name.split(".layers.")[-1] for name in tensors}
    first = next((t for name, t in tensors.items() if name.split(".layers.")[-1] == "1.weight"), None)
    if "3.conv.0.weight" not in plain or first is None or len(first.shape) != 4 or first.shape[0] != 64:
        return None
    text = f"A tiny decoder (TAESD) for latents of {first.shape[1]} channels."
    return Finding("taesd", "taesd", ("generate",), text, {"file": "model.safetensors"})


def _component(tensors: Tensors) -> Finding | None:
    for name, parts in COMPONENTS.items():
        if _has(tensors, *parts):
            text = f"A {name} of a diffusers pipeline, without the other parts."
            return Finding(f"component-{name}", "component", ("generate",), text, {"part": name})
    return None


def _srvgg(tensors: Tensors) -> Finding | None:
    first = tensors.get("body.0.weight")
    if first is None or len(first.shape) != 4 or first.shape[1] != 3 or "body.1.weight" not in tensors:
        return None
    options = {"arch": "srvgg", "file": "model.safetensors"}
    return Finding("realesrgan", "upscale", ("enhance",), "A Real-ESRGAN upscaler (SRVGG).", options)


COMPONENTS: dict[str, tuple[str, ...]] = {
    "unet": ("down_blocks.0.", "mid_block.", "conv_in.weight", "time_embedding."),
    "vae": ("encoder.down_blocks.0.", "decoder.up_blocks.0.", "decoder.conv_in.weight"),
    "text encoder": ("text_model.encoder.layers.0.", "text_model.embeddings.token_embedding.weight"),
}

RULES: tuple[Callable[[Tensors], Finding | None], ...] = (
    _checkpoint,
    _lora,
    _sam2,
    _sam,
    _efficient_sam,
    _textual_inversion,
    _component,
    _srvgg,
    _taesd,
)
