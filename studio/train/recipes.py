"""The recipes behind `python app.py train`, by name. Data: their targets import torch and are loaded only to run.

A starter recipe's module has `train(folder, *, minutes, steps, seed, resume, report) -> metrics` and
`evaluate(folder) -> metrics`; all others name a Trainee, which `studio.train.session` trains as a run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from studio.errors import NotFound, Unsupported
from studio.train.options_diffusion import RECIPES_DIFFUSION
from studio.train.options_gan import RECIPES_GAN
from studio.train.options_vae import RECIPES_VAE
from studio.train.recipe import Recipe

_STARTERS = {
    "text-to-image": Recipe("studio.train.text_to_image", 110, "The starter's latent diffusion: words to pictures."),
    "detector": Recipe("studio.train.detector", 55, "The starter's YOLO11n: everyday things in pictures."),
    "segmenter": Recipe("studio.train.segmenter", 45, "The starter's small SAM: clicks to masks."),
}


RECIPES: dict[str, Recipe] = {
    **RECIPES_VAE,
    **RECIPES_GAN,
    **RECIPES_DIFFUSION,
    **_STARTERS,
}


def find(name: str) -> Recipe:
    """Raises NotFound for a name that is not in the table."""
    if name not in RECIPES:
        raise NotFound(f"There is no recipe called {name!r}.", f"Choose one of: {', '.join(RECIPES)}.")
    return RECIPES[name]


def of_family(family: str) -> dict[str, Recipe]:
    """A lab's recipes, in the order of its table."""
    return {name: recipe for name, recipe in RECIPES.items() if recipe.family == family}


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
    """Runs a starter recipe into `folder` (checkpoints and the model) and returns its last metrics.

    Without a budget the recipe's own minutes count. Raises NotFound.
    """
    recipe = find(name)
    if minutes is None and steps is None:
        minutes = recipe.minutes
    run = importlib.import_module(recipe.target).train
    return dict(run(folder, minutes=minutes, steps=steps, seed=seed, resume=resume, report=report))


def evaluate(name: str, folder: Path) -> dict[str, Any]:
    """The metrics of a starter's model in `folder`, on what no training sees. Raises NotFound, Unsupported."""
    recipe = find(name)
    if recipe.family != "starter":
        raise Unsupported(f"{name} is measured while it trains.", "See its run's validation metrics.")
    return dict(importlib.import_module(recipe.target).evaluate(folder))
