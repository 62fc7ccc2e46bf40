"""A training killed again and again: python -m tests.train.kill FOLDER STEPS KILLS SEED.

Imports torch once and forks one process a life, since importing takes far longer than what is tested. Each life is
ended with SIGKILL at a random moment. Prints the step each began at.
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
from tests.train.tiny import Tiny, TinyOptions


class Telling:
    """Writes the step of every progress to a pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def progress(self, step: int, total: int, phase: str = "") -> None:
        os.write(self._pipe, f"{step}\n".encode())

    def preview(self, image: Any) -> None: ...

    def note(self, **facts: Any) -> None: ...


def course(folder: Path, steps: int, watcher: Any) -> Course:
    pictures = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    data = Data(pictures, np.zeros(64, np.int64), ("noise",), np.arange(16, 64), np.arange(16), "noise")
    plan = Plan(steps=steps, keep_s=0.0, looks=6)  # a checkpoint every step, so that many kills fall into one
    return Course(Tiny(TinyOptions(size=8, augment=("flip", "colour")), data, seed=5), plan, folder, watcher, seed=5)


def life(folder: Path, steps: int, reports: int, seconds: float) -> int:
    """Trains in a forked process, killed after so many reports and seconds; returns the step it began at."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        course(folder, steps, Telling(writes)).run()
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
    for _ in range(kills):
        sys.stdout.write(f"{life(folder, steps, rng.randint(0, 12), rng.uniform(0, 0.01))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
