"""The header of a safetensors file: names, shapes and metadata, without reading a weight or importing a framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_HEADER = 100_000_000  # bytes, as in the format's own implementation
PREFIX = 8  # bytes: the header's length, little endian


@dataclass(frozen=True)
class Header:
    """Attributes:
    shapes: shape of each tensor by name.
    dtypes: "F32", "F16", "I8", ... by name.
    metadata: the free text of the file.
    size: bytes the whole file must have.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str]
    size: int


def length(prefix: bytes) -> int:
    """Bytes of the JSON header that follows the first 8 bytes. Raises ValueError when that cannot be a header."""
    if len(prefix) < PREFIX:
        raise ValueError("the file is shorter than its header")
    size = int.from_bytes(prefix[:PREFIX], "little")
    if not 2 <= size <= MAX_HEADER:
        raise ValueError("the first bytes are not those of a safetensors file")
    return size


def parse(header: bytes) -> Header:
    """The JSON header. Raises ValueError on anything that is not one."""
    table: Any = json.loads(header.decode("utf-8"))
    if not isinstance(table, dict):
        raise ValueError("the header is not a table")
    metadata = table.pop("__metadata__", {})
    try:
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in table.items()}
        dtypes = {name: str(entry["dtype"]) for name, entry in table.items()}
        end = max((int(entry["data_offsets"][1]) for entry in table.values()), default=0)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the header is malformed ({error})") from error
    texts = {str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {}
    return Header(shapes, dtypes, texts, PREFIX + len(header) + end)
