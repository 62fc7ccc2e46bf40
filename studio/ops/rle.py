"""COCO's run lengths: a mask as counts of 0s and 1s in turn, down the columns, beginning with 0s.

Compressed, each count is written in 5-bit groups, lowest first, as characters from "0" on; bit 6 says "more follows".
From the fourth count on it is the difference to the count two before, which is small in smooth masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FIRST = 48  # the character "0"


def encode(mask: NDArray[np.bool_]) -> list[int]:
    """bool (H, W) -> counts."""
    pixels = mask.ravel(order="F")
    if not pixels.size:
        return []
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
    return [0, *counts] if pixels[0] else counts


def decode(counts: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """counts -> bool (H, W). Raises ValueError where they do not fill the picture exactly."""
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        raise ValueError(f"the run lengths cover {sum(counts)} pixels, the picture has {height} x {width}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, np.asarray(counts, np.int64)).reshape((height, width), order="F")


def compress(counts: Sequence[int]) -> str:
    """counts -> COCO's string."""
    groups: list[int] = []
    for i, count in enumerate(counts):
        _append(groups, count - counts[i - 2] if i > 2 else count)
    return bytes(group + FIRST for group in groups).decode("ascii")


def decompress(text: str) -> list[int]:
    """COCO's string -> counts. Raises ValueError where the string is cut off or holds other characters."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - FIRST
        if not 0 <= group < 64:
            raise ValueError(f"{character!r} is no character of a run-length string")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:  # the sign of the last group
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the run-length string is cut off")
    return counts


def _append(groups: list[int], value: int) -> None:
    while True:
        group, value = value & 31, value >> 5
        done = value == (-1 if group & 16 else 0)  # all that remains repeats the sign
        groups.append(group if done else group | 32)
        if done:
            return
