"""A strict reader of safetensors headers: no tensor is touched before every claim of the header was checked."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

from studio.errors import IntegrityError

MAX_HEADER = 32 * 2**20  # bytes; the largest real checkpoints need about 1 MB
MAX_TENSORS = 200_000
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
}  # fmt: skip


class Tensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]


class Header(NamedTuple):
    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def read_header(path: Path) -> Header:
    """Names, types and shapes of a safetensors file.

    Refuses headers that are too long, repeat a name, name an unknown type, have a shape that does not match its bytes,
    or whose tensors overlap, leave holes, or do not end where the file ends. Raises IntegrityError.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise _damaged(path, "it is too short")
        length = struct.unpack("<Q", start)[0]
        if not 2 <= length <= MAX_HEADER:
            raise _damaged(path, f"its header claims {length} bytes")
        if 8 + length > size:
            raise _damaged(path, "it ends inside its header; it was not copied whole")
        raw = file.read(length)
    entries = _parse(path, raw)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata is not text")
    if not 0 < len(entries) <= MAX_TENSORS:
        raise _damaged(path, f"it holds {len(entries)} tensors")
    _check_layout(path, entries, size - 8 - length)
    return Header({name: Tensor(e["dtype"], tuple(e["shape"])) for name, e in entries.items()}, metadata)


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not valid JSON ({error})") from error
    if not isinstance(entries, dict):
        raise _damaged(path, "its header is not a table")
    return entries


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _check_layout(path: Path, entries: dict[str, Any], data_size: int) -> None:
    spans = sorted((*_span(path, name, entry), name) for name, entry in entries.items())
    position = 0
    for begin, end, name in spans:
        if begin != position:
            raise _damaged(path, f"{name[:80]!r} overlaps its neighbour or leaves a hole")
        position = end
    if position != data_size:
        raise _damaged(path, f"its tensors take {position} bytes but {data_size} are there; it was not copied whole")


def _span(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """Begin and end of a tensor in bytes, checked against its own type and shape."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"the entry of {name[:80]!r} is malformed")
    shape, offsets, bits = entry["shape"], entry["data_offsets"], BITS.get(str(entry["dtype"]))
    if bits is None:
        raise _damaged(path, f"{name[:80]!r} has the unknown type {str(entry['dtype'])[:20]!r}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or len(shape) > 8:
        raise _damaged(path, f"the shape or place of {name[:80]!r} is malformed")
    if offsets[1] - offsets[0] != math.prod(shape) * bits // 8:
        raise _damaged(path, f"the shape of {name[:80]!r} does not match its bytes")
    return offsets[0], offsets[1]


def _are_counts(values: Any) -> bool:
    """Whether this is a list of whole numbers that fit an address."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path.name} is not a sound safetensors file: {why}.", "Copy or download it again.")
