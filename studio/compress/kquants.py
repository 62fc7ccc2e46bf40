"""K-quants of ggml that the `gguf` package reads but does not write: Q6_K and Q4_K. Pure numpy.

Both store 256 weights in a super-block whose scales are themselves quantized; the layouts are those of ggml's
`block_q6_K` (210 bytes) and `block_q4_K` (144 bytes).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 256
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)  # shares of the range that are tried for 4 bits


def q6_k(blocks: Floats) -> Bytes:
    """Weights (n, 256) -> uint8 (n, 210): w = d s q, q 6 bits around zero, s int8 for each 16 weights, d fp16."""
    groups = blocks.reshape(-1, 16, 16)
    furthest = np.take_along_axis(groups, np.abs(groups).argmax(2)[..., None], 2)[..., 0]
    wanted = furthest / -32  # the largest gets -32, the one code without a counterpart
    d = (np.abs(wanted).max(1) / 127).astype(np.float16)
    scales = np.clip(np.rint(wanted * _inverse(d.astype(np.float32))[:, None]), -128, 127).astype(np.int8)
    real = d.astype(np.float32)[:, None] * scales
    codes = (np.clip(np.rint(groups * _inverse(real)[..., None]), -32, 31) + 32).astype(np.uint8).reshape(-1, 8, 32)
    low, high = (codes & 15).reshape(-1, 2, 2, 64), (codes >> 4).reshape(-1, 2, 4, 32)
    ql = low[:, :, 0] | low[:, :, 1] << 4
    qh = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    return np.hstack([ql.reshape(-1, 128), qh.reshape(-1, 64), scales.view(np.uint8), d[:, None].view(np.uint8)])


def q4_k(blocks: Floats) -> Bytes:
    """Weights (n, 256) -> uint8 (n, 144): w = d s q - e m, q 4 bits, s and m 6 bits for each 32 weights, d, e fp16."""
    groups = blocks.reshape(-1, 8, 32)
    scales, lows = _ranges(groups)
    d, dmin = ((np.max(part, axis=1) / 63).astype(np.float16) for part in (scales, lows))
    sc, mn = (_sixths(part, unit) for part, unit in ((scales, d), (lows, dmin)))
    step, low = d.astype(np.float32)[:, None] * sc, dmin.astype(np.float32)[:, None] * mn
    codes = np.clip(np.rint((groups + low[..., None]) * _inverse(step)[..., None]), 0, 15).astype(np.uint8)
    pairs = codes.reshape(-1, 4, 2, 32)
    qs = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)
    packed = [
        sc[:, :4] | sc[:, 4:] >> 4 << 6,
        mn[:, :4] | mn[:, 4:] >> 4 << 6,
        (sc[:, 4:] & 15) | (mn[:, 4:] & 15) << 4,
    ]
    return np.hstack([d[:, None].view(np.uint8), dmin[:, None].view(np.uint8), *packed, qs])


def _ranges(groups: Floats) -> tuple[Floats, Floats]:
    """Step and (negated) minimum of each group (n, 8, 32), with the clip that errs least."""
    lowest, highest = np.minimum(groups.min(2), 0), np.maximum(groups.max(2), 0)
    best = np.full(lowest.shape, np.inf, np.float32)
    steps, lows = np.zeros_like(lowest), np.zeros_like(lowest)
    for clip in CLIPS:
        low, step = lowest * np.float32(clip), (highest - lowest) * np.float32(clip / 15)
        codes = np.clip(np.rint((groups - low[..., None]) * _inverse(step)[..., None]), 0, 15)
        error = np.square(codes * step[..., None] + low[..., None] - groups).sum(2)
        better = error < best
        best, steps, lows = (np.where(better, *pair) for pair in ((error, best), (step, steps), (-low, lows)))
    return steps, lows


def _sixths(values: Floats, unit: NDArray[np.float16]) -> Bytes:
    return np.clip(np.rint(values * _inverse(unit.astype(np.float32))[:, None]), 0, 63).astype(np.uint8)


def _inverse(scales: Floats) -> Floats:
    """1 / scale, and 0 where there is none."""
    return np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)


WRITERS: dict[str, Callable[[Floats], Bytes]] = {"Q6_K": q6_k, "Q4_K": q4_k}
