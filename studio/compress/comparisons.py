"""What was measured on this device, kept as it comes: `<home>/comparisons/<card>/comparison.json` and pictures.

The measuring job writes a row as soon as a variant is there, and again whenever more of it is known; the page and the
command line read. Rows of other weights are dropped when a comparison begins, those of the same weights stay and are
replaced one by one.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from studio import files
from studio.compress import verdict
from studio.errors import NotFound
from studio.ops.pictures import encode_png

FILE = "comparison.json"
_CARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PICTURE = re.compile(r"[a-z0-9][a-z0-9._-]{0,80}\.png")
Json = dict[str, Any]


class Comparisons:
    """All comparisons of one home.

    Args:
        home: the studio's home folder.
    """

    def __init__(self, home: Path) -> None:
        self._root = home / "comparisons"

    def begin(self, card: str, fingerprint: str, machine: Mapping[str, Any]) -> None:
        """A comparison starts. `machine` is shown with it: name, cores, features, load."""
        with self._lock(card):
            now = self._read(card)
            rows = now["rows"] if now and now.get("fingerprint") == fingerprint else []
            data = {"card": card, "fingerprint": fingerprint, "machine": dict(machine), "at": time.time(), "rows": rows}
            self._write(card, data)

    def put(
        self,
        card: str,
        row: Mapping[str, Any],
        *,
        pictures: Sequence[NDArray[np.uint8]] | None = None,
        layers: Mapping[str, float] | None = None,
    ) -> None:
        """Adds one variant as far as it is measured, or takes the place of what was known of it.

        Args:
            row: the bench object, see `verdict.Row`; "error" where it could not be measured, "notes": [text].
            pictures: what it made of the inputs that all variants get, uint8 (H, W, 3); None leaves those there are.
            layers: relative error by layer; None leaves those there are.
        """
        measured = verdict.row(row)
        with self._lock(card):
            data = self._read(card) or {"card": card, "fingerprint": "", "machine": {}, "rows": []}
            this = (row["runtime"], row["precision"])
            known = next((one for one in data["rows"] if (one["runtime"], one["precision"]) == this), None)
            extra = {name: (known or {}).get(name) for name in ("pictures", "pictured", "layers")}
            if pictures is not None:
                names = [f"{_plain(measured.key)}-{number}.png" for number in range(len(pictures))]
                for name, picture in zip(names, pictures, strict=True):
                    files.write(self._folder(card) / name, encode_png(picture))
                extra |= {"pictures": names, "pictured": time.time()}
            if layers is not None:
                extra["layers"] = dict(layers)
            fresh = {"pictures": [], "layers": {}} | {name: one for name, one in extra.items() if one is not None}
            new = {**_finite(dict(row)), **fresh, "at": time.time()}
            data["rows"] = [new if one is known else one for one in data["rows"]] + [new] * (known is None)
            self._write(card, {**data, "at": time.time()})

    def read(self, card: str) -> Json | None:
        """The comparison of a card as written above, None where there is none."""
        return self._read(card)

    def rows(self, card: str) -> list[verdict.Row]:
        """What was measured, as rows."""
        data = self._read(card)
        return [verdict.row(one) for one in data["rows"]] if data else []

    def cards(self) -> list[str]:
        """Cards with a comparison."""
        return sorted(path.parent.name for path in self._root.glob(f"*/{FILE}"))

    def picture(self, card: str, name: str) -> Path:
        """The file of a picture that a row names. Raises NotFound."""
        file = self._folder(card) / name if _PICTURE.fullmatch(name) and _CARD.fullmatch(card) else None
        if file is None or not file.is_file():
            raise NotFound("There is no such picture.", "Compare again.")
        return file

    def forget(self, card: str) -> None:
        """Drops the comparison of a card."""
        if _CARD.fullmatch(card):
            shutil.rmtree(self._root / card, ignore_errors=True)

    # ── inside ───────────────────────────────────────────────────────────────

    def _folder(self, card: str) -> Path:
        if not _CARD.fullmatch(card):
            raise NotFound("There is no such model.", "Choose another one.")
        return self._root / card

    def _lock(self, card: str) -> FileLock:
        folder = self._folder(card)
        files.make(folder)
        return FileLock(folder / ".lock")

    def _read(self, card: str) -> Json | None:
        with suppress(OSError, ValueError):
            data = json.loads((self._folder(card) / FILE).read_text(encoding="utf-8"))
            if isinstance(data, dict) and isinstance(data.get("rows"), list):
                return data
        return None

    def _write(self, card: str, data: Json) -> None:
        files.write(self._folder(card) / FILE, json.dumps(data).encode())


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]", "-", name.lower())[:60]


def _finite(value: Any) -> Any:
    """JSON knows no NaN: None says that it was not measured."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
