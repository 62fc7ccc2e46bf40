"""Which variant this device uses for each model: `<home>/verdicts.json`, keyed by processor, undone by one call."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from studio import files
from studio.device import Device

KEPT = 8  # earlier choices per model that can be gone back to


@dataclass(frozen=True)
class Choice:
    """A variant that was made the default.

    Attributes:
        fingerprint: of the model's files; after an update the choice no longer holds.
        sentence: why.
        numbers: the measurement it was chosen by, as the bench printed it.
        at: seconds since the epoch.
    """

    runtime: str
    precision: str
    fingerprint: str = ""
    sentence: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0


class Verdicts:
    """The defaults of this device. Several apps may share one home.

    Args:
        home: the folder of the file.
        device: its processor's name and cores are the key.
    """

    def __init__(self, home: Path, device: Device) -> None:
        self._file = home / "verdicts.json"
        self._lock = FileLock(home / ".verdicts.lock")
        self._cpu = f"{device.name}, {device.cores} cores"

    def get(self, card: str, fingerprint: str = "") -> Choice | None:
        """The default of a model, or None: it runs as it came. With a fingerprint, only if it still holds."""
        history = self._mine(self._read()).get(card) or []
        found = _choice(history[-1]) if history else None
        if found is None or (fingerprint and found.fingerprint and found.fingerprint != fingerprint):
            return None
        return found

    def all(self) -> dict[str, Choice]:
        """The defaults of all models that have one, by card id."""
        found = {card: self.get(card) for card in self._mine(self._read())}
        return {card: choice for card, choice in found.items() if choice is not None}

    def put(self, card: str, choice: Choice) -> None:
        """Makes a variant the default; the one before can be gone back to."""
        now = choice if choice.at else Choice(**{**asdict(choice), "at": time.time()})
        self._change(card, lambda history: [*history, asdict(now)][-KEPT:])

    def undo(self, card: str) -> Choice | None:
        """Goes back to the default before; returns it, None for the model as it came."""
        self._change(card, lambda history: history[:-1])
        return self.get(card)

    def clear(self, card: str) -> None:
        """The model runs as it came."""
        self._change(card, lambda history: [])

    # ── inside ───────────────────────────────────────────────────────────────

    def _change(self, card: str, change: Any) -> None:
        files.make(self._file.parent)
        with self._lock:
            data = self._read()
            mine = self._mine(data)
            history = change(mine.get(card) or [])
            mine = {**{k: v for k, v in mine.items() if k != card}, **({card: history} if history else {})}
            data = {**data, self._cpu: mine}
            files.write(self._file, json.dumps(data, indent=1).encode())

    def _read(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            data = json.loads(self._file.read_text(encoding="utf-8"))
            return data if isinstance(data, dict) else {}
        return {}

    def _mine(self, data: Mapping[str, Any]) -> dict[str, list[Any]]:
        mine = data.get(self._cpu)
        found = mine.items() if isinstance(mine, dict) else ()
        return {str(card): history for card, history in found if isinstance(history, list)}


def _choice(data: Any) -> Choice | None:
    """None for what somebody else wrote."""
    try:
        known = {name: data[name] for name in Choice.__dataclass_fields__ if name in data}
        found = Choice(**known)
    except (TypeError, KeyError):
        return None
    return found if isinstance(found.runtime, str) and isinstance(found.precision, str) else None
