"""Scenes by chance and what may be said of them, for the contrastive starter: numbers for `textures.Painter`, tokens.

A caption holds facts (things by any of their words, their colours and numbers, the ground's colour, how two things
lie), so it can be known which other pictures of a batch it also fits: they are no counterexamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studio.starters import textures, words
from studio.train import world

SLOTS = 6
"""Most things of a scene, and most that a caption names."""
RELATIONS = tuple(world.RELATIONS)
OPPOSITE = (1, 0, 3, 2)
NUMBERS = ("", "one", "two", "three", "four", "five", "six")
AND = {"en": "and", "de": "und", "fr": "et", "es": "y"}
ON = {"en": ("on",), "de": ("auf", "vor"), "fr": ("sur", "sur fond"), "es": ("sobre", "sobre fondo")}
BESIDE = ("{0} and {1}", "{0} next to {1}", "{0} beside {1}", "{0}, {1}", "{0} with {1}")


@dataclass
class Scene:
    """One scene; places are of the middle, as shares of the side, y down."""

    things: list[int] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    places: list[tuple[float, float]] = field(default_factory=list)
    angles: list[float] = field(default_factory=list)
    flips: list[int] = field(default_factory=list)
    hues: list[int] = field(default_factory=list)
    lights: list[float] = field(default_factory=list)
    kind: int = 0
    """0 plain with a name, 1 plain, 2 gradient, 3 soft noise, 4 stripes, 5 photograph."""
    ground: int = -1
    """Index into textures.COLOURS where the kind is 0."""
    relation: int = -1
    """How the first thing lies to the second, where that is all there is."""


@dataclass
class Caption:
    """A text and its facts; `word` indexes `Lexicon.words`, -1 is: not said."""

    text: str
    word: list[int]
    colour: list[int]
    count: list[int]
    ground: int = -1
    relation: int = -1


class Lexicon:
    """The words of an atlas's things: `words` and which things each fits, bool (W, T)."""

    def __init__(self, atlas: textures.Atlas) -> None:
        known = {entry.emoji: entry for entry in words.entries()}
        self.atlas = atlas
        self.entries = [known[emoji] for emoji in atlas.emoji]
        own = {t.emoji.rstrip("\ufe0f"): t.name for t in world.THINGS}
        extra = {t.emoji.rstrip("\ufe0f") for t in world.EXTRAS}
        self.own = [k for k, e in enumerate(atlas.emoji) if e in own]
        self.extra = [k for k, e in enumerate(atlas.emoji) if e in extra]
        self.world_name = [own.get(e) for e in atlas.emoji]
        index: dict[str, int] = {}
        fits: list[list[int]] = []
        for k, entry in enumerate(self.entries):
            for table in (entry.names, entry.keywords):
                for word in (w for language in words.LANGUAGES for w in table[language]):
                    if word not in index:
                        index[word] = len(fits)
                        fits.append([])
                    fits[index[word]].append(k)
        self.index = index
        self.fits = fits

    @cached_property
    def members(self) -> Tensor:
        found = torch.zeros((len(self.fits), len(self.entries)), dtype=torch.bool)
        for row, things in enumerate(self.fits):
            found[row, things] = True
        return found

    def held_out(self, thing: int, colour: int) -> bool:
        name = self.world_name[thing]
        return name is not None and colour < len(world.COLOURS) and world.held_out(name, textures.COLOURS[colour])


def draw(lexicon: Lexicon, rng: np.random.Generator, mode: str | None = None, held_out: bool = False) -> Scene:
    """A scene: "portrait", "pair", "scatter" or "count" (several of one thing).

    Plain grounds show a thing of the starter world only in colours that are not held out, or only in those that are.
    """
    mode = mode or ("portrait", "pair", "scatter", "count")[int(rng.choice(4, p=(0.35, 0.2, 0.28, 0.17)))]
    scene = Scene()
    while True:
        number = {"portrait": 1, "pair": 2, "scatter": int(rng.integers(1, SLOTS + 1)),
                  "count": int(rng.integers(2, 6))}[mode]  # fmt: skip
        things = [_thing(lexicon, rng) for _ in range(1 if mode == "count" else number)]
        scene.kind = 0 if rng.random() < (0.3 if mode == "scatter" else 0.75) else int(rng.integers(1, 6))
        scene.ground = int(rng.integers(len(textures.PLAIN))) if scene.kind == 0 else -1
        if held_out:
            scene.kind, scene.ground = 0, int(rng.integers(len(world.COLOURS)))
            if any(lexicon.held_out(t, scene.ground) for t in things):
                break
        elif scene.kind != 0 or not any(lexicon.held_out(t, scene.ground) for t in things):
            break
    if mode == "pair" and things[0] == things[1]:
        return draw(lexicon, rng, mode, held_out)
    if mode == "count":
        things = things * number
    scene.things = things
    turned = int(rng.integers(1, textures.HUES)) if rng.random() < 0.15 else 0
    scene.hues = [turned] * number if mode == "count" else [turned if k == 0 else 0 for k in range(number)]
    scene.flips = [int(rng.random() < 0.3) for _ in range(number)]
    scene.lights = [float(rng.uniform(0.75, 1.1)) if mode == "scatter" else 1.0 for _ in range(number)]
    loose = scene.kind != 0 or mode in ("scatter", "count")
    scene.angles = [float(rng.normal(0, 0.2)) if loose and rng.random() < 0.7 else 0.0 for _ in range(number)]
    if mode == "portrait":
        scene.shares = [float(rng.uniform(0.4, 0.98)) if rng.random() < 0.4 else float(rng.uniform(0.7, 0.8))]
        slack = max(0.02, 0.5 * (0.9 - scene.shares[0]))
        scene.places = [tuple(0.5 + rng.uniform(-slack, slack, 2))]  # type: ignore[list-item]
    elif mode == "pair":
        scene.relation = int(rng.integers(4))
        step = np.array(world.RELATIONS[RELATIONS[scene.relation]]) * rng.uniform(0.22, 0.27)
        scene.shares = [float(rng.uniform(0.38, 0.5)) for _ in range(2)]
        scene.places = [tuple(0.5 + side * step + rng.uniform(-0.03, 0.03, 2)) for side in (1, -1)]
    elif mode == "count":
        cells = rng.permutation(9 if number > 4 else 4)[:number]
        across = 3 if number > 4 else 2
        scene.shares = [float(rng.uniform(0.55, 0.95)) / across for _ in range(number)]
        scene.places = [
            (
                (c % across + 0.5 + rng.uniform(-0.1, 0.1)) / across,
                (c // across + 0.5 + rng.uniform(-0.1, 0.1)) / across,
            )
            for c in cells
        ]
    else:
        scene.shares = sorted((float(0.14 * 5.5 ** rng.random()) for _ in range(number)), reverse=True)
        scene.places = [tuple(rng.uniform(0.12, 0.88, 2)) for _ in range(number)]
    return scene


def _thing(lexicon: Lexicon, rng: np.random.Generator) -> int:
    chance = rng.random()
    pool = lexicon.own if chance < 0.5 else lexicon.extra if chance < 0.6 else None
    return int(pool[rng.integers(len(pool))]) if pool else int(rng.integers(len(lexicon.entries)))


def say(lexicon: Lexicon, scene: Scene, rng: np.random.Generator, plainly: bool = False) -> Caption:
    """Something true about the scene; `plainly` in English by first names, with all there is to say."""
    language = "en" if plainly or rng.random() < 0.7 else words.LANGUAGES[int(rng.integers(1, 4))]
    unique = list(dict.fromkeys(scene.things))
    if plainly or scene.relation >= 0:
        said = unique
    else:
        said = unique[: int(rng.integers(1, len(unique) + 1))]  # the largest
        rng.shuffle(said)
    caption = Caption("", [], [], [])
    parts = []
    for thing in said:
        entry, count = lexicon.entries[thing], scene.things.count(thing)
        own = language if entry.names[language] else "en"
        keywords = entry.keywords[own]
        share = 0.0 if plainly else 0.2 if own == "en" else 0.4
        table = keywords if keywords and rng.random() < share else entry.names[own]
        if not table:
            table = keywords
        word = table[0] if plainly else table[int(rng.integers(len(table)))]
        colour = int(lexicon.atlas.colours[thing, scene.hues[scene.things.index(thing)]])
        coloured = own == "en" and colour >= 0 and not plainly and rng.random() < 0.3
        counted = count > 1 and own == "en" and (plainly or rng.random() < 0.75)
        caption.word.append(lexicon.index[word])
        caption.colour.append(colour if coloured else -1)
        caption.count.append(count if counted or (count == 1 and own == "en" and rng.random() < 0.0) else -1)
        name = f"{textures.COLOURS[colour]} {word}" if coloured else word
        if own != "en":
            parts.append(name)
        elif counted:
            number = NUMBERS[count] if plainly or rng.random() < 0.7 else str(count)
            parts.append(f"{number} {words.plural(name)}")
        elif count > 1:
            parts.append(words.plural(name))
        else:
            form = 0.0 if plainly else rng.random()
            parts.append(world.phrase(name) if form < 0.6 else f"the {name}" if form < 0.72 else name)
    text = _joined(parts, scene, caption, language, rng, plainly)
    if scene.ground >= 0 and (plainly or rng.random() < 0.6):
        caption.ground = scene.ground
        text = _grounded(text, textures.COLOURS[scene.ground], words.COLOURS[language][scene.ground], language, rng,
                         plainly)  # fmt: skip
    elif language == "en" and not plainly and rng.random() < 0.15:
        text = f"a {('picture', 'photo', 'sticker', 'drawing', 'emoji', 'image')[int(rng.integers(6))]} of {text}"
    caption.text = text
    return caption


def _joined(
    parts: list[str], scene: Scene, caption: Caption, language: str, rng: np.random.Generator, plainly: bool
) -> str:
    if len(parts) == 2 and scene.relation >= 0 and language == "en" and (plainly or rng.random() < 0.6):
        caption.relation = scene.relation
        if not plainly and rng.random() < 0.3:
            for row in (parts, caption.word, caption.colour, caption.count):
                row.reverse()
            caption.relation = OPPOSITE[scene.relation]
        relation = RELATIONS[caption.relation]
        if relation.endswith("of") and not plainly and rng.random() < 0.3:
            relation = f"to the {relation}"
        return f"{parts[0]} {relation} {parts[1]}"
    if len(parts) == 2 and language == "en" and not plainly:
        return BESIDE[int(rng.integers(len(BESIDE)))].format(*parts)
    return f" {AND[language]} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _grounded(text: str, english: str, colour: str, language: str, rng: np.random.Generator, plainly: bool) -> str:
    if language != "en":
        on = ON[language][int(rng.integers(len(ON[language])))]
        return f"{text} {on} {colour}" if rng.random() < 0.8 else f"{text}, {colour}"
    article = world.phrase(english)
    forms = (
        f"{text} on {article} background", f"{text} on {english}", f"{article} background with {text}",
        f"{text} against {english}", f"{text}, {english} background", f"a picture of {text} on {article} background",
    )  # fmt: skip
    return forms[0 if plainly or rng.random() < 0.5 else int(rng.integers(len(forms)))]


def collate(
    lexicon: Lexicon, scenes: list[Scene], captions: list[Caption], tokens: list[list[int]]
) -> dict[str, Tensor]:
    """All of them as tensors with B rows; free slots hold -1."""
    count = len(scenes)
    colours = [[int(lexicon.atlas.colours[t, h]) for t, h in zip(s.things, s.hues, strict=True)] for s in scenes]
    counts = [[s.things.count(t) for t in s.things] for s in scenes]

    def rows(values: list[list[Any]], empty: float, dtype: torch.dtype) -> Tensor:
        return torch.tensor([list(row[:SLOTS]) + [empty] * (SLOTS - len(row)) for row in values], dtype=dtype)

    places = [[xy[axis] for xy in s.places] for axis in (0, 1) for s in scenes]
    both = rows(places, 0.5, torch.float32).reshape(2, count, SLOTS)
    return {
        "things": rows([s.things for s in scenes], -1, torch.long),
        "shares": rows([s.shares for s in scenes], 0.5, torch.float32),
        "places": both.permute(1, 2, 0).contiguous(),
        "angles": rows([s.angles for s in scenes], 0, torch.float32),
        "flips": rows([s.flips for s in scenes], 0, torch.long),
        "hues": rows([s.hues for s in scenes], 0, torch.long),
        "lights": rows([s.lights for s in scenes], 1, torch.float32),
        "colours": rows(colours, -1, torch.long),
        "counts": rows(counts, 0, torch.long),
        "kind": torch.tensor([s.kind for s in scenes]),
        "ground": torch.tensor([s.ground for s in scenes]),
        "relation": torch.tensor([s.relation for s in scenes]),
        "said_word": rows([c.word for c in captions], -1, torch.long),
        "said_colour": rows([c.colour for c in captions], -1, torch.long),
        "said_count": rows([c.count for c in captions], -1, torch.long),
        "said_ground": torch.tensor([c.ground for c in captions]),
        "said_relation": torch.tensor([c.relation for c in captions]),
        "tokens": torch.tensor(tokens, dtype=torch.long),
    }


@torch.no_grad()
def fitting(batch: Mapping[str, Tensor], members: Tensor) -> Tensor:
    """Whether caption i is true of picture j, bool (B, B), as far as facts tell."""
    things = batch["things"]  # (B, K)
    word, colour, count = batch["said_word"], batch["said_colour"], batch["said_count"]  # (B, M)
    size = len(things)
    found = torch.ones((size, size), dtype=torch.bool, device=things.device)
    for m in range(word.shape[1]):
        said = word[:, m]
        same = members[said.clamp_min(0)][:, things.clamp_min(0)] & (things >= 0)  # (B, B, K)
        same &= (colour[:, m, None, None] < 0) | (colour[:, m, None, None] == batch["colours"])
        same &= (count[:, m, None, None] < 0) | (count[:, m, None, None] == batch["counts"])
        found &= (said < 0)[:, None] | same.any(2)
    ground, relation = batch["said_ground"][:, None], batch["said_relation"][:, None]
    found &= (ground < 0) | (ground == batch["ground"])
    return found & (relation < 0)


class Scenes(torch.utils.data.IterableDataset[dict[str, Tensor]]):
    """Batches without end; every worker draws its own."""

    def __init__(self, lexicon: Lexicon, tokenizer: str, batch: int, seed: int) -> None:
        self.lexicon, self.tokenizer, self.batch, self.seed = lexicon, tokenizer, batch, seed

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        from tokenizers import Tokenizer

        encode = Tokenizer.from_str(self.tokenizer).encode_batch
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        while True:
            scenes = [draw(self.lexicon, rng) for _ in range(self.batch)]
            captions = [say(self.lexicon, scene, rng) for scene in scenes]
            yield collate(self.lexicon, scenes, captions, [e.ids for e in encode([c.text for c in captions])])
