"""A strict reader of GGUF headers: every length is checked against the file before it is believed, nothing is mapped.

Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from studio.errors import IntegrityError

MAX_TENSORS = 200_000
MAX_FIELDS = 10_000
MAX_ITEMS = 2_000_000  # strings in all lists together; the vocabularies of large models have 300,000
MAX_TEXT = 2**20  # bytes of a name or a short text
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # type -> struct
STRING, ARRAY = 8, 9


class Facts(NamedTuple):
    """Architecture ("" where none is named), number of tensors, names of the types they are stored in."""

    arch: str
    tensors: int
    types: list[str]


def read_facts(path: Path) -> Facts:
    """What the header says, every claim checked. Raises IntegrityError."""
    with path.open("rb") as file:
        try:
            return _Reader(file, path.stat().st_size).facts()
        except (ValueError, struct.error, OverflowError) as error:
            raise IntegrityError(
                f"{path.name} is not a sound GGUF file: {error}.", "Copy or download it again."
            ) from error


class _Row(NamedTuple):
    name: str
    kind: str
    size: int  # bytes
    offset: int  # bytes from the beginning of the tensors


class _Reader:
    """Raises ValueError that says what is wrong."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._items = 0

    def facts(self) -> Facts:
        magic, version = self._take(4), self._number("I")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"version {version} is not known")
        tensors, fields = self._number("Q"), self._number("Q")
        if not 0 < tensors <= MAX_TENSORS or fields > MAX_FIELDS:
            raise ValueError(f"it claims {tensors} tensors and {fields} fields")
        known: dict[str, object] = {}
        for _ in range(fields):
            name = self._text()
            known[name] = self._value(self._number("I"))
        rows = [self._tensor() for _ in range(tensors)]
        alignment = known.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 4096 or alignment % 8:
            raise ValueError(f"its alignment is {alignment!r}")
        begin = -(-self._file.tell() // alignment) * alignment
        self._check_layout(rows, self._size - begin, alignment)
        arch = known.get("general.architecture", "")
        return Facts(arch if isinstance(arch, str) else "", tensors, sorted({row.kind for row in rows}))

    def _check_layout(self, rows: list[_Row], room: int, alignment: int) -> None:
        end = 0
        for row in sorted(rows, key=lambda row: row.offset):
            if row.offset % alignment or row.offset < end or row.offset + row.size > room:
                raise ValueError(f"{row.name[:80]!r} lies outside of it or over its neighbour; it may be cut off")
            end = row.offset + row.size

    def _tensor(self) -> _Row:
        name, axes = self._text(), self._number("I")
        if not 0 < axes <= 8:
            raise ValueError(f"{name[:80]!r} has {axes} axes")
        count = math.prod(self._number("Q") for _ in range(axes))
        kind = GGMLQuantizationType(self._number("I"))
        block, size = GGML_QUANT_SIZES[kind]
        return _Row(name, kind.name, count // block * size, self._number("Q"))

    def _value(self, kind: int) -> object:
        if kind == STRING:
            return self._text()
        if kind == ARRAY:
            self._skip_list()
            return None
        if kind not in SCALARS:
            raise ValueError(f"a field has the unknown type {kind}")
        return self._number(SCALARS[kind])

    def _skip_list(self) -> None:
        kind, count = self._number("I"), self._number("Q")
        if kind in SCALARS:
            self._skip(count * struct.calcsize(SCALARS[kind]))
            return
        self._items += count
        if kind != STRING or self._items > MAX_ITEMS:
            raise ValueError(f"a list of {count} items of type {kind} is more than any model has")
        for _ in range(count):
            self._skip(self._number("Q"))

    def _text(self) -> str:
        length = self._number("Q")
        if length > MAX_TEXT:
            self._skip(length)  # a template or a licence may be long; it is not looked at
            return ""
        return self._take(length).decode("utf-8", "replace")

    def _number(self, code: str) -> int:
        found: int = struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0]
        return found

    def _skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise ValueError("it ends inside its header")
        self._file.seek(count, 1)

    def _take(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self._size - self._file.tell() else b""
        if len(data) != count:
            raise ValueError("it ends inside its header")
        return data
