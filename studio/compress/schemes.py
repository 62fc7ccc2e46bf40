"""How one array of weights can be stored, as data that can be written down: f16, s4g32, p4, z50. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from studio.compress import pruning
from studio.errors import InvalidTask

Kind = Literal["float", "symmetric", "asymmetric", "palette", "sparse", "n-of-m", "rows"]

MAX_BITS = 8
_KINDS: dict[str, Kind] = {
    "f": "float", "bf": "float", "s": "symmetric", "a": "asymmetric", "p": "palette", "z": "sparse", "n": "n-of-m",
    "r": "rows",
}  # fmt: skip
_SPELLING = re.compile(r"(bf|[fsapznr])(\d+)(?:[gm](\d+))?")


@dataclass(frozen=True)
class Scheme:
    """How one array is stored.

    Attributes:
        kind: what the numbers mean.
        bits: per weight (float: 32 or 16; palette: bits of an index). For pruning what goes: per cent of the weights
            ("sparse") or of the rows ("rows"), or how many of `group` stay ("n-of-m").
        group: weights that share a scale, or m of n:m. 0 where there is none.
        brain: bfloat16 instead of float16.
    """

    kind: Kind
    bits: int
    group: int = 0
    brain: bool = False

    def __str__(self) -> str:
        """Short and readable: f16, bf16, s4g32, a4g32, p4, z50, n2m4, r25. `parse` reads it back."""
        letter = "bf" if self.brain else next(k for k, kind in _KINDS.items() if kind == self.kind)
        joint = "m" if self.kind == "n-of-m" else "g"
        return f"{letter}{self.bits}" + (f"{joint}{self.group}" if self.group else "")


F32 = Scheme("float", 32)
F16 = Scheme("float", 16)
BF16 = Scheme("float", 16, brain=True)


def parse(text: str) -> Scheme:
    """The inverse of `str(scheme)`. Raises InvalidTask."""
    found = _SPELLING.fullmatch(text)
    if found is None:
        raise InvalidTask(f"{text!r} names no way to store weights.", "Examples: f16, s4g32, a4g32, p4, z50.")
    scheme = Scheme(_KINDS[found[1]], int(found[2]), int(found[3] or 0), found[1] == "bf")
    check(scheme)
    return scheme


def bits(value: Any) -> int:
    """A number of bits 1..8 from whatever was typed. Raises InvalidTask for 0, 17, "four", 4.5 and True."""
    try:
        number = int(value)
        exact = not isinstance(value, bool) and float(value) == number
    except (TypeError, ValueError, OverflowError):
        number, exact = 0, False
    if not exact or not 1 <= number <= MAX_BITS:
        raise InvalidTask(f"Weights cannot be stored in {value!r} bits.", "Choose a whole number from 1 to 8.")
    return number


def symmetric(width: int, group: int = 32) -> Scheme:
    """Codes around zero. Raises InvalidTask for other widths than 1..8 bits."""
    return _checked(Scheme("symmetric", bits(width), group))


def asymmetric(width: int, group: int = 32) -> Scheme:
    """Codes from a zero point. Raises InvalidTask for other widths than 2..8 bits."""
    return _checked(Scheme("asymmetric", bits(width), group))


def _checked(scheme: Scheme) -> Scheme:
    check(scheme)
    return scheme


def check(scheme: Scheme) -> None:
    """Raises InvalidTask for what cannot be stored."""
    if scheme.kind == "float":
        if scheme.bits not in (16, 32):
            raise InvalidTask(f"There are no floats of {scheme.bits} bits here.", "Choose 16 or 32.")
    elif scheme.kind in ("sparse", "rows"):
        pruning.check_share(scheme.bits / 100)
    elif scheme.kind == "n-of-m":
        pruning.check_pattern(scheme.bits, scheme.group)
    else:
        bits(scheme.bits)
        if scheme.kind != "palette" and not 2 <= scheme.group <= 2**16:
            raise InvalidTask(f"{scheme.group} weights cannot share a scale.", "Choose a group from 2 to 65536.")
        if scheme.kind == "asymmetric" and scheme.bits == 1:
            raise InvalidTask("One bit leaves no room for a zero point.", "Choose 1 bit symmetric, or 2 bits.")
