"""What a LoRA file is, told from the names and shapes in its header alone, and the renaming of old layouts.

    diffusers     unet.down_blocks.0...to_q.lora.down.weight, ...processor.to_q_lora.down.weight, ...lora_A.weight
    kohya         lora_unet_down_blocks_0_..._to_q.lora_down.weight, lora_te_..., with .alpha
    cloneofsimo   unet:0:down, text_encoder:0:up: numbered in the order in which the old code met the layers

diffusers reads the first two itself; `rename` turns the third into the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from studio.errors import Unsupported

Shapes = Mapping[str, tuple[int, ...]]

# What marks a layout; the first that fits wins.
LAYOUTS: dict[str, re.Pattern[str]] = {
    "cloneofsimo": re.compile(r"^(unet|text_encoder):\d+:(up|down)$"),
    "kohya": re.compile(r"^lora_(unet|te\d?)_.+\.(lora_down|lora_up|lora_mid)\.weight$"),
    "diffusers": re.compile(
        r"^(?:(unet|text_encoder(?:_2)?)\.)?.+[._]lora(?:\.down|_linear_layer\.down|_A(?:\.\w+)?)\.weight$"
    ),
}
# Relatives of LoRA that need other arithmetic.
OTHERS: dict[str, re.Pattern[str]] = {
    "LoHa": re.compile(r"\.hada_w\d_[ab]$"),
    "LoKr": re.compile(r"\.lokr_w\d"),
    "IA3": re.compile(r"\.on_input$"),
    "DoRA": re.compile(r"dora_scale|lora_magnitude_vector"),
    "OFT": re.compile(r"\.oft_(blocks|diag)$"),
}
# Width of the text that cross-attention reads -> family.
BASES = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
_CROSS_KEY = re.compile(r"attn2[._](?:processor[._])?to_k[._].*(?:down\.weight|lora_A(?:\.\w+)?\.weight)$")
_DOWN = re.compile(r"(?:(?:lora_down|lora\.down|lora_linear_layer\.down|lora_A(?:\.\w+)?)\.weight|:down)$")


@dataclass(frozen=True)
class Lora:
    """Attributes:
    layout: a key of LAYOUTS.
    context: width of the text the layers read (768, ...), 0 where the file does not tell.
    ranks: smallest and largest rank.
    has_text_encoder: whether the text encoder is changed too.
    tokens: new words the file teaches (textual inversion).
    """

    layout: str
    context: int
    ranks: tuple[int, int]
    has_text_encoder: bool
    tokens: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The family of models it is for, "" where the file does not tell."""
        return BASES.get(self.context, "")

    @property
    def rank(self) -> str:
        """ "4", or "4 to 16" where layers differ."""
        low, high = self.ranks
        return str(low) if low == high else f"{low} to {high}"

    def __str__(self) -> str:
        return f"{self.base} LoRA, rank {self.rank}".strip()


def identify(shapes: Shapes) -> Lora:
    """The facts about a LoRA. Raises Unsupported naming what it is instead, where it is not one that can be used."""
    for name, pattern in OTHERS.items():
        if any(pattern.search(key) for key in shapes):
            raise Unsupported(f"This is a {name} file, a relative of LoRA.", "Get it as a plain LoRA.")
    layout = next((name for name, pattern in LAYOUTS.items() if any(pattern.match(key) for key in shapes)), "")
    if not layout:
        raise Unsupported("This file is not a LoRA.", "Choose a LoRA for Stable Diffusion as a .safetensors file.")
    ranks = [min(shape[:2]) if len(shape) < 3 else shape[0] for key, shape in shapes.items() if _DOWN.search(key)]
    has_text_encoder = any(key.startswith(("text_encoder", "lora_te")) for key in shapes)
    tokens = tuple(key for key, shape in shapes.items() if re.fullmatch(r"<[^<>]+>", key) and len(shape) == 1)
    return Lora(layout, _context(layout, shapes), (min(ranks), max(ranks)), has_text_encoder, tokens)


def _context(layout: str, shapes: Shapes) -> int:
    if layout == "cloneofsimo":  # the first block's second attention: its keys read the text
        shape = shapes.get("unet:6:down", ())
        return shape[1] if len(shape) == 2 else 0
    return next((shape[1] for key, shape in shapes.items() if _CROSS_KEY.search(key) and len(shape) >= 2), 0)


def rename(shapes: Shapes) -> dict[str, str]:
    """cloneofsimo's names -> diffusers' names. The shapes must be those of an SD 1.x model in every layer.

    Raises Unsupported when they are not: then the numbering means other layers and the weights would go astray.
    """
    names = dict(enumerate(_unet_layers()))
    found: dict[str, str] = {}
    for key, shape in shapes.items():
        match = re.fullmatch(r"(unet|text_encoder):(\d+):(up|down)", key)
        if match is None:
            continue
        part, index, side = match[1], int(match[2]), match[3]
        layer = names.get(index) if part == "unet" else _text_layer(index)
        if layer is None or shape[0 if side == "up" else 1] != layer[2 if side == "up" else 1]:
            raise Unsupported(
                f"This LoRA numbers its layers in a way that is not known ({key} is {'x'.join(map(str, shape))}).",
                "Convert it to the diffusers layout where it was trained.",
            )
        found[key] = f"{part}.{layer[0]}.{'lora' if part == 'unet' else 'lora_linear_layer'}.{side}.weight"
    return found


def _unet_layers() -> Iterator[tuple[str, int, int]]:
    """Name, inputs and outputs of SD 1.x's layers in the order of cloneofsimo's numbers.

    The old UNet created its middle block last, and each block its feed-forward between its two attentions.
    """
    blocks = [(f"down_blocks.{i}.attentions.{j}", width) for i, width in enumerate((320, 640, 1280)) for j in range(2)]
    blocks += [
        (f"up_blocks.{i}.attentions.{j}", width) for i, width in ((1, 1280), (2, 640), (3, 320)) for j in range(3)
    ]
    blocks.append(("mid_block.attentions.0", 1280))
    for name, width in blocks:
        inside = f"{name}.transformer_blocks.0"
        for attention, context in (("attn1", width), ("attn2", 768)):
            for layer, inputs in (("to_q", width), ("to_k", context), ("to_v", context), ("to_out.0", width)):
                yield f"{inside}.{attention}.{layer}", inputs, width
            if attention == "attn1":
                yield f"{inside}.ff.net.0.proj", width, 8 * width


def _text_layer(index: int) -> tuple[str, int, int] | None:
    layer, part = divmod(index, 4)
    name = ("k_proj", "v_proj", "q_proj", "out_proj")[part]
    return (f"text_model.encoder.layers.{layer}.self_attn.{name}", 768, 768) if layer < 12 else None
