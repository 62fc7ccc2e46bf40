"""A few pictures for the GAN tests: discs of four colours on white, 16 px."""

from __future__ import annotations

import numpy as np

from studio.train.data import Data

COLOURS = ((220, 40, 40), (40, 160, 60), (40, 80, 220), (240, 200, 40))


def discs(count: int = 48, size: int = 16) -> Data:
    rng = np.random.default_rng(5)
    pictures = np.full((count, size, size, 3), 250, np.uint8)
    labels = np.arange(count, dtype=np.int64) % len(COLOURS)
    y, x = np.mgrid[:size, :size]
    for picture, label in zip(pictures, labels, strict=True):
        cy, cx = rng.uniform(0.4, 0.6, 2) * size
        picture[(y - cy) ** 2 + (x - cx) ** 2 < (0.3 * size) ** 2] = COLOURS[label]
    order = np.arange(count, dtype=np.int64)
    return Data(pictures, labels, ("red", "green", "blue", "yellow"), order[8:], order[:8], key="discs")
