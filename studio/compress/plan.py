"""A budget of memory, and how to run a model within it: runtime, precision, tiling and slicing, and the peak predicted.

The prediction is a sum: what the runtime's libraries take, the weights as that runtime holds them, and the largest
arrays in between. COSTS and the area figures were measured (`python -m tests.bench.runtimes --part memory` measures
them anew); a prediction is meant to be within a fifth.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from studio.cards import Card
from studio.compress import precisions
from studio.compress.weightfiles import weight_files
from studio.errors import IntegrityError, InvalidTask, OutOfMemory, Unsupported
from studio.intake.safeheader import read_header

MB = 2**20
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "": 2**30}
TILE = 512  # px; a decoder's tile
SLICING = ("torch",)  # runtimes that can be told to; the graphs of the others are as they are
SLICE_TOKENS = 1024  # above so many, attention in one piece is the largest array of all


class Cost(NamedTuple):
    """What a runtime takes.

    Attributes:
        base: bytes of libraries and buffers before any weights.
        weights: its bytes of weights over those of the file, at most while loading.
        activations: its bytes in between over those of the largest layer.
    """

    base: int
    weights: float
    activations: float


COSTS: Mapping[str, Cost] = {
    "torch": Cost(380 * MB, 1.15, 1.0),
    "onnxruntime": Cost(120 * MB, 2.0, 1.0),
    "openvino": Cost(190 * MB, 1.2, 1.0),  # it maps the file, and gives back what it copied
    "recorder": Cost(120 * MB, 2.0, 1.0),  # ONNX Runtime that keeps what it was asked
}
# What an engine's own libraries take besides: diffusers and transformers; OpenCV's edges.
EXTRA: Mapping[tuple[str, str], int] = {
    ("torch", "diffusion"): 180 * MB,
    ("torch", "sam"): 45 * MB,
    ("onnxruntime", "sam"): 45 * MB,
    ("openvino", "sam"): 45 * MB,
    ("onnxruntime", "yolo"): 20 * MB,
    ("openvino", "yolo"): 20 * MB,
}
FLOATS = ("fp32", "fp16", "bf16")  # stored so; held as fp32 by every runtime on a CPU
HELD: Mapping[str, float] = {"int8": 0.27}  # of fp32; weights alone in 8 bits are unpacked where convolutions are
# Best first: what is tried until one fits. Few bits come first only where the processor is quick at them.
ORDER = ("openvino-fp32", "onnxruntime-fp32", "torch-fp32", "openvino-int8")
QUICK8 = ("openvino-int8", "onnxruntime-int8")  # with "vnni" or "amx"
QUICK16 = ("openvino-bf16",)  # with "bf16"


@dataclass(frozen=True)
class Anatomy:
    """What a model is made of, read from headers alone.

    Attributes:
        engine: the card's.
        parameters: by part.
        side: usual side of its pictures, px.
        shrink: pixels per latent along a side (1 for detectors and segmenters).
        bytes_per_px: of the largest arrays in between, for a picture's pixel, fp32.
        heads: attention heads at full latent resolution, 0 where there is no attention there.
        attention: heads of the widest attention, and the pixels a side that one of its places stands for; 0 without.
    """

    engine: str
    parameters: Mapping[str, int]
    side: int
    shrink: int = 1
    bytes_per_px: float = 200.0
    heads: int = 0
    attention: tuple[int, int] = (0, 0)

    @property
    def weights(self) -> int:
        """Bytes of all parameters in fp32."""
        return 4 * sum(self.parameters.values())


class Saving(NamedTuple):
    """What a run does to stay within its memory: `tile` px of the decoder (0: the whole picture), `slices` of attention
    (1: in one piece)."""

    tile: int = 0
    slices: int = 1

    def __str__(self) -> str:
        """ "tiles of 512 px, attention in 8 slices"; empty where nothing is saved."""
        ways = [f"tiles of {self.tile} px"] * bool(self.tile)
        return ", ".join(ways + [f"attention in {self.slices} slices"] * (self.slices > 1))


@dataclass(frozen=True)
class Plan:
    """How to run a model. `peak` in bytes; `tile` px (0: none); `slices` of attention (1: whole); `quality` is what is
    known of it here, a sentence."""

    runtime: str
    precision: str
    side: int
    tile: int
    slices: int
    peak: int
    budget: int
    quality: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "peak_mb": round(self.peak / MB)}

    def __str__(self) -> str:
        extra = "".join(f", {way}" for way in [str(Saving(self.tile, self.slices))] if way)
        return (
            f"{self.precision} on {self.runtime} at {self.side} px{extra}: about {self.peak >> 20} MB at peak, "
            f"of {self.budget >> 20} MB. {self.quality}".rstrip()
        )


def parse(text: str) -> int:
    """ "4 GB", "900MB", "3" (GiB) -> bytes. Raises InvalidTask."""
    found = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*([a-zA-Z]*)\s*", text)
    if found is None or found[2].lower() not in UNITS or float(found[1].replace(",", ".")) <= 0:
        raise InvalidTask(f"{text!r} is no amount of memory.", "Write it like 4 GB or 900 MB.")
    return int(float(found[1].replace(",", ".")) * UNITS[found[2].lower()])


def anatomy(card: Card, folder: Path) -> Anatomy:
    """Reads a model's headers and configurations. Raises Unsupported for engines without networks, IntegrityError."""
    if card.engine not in _READERS:
        raise Unsupported(f"{card.title} has no network that could be planned.", "Choose another model.")
    return _READERS[card.engine](card, folder)


def predict(model: Anatomy, name: str, side: int | None = None, tile: int = 0, slices: int = 1) -> int:
    """Bytes at peak of a process that runs one picture.

    Args:
        name: "openvino-int8", ...
        side: of the picture, px; the model's own where None.
        tile: the decoder works in tiles of so many px; 0 for the whole picture.
        slices: attention is computed in so many pieces.
    """
    runtime, _, precision = name.partition("-")
    cost = COSTS[runtime]
    wide = model.side if side is None else side
    painted = min(wide, tile) if tile else wide
    between = model.bytes_per_px * painted**2
    tokens = (wide / model.shrink) ** 2
    attention = 2 * 4 * model.heads * tokens**2 / max(1, slices) if model.heads else 0.0
    base = cost.base + EXTRA.get((runtime, model.engine), 0)
    peak = base + model.weights * held(runtime, precision)
    if runtime in SLICING:  # torch holds scores only where it is told to slice
        return round(peak + cost.activations * max(between, attention))
    return round(peak + cost.activations * between + _scores(model, wide))


def _scores(model: Anatomy, side: int) -> float:
    """Bytes of a graph's attention: a score for every pair of places and head, before and after the softmax, with the
    prompt and without. They are kept for the next step, beside what the decoder keeps."""
    heads, px = model.attention
    return 2 * 2 * 4 * heads * (side / px) ** 4 if heads else 0.0


def need(card: Card, folder: Path, width: int | None, height: int | None, usual: int, budget: int) -> int:
    """Bytes at peak of a process that paints a picture of that size in px; None is the model's own side.

    Args:
        usual: bytes at peak with a picture of the model's own size; what a larger one needs comes on top.

    Raises OutOfMemory where that is more than the budget, whatever is saved, and says which size would fit.
    """
    model = anatomy(card, folder)
    place = card.options.get("fast")
    name = f"{place['runtime']}-{place['precision']}" if place else "torch-fp32"
    own = predict(model, name)

    def peak(side: int) -> int:
        return usual + max(0, predict(model, name, side, *saving(model, name, side, budget)) - own)

    wide, high = width or model.side, height or model.side
    side = math.isqrt(wide * high)
    if (least := peak(side)) <= budget:
        return least
    fits = next((size for size in range(side // 64 * 64, 0, -64) if peak(size) <= budget), 0)
    raise OutOfMemory(
        f"A picture of {wide} × {high} px with {card.title} needs about {least // MB} MB of memory; the studio may use "
        f"{budget // MB} MB.",
        f"Up to about {fits} × {fits} px would fit." if fits else "Choose a smaller model or allow more memory.",
    )


def held(runtime: str, precision: str) -> float:
    """Bytes of weights at peak over those in fp32, as that runtime holds them. Raises InvalidTask."""
    if precision in FLOATS:
        return COSTS[runtime].weights
    if precision in HELD:
        return COSTS[runtime].weights * HELD[precision]
    # Packed weights are unpacked when they are loaded: small on the disk, fp32 in memory.
    return COSTS[runtime].weights + precisions.find(precision).ratio


def order(features: Collection[str]) -> tuple[str, ...]:
    """Names of variants, best first, for a processor with those features."""
    eight, sixteen = {"vnni", "amx"} & set(features), "bf16" in features
    return tuple(dict.fromkeys([*(QUICK8 if eight else ()), *(QUICK16 if sixteen else ()), *ORDER]))


def unmeasured(precision: str) -> str:
    """What a plan says of a precision that was not compared with fp32 here; nothing of floats, which lose nothing."""
    return "" if precision in FLOATS else "What it loses was not measured here yet."


def plan(
    model: Anatomy,
    budget: int,
    side: int | None = None,
    features: Collection[str] = (),
    without: Collection[str] = (),
    first: str = "",
) -> Plan:
    """The best way that fits: the quickest runtime and precision first, then tiles and slices, then a smaller picture.

    Args:
        budget: bytes.
        features: of the processor, see `Device`.
        without: names of variants not to choose, as those that were measured and lose too much.
        first: name of the variant to try before all others, as the best of those that were measured.
    Raises OutOfMemory where nothing fits, naming the least that would do; Unsupported where nothing is left.
    """
    wide = model.side if side is None else side
    least = (math.inf, "")
    for size in dict.fromkeys([wide, *(s for s in (1024, 768, 512, 384, 256) if s < wide and s >= model.side // 2)]):
        for saving in _savings(model, size):
            for name in (one for one in dict.fromkeys([first, *order(features)]) if one and one not in without):
                runtime, _, precision = name.partition("-")
                if saving.slices > 1 and runtime not in SLICING:
                    continue
                peak = predict(model, name, size, *saving)
                least = min(least, (peak, name))
                if peak <= budget:
                    return Plan(runtime, precision, size, *saving, peak, budget)
    if not least[1]:
        raise Unsupported(
            "No variant of this model is left that was not measured and found wanting.", "Run it as it came."
        )
    raise OutOfMemory(
        f"This model needs at least about {int(least[0]) >> 20} MB ({least[1]}); the budget is {budget >> 20} MB.",
        "Choose a smaller model or allow more memory.",
    )


def saving(model: Anatomy, name: str, side: int, budget: int) -> Saving:
    """What a run of a variant has to do for a picture of that side to fit: the least that is enough, all there is where
    nothing is. The engines ask before each picture.

    Args:
        name: "openvino-int8", ...
        side: of the picture, px.
        budget: bytes; 0 for no limit.
    """
    ways = [way for way in _savings(model, side) if way.slices == 1 or name.partition("-")[0] in SLICING]
    enough = (way for way in ways if not budget or predict(model, name, side, *way) <= budget)
    return next(enough, ways[-1])


def _savings(model: Anatomy, side: int) -> list[Saving]:
    """From none to all."""
    tile = TILE if model.engine == "diffusion" and side > TILE else 0
    many = model.heads if model.heads and (side / model.shrink) ** 2 > SLICE_TOKENS else 1
    return list(dict.fromkeys([Saving(), Saving(tile), Saving(tile, many)]))


# ── reading ──────────────────────────────────────────────────────────────────


def _diffusion(card: Card, folder: Path) -> Anatomy:
    parts = {name: _parameters(folder / name) for name in ("text_encoder", "unet", "vae") if (folder / name).is_dir()}
    unet, vae = _json(folder / "unet" / "config.json"), _json(folder / "vae" / "config.json")
    is_tiny = "decoder_block_out_channels" in vae
    widths = vae.get("decoder_block_out_channels") or vae.get("block_out_channels") or [64]
    shrink = 2 ** (len(vae.get("block_out_channels", widths)) - 1)
    sample = unet.get("sample_size") or 64
    side = int(card.options.get("size", (sample[0] if isinstance(sample, list) else sample) * shrink))
    # At full resolution a decoder holds the input, the output and a normalised copy of its widest layer there.
    per_px = 4.0 * (widths[0] if is_tiny else 2 * widths[0]) * 3
    dims = unet.get("attention_head_dim", 8)
    blocks = [str(block) for block in unet.get("down_block_types") or ()]
    level = next((level for level, block in enumerate(blocks) if "CrossAttn" in block), None)
    if level is None:
        return Anatomy("diffusion", parts, side, shrink, per_px)
    heads = int(dims[min(level, len(dims) - 1)] if isinstance(dims, list) else dims)
    return Anatomy("diffusion", parts, side, shrink, per_px, 0 if level else heads, (heads, shrink * 2**level))


def _yolo(card: Card, folder: Path) -> Anatomy:
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise IntegrityError(f"There is no .onnx file in {folder.name}.", "Download the model again.")
    facts = _json(folder / "facts.json") if (folder / "facts.json").is_file() else {}
    size = card.options.get("imgsz", facts.get("imgsz", facts.get("resize", 640)))
    side = int(size if isinstance(size, int) else size[0])
    # The stem's maps at half the side, three of them alive at once; 16 channels in the nano size, with 2.6 M weights.
    parameters = files[0].stat().st_size // 4
    return Anatomy("yolo", {"network": parameters}, side, bytes_per_px=50.0 * max(1.0, (parameters / 2.8e6) ** 0.5))


def _sam(card: Card, folder: Path) -> Anatomy:
    config = _json(folder / "config.json") if (folder / "config.json").is_file() else {}
    side = int(config.get("image_size", 1024))
    is_vit = str(card.options.get("architecture", "")).startswith("vit")
    # A ViT's global attention holds a score for every pair of its 64 x 64 places and every head.
    per_px = 2.0 * 4 * 12 * 4096**2 / side**2 if is_vit else 220.0
    return Anatomy("sam", {"network": _parameters(folder)}, side, bytes_per_px=per_px)


_READERS: dict[str, Callable[[Card, Path], Anatomy]] = {
    "diffusion": _diffusion,
    "fast-diffusion": _diffusion,
    "yolo": _yolo,
    "sam": _sam,
    "fast-sam": _sam,
}


def _parameters(folder: Path) -> int:
    shapes = [shape for file in weight_files(folder) for shape in read_header(file).shapes.values()]
    return sum(math.prod(shape) for shape in shapes)


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file.name} cannot be read: {error}.", "Download the model again.") from error
    return found if isinstance(found, dict) else {}
