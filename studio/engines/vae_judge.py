"""The views of the VAE lab that judge: what comes back, how unusual a picture is, how small it gets, what is used."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image
from torch import Tensor

from studio.engines.arguments import Arguments
from studio.engines.base import Result
from studio.engines.vae_model import Model, Pixels
from studio.engines.vae_pictures import Pictures, Seen
from studio.ops import heat

WIDEST = 4.0
"""Deviations that a quantised number covers to either side."""
BITS = (2, 3, 4, 6, 8)


def latents(seen: Pictures, args: Arguments) -> Result:
    """How much each latent carries: KL in nats for VAEs, the variance of the codes for others, largest first."""
    model = seen.model
    axes = model.axes(model.space)
    order = axes.weight.argsort(descending=True).tolist()
    is_kl = bool(model.facts.get("kl_per_latent")) and model.space == "latents"
    used = sum(float(axes.weight[k]) > 0.1 for k in order) if is_kl else None
    return Result(
        data={
            "axes": order,
            "values": [round(float(axes.weight[k]), 4) for k in order],
            "unit": "nats" if is_kl else "variance",
            "used": used,
            "levels": model.facts.get("kl_per_level"),
            "facts": dict(model.facts),
        }
    )


def reconstruct(seen: Pictures, args: Arguments) -> Result:
    """The picture as the network sees it, what comes back, and where they differ."""
    found = seen.named(args, "a", "image")
    made = _made(seen.model, found)
    errors = heat.error_map(found.picture, made)
    label = None if found.label is None else seen.model.names[found.label]
    data = {"psnr_db": _db(found.picture, made), "label": label, "numbers": seen.model.net.code_size}
    return Result((found.picture, made, heat.overlay(found.picture, errors, seen.model.heat_top)), data=data)


def anomaly(seen: Pictures, args: Arguments) -> Result:
    """How badly it comes back, against held-out pictures: the score, its rank, and where the error is.

    The score is the mean squared error (range of a value 0..1); the threshold is the `quantile` of held-out pictures.
    """
    model = seen.model
    found = seen.named(args, "a", "image")
    quantile = args.number("quantile", 0.5, 1, 0.95)
    made = _made(model, found)
    score = float(np.square((found.picture.astype(np.float64) - made) / 255).mean())
    threshold = float(np.interp(quantile, np.linspace(0, 1, len(model.error_quantiles)), model.error_quantiles))
    below = float(np.interp(score, model.error_quantiles, np.linspace(0, 1, len(model.error_quantiles))))
    errors = heat.error_map(found.picture, made)
    return Result(
        (found.picture, made, heat.overlay(found.picture, errors, model.heat_top)),
        data={
            "score": round(score, 6),
            "threshold": round(threshold, 6),
            "rank": round(below, 3),
            "unusual": score > threshold,
            "quantiles": [round(float(value), 6) for value in model.error_quantiles[::5]],
        },
    )


def compress(seen: Pictures, args: Arguments) -> Result:
    """The picture from `bits` per number of the code, against JPEG with the same bytes.

    Bytes of the code are numbers times bits, without entropy coding; a VQ code is its indices. Of the JPEG only the
    scan counts: tables and headers could be shared, as the decoder is. "rows" has all bit widths.
    """
    model = seen.model
    found = seen.named(args, "a", "image")
    own = _indexed(model, found)
    bits = args.whole("bits", 1, 12, 8)
    options = [own] if own else [_quantised(model, found, width) for width in sorted({*BITS, bits})]
    rows = [{"bits": width, "bytes": size, "psnr_db": _db(found.picture, made)} for width, size, made in options]
    width, size, made = next((one for one in options if one[0] == bits), options[-1])
    quality, scan, whole, jpeg = _jpeg(found.picture, size)
    data = {
        "bits": width,
        "bytes": size,
        "raw_bytes": int(found.picture.size),
        "psnr_db": _db(found.picture, made),
        "rows": rows,
        "jpeg": {
            "quality": quality,
            "scan_bytes": scan,
            "file_bytes": whole,
            "psnr_db": _db(found.picture, jpeg),
            "fits": scan <= size,
        },
        "curve": _jpeg_curve(found.picture),
    }
    return Result((found.picture, made, jpeg), data=data)


def _made(model: Model, found: Seen) -> Pixels:
    return model.decode(model.encode(found.picture[None], told := model.told(found.label, 1)), told)[0]


def _indexed(model: Model, found: Seen) -> tuple[int, int, Pixels] | None:
    """A VQ code: bits of an index, bytes of the grid, the picture. None for networks with numbers."""
    words = model.facts.get("words")
    if not words or model.network != "vq-vae":
        return None
    width = math.ceil(math.log2(int(words)))
    return width, math.ceil(model.net.side**2 * width / 8), _made(model, found)  # type: ignore[attr-defined]


def _quantised(model: Model, found: Seen, bits: int) -> tuple[int, int, Pixels]:
    """Each number of the code in 2^bits even steps over mean ± WIDEST deviations: (bits, bytes, picture)."""
    code = model.encode(found.picture[None], told := model.told(found.label, 1))
    spread = (WIDEST * model.deviation).clamp_min(1e-6)
    levels = 2**bits - 1
    share: Tensor = ((code - model.mean) / spread).clamp(-1, 1).add(1).mul(levels / 2).round()
    back = (share / (levels / 2) - 1) * spread + model.mean
    return bits, math.ceil(code.numel() * bits / 8), model.decode(back, told)[0]


def _jpeg(picture: Pixels, size: int) -> tuple[int, int, int, Pixels]:
    """The best quality whose scan has at most `size` bytes, else the lowest: (quality, scan, file bytes, picture)."""
    low, high = 1, 100
    while low < high:  # the scan grows with the quality, nearly always
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _scan(_encoded(picture, middle)) <= size else (low, middle - 1)
    data = _encoded(picture, low)
    return low, _scan(data), len(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _jpeg_curve(picture: Pixels) -> list[list[float]]:
    """[scan bytes, PSNR in dB] over qualities."""
    found = []
    for quality in (1, 5, 10, 20, 35, 50, 75, 90):
        data = _encoded(picture, quality)
        found.append([_scan(data), _db(picture, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))])
    return found


def _encoded(picture: Pixels, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    return buffer.getvalue()


def _scan(data: bytes) -> int:
    """Bytes of the picture's own part: after the start-of-scan segment, without the end marker."""
    start = data.index(b"\xff\xda")
    return len(data) - (start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")) - 2


def _db(wanted: Pixels, made: Pixels) -> float:
    error = float(np.square((wanted.astype(np.float64) - made) / 255).mean())
    return round(-10 * math.log10(max(error, 1e-10)), 2)
