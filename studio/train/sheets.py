"""Many small pictures as one: grids, rows under each other, bars. Tensors (B, 3, S, S) in -1..1 in, uint8 RGB out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studio.ops import films

Pixels = NDArray[np.uint8]
WIDEST_BAR, BARS_WIDTH, BARS_HEIGHT = 10, 512, 120
BAR, GROUND = (74, 105, 214), (244, 244, 240)


def pixels(values: Tensor) -> Pixels:
    """float (B, 3, S, S) in -1..1 -> RGB uint8 (B, S, S, 3)."""
    found = values.detach().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1)
    return np.ascontiguousarray(found.cpu().numpy())


def grid(values: Tensor, columns: int) -> Pixels:
    """Row by row, `columns` to a row; what is missing in the last one is white."""
    return films.sheet(pixels(values), columns)


def rows(parts: Sequence[Tensor], columns: int) -> Pixels:
    """Several batches of the same pictures, each under its like: a block of len(parts) rows for every `columns`."""
    columns = min(columns, len(parts[0]))
    starts = range(0, len(parts[0]) - columns + 1, columns)  # a last row that is not full is left out
    return grid(torch.cat([part[start : start + columns] for start in starts for part in parts]), columns)


def bars(heights: Sequence[float]) -> Pixels:
    """A bar for each number, scaled to the largest, at most BARS_WIDTH px wide; numbers beyond that are left out."""
    values = np.nan_to_num(np.asarray(heights, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)[: BARS_WIDTH // 2]
    top = max(float(values.max(initial=0.0)), 1e-9)
    wide = min(WIDEST_BAR, BARS_WIDTH // max(1, len(values)))
    gap = 1 if wide > 2 else 0
    image = np.empty((BARS_HEIGHT, wide * max(1, len(values)), 3), np.uint8)
    image[:] = GROUND
    for index, value in enumerate(values):
        filled = round((BARS_HEIGHT - 4) * max(0.0, float(value)) / top)
        image[BARS_HEIGHT - max(1, filled) :, wide * index + gap : wide * (index + 1) - gap] = BAR
    return image
