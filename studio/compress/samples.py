"""Inputs to calibrate and to compare on: the starter world's scenes, or the user's pictures.

The scenes need the emoji font; without it the example pictures do. Tasks come ready for an engine, with what is known
to be true of their pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.cards import Card
from studio.config import ROOT
from studio.errors import InvalidImage, StudioError
from studio.ops import pictures
from studio.ops.metrics import Truth
from studio.tasks import Task, make_task

Pixels = NDArray[np.uint8]
EXAMPLES = ROOT / "assets" / "examples"
LEAST_SIDE = 8  # px; a smaller picture shows a network nothing
SCENE_SIDE = 320
CALIBRATION = 24  # pictures; more change nothing that can be measured
COMPARED = 8  # pictures that variants are compared on
COUNTED = 64  # where average precision is counted: of 8 scenes most classes show one thing, and no variant differs
SEED = 20_000  # no training drew its scenes from here


@dataclass(frozen=True)
class Sample:
    """A task, its pictures by asset id, and the truth where it is known: boxes, a mask (H, W), or the thing."""

    task: Task
    assets: dict[str, Pixels] = field(default_factory=dict)
    truth: Truth | None = None
    mask: NDArray[np.bool_] | None = None
    thing: str = ""


def for_card(card: Card, folder: Path, count: int, own: Sequence[Path] = (), *, first: int = 0) -> list[Sample]:
    """`count` samples for a card's task, the same every time.

    Args:
        own: the user's pictures, used instead of scenes by detectors and segmenters.
        first: where in the row of scenes to begin, so that calibration and comparison see different ones.
    Raises InvalidImage for a picture that cannot be used.
    """
    return _MAKERS[card.tasks[0]](card, folder, count, [_read(file) for file in own], first)


def compared(card: Card) -> int:
    """How many samples tell variants of a card apart."""
    return COUNTED if card.tasks[0] == "detect" and card.is_shipped else COMPARED


def _detect(card: Card, folder: Path, count: int, own: list[Pixels], first: int) -> list[Sample]:
    shown = [(picture, None) for picture in own] or _scenes(count, first)
    made = []
    for number, (picture, scene) in enumerate(shown):
        truth = None
        if scene is not None and card.is_shipped:
            known = [name is not None for name in scene.classes]
            labels = [name for name in scene.classes if name is not None]
            truth = Truth(scene.boxes[known], labels)
        made.append(
            Sample(make_task("detect", {"image": _id(number), "confidence": 0.05}), {_id(number): picture}, truth)
        )
    return made


def _segment(card: Card, folder: Path, count: int, own: list[Pixels], first: int) -> list[Sample]:
    made = []
    for number, (picture, scene) in enumerate([(picture, None) for picture in own] or _scenes(count, first)):
        height, width = picture.shape[:2]
        x, y, mask = width / 2, height / 2, None
        if scene is not None and len(scene.masks):
            mask = scene.masks[int(np.argmax(scene.masks.sum(axis=(1, 2))))]
            x, y = _inside(mask)
        made.append(
            Sample(
                make_task("segment", {"image": _id(number), "points": ((x, y, 1),)}), {_id(number): picture}, mask=mask
            )
        )
    return made


def _generate(card: Card, folder: Path, count: int, own: list[Pixels], first: int) -> list[Sample]:
    steps = card.defaults.get("steps")
    fields: dict[str, Any] = {} if steps is None else {"steps": min(int(steps), 20)}
    prompts = _prompts(folder)
    return [
        Sample(make_task("generate", {"prompt": prompt, "seed": SEED + first + k, **fields}), thing=thing)
        for k in range(count)
        for prompt, thing in [prompts[(first + k) % len(prompts)]]
    ]


def _prompts(folder: Path) -> list[tuple[str, str]]:
    """What is asked, and the thing that has to be seen then: "" where the model's folder lists none."""
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        things = [item["name"] if isinstance(item, dict) else str(item) for item in facts["things"]]
        colours = [item["name"] if isinstance(item, dict) else str(item) for item in facts.get("colours", ["white"])]
    except (OSError, ValueError, KeyError, TypeError):
        usual = ("a red apple on a table", "a lighthouse at dusk", "a portrait of a cat", "a street in the rain")
        return [(prompt, "") for prompt in usual]
    chosen = enumerate(things[::7])
    return [(f"a {thing} on a {colours[7 * k % len(colours)]} background", thing) for k, thing in chosen]


def _scenes(count: int, first: int) -> list[tuple[Pixels, Any]]:
    """Drawn scenes with their truth, or the example pictures over and over."""
    from studio.train import world

    try:
        found = [world.scene(SEED + first + k, mode="scatter", size=SCENE_SIDE) for k in range(count)]
        return [(scene.picture, scene) for scene in found]
    except StudioError:
        examples = [_read(file) for file in sorted(EXAMPLES.glob("*.jpg"))]
        return [(examples[(first + k) % len(examples)], None) for k in range(min(count, len(examples)))]


def _read(file: Path) -> Pixels:
    try:
        picture = pictures.decode(file.read_bytes())
    except OSError as error:
        raise InvalidImage(f"{file.name} cannot be read: {error.strerror}.", "Give the path of a picture.") from error
    if min(picture.shape[:2]) < LEAST_SIDE:
        raise InvalidImage(
            f"{file.name} is {picture.shape[1]}×{picture.shape[0]} px: nothing can be measured on it.",
            f"Give a picture of at least {LEAST_SIDE}×{LEAST_SIDE} px, like those the model is for.",
        )
    return picture


def _inside(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """A point of the mask, the one nearest to the middle of its pixels."""
    rows, columns = np.nonzero(mask)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return float(columns[nearest]), float(rows[nearest])


def _id(number: int) -> str:
    return f"{number:064x}"


_MAKERS: dict[str, Callable[[Card, Path, int, list[Pixels], int], list[Sample]]] = {
    "detect": _detect,
    "segment": _segment,
    "generate": _generate,
}


def examples(count: int) -> list[Pixels]:
    """Example pictures that ship with the studio."""
    return [_read(file) for file in sorted(EXAMPLES.glob("*.jpg"))[:count]]
