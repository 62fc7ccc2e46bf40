"""Arrays of weights in few bits, really packed. Pure numpy.

A `Scheme` says how one array is stored, `pack` stores it, `unpack` gives float32 back. Groups of consecutive weights
share one fp16 scale:

    symmetric, 4 bits and more   w = s q          q = -2^(b-1) .. 2^(b-1) - 1; zero stays zero
    symmetric, 3 and 2 bits      w = s (q + 1/2)  q = -2^(b-1) .. 2^(b-1) - 1; no code is wasted on zero
    1 bit                        w = s sign(w), s = mean |w|: the closed-form optimum of XNOR-Net (Rastegari 2016)
    asymmetric                   w = s (q - z)    q, z = 0 .. 2^b - 1; zero stays zero

Scales are chosen so that what is quantized already comes back unchanged: the largest weight of a group always gets the
outermost code, so the same scale is found again. Up to 6 bits several scales are tried, and each group keeps the one
with the least squared error: smaller ranges, and for 4 bits and more scales with a sign, which give the largest weight
the one code that has no counterpart (as ggml's Q4_0 does).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studio.compress import palettes, pruning
from studio.compress.bitstream import Reader, to_bytes
from studio.compress.schemes import Scheme, check
from studio.errors import IntegrityError

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

CHUNK = 2**17  # weights that are quantized at once, so that they stay in the processor's cache
# Ranges to try by bits: the share of the largest weight that fits, and whether the scale has a sign.
TRIES: dict[int, tuple[tuple[float, bool], ...]] = {
    2: tuple((share, False) for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)),
    3: tuple((share, False) for share in (1.0, 0.92, 0.84, 0.76, 0.68, 0.6)),
    4: ((1.0, False), *((share, True) for share in (1.0, 0.95, 0.9, 0.85, 0.8))),
    5: ((1.0, False), (1.0, True)),
    6: ((1.0, False), (1.0, True)),
}


@dataclass(frozen=True)
class Packed:
    """An array as it is stored.

    Attributes:
        data: uint8 (bytes,): the packed codes, then what they need (scales, zero points, palette, bitmap).
        shape: of the array.
        exponent: 16-bit numbers in `data` count in units of 2**exponent, so that no range is too large or too small.
    """

    scheme: Scheme
    shape: tuple[int, ...]
    data: Bytes
    exponent: int = 0

    @property
    def bytes(self) -> int:
        return self.data.nbytes


def pack(array: ArrayLike, scheme: Scheme, name: str = "An array") -> Packed:
    """Stores an array of numbers.

    Args:
        array: any shape, any float or integer type.
        scheme: how.
        name: of the layer, for error messages.

    Raises:
        InvalidTask: the scheme's bits, group or share make no sense.
        IntegrityError: the array holds NaN or infinity.
    """
    check(scheme)
    values = np.asarray(array, np.float32, order="C")
    if not np.isfinite(values).all():
        raise IntegrityError(f"{name} holds NaN or infinity and cannot be compressed.", "Get the weights again.")
    largest = float(np.abs(values).max()) if values.size else 0.0
    exponent = _exponent(scheme, largest)
    scaled = np.ldexp(values, -exponent) if exponent else values
    return Packed(scheme, values.shape, np.concatenate(_PACK[scheme.kind](scaled, scheme)), exponent)


def unpack(packed: Packed) -> Floats:
    """The array again, float32. Raises IntegrityError where the bytes do not fit the shape."""
    size = int(np.prod(packed.shape, dtype=np.int64))
    try:
        values = _UNPACK[packed.scheme.kind](Reader(packed.data), size, packed)
    except (ValueError, IndexError) as error:
        raise IntegrityError("Packed weights do not fit their shape.", "Convert the model again.") from error
    values = values.reshape(packed.shape)
    return np.ldexp(values, packed.exponent) if packed.exponent else values


def round_trip(array: ArrayLike, scheme: Scheme, name: str = "An array") -> Floats:
    """What is left of an array, float32. Raises as `pack`."""
    return unpack(pack(array, scheme, name))


def stored_bytes(shape: tuple[int, ...], scheme: Scheme) -> int:
    """How many bytes `pack` will need, without packing. Not for pruning, where it depends on the weights."""
    size = int(np.prod(shape, dtype=np.int64))
    if scheme.kind == "float":
        return size * scheme.bits // 8
    codes = -(-size * scheme.bits // 8)
    if scheme.kind == "palette":
        return codes + 2 * 2**scheme.bits
    groups = -(-size // scheme.group)
    codes = -(-groups * scheme.group * scheme.bits // 8)
    zeros = -(-groups * scheme.bits // 8) if scheme.kind == "asymmetric" else 0
    return codes + 2 * groups + zeros


def _bytes_of(values: NDArray[Any]) -> Bytes:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


# ── floats ───────────────────────────────────────────────────────────────────


def _pack_float(values: Floats, scheme: Scheme) -> list[Bytes]:
    if scheme.bits == 32:
        return [_bytes_of(values)]
    if not scheme.brain:
        return [_bytes_of(values.astype(np.float16))]
    raw = values.reshape(-1).view(np.uint32).astype(np.uint64)
    rounded = (raw + 0x7FFF + ((raw >> 16) & 1)) >> 16  # to nearest, ties to even
    return [_bytes_of(np.minimum(rounded, 0xFF7F + (raw >> 31 << 15)).astype(np.uint16))]  # never up to infinity


def _unpack_float(reader: Reader, size: int, packed: Packed) -> Floats:
    scheme = packed.scheme
    if scheme.bits == 32:
        return reader.take(4 * size).copy().view(np.float32)
    if not scheme.brain:
        return reader.halves(size)
    return (reader.take(2 * size).copy().view(np.uint16).astype(np.uint32) << 16).view(np.float32)


# ── groups with a scale ──────────────────────────────────────────────────────


def _pack_groups(values: Floats, scheme: Scheme) -> list[Bytes]:
    codes, scales, zeros = [], [], []
    for groups in _groups(values, scheme.group):
        found, scale, zero = _fit(groups, scheme)
        codes.append(found.reshape(-1))
        scales.append(scale)
        zeros.append(zero)
    parts = [to_bytes(_joined(codes, np.uint8), scheme.bits), _bytes_of(_joined(scales, np.float16))]
    return [*parts, to_bytes(_joined(zeros, np.uint8), scheme.bits)] if scheme.kind == "asymmetric" else parts


def _unpack_groups(reader: Reader, size: int, packed: Packed) -> Floats:
    scheme = packed.scheme
    count = -(-size // scheme.group)
    codes = reader.codes(scheme.bits, count * scheme.group).reshape(count, scheme.group)
    scales = reader.halves(count)
    zeros = reader.codes(scheme.bits, count) if scheme.kind == "asymmetric" else np.zeros(count, np.uint8)
    return _meaning(codes, scales, zeros, scheme).reshape(-1)[:size]


def _groups(values: Floats, group: int) -> Iterator[Floats]:
    """(n, group) at a time; the last group is filled up with its last weight, which changes no range."""
    flat = values.reshape(-1)
    step = max(1, CHUNK // group) * group
    for start in range(0, flat.size, step):
        piece = flat[start : start + step]
        missing = -piece.size % group
        yield (np.pad(piece, (0, missing), mode="edge") if missing else piece).reshape(-1, group)


def _fit(groups: Floats, scheme: Scheme) -> tuple[Bytes, NDArray[np.float16], Bytes]:
    """Codes (n, group), scales (n,) and zero points (n,) of groups (n, group), by group the best of what is tried."""
    best: tuple[Bytes, NDArray[np.float16], Bytes] | None = None
    least = np.empty(0, np.float32)
    for share, signed in TRIES.get(scheme.bits, ((1.0, False),)):
        scales, zeros = _range(groups, scheme, share, signed)
        codes = _codes(groups, scales.astype(np.float32), zeros, scheme)
        if scheme.bits not in TRIES:
            return codes, scales, zeros
        miss = _meaning(codes, scales.astype(np.float32), zeros, scheme) - groups
        error = np.einsum("ij,ij->i", miss, miss)
        if best is None:
            best, least = (codes, scales, zeros), error
            continue
        better = error < least
        least = np.where(better, error, least)
        best[0][better], best[1][better], best[2][better] = codes[better], scales[better], zeros[better]
    assert best is not None
    return best


def _range(groups: Floats, scheme: Scheme, share: float, signed: bool) -> tuple[NDArray[np.float16], Bytes]:
    """Scales and zero points of groups whose largest weights are cut to `share` of what they are."""
    steps = 2**scheme.bits - 1
    if scheme.kind == "asymmetric":
        low = np.minimum(groups.min(axis=1), np.float32(0)) * np.float32(share)
        high = np.maximum(groups.max(axis=1), np.float32(0)) * np.float32(share)
        scales = _floor16((high.astype(np.float64) - low) / steps)  # down, so that the codes span the whole range
        # The same arithmetic as in _codes, so that the lowest weight gets code 0.
        zeros = -np.floor(low * _inverse(scales.astype(np.float32)) + np.float32(0.5))
        return scales, np.clip(zeros, 0, steps).astype(np.uint8)
    none = np.zeros(len(groups), np.uint8)
    if scheme.bits == 1:
        return np.abs(groups).mean(axis=1, dtype=np.float64).astype(np.float16), none
    half = 2 ** (scheme.bits - 1)
    if signed:
        furthest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], 1)[:, 0].astype(np.float64)
        return (furthest * share / -half).astype(np.float16), none
    largest = np.abs(groups).max(axis=1).astype(np.float64) * share
    return (largest / (steps / 2 if scheme.bits <= 3 else half - 1)).astype(np.float16), none


def _codes(groups: Floats, scales: Floats, zeros: Bytes, scheme: Scheme) -> Bytes:
    steps = groups * _inverse(scales)[:, None]
    half = 2 ** (scheme.bits - 1)
    if scheme.kind == "asymmetric":
        steps += np.float32(0.5)
        np.floor(steps, out=steps)
        steps += zeros[:, None]
        return np.clip(steps, 0, 2**scheme.bits - 1, out=steps).astype(np.uint8)
    if scheme.bits <= 3:
        np.clip(np.floor(steps, out=steps), -half, half - 1, out=steps)
    else:
        np.clip(np.rint(steps, out=steps), -half, half - 1, out=steps)
    steps += half
    return steps.astype(np.uint8)


def _inverse(scales: Floats) -> Floats:
    """1 / scale, and 0 for groups of zeros."""
    return np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)


def _meaning(codes: Bytes, scales: Floats, zeros: Bytes, scheme: Scheme) -> Floats:
    """Weights (n, group) of codes (n, group)."""
    values = codes.astype(np.float32)
    if scheme.kind == "asymmetric":
        values -= zeros[:, None]
    else:
        values -= np.float32(2.0 ** (scheme.bits - 1) - (0.5 if scheme.bits <= 3 else 0.0))
    values *= (scales * np.float32(2) if scheme.bits == 1 else scales)[:, None]  # 1 bit: codes are -1/2 and 1/2
    return values


def _floor16(values: NDArray[np.float64]) -> NDArray[np.float16]:
    """The largest fp16 number that is not above."""
    near = values.astype(np.float16)
    return np.where(near.astype(np.float64) > values, np.nextafter(near, np.float16(0)), near)


# ── palettes and pruning ─────────────────────────────────────────────────────


def _pack_palette(values: Floats, scheme: Scheme) -> list[Bytes]:
    palette, codes = palettes.cluster(values.reshape(-1), 2**scheme.bits)
    full = np.zeros(2**scheme.bits, np.float16)
    full[: palette.size] = palette
    return [to_bytes(codes, scheme.bits), _bytes_of(full)]


def _unpack_palette(reader: Reader, size: int, packed: Packed) -> Floats:
    codes = reader.codes(packed.scheme.bits, size)
    return reader.halves(2**packed.scheme.bits)[codes]


def _pack_kept(values: Floats, scheme: Scheme) -> list[Bytes]:
    """A bitmap of what stays (of weights, or of whole rows), then what stays in fp16."""
    masks = {
        "sparse": lambda: pruning.magnitude(values, scheme.bits / 100),
        "n-of-m": lambda: pruning.n_of_m(values, scheme.bits, scheme.group),
        "rows": lambda: pruning.rows(values, scheme.bits / 100),
    }
    kept = masks[scheme.kind]()
    chosen = values.reshape(len(kept), -1)[kept] if scheme.kind == "rows" else values.reshape(-1)[kept.reshape(-1)]
    return [np.packbits(kept.reshape(-1), bitorder="little"), _bytes_of(chosen.astype(np.float16))]


def _unpack_kept(reader: Reader, size: int, packed: Packed) -> Floats:
    by_row = packed.scheme.kind == "rows"
    count = (packed.shape[0] if packed.shape else 1) if by_row else size
    kept = reader.codes(1, count).astype(bool)
    width = size // count if by_row and count else 1
    values = np.zeros((count, width), np.float32)
    values[kept] = reader.halves(int(kept.sum()) * width).reshape(-1, width)
    return values


_PACK = {
    "float": _pack_float, "symmetric": _pack_groups, "asymmetric": _pack_groups, "palette": _pack_palette,
    "sparse": _pack_kept, "n-of-m": _pack_kept, "rows": _pack_kept,
}  # fmt: skip
_UNPACK = {
    "float": _unpack_float, "symmetric": _unpack_groups, "asymmetric": _unpack_groups, "palette": _unpack_palette,
    "sparse": _unpack_kept, "n-of-m": _unpack_kept, "rows": _unpack_kept,
}  # fmt: skip


def _exponent(scheme: Scheme, largest: float) -> int:
    """Moves numbers to where 16 bits are exact: scales close under the top, plain numbers only if they must."""
    if largest == 0 or scheme.bits == 32 or scheme.brain:
        return 0
    top = int(np.frexp(largest)[1])
    if scheme.kind in ("symmetric", "asymmetric"):
        return top - 14
    return top - 14 if top > 15 or top < -7 else 0


def _joined(parts: list[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)
