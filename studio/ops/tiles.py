"""A picture decoded piece by piece: what lies between latents and pixels is never there for all of it at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
OVERLAP = 0.25  # of a tile's side, faded over, so that no seam shows


def decode(run: Callable[[Floats], Floats], latents: Floats, side: int) -> Floats:
    """What `run` makes of latents, in tiles that fade into one another.

    Args:
        run: latents (1, C, h, w) -> a picture (1, 3, k h, k w), for some k.
        latents: float32 (1, C, h, w).
        side: of a tile, in latents.

    Returns: float32 (1, 3, k h, k w); what `run` gives at once where one tile is enough.
    """
    height, width = latents.shape[2:]
    tall, wide = min(side, height), min(side, width)
    if (tall, wide) == (height, width):
        return run(latents)
    total = weights = np.zeros(0, np.float32)
    for top in starts(height, tall):
        for left in starts(width, wide):
            piece = run(latents[:, :, top : top + tall, left : left + wide])
            k = piece.shape[2] // tall
            if not total.size:
                total = np.zeros((1, piece.shape[1], k * height, k * width), np.float32)
                weights = np.zeros(total.shape[2:], np.float32)
            fade = np.outer(_fade(k * tall), _fade(k * wide))
            place = np.s_[k * top : k * (top + tall), k * left : k * (left + wide)]
            total[(..., *place)] += piece * fade
            weights[place] += fade
    return total / weights


def starts(length: int, side: int) -> list[int]:
    """Where tiles begin that cover `length` evenly and overlap by at least OVERLAP of `side`."""
    step = max(1, int(side * (1 - OVERLAP)))
    count = 1 + math.ceil(max(0, length - side) / step)
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def _fade(length: int) -> Floats:
    """Up from the edge, 1 in the middle, down again; nowhere 0."""
    edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.minimum(1, edge / max(1.0, OVERLAP * length)).astype(np.float32)
