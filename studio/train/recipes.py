"""The recipes behind `python app.py train`, by name. Data: their modules import torch and are loaded only to run.

A recipe's module has `train(folder, *, minutes, steps, seed, resume, report) -> metrics` and
`evaluate(folder) -> metrics`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from studio.errors import NotFound


class Recipe(NamedTuple):
    """`minutes` is the default time budget on two cores."""

    module: str
    minutes: float
    summary: str


RECIPES: dict[str, Recipe] = {
    "text-to-image": Recipe("studio.train.text_to_image", 110, "The starter's latent diffusion: words to pictures."),
    "detector": Recipe("studio.train.detector", 55, "The starter's YOLO11n: everyday things in pictures."),
    "segmenter": Recipe("studio.train.segmenter", 45, "The starter's small SAM: clicks to masks."),
}


def train(
    name: str,
    folder: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: bool = False,
    report: Callable[[int, int, Mapping[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Runs a recipe into `folder` (checkpoints and the model) and returns its last metrics.

    Without a budget the recipe's own minutes count. Raises NotFound for a name that is not in the table.
    """
    recipe = _find(name)
    if minutes is None and steps is None:
        minutes = recipe.minutes
    run = importlib.import_module(recipe.module).train
    return dict(run(folder, minutes=minutes, steps=steps, seed=seed, resume=resume, report=report))


def evaluate(name: str, folder: Path) -> dict[str, Any]:
    """The metrics of the model in `folder`, on what no training sees."""
    return dict(importlib.import_module(_find(name).module).evaluate(folder))


def _find(name: str) -> Recipe:
    if name not in RECIPES:
        raise NotFound(f"There is no recipe called {name!r}.", f"Choose one of: {', '.join(RECIPES)}.")
    return RECIPES[name]
