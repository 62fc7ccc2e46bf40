"""Cards of the user's own: written beside imported weights as `card.toml`, and named after the file."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Any

from studio.cards import Card

_SLUG = re.compile(r"[^a-z0-9._-]+")


def to_toml(card: Card) -> str:
    """The card as TOML that `read_cards` reads back to the same card."""
    fields = card.model_dump(mode="json", exclude={"id"}, exclude_none=True)
    lines = [f"{_key(name)} = {_value(value)}" for name, value in fields.items() if value not in ({}, [], "")]
    return "\n".join([f"[{_key(card.id)}]", *lines]) + "\n"


def free_id(name: str, taken: Container[str]) -> str:
    """An id made from a file name that no card has yet."""
    slug = _SLUG.sub("-", name.lower()).strip("-._")[:60] or "model"
    if slug not in taken:
        return slug
    return next(found for number in range(2, 10_000) if (found := f"{slug}-{number}") not in taken)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # JSON writes strings, numbers and truth values the way TOML reads them, except for the DEL character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
