"""How numbers, lists and moments are written, everywhere in the studio. English, short."""

from __future__ import annotations

import time
from collections.abc import Sequence


def number(value: float) -> str:
    """12345 -> "12,345"; what is not whole keeps three digits."""
    return f"{int(value):,}" if value == int(value) else f"{value:,.3g}"


def count(value: int, noun: str, plural: str = "") -> str:
    """ "1 picture", "2 pictures"; `plural` where an s is not enough."""
    return f"{number(value)} {noun if value == 1 else plural if plural else f'{noun}s'}"


def listed(items: Sequence[str], last: str = "and") -> str:
    """ "a, b and c"."""
    return f" {last} ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def when(seconds: float, now: float | None = None) -> str:
    """A moment (seconds since 1970) as "25 Nov 17:24" in local time, with its year where that is not this one."""
    then, today = time.localtime(seconds), time.localtime(now)
    year = "" if then.tm_year == today.tm_year else f" {then.tm_year}"
    return f"{then.tm_mday} {time.strftime('%b', then)}{year} {time.strftime('%H:%M', then)}"
