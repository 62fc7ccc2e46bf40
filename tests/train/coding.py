"""Tiny data for the VAE lab's tests: squares of four colours in four corners, 16 px, labelled by colour."""

from __future__ import annotations

import numpy as np
import torch

from studio.train.data import Data
from studio.train.options_vae import RECIPES_VAE

COLOURS = ((220, 60, 60), (60, 180, 90), (70, 110, 220), (240, 200, 70))
SMALL = {"size": 16, "width": 8, "batch": 16, "warm_up": 5, "words": 16, "word_size": 4, "latents": 8}


def squares(count: int = 80, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    pictures = np.full((count, 16, 16, 3), 240, np.uint8)
    labels = rng.integers(0, 4, count)
    for picture, label in zip(pictures, labels, strict=True):
        y, x = rng.integers(0, 9, 2)
        picture[y : y + 7, x : x + 7] = COLOURS[label]
    indices = np.arange(count)
    return Data(pictures, labels.astype(np.int64), ("red", "green", "blue", "yellow"), indices[16:], indices[:16], "k")


def trainee(name, data=None, seed=0, **chosen):
    """A trainee of that recipe, as small as it gets."""
    import importlib

    recipe = RECIPES_VAE[name]
    known = {key: value for key, value in SMALL.items() if key in recipe.options.model_fields}
    options = recipe.options.made(recipe.preset, {**known, **chosen})
    module, _, class_ = recipe.target.partition(":")
    return getattr(importlib.import_module(module), class_)(options, data if data is not None else squares(), seed)


def course(one, steps, start=0):
    """Metrics of each step, randomness as the course gives it."""
    return [dict(one.step(step, torch.Generator().manual_seed(step))) for step in range(start, start + steps)]
