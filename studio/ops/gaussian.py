"""Normal random numbers that equal torch's CPU generator, seed for seed, without torch.

torch draws from a Mersenne Twister (Matsumoto and Nishimura, 1998), keeps 24 bits of every 32, and turns them into
normal numbers by Box and Muller (1958) in blocks of sixteen: eight radii, eight angles. Doing the same in numpy gives
the same picture for a seed whichever runtime the networks run on (equal to about 1e-6; torch's vectorised logarithm and
cosine round differently).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BLOCK = 16


class Gaussian:
    """A stream of normal numbers.

    Args:
        seed: 0 to 2**32 - 1, as `torch.Generator("cpu").manual_seed`.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.MT19937()
        self._bits._legacy_seeding(seed & 0xFFFFFFFF)  # type: ignore[attr-defined]  # the twister's own seeding

    def draw(self, shape: tuple[int, ...]) -> Floats:
        """float32 of that shape, mean 0, deviation 1. Raises ValueError below 16 numbers; torch does those
        otherwise."""
        count = math.prod(shape)
        if count < BLOCK:
            raise ValueError(f"at least {BLOCK} numbers are drawn at once, not {count}")
        whole = count // BLOCK * BLOCK
        uniform = self._uniform(count)
        normal = np.empty(count, np.float32)
        normal[:whole] = _box_muller(uniform[:whole])
        if whole != count:  # the last sixteen are drawn anew, so that a block is always whole
            normal[-BLOCK:] = _box_muller(self._uniform(BLOCK))
        return normal.reshape(shape)

    def _uniform(self, count: int) -> Floats:
        bits = self._bits.random_raw(count).astype(np.uint32) & 0xFFFFFF
        return bits.astype(np.float32) * np.float32(2.0**-24)


def _box_muller(uniform: Floats) -> Floats:
    """(16 * n,) in [0, 1) -> (16 * n,) normal."""
    blocks = uniform.reshape(-1, BLOCK)
    radius = np.sqrt(-2 * np.log(1 - blocks[:, : BLOCK // 2]))  # (n, 8); 1 - u is never 0
    angle = np.float32(2 * math.pi) * blocks[:, BLOCK // 2 :]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
