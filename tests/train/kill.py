"""Trainings killed again and again: python -m tests.train.kill FOLDER STEPS KILLS SEED KIND...

Each kind has its folder in FOLDER. Imports torch once and forks one process a life, since importing takes far longer
than what is tested. Each life is ended with SIGKILL at a random moment. Prints kind and step of each beginning.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.train.course import Course, Plan
from studio.train.data import Data
from studio.train.recipes import RECIPES
from studio.train.session import build
from studio.train.trainee import Trainee
from tests.train.tiny import Tiny, TinyOptions

SMALL = {"size": 16, "batch": 8, "width": 16, "latents": 4, "noise": 8, "augment": ("flip",)}
"""Settings of the labs' recipes that make a step take milliseconds."""


class Telling:
    """Writes the step of every progress to a pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def progress(self, step: int, total: int, phase: str = "") -> None:
        os.write(self._pipe, f"{step}\n".encode())

    def preview(self, image: Any) -> None: ...

    def note(self, **facts: Any) -> None: ...


def noise(size: int) -> Data:
    """64 pictures of noise in two classes."""
    pictures = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8)
    return Data(pictures, np.arange(64) % 2, ("even", "odd"), np.arange(16, 64), np.arange(16), "noise")


def trainee(kind: str) -> Trainee:
    """The tests' own small trainee, or that of a lab's recipe."""
    if kind == "tiny":
        return Tiny(TinyOptions(size=8, augment=("flip", "colour")), noise(8), seed=5)
    recipe = RECIPES[kind]
    known = {name: value for name, value in SMALL.items() if name in recipe.options.model_fields}
    return build(recipe.target, recipe.options.made(recipe.preset, known), noise(16), seed=5)


def course(folder: Path, steps: int, watcher: Any, kind: str = "tiny") -> Course:
    plan = Plan(steps=steps, keep_s=0.0, looks=6)  # a checkpoint every step, so that many kills fall into one
    return Course(trainee(kind), plan, folder, watcher, seed=5)


def life(folder: Path, steps: int, reports: int, seconds: float, kind: str) -> int:
    """Trains in a forked process, killed after so many reports and seconds; returns the step it began at."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        course(folder, steps, Telling(writes), kind).run()
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as told:
        began = int(told.readline())
        for _ in range(reports):
            told.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        told.read()
    os.waitpid(child, 0)
    return began


def main() -> None:
    folder, steps, kills, seed = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    torch.set_num_threads(1)
    rng = random.Random(seed)
    for kind in sys.argv[5:]:
        for _ in range(kills):
            began = life(folder / kind, steps, rng.randint(0, 12), rng.uniform(0, 0.01), kind)
            sys.stdout.write(f"{kind} {began}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
