"""Codes of a few bits, side by side in bytes. Pure numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def to_bytes(codes: Bytes, width: int) -> Bytes:
    """Codes below 2**width, uint8 (n,), side by side in ceil(n width / 8) bytes, lowest bits first."""
    if width == 8:
        return codes
    if width in (1, 2, 4):
        per = 8 // width
        padded = np.zeros((-(-codes.size // per), per), np.uint8)
        padded.reshape(-1)[: codes.size] = codes
        return np.bitwise_or.reduce(padded << np.arange(0, 8, width, dtype=np.uint8), axis=1)
    return np.packbits(np.unpackbits(codes[:, None], axis=1, count=width, bitorder="little"), bitorder="little")


def from_bytes(data: Bytes, width: int, count: int) -> Bytes:
    """The inverse of `to_bytes`: uint8 (count,)."""
    if width == 8:
        return data[:count]
    if width in (1, 2, 4):
        wide = (data[:, None] >> np.arange(0, 8, width, dtype=np.uint8)) & np.uint8(2**width - 1)
        return wide.reshape(-1)[:count]
    rows = np.unpackbits(data, count=count * width, bitorder="little").reshape(count, width)
    return np.packbits(rows, axis=1, bitorder="little").reshape(-1)


class Reader:
    """Cuts pieces off packed bytes. Raises ValueError where there are too few."""

    def __init__(self, data: Bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> Bytes:
        piece = self._data[self._at : self._at + count]
        if piece.size != count:
            raise ValueError("too few bytes")
        self._at += count
        return piece

    def codes(self, width: int, count: int) -> Bytes:
        return from_bytes(self.take(-(-count * width // 8)), width, count)

    def halves(self, count: int) -> NDArray[np.float32]:
        return self.take(2 * count).copy().view(np.float16).astype(np.float32)
