"""Weight clustering: every weight becomes one of k values (Deep Compression, Han 2016). Pure numpy.

In one dimension Lloyd's algorithm needs no distances: sorted values are cut at the midpoints between centres, and a
cumulative sum gives every mean, so millions of weights take as long as sorting them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from studio.errors import InvalidTask

ROUNDS = 60
SAMPLE = 2**21  # weights that decide on the centres; of more, every n-th


def cluster(values: NDArray[np.float32], count: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """K-means of values.

    Args:
        values: (n,).
        count: of centres, 2..256.

    Returns:
        Centres, ascending fp16, at most `count`; and for each value the index of the nearest one, uint8 (n,).
        Values of at most `count` kinds keep them all, so clustering twice changes nothing.
    """
    if not 2 <= count <= 256:
        raise InvalidTask(f"A palette of {count} values is not possible.", "Choose 2 to 256.")
    if values.size == 0:
        return np.zeros(1, np.float16), np.zeros(0, np.uint8)
    kinds = _few_kinds(values, count)
    centres = np.unique((kinds if kinds is not None else _lloyd(values, count)).astype(np.float16))
    return centres, _nearest(values, centres.astype(np.float32))


def _nearest(values: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values).astype(np.uint8)


def _few_kinds(values: NDArray[np.float32], count: int) -> NDArray[np.float32] | None:
    """The different values, where there are at most `count`."""
    if np.unique(values[:10_000]).size > count:  # nearly always, and quick to see
        return None
    kinds = np.unique(values)
    return kinds if kinds.size <= count else None


def _lloyd(values: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    ordered = np.sort(values[:: -(-values.size // SAMPLE)]).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = _start(ordered, count)
    for _ in range(ROUNDS):
        edges = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [ordered.size]])
        sizes = np.diff(bounds)
        means = np.where(sizes > 0, np.diff(sums[bounds]) / np.maximum(sizes, 1), centres)
        if np.array_equal(means, centres):
            break
        centres = np.sort(means)
    return centres


def _start(ordered: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Between equal shares and equal widths: many weights are small, but the few large ones matter more."""
    shares = ordered[((np.arange(count) + 0.5) / count * ordered.size).astype(int)]
    return np.sort((shares + np.linspace(ordered[0], ordered[-1], count)) / 2)
