"""The words of the starters: things in four languages, colours, grounds, relations, and what people type around them.

words.json holds a row for each emoji: what it shows is called, what else it answers to, and for what the starter paints
also the English words that mean just that. Names and keywords follow Unicode CLDR (Unicode licence).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from studio.train import world

LANGUAGES = ("en", "de", "fr", "es")


@dataclass(frozen=True)
class Thing:
    """What one emoji shows. `names` and looser `keywords` by language; `synonyms` are English and mean this alone."""

    emoji: str
    names: Mapping[str, tuple[str, ...]]
    keywords: Mapping[str, tuple[str, ...]]
    synonyms: tuple[str, ...]
    painted: bool
    """The text-to-image starter knows it."""

    @property
    def name(self) -> str:
        return self.names["en"][0]


@lru_cache(maxsize=1)
def things() -> tuple[Thing, ...]:
    """All of words.json: first what is painted, beginning with the starter world's things in its order."""
    rows = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))

    def table(found: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
        return {language: tuple(spoken) for language, spoken in found.items()}

    return tuple(
        Thing(emoji, table(names), table(keywords), tuple(synonyms or ()), synonyms is not None)
        for emoji, names, keywords, synonyms in rows
    )


@lru_cache(maxsize=1)
def painted() -> tuple[Thing, ...]:
    """What the text-to-image starter knows."""
    return tuple(thing for thing in things() if thing.painted)


# fmt: off
_PLURALS = {
    "sheep": "sheep", "deer": "deer", "fish": "fish", "blowfish": "blowfish", "goose": "geese", "mouse": "mice",
    "mouse face": "mouse faces",
    "wolf": "wolves", "knife": "knives", "leaf": "leaves", "maple leaf": "maple leaves", "man": "men", "woman":
    "women",
    "child": "children", "policeman": "policemen", "ox": "oxen", "person": "people", "tooth": "teeth", "die": "dice",
    "tropical fish": "tropical fish", "old man": "old men", "old woman": "old women", "loaf": "loaves", "gold fish":
    "goldfish",
    "person standing": "people standing", "police officer": "police officers", "pot of food": "pots of food",
    "roll of paper": "rolls of paper", "glass of milk": "glasses of milk", "cup of coffee": "cups of coffee",
    "statue of liberty": "statues of liberty", "ear of corn": "ears of corn", "bow and arrow": "bows and arrows",
    "shrimp": "shrimps",
    "bottle of wine": "bottles of wine", "glass of wine": "glasses of wine", "bunch of flowers": "bunches of flowers",
    "hero": "heroes",
    "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes", "volcano": "volcanoes", "mosquito": "mosquitoes",
}

UNCOUNTED = world.NO_ARTICLE | {
    "socks", "gloves", "garlic", "peanuts", "paw prints", "lightning", "sunshine", "bowling", "soap", "money", "tea",
    "champagne glasses",
    "spaghetti", "salad", "bacon", "steak", "butter", "custard", "fallen leaves", "wood", "coral", "nesting dolls",
    "fireworks",
    "toast", "maize", "fries", "chips", "sweets", "beer", "wine", "trousers", "pants", "heels", "spectacles",
    "eyeglasses", "drums",
    "earphones", "pasta", "noodles", "meat", "milk", "ice", "medicine", "yoga", "soccer", "dice", "cattle", "mail",
    "sunglasses",
    "the sun", "coffee", "santa claus", "santa", "father christmas", "earth", "cooking", "mountains", "bananas bunch",
    "saturn",
}
"""Names that a caption says without an article."""

COLOURS: Mapping[str, tuple[int, int, int]] = {
    **world.COLOURS,
    "black": (28, 28, 30),
    "turquoise": (64, 208, 196),
    "teal": (20, 128, 128),
    "cyan": (80, 220, 240),
    "navy": (24, 36, 104),
    "light blue": (168, 208, 244),
    "dark blue": (28, 52, 128),
    "sky blue": (128, 196, 240),
    "light green": (168, 224, 160),
    "dark green": (28, 92, 48),
    "lime": (160, 224, 48),
    "olive": (124, 124, 44),
    "magenta": (216, 52, 180),
    "violet": (148, 96, 224),
    "lavender": (206, 196, 244),
    "maroon": (116, 28, 40),
    "dark red": (136, 20, 28),
    "beige": (234, 220, 192),
    "cream": (252, 244, 214),
    "gold": (222, 176, 56),
    "silver": (190, 194, 200),
    "light gray": (212, 214, 218),
    "dark gray": (78, 82, 86),
    "peach": (252, 206, 170),
    "coral": (248, 128, 108),
}
"""Plain grounds, RGB: CSS's sixteen basic colours and what else people ask for."""

COLOUR_NAMES: Mapping[str, str] = {
    "grey": "gray", "light grey": "light gray", "dark grey": "dark gray", "aqua": "cyan", "fuchsia": "magenta",
    "golden": "gold",
    "navy blue": "navy", "tan": "beige", "pale blue": "light blue", "baby blue": "light blue", "bright green": "lime",
    "mint": "light green",
    "crimson": "dark red", "lilac": "lavender", "salmon": "coral", "ivory": "cream", "indigo": "violet", "burgundy":
    "maroon",
}
"""Other names of those colours."""

TINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black", "white", "turquoise")
"""Colours in which a thing itself can be asked for: "a blue car"."""

GROUNDS: Mapping[str, tuple[str, ...]] = {
    "grass": ("on grass", "on the grass", "in a meadow", "in a field", "on a lawn", "in the park", "in a garden"),
    "sky": ("in the sky", "in the air", "flying in the sky", "above the clouds"),
    "space": ("in space", "in outer space", "among the stars", "in the universe"),
    "sea": ("by the sea", "on the beach", "at the beach", "at the seaside", "by the ocean"),
    "water": ("in the water", "in the sea", "underwater", "under water", "in the ocean", "swimming"),
    "table": ("on a table", "on the table", "on a wooden table", "on a desk"),
    "snow": ("in the snow", "on snow", "in winter"),
    "desert": ("in the desert", "on sand", "in the sand"),
    "night": ("at night", "in the night", "under the stars", "in the moonlight"),
    "forest": ("in the forest", "in the woods", "in the jungle", "among trees"),
    "street": ("on the street", "on the road", "on a street", "in the city", "in town"),
    "room": ("in a room", "indoors", "at home", "in the house", "in the living room", "on the floor"),
    "sunset": ("at sunset", "in the sunset", "at sunrise", "at dusk", "in the evening"),
}
"""Grounds with a horizon or a gradient, and how people say them; the first is the one shown in lists."""

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath", "underneath"),
    "and": ("and", "with", "next to", "beside", "near", "and"),
}
NUMBERS = {2: ("two", "2", "a pair of", "two"), 3: ("three", "3"), 4: ("four", "4")}
SMALL, BIG = ("small", "tiny", "little"), ("big", "large", "huge", "giant")
PREFIXES = (
    "a photo of", "photo of", "a picture of", "picture of", "an image of", "image of", "a drawing of", "drawing of",
    "a painting of",
    "an illustration of", "a sticker of", "an emoji of", "a portrait of", "a photograph of", "a cartoon of",
    "a sketch of", "draw",
    "please draw", "show me", "make", "paint", "generate", "i want", "can you draw", "a close-up of",
)
ADJECTIVES = (
    "cute", "beautiful", "nice", "funny", "happy", "pretty", "realistic", "cool", "lovely", "sweet", "fresh",
    "colorful", "colourful",
    "adorable", "fantastic", "old", "young", "modern", "simple", "single", "shiny", "fluffy", "friendly", "detailed",
    "smiling",
)
SUFFIXES = (
    "4k", "8k", "highly detailed", "high quality", "masterpiece", "digital art", "cartoon style", "cartoon",
    "trending on artstation",
    "sharp focus", "best quality", "watercolor", "3d render", "ultra realistic", "hd", "studio lighting",
    "vector art", "flat design",
    "sticker", "emoji", "minimalist", "photorealistic", "professional photo", "oil painting", "please",
    "award winning", "clean",
)
FILLERS = frozenset(
    word
    for text in (*PREFIXES, *ADJECTIVES, *SUFFIXES)
    for word in re.findall(r"[\w-]+", text.lower())
)
"""Words that a prompt may hold and that change nothing."""
# fmt: on

FOREIGN_COLOURS: Mapping[str, tuple[str, ...]] = {
    "de": ("rot", "orange", "gelb", "grün", "blau", "lila", "rosa", "braun", "grau", "weiß", "schwarz"),
    "fr": ("rouge", "orange", "jaune", "vert", "bleu", "violet", "rose", "marron", "gris", "blanc", "noir"),
    "es": ("rojo", "naranja", "amarillo", "verde", "azul", "morado", "rosa", "marrón", "gris", "blanco", "negro"),
}
"""The first eleven of COLOURS."""
ON: Mapping[str, tuple[str, ...]] = {"de": ("auf", "vor"), "fr": ("sur", "sur fond"), "es": ("sobre", "sobre fondo")}
AND: Mapping[str, str] = {"en": "and", "de": "und", "fr": "et", "es": "y"}


def plural(name: str) -> str:
    """More than one of it: "foxes", "cherries", "mice"."""
    if name in _PLURALS:
        return _PLURALS[name]
    if name in UNCOUNTED:
        return name
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}es" if re.search(r"(s|x|z|ch|sh)$", name) else f"{name}s"


def phrase(name: str) -> str:
    """One of it as a caption says it: "a pizza", "an owl", "grapes"."""
    if name in UNCOUNTED:
        return name
    vowel = name[0] in "aeiou" and not name.startswith(("uni", "eu", "ufo"))
    return f"{'an' if vowel else 'a'} {name}"
