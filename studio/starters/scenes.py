"""Scenes by chance, as numbers, and what people would type for them.

`draw(rng, style)` gives one `Scene`: sprites on a ground and a caption, with the facts that the caption states, so that
it can be told which other pictures it is also true of. PAINTED is what the text-to-image starter learns to paint:
upright things at exact places. SEEN is what the contrastive starter learns to recognise: everything, anywhere, on
anything, in four languages. A tenth of all (thing, plain colour) pairs is held out (`studio.train.world.held_out`).
`studio.starters.composer` makes pictures of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from studio.starters import words
from studio.starters.words import COLOURS, GROUNDS, NUMBERS, RELATIONS, TINTS
from studio.train.world import held_out

RGB = tuple[int, int, int]
SLOTS = 6
"""Most things in a scene."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
QUIET = ("white", "white", "light blue", "cream", "light gray", "beige", "yellow", "light green")
"""Grounds of pictures whose caption says nothing about it."""


class Sprite(NamedTuple):
    """A thing in a picture of side 1: its number in `words.things()`, its middle, its longer side, its tint (-1: its
    own colours), its angle in radians, whether it is mirrored, and its light."""

    thing: int
    x: float
    y: float
    size: float
    tint: int = -1
    angle: float = 0.0
    mirrored: bool = False
    light: float = 1.0


class Ground(NamedTuple):
    """Three bands of colour from top to bottom, their two borders (0..1), how soft those are, and whether stars shine.

    Of a `wild` ground all of that is left to the composer: a photograph, a gradient, noise or stripes.
    """

    top: RGB
    middle: RGB
    bottom: RGB
    first: float = 0.5
    second: float = 1.0
    softness: float = 0.0
    stars: float = 0.0
    wild: bool = False


class Said(NamedTuple):
    """What a caption states: of each thing it names the word, the tint (-1) and the number (-1); the colour of the
    ground (""), and whether it says how things lie."""

    words: tuple[str, ...]
    tints: tuple[int, ...]
    counts: tuple[int, ...]
    ground: str = ""
    relation: bool = False


class Scene(NamedTuple):
    """Sprites from back to front on a ground, a caption, what that states, and the plain ground's colour, or ""."""

    sprites: tuple[Sprite, ...]
    ground: Ground
    caption: str
    said: Said = Said((), (), ())
    colour: str = ""


@dataclass(frozen=True)
class Style:
    """`kinds`: odds of one thing, several of a kind, a pair and a scatter. `loose`: turned, mirrored, of any size.
    `foreign`: share of captions that are not English; `wild`: share of grounds that have no name."""

    kinds: tuple[float, float, float, float]
    everything: bool = False
    loose: bool = False
    foreign: float = 0.0
    wild: float = 0.0


PAINTED = Style((0.5, 0.18, 0.32, 0.0))
SEEN = Style((0.35, 0.17, 0.2, 0.28), everything=True, loose=True, foreign=0.3, wild=0.3)

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
WILD = Ground((128, 128, 128), (128, 128, 128), (128, 128, 128), wild=True)


def draw(rng: np.random.Generator, style: Style = PAINTED) -> Scene:
    """A scene for training."""
    kind = int(rng.choice(4, p=style.kinds))
    return (_single, _several, _pair, _scatter)[kind](rng, style)


def single(thing: int, ground: Ground, caption: str) -> Scene:
    """One thing, upright in the middle: what tests and evaluations ask for."""
    return Scene((Sprite(thing, 0.5, 0.5, 0.75),), ground, caption)


def plain(colour: str) -> Ground:
    """A ground of one of COLOURS."""
    rgb = COLOURS[colour]
    return Ground(rgb, rgb, rgb)


# ── places ───────────────────────────────────────────────────────────────────


def _single(rng: np.random.Generator, style: Style) -> Scene:
    thing = _thing(rng, style)
    size, adjective = 0.75 + rng.uniform(-0.04, 0.04), ""
    chance = rng.random()
    if chance < 0.07:
        size, adjective = rng.uniform(0.3, 0.36), _one(rng, words.SMALL)
    elif chance < 0.13:
        size, adjective = rng.uniform(0.9, 0.96), _one(rng, words.BIG)
    elif style.loose and chance < 0.5:
        size = rng.uniform(0.4, 0.98)
    tint = _tint(rng, 0.22)
    slack = max(0.02, 0.5 * (0.9 - size)) if style.loose else 0.02
    x, y = 0.5 + rng.uniform(-slack, slack, 2)
    ground, colour, where = _ground(rng, style, [thing])
    sprites = (_turned(rng, style, Sprite(thing, x, y, size, tint)),)
    return _told(rng, style, sprites, ground, colour, where, [(thing, 1, tint, adjective)])


def _several(rng: np.random.Generator, style: Style) -> Scene:
    thing, count, tint = _thing(rng, style), int(rng.integers(2, 5)), _tint(rng, 0.12)
    ground, colour, where = _ground(rng, style, [thing])
    size = (0.42 if count == 2 else 0.4) + rng.uniform(-0.015, 0.015)
    places = np.array(PLACES[count]) + rng.uniform(-0.012, 0.012, (count, 2)) * (4 if style.loose else 1)
    sprites = tuple(_turned(rng, style, Sprite(thing, x, y, size, tint)) for x, y in places)
    return _told(rng, style, sprites, ground, colour, where, [(thing, count, tint, "")])


def _pair(rng: np.random.Generator, style: Style) -> Scene:
    one = other = _thing(rng, style)
    while other == one:
        other = _thing(rng, style)
    relation = str(rng.choice(list(RELATIONS)))
    ground, colour, where = _ground(rng, style, [one, other])
    tints = _tint(rng, 0.12), _tint(rng, 0.12)
    step = np.array(STEPS[relation]) * 0.24
    shifts, size = rng.uniform(-0.015, 0.015, (2, 2)), rng.uniform(0.42, 0.46)
    sprites = tuple(
        _turned(
            rng,
            style,
            Sprite(thing, float(0.5 + side * step[0] + shift[0]), float(0.5 + side * step[1] + shift[1]), size, tint),
        )
        for thing, side, shift, tint in zip((one, other), (1, -1), shifts, tints, strict=True)
    )
    named = [(one, 1, tints[0], ""), (other, 1, tints[1], "")]
    return _told(rng, style, sprites, ground, colour, where, named, relation)


def _scatter(rng: np.random.Generator, style: Style) -> Scene:
    things = list(dict.fromkeys(_thing(rng, style) for _ in range(int(rng.integers(1, SLOTS + 1)))))
    ground, colour, where = (WILD, "", "") if rng.random() < 0.6 else _ground(rng, style, things)
    sizes = np.sort(0.14 * 5.5 ** rng.random(len(things)))[::-1]
    places = rng.uniform(0.12, 0.88, (len(things), 2))
    sprites = tuple(
        _turned(rng, style, Sprite(thing, x, y, size))
        for thing, (x, y), size in zip(things, places, sizes, strict=True)
    )
    named = [(thing, 1, -1, "") for thing in things[: int(rng.integers(1, len(things) + 1))]]  # the largest
    return _told(rng, style, sprites, ground, colour, where, named, "and")


def _turned(rng: np.random.Generator, style: Style, sprite: Sprite) -> Sprite:
    if not style.loose:
        return sprite
    angle = float(rng.normal(0, 0.2)) if rng.random() < 0.5 else 0.0
    light = float(rng.uniform(0.75, 1.1)) if rng.random() < 0.5 else 1.0
    return sprite._replace(angle=angle, mirrored=bool(rng.random() < 0.3), light=light)


def _thing(rng: np.random.Generator, style: Style) -> int:
    """Half of everything is what the text-to-image starter paints."""
    known = len(words.painted())
    return int(rng.integers(len(words.things()) if style.everything and rng.random() < 0.5 else known))


def _tint(rng: np.random.Generator, chance: float) -> int:
    return int(rng.integers(len(TINTS))) if rng.random() < chance else -1


def _ground(rng: np.random.Generator, style: Style, things: Sequence[int]) -> tuple[Ground, str, str]:
    """A ground, its colour where it is plain, and how it is said, "" where it is left to the model."""
    chance = rng.random()
    if rng.random() < style.wild:
        return WILD, "", ""
    if chance < 0.22:
        name = str(rng.choice(list(LANDSCAPES)))
        return _varied(rng, LANDSCAPES[name]), "", _one(rng, GROUNDS[name])
    names = [words.things()[thing].name for thing in things]
    while True:
        # The ten colours of the starter world come as often as all others together.
        quiet = chance < 0.34
        colour = _one(rng, QUIET if quiet else list(COLOURS)[: 10 if rng.random() < 0.5 else None])
        if not any(held_out(name, colour) for name in names):
            break
    said = [colour, colour, *(other for other, name in words.COLOUR_NAMES.items() if name == colour)]
    return _varied(rng, plain(colour)), colour, "" if quiet else _spoken(rng, _one(rng, said))


# ── captions ─────────────────────────────────────────────────────────────────

Named = tuple[int, int, int, str]  # thing, number, tint, adjective


def _told(
    rng: np.random.Generator, style: Style, sprites: tuple[Sprite, ...], ground: Ground, colour: str, where: str,
    named: Sequence[Named], relation: str = "",
) -> Scene:  # fmt: skip
    if rng.random() < style.foreign:
        language = _one(rng, words.LANGUAGES[1:])
        if all(words.things()[thing].names[language] for thing, *_ in named):
            return Scene(sprites, ground, *_foreign(rng, language, named, colour if where else ""), colour)
    nouns = [_noun(rng, style, *one) for one in named]
    said = Said(
        tuple(word for word, _ in nouns), tuple(tint for _, _, tint, _ in named),
        tuple(count if count > 1 else -1 for _, count, _, _ in named), colour if where else "",
        relation not in ("", "and"),
    )  # fmt: skip
    texts = [text for _, text in nouns]
    text = f"{texts[0]} {_one(rng, RELATIONS[relation])} {texts[1]}" if len(texts) == 2 else _joined(texts, "en")
    return Scene(sprites, ground, _sentence(rng, text, where), said, colour)


def _foreign(rng: np.random.Generator, language: str, named: Sequence[Named], colour: str) -> tuple[str, Said]:
    """Names one after the other, and the colour they lie on where it has a name in that language."""
    spoken = [_one(rng, words.things()[thing].names[language]) for thing, *_ in named]
    text, known = _joined(spoken, language), list(COLOURS)[: len(words.FOREIGN_COLOURS[language])]
    if colour in known:
        text = f"{text} {_one(rng, words.ON[language])} {words.FOREIGN_COLOURS[language][known.index(colour)]}"
    unsaid = (-1,) * len(named)
    return text, Said(tuple(spoken), unsaid, unsaid, colour if colour in known else "")


def _joined(parts: Sequence[str], language: str) -> str:
    return f" {words.AND[language]} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _noun(rng: np.random.Generator, style: Style, thing: int, count: int, tint: int, adjective: str) -> tuple[str, str]:
    """The word for it, and "a red car", "two foxes", "puppy"."""
    own = words.things()[thing]
    chance = rng.random()
    others = own.synonyms if own.painted else own.names["en"][1:]
    if style.everything and chance < 0.15:
        others = own.keywords["en"] or others
    name = word = _one(rng, others) if others and chance < 0.35 else own.name
    adjective = f"{adjective} {TINTS[tint] if tint >= 0 else ''}".strip()
    if rng.random() < 0.06:
        adjective = f"{_one(rng, words.ADJECTIVES)} {adjective}".strip()
    if count > 1:
        return word, f"{_one(rng, NUMBERS[count])} {adjective} {words.plural(name)}".replace("  ", " ")
    if adjective:
        article = "an" if adjective[0] in "aeiou" else "a"
        return word, f"{adjective} {name}" if name in words.UNCOUNTED else f"{article} {adjective} {name}"
    chance = rng.random()
    if chance < 0.22:
        return word, name
    return word, f"the {name}" if chance < 0.26 else words.phrase(name)


def _spoken(rng: np.random.Generator, colour: str) -> str:
    article = "an" if colour[0] in "aeiou" else "a"
    if rng.random() < 0.55:
        return f"on {article} {colour} background"
    return _one(
        rng,
        (
            f"on {colour}", f"on {article} plain {colour} background", f"with {article} {colour} background",
            f"{colour} background",
            f"in front of {article} {colour} wall", f"against {article} {colour} background", f"on {colour} background",
            f"on {article} {colour} backdrop", f", {colour} background", f"over {colour}",
        ),
    )  # fmt: skip


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
    shift = rng.integers(-3, 4, 3).tolist()

    def shade(band: RGB) -> RGB:
        red, green, blue = (min(255, max(0, value + off)) for value, off in zip(band, shift, strict=True))
        return red, green, blue

    return ground._replace(top=shade(ground.top), middle=shade(ground.middle), bottom=shade(ground.bottom))


def _one(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


# ── scenes as arrays ─────────────────────────────────────────────────────────


class Batch(NamedTuple):
    """Scenes as arrays, which is how processes and devices exchange them.

    Attributes:
        sprites: float32 (N, SLOTS, 8), the fields of Sprite; the thing is -1 where there is none.
        grounds: float32 (N, 14): three RGB bands 0..255, first, second, softness, stars, wild.
    """

    sprites: NDArray[np.float32]
    grounds: NDArray[np.float32]

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Batch:
        sprites = np.full((len(scenes), SLOTS, len(Sprite._fields)), -1, np.float32)
        grounds = np.zeros((len(scenes), 14), np.float32)
        for i, scene in enumerate(scenes):
            for slot, sprite in enumerate(scene.sprites[:SLOTS]):
                sprites[i, slot] = sprite
            ground = scene.ground
            grounds[i] = (*ground.top, *ground.middle, *ground.bottom, *ground[3:])
        return cls(sprites, grounds)


@lru_cache(maxsize=1)
def lexicon() -> Mapping[str, tuple[int, ...]]:
    """Every word that captions use for things -> the things it fits."""
    fits: dict[str, list[int]] = {}
    for number, thing in enumerate(words.things()):
        tables = (thing.names, thing.keywords)
        spoken = [word for table in tables for language in words.LANGUAGES for word in table[language]]
        for word in dict.fromkeys([*spoken, *thing.synonyms]):
            fits.setdefault(word, []).append(number)
    return {word: tuple(numbers) for word, numbers in fits.items()}


def facts(scenes: Sequence[Scene]) -> NDArray[np.int32]:
    """What is so and what is said, int32 (N, 6 SLOTS + 3), -1 for none: things, tints and numbers of what is there;
    words (places in `lexicon`), tints and numbers of what is named; the ground's colour, the one that is said, and
    whether a relation is."""
    index = {word: number for number, word in enumerate(lexicon())}
    colour = {name: number for number, name in enumerate(COLOURS)}
    table = np.full((len(scenes), 6 * SLOTS + 3), -1, np.int32)
    for row, scene in zip(table, scenes, strict=True):
        things = [sprite.thing for sprite in scene.sprites]
        columns = (
            things, [s.tint for s in scene.sprites], [things.count(thing) for thing in things],
            [index[word] for word in scene.said.words], scene.said.tints, scene.said.counts,
        )  # fmt: skip
        for number, values in enumerate(columns):
            row[number * SLOTS : number * SLOTS + len(values)] = values
        row[-3:] = colour.get(scene.colour, -1), colour.get(scene.said.ground, -1), scene.said.relation
    return table
