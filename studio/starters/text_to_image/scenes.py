"""What the starter learns to draw, as data: where which sticker lies on which ground, and what people would type for it.

`draw(rng)` gives one `Scene`. One scene in two shows one thing, the others two to four of a kind or two things in a
relation. A tenth of all (thing, plain colour) pairs is held out (`studio.train.world.held_out`) and never drawn.
Pictures are made from scenes by `studio.starters.text_to_image.compositor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from studio.starters.text_to_image import vocabulary as words
from studio.starters.text_to_image.vocabulary import COLOURS, GROUNDS, NUMBERS, RELATIONS, THINGS, TINTS
from studio.train.world import held_out

RGB = tuple[int, int, int]


class Sprite(NamedTuple):
    """A thing in a picture of side 1: its number in THINGS, its middle, its longer side, its tint (-1: its own colours)."""

    thing: int
    x: float
    y: float
    size: float
    tint: int = -1


class Ground(NamedTuple):
    """Three bands of colour from top to bottom, their two borders (0..1), how soft those are, and whether stars shine."""

    top: RGB
    middle: RGB
    bottom: RGB
    first: float = 0.5
    second: float = 1.0
    softness: float = 0.0
    stars: float = 0.0


class Scene(NamedTuple):
    """Sprites from back to front on a ground, and a caption."""

    sprites: tuple[Sprite, ...]
    ground: Ground
    caption: str


LANDSCAPES: Mapping[str, Ground] = {
    "grass": Ground((150, 206, 244), (196, 230, 250), (104, 178, 80), 0.3, 0.62, 0.02),
    "sky": Ground((86, 160, 232), (150, 204, 246), (216, 238, 252), 0.4, 0.8, 0.4),
    "space": Ground((10, 12, 34), (22, 18, 54), (12, 10, 30), 0.4, 0.8, 0.5, 1.0),
    "sea": Ground((170, 218, 248), (46, 138, 196), (240, 218, 168), 0.42, 0.68, 0.01),
    "water": Ground((96, 196, 220), (40, 134, 186), (14, 66, 122), 0.35, 0.75, 0.5),
    "table": Ground((240, 232, 218), (240, 232, 218), (156, 104, 64), 0.3, 0.66, 0.01),
    "snow": Ground((196, 216, 234), (218, 232, 242), (250, 252, 254), 0.3, 0.62, 0.03),
    "desert": Ground((250, 206, 140), (252, 226, 176), (226, 176, 104), 0.3, 0.6, 0.02),
    "night": Ground((12, 18, 54), (26, 38, 92), (40, 60, 112), 0.4, 0.8, 0.5, 0.6),
    "forest": Ground((40, 92, 60), (62, 124, 72), (92, 82, 52), 0.4, 0.72, 0.04),
    "street": Ground((204, 222, 234), (176, 184, 190), (96, 98, 104), 0.45, 0.64, 0.01),
    "room": Ground((246, 236, 214), (246, 236, 214), (190, 142, 96), 0.3, 0.7, 0.01),
    "sunset": Ground((92, 66, 138), (244, 136, 94), (252, 204, 120), 0.35, 0.8, 0.5),
}
PLACES: Mapping[int, tuple[tuple[float, float], ...]] = {
    2: ((0.27, 0.5), (0.73, 0.5)),
    3: ((0.5, 0.27), (0.26, 0.72), (0.74, 0.72)),
    4: ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)),
}
STEPS: Mapping[str, tuple[float, float]] = {
    "left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1), "and": (-1, 0),
}  # fmt: skip
_BY_THING: dict[str, list[str]] = {
    thing.name: [word for word, name in words.SYNONYMS.items() if name == thing.name] for thing in THINGS
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def draw(rng: np.random.Generator) -> Scene:
    """A scene for training."""
    kind = rng.random()
    if kind < 0.5:
        return _single(rng)
    return _several(rng) if kind < 0.68 else _pair(rng)


def single(thing: int, ground: Ground, caption: str) -> Scene:
    """One thing, upright in the middle: what tests and evaluations ask for."""
    return Scene((Sprite(thing, 0.5, 0.5, 0.75),), ground, caption)


def plain(colour: str) -> Ground:
    """A ground of one of COLOURS."""
    rgb = COLOURS[colour]
    return Ground(rgb, rgb, rgb)


def _single(rng: np.random.Generator) -> Scene:
    thing = int(rng.integers(len(THINGS)))
    size, adjective = 0.75 + rng.uniform(-0.04, 0.04), ""
    chance = rng.random()
    if chance < 0.07:
        size, adjective = rng.uniform(0.3, 0.36), _one(rng, words.SMALL)
    elif chance < 0.13:
        size, adjective = rng.uniform(0.9, 0.96), _one(rng, words.BIG)
    tint = int(rng.integers(len(TINTS))) if rng.random() < 0.22 else -1
    colour = TINTS[tint] if tint >= 0 else ""
    ground, where = _ground(rng, [thing])
    x, y = 0.5 + rng.uniform(-0.02, 0.02, 2)
    said = _noun(rng, thing, 1, " ".join(filter(None, (adjective, colour))))
    return Scene((Sprite(thing, x, y, size, tint),), ground, _sentence(rng, said, where))


def _several(rng: np.random.Generator) -> Scene:
    thing = int(rng.integers(len(THINGS)))
    count = int(rng.integers(2, 5))
    tint = int(rng.integers(len(TINTS))) if rng.random() < 0.12 else -1
    number = _one(rng, NUMBERS[count])
    if count < 4 and rng.random() < 0.3:
        number = str(rng.choice(["", "", "some", "several", "many"]))
    noun = _noun(rng, thing, count, TINTS[tint] if tint >= 0 else "")
    ground, where = _ground(rng, [thing])
    size = (0.42 if count == 2 else 0.4) + rng.uniform(-0.015, 0.015)
    places = np.array(PLACES[count]) + rng.uniform(-0.012, 0.012, (count, 2))
    sprites = tuple(Sprite(thing, x, y, size, tint) for x, y in places)
    return Scene(sprites, ground, _sentence(rng, f"{number} {noun}".strip(), where))


def _pair(rng: np.random.Generator) -> Scene:
    one, other = (int(i) for i in rng.choice(len(THINGS), 2, replace=False))
    relation = str(rng.choice(list(RELATIONS)))
    ground, where = _ground(rng, [one, other])
    tints = [int(rng.integers(len(TINTS))) if rng.random() < 0.12 else -1 for _ in range(2)]
    said = [
        _noun(rng, thing, 1, TINTS[tint] if tint >= 0 else "")
        for thing, tint in zip((one, other), tints, strict=True)
    ]
    step = np.array(STEPS[relation]) * 0.24
    shifts = rng.uniform(-0.015, 0.015, (2, 2))
    size = rng.uniform(0.42, 0.46)
    sprites = tuple(
        Sprite(thing, *(0.5 + side * step + shift), size, tint)
        for thing, side, shift, tint in zip((one, other), (1, -1), shifts, tints, strict=True)
    )
    return Scene(sprites, ground, _sentence(rng, f"{said[0]} {_one(rng, RELATIONS[relation])} {said[1]}", where))


def _ground(rng: np.random.Generator, things: Sequence[int]) -> tuple[Ground, str]:
    """A ground and how it is said, "" where it is left to the model."""
    chance = rng.random()
    if chance < 0.22:
        name = str(rng.choice(list(LANDSCAPES)))
        return _varied(rng, LANDSCAPES[name]), _one(rng, GROUNDS[name])
    while True:
        # The ten colours of the starter world come as often as all others together.
        pool = list(COLOURS)[: 10 if rng.random() < 0.5 else None]
        colour = str(rng.choice(pool))
        if not any(held_out(THINGS[thing].name, colour) for thing in things):
            break
    names = [colour, colour, *(other for other, name in words.COLOUR_NAMES.items() if name == colour)]
    if chance < 0.34:  # nothing is said, so it is quiet
        colour = str(rng.choice(["white", "white", "light blue", "cream", "light gray", "beige", "yellow", "light green"]))
        return (_varied(rng, plain(colour)), "") if not held_out(THINGS[things[0]].name, colour) else _ground(rng, things)
    return _varied(rng, plain(colour)), _spoken(rng, str(rng.choice(names)))


def _spoken(rng: np.random.Generator, colour: str) -> str:
    article = "an" if colour[0] in "aeiou" else "a"
    if rng.random() < 0.55:
        return f"on {article} {colour} background"
    return _one(
        rng,
        (
            f"on {colour}", f"on {article} plain {colour} background", f"with {article} {colour} background", f"{colour} background",
            f"in front of {article} {colour} wall", f"against {article} {colour} background", f"on {colour} background",
            f"on {article} {colour} backdrop", f", {colour} background", f"over {colour}",
        ),
    )  # fmt: skip


def _noun(rng: np.random.Generator, thing: int, count: int, adjective: str) -> str:
    """ "a red car", "foxes", "puppy"; with `adjective` before it."""
    name = THINGS[thing].name
    others = _BY_THING[name]
    if others and rng.random() < 0.35:
        name = _one(rng, others)
    if rng.random() < 0.06:
        adjective = f"{_one(rng, words.ADJECTIVES)} {adjective}".strip()
    if count > 1:
        return f"{adjective} {words.plural(name)}".strip()
    if adjective:
        article = "an" if adjective[0] in "aeiou" else "a"
        said = f"{adjective} {name}"
        return said if name in words.UNCOUNTED else f"{article} {said}"
    chance = rng.random()
    if chance < 0.22:
        return name
    return f"the {name}" if chance < 0.26 else words.phrase(name)


def _sentence(rng: np.random.Generator, said: str, where: str) -> str:
    """The caption as one of many people would type it."""
    text = f"{said} {where}".strip().replace(" ,", ",")
    if where.endswith("background") and where.startswith("on") and rng.random() < 0.06:
        text = f"{where.removeprefix('on ')} with {said}"
    chance = rng.random()
    if chance < 0.14:
        text = f"{_one(rng, words.PREFIXES)} {text}"
    if rng.random() < 0.10:
        text = ", ".join([text, *(_one(rng, words.SUFFIXES) for _ in range(int(rng.integers(1, 4))))])
    if rng.random() < 0.05:
        text = _typo(rng, text)
    return text + ("." if rng.random() < 0.03 else "")


def _typo(rng: np.random.Generator, text: str) -> str:
    """One letter of a longer word is lost, doubled, swapped or another."""
    parts = text.split(" ")
    long = [i for i, part in enumerate(parts) if len(part) > 3 and part.isalpha()]
    if not long:
        return text
    i = int(rng.choice(long))
    word, at = parts[i], int(rng.integers(1, len(parts[i]) - 1))
    parts[i] = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + LETTERS[int(rng.integers(26))] + word[at + 1 :],
    )[int(rng.integers(4))]
    return " ".join(parts)


def _varied(rng: np.random.Generator, ground: Ground) -> Ground:
    """Like it, a shade off."""
    shift = rng.integers(-3, 4, 3)
    bands = (tuple(int(v) for v in np.clip(np.array(band) + shift, 0, 255)) for band in ground[:3])
    top, middle, bottom = bands
    return ground._replace(top=top, middle=middle, bottom=bottom)


def _one(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
