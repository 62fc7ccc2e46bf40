"""Packed weights on disk: one safetensors file, as small as the arithmetic says.

Each array is one uint8 tensor under its own name; the file's metadata says how to read it: "s4g32 64,8,3,3 -12" is a
scheme (see `schemes`), a shape and an exponent. Any safetensors reader opens the file; `read_packed` understands it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from studio import files
from studio.compress import schemes
from studio.compress.packing import Floats, Packed, pack, unpack
from studio.compress.precisions import Precision
from studio.compress.schemes import Scheme
from studio.errors import IntegrityError, InvalidTask

FORMAT = "studio-packed-1"
MARK = "format"  # no array of a network is called so
Tick = Callable[[int, int], None]  # arrays done, of how many; may raise to cancel
Plan = Mapping[str, Scheme]


def uniform(weights: Mapping[str, ArrayLike], precision: Precision) -> dict[str, Scheme]:
    """The plan of one precision for all layers: matrices as it says, vectors and small arrays in fp16."""
    return {name: precision.scheme(np.shape(array)) for name, array in weights.items()}


def write_packed(file: Path, weights: Mapping[str, ArrayLike], plan: Plan, tick: Tick | None = None) -> int:
    """Packs weights into a file that appears only when it is whole.

    Args:
        weights: arrays by name.
        plan: a scheme for each name.
        tick: called after each array.

    Returns: bytes of the file.

    Raises: IntegrityError for NaN (names the layer), DiskFull, and what `tick` raises.
    """
    packed: dict[str, Packed] = {}
    for number, (name, array) in enumerate(weights.items(), 1):
        packed[name] = pack(array, plan[name], name)
        if tick is not None:
            tick(number, len(weights))
    notes = {name: _note(one) for name, one in packed.items()}
    with files.whole(file) as part:
        save_file({name: one.data for name, one in packed.items()}, part, {MARK: FORMAT, **notes})
    return file.stat().st_size


def read_packed(file: Path) -> dict[str, Floats]:
    """All arrays of a file as float32. Raises IntegrityError."""
    return dict(arrays(file))


def arrays(file: Path) -> Iterator[tuple[str, Floats]]:
    """One array after the other, so that only one is unpacked at a time. Raises IntegrityError."""
    for name, packed in stored(file):
        yield name, unpack(packed)


def stored(file: Path) -> Iterator[tuple[str, Packed]]:
    """The arrays as they are stored. Raises IntegrityError."""
    try:
        with safe_open(file, framework="numpy") as opened:
            notes = opened.metadata() or {}
            if notes.get(MARK) != FORMAT:
                raise IntegrityError(f"{file.name} holds no packed weights.", "Convert the model again.")
            for name in opened.keys():  # noqa: SIM118 - no mapping, it has keys() only
                yield name, _from_note(notes.get(name, ""), opened.get_tensor(name), f"{file.name}: {name}")
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{file.name} cannot be read.", "Convert the model again.") from error


def plan_of(file: Path) -> dict[str, Scheme]:
    """How each array of a file is stored. Raises IntegrityError."""
    return {name: packed.scheme for name, packed in stored(file)}


def is_packed(file: Path) -> bool:
    """Whether a file is one of ours, by its header."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return (opened.metadata() or {}).get(MARK) == FORMAT
    except (OSError, SafetensorError):
        return False


def _note(packed: Packed) -> str:
    return f"{packed.scheme} {','.join(map(str, packed.shape))} {packed.exponent}"


def _from_note(note: str, data: NDArray[np.uint8], where: str) -> Packed:
    try:
        scheme, shape, exponent = note.split(" ")
        sizes = tuple(int(side) for side in shape.split(",") if side)
        if min(sizes, default=1) < 0 or data.dtype != np.uint8 or abs(int(exponent)) > 200:
            raise ValueError(note)
        return Packed(schemes.parse(scheme), sizes, data, int(exponent))
    except (ValueError, InvalidTask) as error:
        raise IntegrityError(f"{where} is described wrongly.", "Convert the model again.") from error
