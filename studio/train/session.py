"""A whole training, from the task to the finished run: pictures, trainee, course, and the record of it all."""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from studio.engines.base import Report
from studio.errors import Cancelled, DiskFull, StudioError
from studio.tasks import Train
from studio.train import data as pictures
from studio.train import recipes, record
from studio.train.course import Course, Plan
from studio.train.runs import Runs, plain
from studio.train.trainee import Trainee

log = logging.getLogger(__name__)

NOTE_S = 1.0
"""Seconds between two writings of run.json."""


class Noted:
    """The Watcher of a course: writes how far it is into the run's record and passes on what it is told."""

    def __init__(self, runs: Runs, id_: str, report: Report) -> None:
        self._runs, self._id, self._report = runs, id_, report
        self._facts: dict[str, Any] = {}
        self._written = 0.0
        self._began = time.monotonic()
        self._before = runs.get(id_).seconds

    def progress(self, step: int, total: int, phase: str = "") -> None:
        self._report.progress(step, total, phase)
        seconds = self._before + time.monotonic() - self._began
        self._facts |= {"step": step, "total": total, "phase": phase, "seconds": seconds}
        if time.monotonic() - self._written > NOTE_S or phase != "training":
            self._try()

    def preview(self, image: NDArray[np.uint8]) -> None:
        self._report.preview(image)

    def note(self, **facts: Any) -> None:
        self._facts |= facts
        self._try()

    def _try(self) -> None:
        """Writes, or keeps it for the next time: how far a training is is worth no training."""
        try:
            self.write()
        except DiskFull as error:
            self._written = time.monotonic()
            log.warning("%s", error)

    def write(self, **facts: Any) -> None:
        """Writes what has come together since the last time."""
        self._runs.update(self._id, **{**self._facts, **facts})
        self._facts = {}
        self._written = time.monotonic()


def train(home: Path, task: Train, report: Report) -> dict[str, Any]:
    """Begins or continues the run that the task names (its folder is there) and returns its last metrics.

    Raises what `Course.run` and loading the pictures raise; the run's record says then what happened.
    """
    runs = Runs(home)
    lock = runs.begin(task.run)
    watcher = Noted(runs, task.run, report)
    try:
        return _train(runs, task, home, watcher, report)
    except Cancelled:
        watcher.write(state="paused", phase="")
        record.keep_quietly(home, runs, task.run)
        raise
    except StudioError as error:
        watcher.write(state="failed", phase="", message=error.message, hint=error.hint)
        record.keep_quietly(home, runs, task.run)
        raise
    except Exception:
        watcher.write(
            state="failed", phase="", message="The training stopped with an error.", hint="The log has the details."
        )
        raise
    finally:
        lock.release()


def _train(runs: Runs, task: Train, home: Path, watcher: Noted, report: Report) -> dict[str, Any]:
    report.progress(0, 0, "loading pictures")
    recipe = recipes.find(task.recipe)
    options = recipe.options.made(recipe.preset, task.options)
    owner = runs.get(task.run).owner
    data = pictures.load(task.data, options.size, home=home, owner=None if owner == "local" else owner)
    watcher.note(pictures=dict(pictures.describe(data)), options=options.model_dump(mode="json"))
    report.progress(0, 0, "building the networks")
    trainee = build(recipe.target, options, data, task.seed)
    plan = Plan(
        steps=task.steps,
        minutes=task.minutes if task.steps is None else None,
        schedule=options.schedule,
        patience=task.patience,
    )
    course = Course(trainee, plan, runs.folder(task.run), watcher, seed=task.seed, identity=data.key)
    metrics = course.run()
    steps = int(metrics["steps"])
    watcher.write(
        state="finished", phase="", step=steps, total=steps, seconds=60 * metrics["minutes"], message="", hint=""
    )
    report.progress(steps, steps, "recording")
    record.keep_quietly(home, runs, task.run)
    return {**plain(metrics), "run": task.run}


def build(target: str, options: Any, data: pictures.Data, seed: int) -> Trainee:
    """The trainee called "module:Class"."""
    module, _, name = target.partition(":")
    torch.manual_seed(seed)  # for libraries that draw from the global generator; trainees use their own
    trainee: Trainee = getattr(importlib.import_module(module), name)(options, data, seed)
    return trainee
