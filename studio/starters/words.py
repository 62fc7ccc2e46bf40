"""What pictures can be called: names and keywords of emoji in four languages, and captions made from them.

`python -m studio.starters.words ANNOTATIONS` writes words.json beside this file from the folder of the npm package
cldr-annotations-full (Unicode CLDR, Unicode licence); only single emoji that show a thing are kept.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from studio.train import world

FILE = Path(__file__).with_name("words.json")
LANGUAGES = ("en", "de", "fr", "es")
COLOURS: Mapping[str, tuple[str, ...]] = {
    "en": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "white", "black"),
    "de": ("rot", "orange", "gelb", "grün", "blau", "lila", "rosa", "braun", "grau", "weiß", "schwarz"),
    "fr": ("rouge", "orange", "jaune", "vert", "bleu", "violet", "rose", "marron", "gris", "blanc", "noir"),
    "es": ("rojo", "naranja", "amarillo", "verde", "azul", "morado", "rosa", "marrón", "gris", "blanco", "negro"),
}
"""The starter world's colours in its order, then black."""

# Emoji from these blocks show things; most others are signs.
_BLOCKS = ((0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x1FA70, 0x1FAFF),
           (0x2600, 0x27BF), (0x2B50, 0x2B50))  # fmt: skip
_SIGNS = (
    "button", "arrow", "o’clock", "-thirty", "symbol", "hand:", "skin tone", "hair", "prohibited", "no ",
    "mark", "dingbat", "suit", "circle", "square", "sign", "zodiac", "aries", "taurus", "gemini", "cancer",
    "leo", "virgo", "libra", "scorpius", "sagittarius", "capricorn", "aquarius", "pisces", "ophiuchus", "dim",
    "room", "water closet", "customs", "claim", "left luggage", "litter", "heavy", "cinema", "antenna",
    "vibration", "wheelchair", "atm", "place of worship", "om", "yin yang", "cross", "multiply", "sparkle",
    "potable", "hundred", "currency", "exchange", "chart", "identification", "name badge", "beginner",
    "trident", "recycl", "fleur", "information", "radio button", "loop", "peace", "star and crescent",
    "wheel of dharma", "khanda", "sesame", "person in suit", "hole", "dashing", "speech", "thought balloon",
    "anger", "zzz", "middle finger", "♏", "plus", "minus", "divide", "infinity", "triangle pointed",
    "diamond", "input", "eight-spoked", "eight-pointed", "star of david", "six-pointed", "menorah",
    "passport", "wireless", "mobile phone off", "radioactive", "biohazard", "warning", "check box", "flat",
    "sharp", "dizzy symbol", "sweat droplets", "collision", "men’s", "women’s", "restroom", "baby symbol",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One emoji. `names` are what it is called first, `keywords` what else it answers to, both by language."""

    emoji: str
    names: Mapping[str, tuple[str, ...]]
    keywords: Mapping[str, tuple[str, ...]]


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """All of words.json; the starter world's things come first, in its order."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(
        Entry(emoji, {k: tuple(v) for k, v in names.items()}, {k: tuple(v) for k, v in keywords.items()})
        for emoji, names, keywords in rows
    )


def plural(name: str) -> str:
    """The English plural of the last word, as the common rules have it."""
    if name in world.NO_ARTICLE or name.endswith("s"):
        return name
    irregular = {"mouse": "mice", "sheep": "sheep", "fish": "fish", "deer": "deer", "person": "people",
                 "man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth",
                 "leaf": "leaves", "wolf": "wolves", "knife": "knives", "loaf": "loaves"}  # fmt: skip
    head, _, last = name.rpartition(" ")
    for one, many in irregular.items():
        if last == one or (last.endswith(one) and one in ("man", "fish", "woman")):
            return f"{head} {last.removesuffix(one)}{many}".strip()
    if last.endswith(("ch", "sh", "x", "z")):
        return f"{name}es"
    return f"{name[:-1]}ies" if last.endswith("y") and last[-2:-1] not in tuple("aeiou") else f"{name}s"


def build(folder: Path) -> list[tuple[str, dict[str, list[str]], dict[str, list[str]]]]:
    """The rows of words.json from `folder`/annotations/LANGUAGE/annotations.json."""
    tables = {
        language: json.loads((folder / "annotations" / language / "annotations.json").read_text(encoding="utf-8"))[
            "annotations"
        ]["annotations"]
        for language in LANGUAGES
    }
    known = {thing.emoji.rstrip("\ufe0f"): thing for thing in (*world.THINGS, *world.EXTRAS)}
    own = list(known)
    others = [e for e in tables["en"] if e not in known and _shows_a_thing(e, tables["en"][e]["tts"][0])]
    rows = []
    for emoji in own + others:
        names: dict[str, list[str]] = {}
        keywords: dict[str, list[str]] = {}
        for language, table in tables.items():
            row = table.get(emoji, {"tts": [], "default": []})
            called = [known[emoji].name] if language == "en" and emoji in known else []
            names[language] = _clean([*called, *row["tts"]], 2)
            keywords[language] = [w for w in _clean(row.get("default", []), 6) if w not in names[language]]
        rows.append((emoji, names, keywords))
    return rows


def _clean(found: Sequence[str], most: int) -> list[str]:
    lowered = (unicodedata.normalize("NFC", one).lower().replace("’", "'").strip() for one in found)
    return [one for one in dict.fromkeys(lowered) if 1 < len(one) <= 28][:most]


def _shows_a_thing(emoji: str, name: str) -> bool:
    if len(emoji) != 1 or not any(low <= ord(emoji) <= high for low, high in _BLOCKS):
        return False
    return not any(word in name.lower() for word in _SIGNS)


if __name__ == "__main__":
    rows = build(Path(sys.argv[1]))
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
