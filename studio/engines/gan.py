"""The engine of the GAN lab: loads what a GAN recipe exported and answers Explore tasks."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from studio.cards import Card
from studio.device import Device
from studio.engines.base import Report, Result
from studio.engines.gan_ops import OPERATIONS
from studio.engines.gan_player import Player
from studio.errors import IntegrityError, InvalidTask, StudioError, Unsupported
from studio.tasks import Explore, Task
from studio.train import sources
from studio.train.data import Data
from studio.train.gan import Gan
from studio.train.options_gan import RECIPES_GAN

STAND_INS = 48


class GanEngine:
    """`model.safetensors` (generator, discriminator, some training pictures or none) and `config.json` of a recipe."""

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        self._title = card.title
        self._player = load(folder)

    def run(self, task: Task, report: Report) -> Result:
        """Raises Unsupported for an operation this kind of GAN does not have, InvalidTask for wrong arguments."""
        if not isinstance(task, Explore):
            raise Unsupported(f"{self._title} is for the GAN lab; it cannot {task.kind}.", "Choose another model.")
        if task.op not in OPERATIONS:
            raise InvalidTask(f"A GAN has no operation {task.op!r}.", f"Choose one of: {', '.join(OPERATIONS)}.")
        operation = OPERATIONS[task.op]
        try:
            args = operation.args.model_validate(task.args)
        except ValidationError as error:
            raise InvalidTask(_sentence(error), "Correct the value; nothing was lost.") from error
        named = {"image": task.image, "other": task.other}
        self._player.pictures = {name: report.asset(id_) for name, id_ in named.items() if id_ is not None}
        started = time.perf_counter()
        result = operation.run(self._player, args)
        seconds = {task.op: round(time.perf_counter() - started, 4)}
        return Result(images=result.images, data={**result.data, "kind": self._player.kind, "seconds": seconds})

    def close(self) -> None:
        del self._player


def load(folder: Path) -> Player:
    """A model as a recipe exported it. Raises IntegrityError naming the file that is wrong."""
    config = _config(folder / "config.json")
    file = folder / "model.safetensors"
    try:
        tensors = load_file(file)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise IntegrityError(f"{file.name} of this GAN cannot be read: {error}.", "Get the model again.") from error
    try:
        return _player(config, tensors)
    except (KeyError, RuntimeError, ValueError, TypeError, StudioError) as error:
        reason = str(error).splitlines()[0][:200]
        raise IntegrityError(f"{file.name} does not fit its config.json: {reason}", "Get the model again.") from error


def _config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file.name} of this GAN cannot be read: {error}.", "Get the model again.") from error
    if not isinstance(config, dict) or config.get("kind") not in RECIPES_GAN:
        raise IntegrityError(f"{file.name} names no kind of GAN that is known.", "Train or get the model again.")
    return config


def _player(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Player:
    """The trainee, as it was, on the pictures that travelled along; without such, on stickers."""
    recipe = RECIPES_GAN[config["kind"]]
    options = recipe.options.made({}, config["options"])
    names = tuple(str(name) for name in config["names"])
    pictures, labels = _inside(tensors) if "pictures" in tensors else _stand_ins(options.size, len(names))
    everything = np.arange(len(pictures), dtype=np.int64)
    data = Data(pictures, labels, names, everything, everything, key="inside")
    module, _, name = recipe.target.partition(":")
    trainee: Gan = getattr(importlib.import_module(module), name)(options, data, 0)
    trainee.restore(config)
    trainee.average.load_state_dict(_named(tensors, "generator."))
    trainee.generator.load_state_dict(trainee.average.state_dict())
    trainee.discriminator.load_state_dict(_named(tensors, "discriminator."))
    return Player(trainee, names)


def _inside(tensors: dict[str, torch.Tensor]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return tensors.pop("pictures").numpy(), tensors.pop("labels").numpy()


def _stand_ins(size: int, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Shipped stickers where a model travels without pictures, labelled with the model's classes in turn."""
    found = sources.stickers(size, limit=STAND_INS).pictures
    return found, np.arange(len(found), dtype=np.int64) % max(1, classes)


def _named(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Those that begin with the prefix, without it, in single precision."""
    found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def _sentence(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        parts.append(f"{name}: {item['msg']} (it was {str(item['input'])[:60]!r})")
    return "; ".join(parts) + "."
