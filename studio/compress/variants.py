"""Converted models on disk: `<home>/variants/<card>/<key>/<runtime>-<precision>/` with a `variant.json` in each.

A folder is listed when it is whole: it is made under another name and renamed when all its parts were written and
checked. The key changes with the weights and with what is merged into them, so what was converted from other weights
is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio import files
from studio.cards import Card
from studio.errors import DiskFull, IntegrityError, InvalidTask

FACTS = "variant.json"
VERSION = 1
MERGED = ("lora", "tiny_decoder", "prediction", "file")  # card options that change what is converted
RUNTIME_NAMES = ("torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class PartFile:
    """One network of a variant.

    Attributes:
        file: name in the variant's folder; for a packed one the bare graph.
        runtime, precision: what it became; another than the variant's where that was not possible.
        error: root mean square of its error over that of the full-precision answer, as measured.
        weights: name of the packed weights, "" where they are in `file`.
        note: why it is not what was asked for.
        layers: relative error of each layer's weights, where they are stored in fewer bits.
    """

    file: str
    runtime: str
    precision: str
    error: float = 0.0
    weights: str = ""
    note: str = ""
    layers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A converted model. `bytes` is what its folder takes on the disk."""

    runtime: str
    precision: str
    folder: Path
    bytes: int
    parts: Mapping[str, PartFile] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.runtime}-{self.precision}"

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(part.note for part in self.parts.values() if part.note)

    @property
    def layers(self) -> dict[str, float]:
        """Relative error of each layer's weights, under the part's name where there are several parts."""
        several = len(self.parts) > 1
        found = {name: part.layers for name, part in self.parts.items()}
        return {f"{part}.{name}" if several else name: e for part, rows in found.items() for name, e in rows.items()}


def split_name(name: str) -> tuple[str, str]:
    """ "openvino-int8" -> ("openvino", "int8"). Raises InvalidTask."""
    runtime, _, precision = name.partition("-")
    if runtime not in RUNTIME_NAMES or not precision:
        raise InvalidTask(f"{name!r} is no variant.", f"Write runtime-precision; runtimes: {', '.join(RUNTIME_NAMES)}.")
    return runtime, precision


def key_of(card: Card, fingerprint: str) -> str:
    """Names the weights that a variant was made from, 24 hexadecimal digits."""
    merged = {name: card.options[name] for name in MERGED if name in card.options}
    text = f"{VERSION} {fingerprint} {json.dumps(merged, sort_keys=True, default=str)}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Variants:
    """All that was converted on this device.

    Args:
        home: the studio's home folder.
    """

    def __init__(self, home: Path) -> None:
        self._root = home / "variants"

    def found(self, card_id: str, key: str) -> list[Variant]:
        """Whole variants of those weights, by name."""
        place = self._root / card_id / key
        if not place.is_dir():
            return []
        made = (self._read(folder) for folder in sorted(place.iterdir()) if not folder.name.startswith("."))
        return [variant for variant in made if variant is not None]

    def get(self, card_id: str, key: str, name: str) -> Variant | None:
        """The variant of that name, None where it was not made or is not whole."""
        split_name(name)
        return self._read(self._root / card_id / key / name)

    def bytes(self, card_id: str = "") -> int:
        """What the variants of a model take on the disk, or those of all."""
        place = self._root / card_id
        return folder_bytes(place) if place.is_dir() else 0

    def forget(self, card_id: str) -> int:
        """Deletes all variants of a model, which is gone itself; returns the bytes freed."""
        freed = self.bytes(card_id) if card_id else 0
        if card_id:
            _discard(self._root / card_id)
        return freed

    @contextlib.contextmanager
    def stage(self, card_id: str, key: str, name: str) -> Iterator[Path]:
        """A folder to write a variant into; it takes its place when the block ends well, and is gone when it does not.

        Call `describe` before the end. Raises DiskFull.
        """
        split_name(name)
        place = self._root / card_id / key
        stage = files.make(files.draft(place / name))
        try:
            yield stage
            if self._read(stage) is None:
                raise IntegrityError(f"The variant {name} is not whole.", "Convert it again.")
            _discard(place / name)
            files.publish(stage, place / name)
            for other in place.parent.iterdir():  # made from weights that this model no longer has
                if other != place:
                    _discard(other)
        except OSError as error:
            raise DiskFull(f"{name} could not be saved: {error.strerror}.", "Free some room on the disk.") from error
        finally:
            _discard(stage)

    def describe(self, stage: Path, name: str, parts: Mapping[str, PartFile]) -> None:
        """Writes down what the staged folder holds; the last thing before it takes its place."""
        runtime, precision = split_name(name)
        rows = {part: vars(file) for part, file in parts.items()}
        facts = {"version": VERSION, "runtime": runtime, "precision": precision, "parts": rows}
        (stage / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _read(self, folder: Path) -> Variant | None:
        try:
            facts: Any = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            parts = {name: PartFile(**row) for name, row in facts["parts"].items()}
            runtime, precision = str(facts["runtime"]), str(facts["precision"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        files = [name for part in parts.values() for name in (part.file, part.weights) if name]
        if facts.get("version") != VERSION or not all((folder / name).is_file() for name in files):
            return None
        return Variant(runtime, precision, folder, folder_bytes(folder), parts)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, its description aside."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != FACTS)


def _discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
