"""One life of a training that is to be killed: python -m tests.train.kill FOLDER STEPS.

Waits for a line on stdin, then trains and prints the step at every report.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.train.course import Course, Plan
from studio.train.data import Data
from tests.train.tiny import Tiny, TinyOptions


class Telling:
    def progress(self, step: int, total: int, phase: str = "") -> None:
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()

    def preview(self, image: Any) -> None: ...

    def note(self, **facts: Any) -> None: ...


def course(folder: Path, steps: int, watcher: Any) -> Course:
    pictures = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    data = Data(pictures, np.zeros(64, np.int64), ("noise",), np.arange(16, 64), np.arange(16), "noise")
    plan = Plan(steps=steps, keep_s=0.0, looks=6)  # a checkpoint every step, so that many kills fall into one
    return Course(Tiny(TinyOptions(size=8, augment=("flip", "colour")), data, seed=5), plan, folder, watcher, seed=5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdin.readline()
    course(Path(sys.argv[1]), int(sys.argv[2]), Telling()).run()
