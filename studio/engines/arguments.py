"""Reads the `args` of an Explore task: plain JSON from anywhere, so every value is checked and errors say what fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from studio.errors import InvalidTask

HINT = "Correct the value and try again."


class Arguments:
    """Checked access by name. What is missing or None is the default; every method raises InvalidTask otherwise."""

    def __init__(self, args: Mapping[str, Any]) -> None:
        self._args = args

    def whole(self, name: str, low: int, high: int, default: int) -> int:
        """A whole number, low..high."""
        return _whole(name, self._args.get(name), low, high, default)

    def wholes(self, name: str, low: int, high: int, default: Sequence[int], most: int) -> list[int]:
        """One to `most` whole numbers."""
        return [_whole(name, value, low, high, low) for value in self.several(name, default, most)]

    def number(self, name: str, low: float, high: float, default: float) -> float:
        """A finite number, low..high."""
        return _number(name, self._args.get(name), low, high, default)

    def numbers(self, name: str, low: float, high: float, default: Sequence[float], most: int) -> list[float]:
        """One to `most` numbers."""
        return [_number(name, value, low, high, low) for value in self.several(name, default, most)]

    def choice(self, name: str, offered: Sequence[str], default: str) -> str:
        """One of the words offered."""
        value = self._args.get(name)
        if value is None:
            return default
        if value not in offered:
            raise InvalidTask(f"{name} is one of {', '.join(offered)} (it was {str(value)[:60]!r}).", HINT)
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._args.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidTask(f"{name} is true or false (it was {str(value)[:60]!r}).", HINT)
        return value

    def text(self, name: str, most: int, default: str = "") -> str:
        """At most `most` characters."""
        value = self._args.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > most:
            raise InvalidTask(f"{name} is a text of at most {most} characters.", HINT)
        return value

    def label(self, names: Sequence[str], name: str = "label") -> int | None:
        """A label by its name or number; None where none is given."""
        return _label(name, self._args.get(name), names)

    def labels(self, names: Sequence[str], default: Sequence[Any], most: int, name: str = "labels") -> list[int | None]:
        """One to `most` labels, each as for `label`."""
        return [_label(name, value, names) for value in self.several(name, default, most)]

    def several(self, name: str, default: Sequence[Any], most: int) -> list[Any]:
        """A list of one to `most` values of any kind."""
        value = self._args.get(name)
        if value is None:
            return list(default)
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= most:
            raise InvalidTask(f"{name} is a list of 1 to {most} values.", HINT)
        return list(value)


def _whole(name: str, value: Any, low: int, high: int, default: int) -> int:
    found = _number(name, value, low, high, default)
    if found != int(found):
        raise InvalidTask(f"{name} is a whole number (it was {found:g}).", HINT)
    return int(found)


def _number(name: str, value: Any, low: float, high: float, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise InvalidTask(f"{name} is a number between {low:g} and {high:g} (it was {str(value)[:60]!r}).", HINT)
    if not low <= value <= high:
        raise InvalidTask(f"{name} is between {low:g} and {high:g} (it was {value:g}).", HINT)
    return value


def _is_finite(value: float) -> bool:
    """False also for a whole number too large to be anything else."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _label(name: str, value: Any, names: Sequence[str]) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and value in names:
        return list(names).index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return value
    some = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    raise InvalidTask(f"{name}: there is no label {str(value)[:60]!r}.", f"This model knows {some}.")
