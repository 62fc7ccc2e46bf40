"""The engine that trains: a task `Train` in a worker, gently, so that the page and other models stay quick."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from studio.cards import Card
from studio.device import Device
from studio.engines.base import Report, Result
from studio.errors import InvalidTask
from studio.tasks import Task, Train
from studio.train import session

NICE = 10  # priority below everything a person waits for


class Trainer:
    """Args:
    folder: the studio's home, where runs are kept.
    """

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        self._home = folder
        if hasattr(os, "nice"):
            os.nice(NICE)
        torch.set_num_threads(max(1, device.cores - 1))
        if device.accelerator == "auto" and torch.cuda.is_available():
            torch.set_default_device("cuda")

    def run(self, task: Task, report: Report) -> Result:
        if not isinstance(task, Train):
            raise InvalidTask("The trainer only trains.", "Choose another model.")
        return Result(data=session.train(self._home, task, report))

    def close(self) -> None:
        """Nothing outlives a training."""
