"""Advice for models that know only a list of things."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

SHOWN = 3


def advise(prompt: str, things: Sequence[str]) -> str:
    """A sentence when the prompt names none of `things`, else "". Names count as whole words, plurals included."""
    text = " ".join(re.findall(r"\w+", prompt.lower()))
    if not things or not text or any(re.search(rf"\b{re.escape(_words(thing))}(e?s)?\b", text) for thing in things):
        return ""
    tries = " or ".join(f"'{name}'" for name in nearest(text.split(), things))
    return f"This small model knows {len(things)} things, none of which is in the prompt; try {tries}."


def nearest(words: Sequence[str], things: Sequence[str]) -> list[str]:
    """The three names most like any of the words; where nothing is alike, the first three."""
    score = {thing: max((_likeness(word, thing) for word in words if len(word) > 2), default=0.0) for thing in things}
    alike = [thing for thing in sorted(things, key=lambda thing: -score[thing]) if score[thing] >= 0.65]
    return (alike or list(things))[:SHOWN]


def _likeness(word: str, thing: str) -> float:
    return max(difflib.SequenceMatcher(None, word, part).ratio() for part in (_words(thing), *_words(thing).split()))


def _words(thing: str) -> str:
    return " ".join(re.findall(r"\w+", thing.lower()))
