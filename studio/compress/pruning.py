"""Which weights may go. Each function says what stays, as a bool mask; nothing is changed. Pure numpy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from studio.errors import InvalidTask

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def check_share(share: float) -> None:
    """Raises InvalidTask unless 0 < share < 1."""
    if not (math.isfinite(share) and 0 < share < 1):
        raise InvalidTask(f"{share:.0%} of the weights cannot go.", "Choose 1 to 99 per cent.")


def check_pattern(n: int, m: int) -> None:
    """Raises InvalidTask unless 0 < n < m <= 64."""
    if not 0 < n < m <= 64:
        raise InvalidTask(f"{n} of {m} is no pattern to prune by.", "Choose for example 2 of 4: n below m, m up to 64.")


def magnitude(values: Floats, share: float) -> Mask:
    """Without the `share` of smallest weights (Han 2015); same shape. What is zero already goes first, so what was
    pruned by the same share stays as it is."""
    check_share(share)
    flat = np.abs(values).reshape(-1)
    gone = round(share * flat.size)
    kept = np.ones(flat.size, bool)
    if gone:
        kept[np.argpartition(flat, gone - 1)[:gone]] = False
    return kept.reshape(values.shape)


def n_of_m(values: Floats, n: int, m: int) -> Mask:
    """The `n` largest of every `m` consecutive weights (2 of 4 is what sparse hardware runs); same shape."""
    check_pattern(n, m)
    flat = np.abs(values).reshape(-1)
    padded = np.pad(flat, (0, -flat.size % m), constant_values=-1).reshape(-1, m)
    kept = np.zeros(padded.shape, bool)
    np.put_along_axis(kept, np.argsort(-padded, axis=1, kind="stable")[:, :n], True, axis=1)
    return kept.reshape(-1)[: flat.size].reshape(values.shape)


def rows(values: Floats, share: float) -> Mask:
    """Structured: which rows of the first axis (output channels) stay, (rows,); those of the least length go.

    At least one row stays.
    """
    check_share(share)
    if values.ndim == 0:
        return np.ones(1, bool)
    lengths = np.linalg.norm(values.reshape(len(values), -1), axis=1)
    kept = np.ones(len(lengths), bool)
    kept[np.argsort(lengths, kind="stable")[: min(int(share * len(lengths)), len(lengths) - 1)]] = False
    return kept
