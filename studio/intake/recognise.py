"""What a checkpoint is, told from the names and shapes of its tensors. One table, read top to bottom; no IO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.intake.safeheader import Tensor

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


_KEPT = " It is kept and checked; this version has no engine that runs it."
_SAM_WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_CROSS = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}  # width of the text the attention looks at


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
    return Finding("sam2", "sam2", ("segment",), "Segment Anything 2." + _KEPT, {"file": "model.safetensors"})


def _efficient_sam(tensors: Tensors) -> Finding | None:
    if not _has(tensors, "image_encoder.", "mask_decoder.", "prompt_encoder."):
        return None
    return Finding("efficientsam", "efficientsam", ("segment",), "A SAM relative." + _KEPT, {})


def _lora(tensors: Tensors) -> Finding | None:
    down = [name for name in tensors if _is_lora_down(name)]
    if not down:
        return None
    cross = {tensors[name].shape[-1] for name in down if "attn2" in name and ("to_k" in name or "to_v" in name)}
    base = next((_CROSS[width] for width in sorted(cross) if width in _CROSS), None)
    cloneofsimo = any(name.startswith(("unet:", "text_encoder:")) for name in down)
    if cloneofsimo and base is None:
        base = "SD 1.x" if any(tensors[name].shape[-1] == 768 for name in down) else None
    layout = "cloneofsimo" if cloneofsimo else "kohya" if _has(tensors, "lora_unet_") else "diffusers"
    rank = min(min(tensors[name].shape) for name in down if tensors[name].shape)
    text = f"A LoRA for {base or 'an unknown base'} in {layout} layout, rank {rank}: for a card's options.lora."
    options = {"base": base or "", "layout": layout, "rank": rank, "file": "model.safetensors"}
    return Finding("lora", "lora", ("generate",), text, options)


def _is_lora_down(name: str) -> bool:
    return any(part in name for part in (".lora_A.", ".lora_down.", ".lora.down.", "_lora.down.")) or (
        name.startswith(("unet:", "text_encoder:")) and name.endswith(":down")
    )


def _textual_inversion(tensors: Tensors) -> Finding | None:
    is_token = all(name.startswith("<") or name == "emb_params" for name in tensors)
    if not is_token or len(tensors) > 16:
        return None
    width = next(iter(tensors.values())).shape[-1:]
    base = _CROSS.get(width[0], "an unknown base") if width else "an unknown base"
    text = f"A textual inversion for {base}: {', '.join(list(tensors)[:4])}."
    options = {"base": base, "tokens": [name for name in tensors if name.startswith("<")], "file": "model.safetensors"}
    return Finding("textual-inversion", "textual-inversion", ("generate",), text + _KEPT, options)


def _taesd(tensors: Tensors) -> Finding | None:
    plain = {name.split(".layers.")[-1] for name in tensors}
    first = next((t for name, t in tensors.items() if name.split(".layers.")[-1] == "1.weight"), None)
    if "3.conv.0.weight" not in plain or first is None or len(first.shape) != 4 or first.shape[0] != 64:
        return None
    text = (
        f"A tiny autoencoder (TAESD) for latents of {first.shape[1]} channels; its file goes into options.tiny_decoder."
    )
    return Finding("taesd", "taesd", ("generate",), text, {"file": "model.safetensors"})


def _component(tensors: Tensors) -> Finding | None:
    for name, parts in COMPONENTS.items():
        if _has(tensors, *parts):
            text = f"A {name} of a diffusers pipeline, without the other parts."
            return Finding(f"component-{name}", "component", ("generate",), text + _KEPT, {"part": name})
    return None


def _srvgg(tensors: Tensors) -> Finding | None:
    first = tensors.get("body.0.weight")
    if first is None or len(first.shape) != 4 or first.shape[1] != 3 or "body.1.weight" not in tensors:
        return None
    options = {"arch": "srvgg", "file": "model.safetensors"}
    return Finding("realesrgan", "upscale", ("enhance",), "A Real-ESRGAN upscaler (SRVGG)." + _KEPT, options)


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
