"""Whether weights are numbers: a network with a NaN in it answers with nothing but NaN."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from studio.errors import IntegrityError

PIECE = 2**22  # numbers looked at at a time
# A float is NaN where all bits of its exponent are set and one of its fraction is: type -> integer type, its largest
# value that is no NaN once the sign is gone (infinity).
INFINITY: dict[str, tuple[str, int]] = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
}


def refuse_nan(path: Path) -> None:
    """Reads every float of a safetensors file whose header was checked.

    Raises IntegrityError naming the first tensor with a NaN.
    """
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        entries: dict[str, Any] = json.loads(file.read(length))
        for name, entry in entries.items():
            if name != "__metadata__" and entry["dtype"] in INFINITY and _has_nan(file, 8 + length, entry):
                raise IntegrityError(
                    f"{path.name} is damaged: {name[:80]!r} holds values that are not numbers (NaN).",
                    "Copy or download it again, or get another version.",
                )


def _has_nan(file: BinaryIO, start: int, entry: Mapping[str, Any]) -> bool:
    kind, infinity = INFINITY[entry["dtype"]]
    begin, end = entry["data_offsets"]
    size = np.dtype(kind).itemsize
    file.seek(start + begin)
    for position in range(begin, end, PIECE * size):
        bits = np.frombuffer(file.read(min(end - position, PIECE * size)), kind)
        if ((bits << np.dtype(kind).type(1)) > np.dtype(kind).type(2 * infinity)).any():  # shifted: without the sign
            return True
    return False
