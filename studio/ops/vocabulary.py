"""Advice for models that know only a list of things: which words of a prompt they do not know, and what to say instead.

Driven by a model's facts: "things", "colours" and "relations" are lists of names; "words", where the model learned more
than plain names, is {"synonyms": {word: thing}, "fillers": [words that change nothing], "counts": [number words]}. A
model with "words" knows plurals and, with relations, two things at once; one without draws a single thing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from studio.ops.words import count, listed

SHOWN = 3
"""Suggestions at most, and words that are quoted."""
ALIKE = 0.74
"""Names less like a word than this (0..1) are not offered for it."""
GRAMMAR = ("a", "an", "the", "on", "in", "of", "with", "and", "background", "picture")
"""Words that every such model may be told; they name nothing."""

Kind = Literal["thing", "plural", "colour", "relation", "count", "filler", ""]


@dataclass(frozen=True)
class Suggestion:
    """A prompt that the model can draw, and the name it is offered by."""

    label: str
    prompt: str


@dataclass(frozen=True)
class Advice:
    """What a prompt asks for in vain.

    Attributes:
        sentence: what the model does not know, and what it draws.
        suggestions: the nearest prompts that it knows.
    """

    sentence: str
    suggestions: tuple[Suggestion, ...]

    def __str__(self) -> str:
        tries = listed([f"'{one.label}'" for one in self.suggestions], "or")
        return f"{self.sentence} Try {tries}." if tries else self.sentence


@dataclass(frozen=True)
class Word:
    """A word or phrase of a prompt, as it was written, and the name it stands for."""

    text: str
    kind: Kind
    name: str = ""


class Vocabulary:
    """What a model was taught to draw.

    Args:
        facts: a model's facts; every key may be absent. Without "things" the model knows everything.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        words = facts.get("words")
        taught: Mapping[str, Any] = words if isinstance(words, Mapping) else {}
        self.things = _names(facts.get("things"))
        self.colours = _names(facts.get("colours"))
        self.knows_plurals = bool(taught)
        relations, synonyms = _names(facts.get("relations")), taught.get("synonyms")
        self.most = 2 if taught and relations else 1
        """Things in one picture at most."""
        named = {name: name for name in self.things}
        if isinstance(synonyms, Mapping):
            named = {**{str(word): str(thing) for word, thing in synonyms.items()}, **named}
        self._phrases: dict[str, tuple[Kind, str]] = {}
        for name, thing in named.items():
            for form in _plurals(_plain(name)):
                self._phrases.setdefault(form, ("thing" if self.knows_plurals else "plural", thing))
        others: tuple[tuple[Kind, Sequence[str]], ...] = (
            ("filler", (*GRAMMAR, *_names(taught.get("fillers")))),
            ("count", _names(taught.get("counts"))),
            ("relation", relations),
            ("colour", self.colours),
        )
        for kind, names in others:
            self._phrases.update({_plain(name): (kind, name) for name in names})
        self._phrases.update({_plain(name): ("thing", thing) for name, thing in named.items()})
        self._longest = max((len(phrase.split()) for phrase in self._phrases), default=1)

    def read(self, prompt: str) -> Iterator[Word]:
        """The prompt's words, the longest phrases that are known together; kind "" is unknown."""
        words, at = re.findall(r"\w+", prompt.lower()), 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                text = " ".join(words[at : at + length])
                if text in self._phrases:
                    yield Word(text, *self._phrases[text])
                    break
            else:
                length = 1
                yield Word(words[at], "")
            at += length

    def advise(self, prompt: str) -> Advice | None:
        """What to say about a prompt before or after it is drawn; None where every word of it is known."""
        if not self.things:
            return None
        words = list(self.read(prompt))
        unknown = list(dict.fromkeys(word.text for word in words if word.kind in ("", "plural")))
        named = [word.name for word in words if word.kind == "thing"]
        meant = list(dict.fromkeys(word.name for word in words if word.kind in ("thing", "plural")))
        parts = []
        if not words:
            parts.append("There is no word in the prompt.")
        elif unknown:
            parts.append(f"This model does not know {_quoted(unknown)}.")
        if not named:
            parts.append(f"It draws {count(len(self.things), 'thing')}, none of which is named.")
        elif len(named) > self.most:
            parts.append("It draws " + ("one thing at a time." if self.most == 1 else "two things at most."))
        return Advice(" ".join(parts), self._suggestions(words, meant)) if parts else None

    def _suggestions(self, words: Sequence[Word], meant: Sequence[str]) -> tuple[Suggestion, ...]:
        strange = [word.text for word in words if not word.kind]
        things = meant or self.nearest(strange) or self.things
        colour = next((word.name for word in words if word.kind == "colour"), "")
        for word in strange if not colour else ():
            colour = next(iter(difflib.get_close_matches(word, self.colours, 1, ALIKE)), colour)
        return tuple(Suggestion(thing, self.phrase(thing, colour)) for thing in things[:SHOWN])

    def nearest(self, words: Sequence[str]) -> list[str]:
        """The names most like any of the words, best first, three at most; [] where nothing is alike."""
        long = [word for word in words if len(word) > 2]
        score = {thing: max((_likeness(word, thing) for word in long), default=0.0) for thing in self.things}
        return [thing for thing in sorted(score, key=lambda thing: -score[thing]) if score[thing] >= ALIKE][:SHOWN]

    def phrase(self, thing: str, colour: str = "") -> str:
        """The prompt that such a model was taught with: "a pizza on a blue background"."""
        ground = colour if colour else next((name for name in ("white", *self.colours) if name in self.colours), "")
        return f"{_with_article(thing)} on {_with_article(ground)} background" if ground else _with_article(thing)


def _names(found: Any) -> tuple[str, ...]:
    """The names in a list of names or of {"name": ...}."""
    items = found if isinstance(found, (list, tuple)) else ()
    return tuple(str(item.get("name", "")) if isinstance(item, Mapping) else str(item) for item in items)


def _plurals(name: str) -> Iterator[str]:
    yield f"{name}s"
    yield f"{name}es"
    for ending, plural in (("y", "ies"), ("f", "ves"), ("fe", "ves"), ("mouse", "mice"), ("man", "men")):
        if name.endswith(ending):
            yield name.removesuffix(ending) + plural


def _likeness(word: str, thing: str) -> float:
    plain = _plain(thing)
    return max(_ratio(word, part) for part in (plain, *plain.split()))


def _ratio(one: str, other: str) -> float:
    """difflib's ratio, 0 where its quick upper bound is not alike; a name within the word is very like it."""
    if len(other) > 3 and other in one:
        return 0.9
    matcher = difflib.SequenceMatcher(None, one, other)
    return matcher.ratio() if min(matcher.real_quick_ratio(), matcher.quick_ratio()) >= ALIKE else 0.0


def _quoted(words: Sequence[str]) -> str:
    shown = [f"'{word}'" for word in words[:SHOWN]]
    return listed(shown if len(words) <= SHOWN else [*shown, f"{len(words) - SHOWN} more"])


def _plain(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.lower()))


def _with_article(name: str) -> str:
    if name.endswith("s") and not name.endswith(("us", "ss")):
        return name
    return f"{'an' if name[:1].lower() in 'aeiou' and not name.startswith('uni') else 'a'} {name}"
