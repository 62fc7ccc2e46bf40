"""Start pictures and masks, fitted to the size a model paints at, and put together with what it painted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from studio.errors import InvalidTask

Pixels = NDArray[np.uint8]


def cover(image: Pixels, width: int, height: int, smooth: bool = True) -> Pixels:
    """Scaled until it covers width x height pixels, then cut to it around the centre."""
    if image.shape[:2] == (height, width):
        return image
    scale = max(width / image.shape[1], height / image.shape[0])
    box_width, box_height = width / scale, height / scale
    left, top = (image.shape[1] - box_width) / 2, (image.shape[0] - box_height) / 2
    box = (max(left, 0), max(top, 0), min(left + box_width, image.shape[1]), min(top + box_height, image.shape[0]))
    way = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((width, height), way, box=box))


def composite(start: Pixels, painted: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """`painted` inside the mask, fading in over a few pixels from its edge; outside, `start` untouched."""
    radius = max(1, min(mask.shape) // 256)
    blurred = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    alpha = np.clip(2 * np.asarray(blurred, np.float32) / 255 - 1, 0.25, 1) * mask  # a dot keeps a quarter at least
    mixed = start + alpha[..., None] * (painted.astype(np.float32) - start)
    return np.rint(mixed).astype(np.uint8)


def fit_mask(mask: Pixels, start: Pixels, width: int, height: int) -> NDArray[np.bool_]:
    """The mask, cut as the picture is. It may have another size than the picture, not other proportions."""
    if mask.shape[:2] != start.shape[:2]:
        size = (start.shape[1], start.shape[0])
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    fitted = cover(mask, width, height, smooth=False)[..., 0] > 127
    if not fitted.any():
        raise InvalidTask("The mask is empty within the picture.", "Paint white where the picture is to change.")
    return fitted


def crop_note(start: Pixels, width: int, height: int) -> list[str]:
    """What to say where a good part of the start picture is cut away by `cover`."""
    tall, wide = start.shape[:2]
    scale = min(wide / width, tall / height)
    used = round(width * scale), round(height * scale)
    if used[0] * used[1] >= 0.95 * wide * tall:
        return []
    return [f"Only the middle {used[0]} × {used[1]} of the {wide} × {tall} picture was used."]
