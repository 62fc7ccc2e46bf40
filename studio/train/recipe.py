"""The record of one recipe. A lab lists its own in its light `options_*.py`; `studio.train.recipes` has them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.train.options import Options


@dataclass(frozen=True)
class Recipe:
    """What `python app.py train NAME` and the labs can train.

    Attributes:
        target: "module:Class" of a Trainee; for the family "starter" a module with `train` and `evaluate`.
        minutes: default time budget on two cores.
        summary: one sentence: what it is and what one sees.
        family: "vae", "gan" or "diffusion-lab": the lab that opens it and the engine that runs the result.
        title: its name in a list; the recipe's name where empty.
        options: the class of its settings.
        preset: values of settings where they differ from the defaults of `options`.
        data: default source of pictures, see `studio.train.data`.
        first: settings shown at once; `options.first` where empty.
        hidden: settings that make no sense for this recipe.
    """

    target: str
    minutes: float
    summary: str
    family: str = "starter"
    title: str = ""
    options: type[Options] = Options
    preset: Mapping[str, Any] = field(default_factory=dict)
    data: str = "stickers"
    first: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
