"""The loop around a Trainee: budget, schedule, looks at where it stands, checkpoints that survive anything.

Every step draws its randomness from a generator seeded by (seed, step), and everything that decides about a step is
in the checkpoint, so a run that was paused or killed and continued ends with the same weights, bit for bit, as one
that was not (given a budget in steps; one in minutes depends on the machine's speed).
"""

from __future__ import annotations

import errno
import io
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from studio import files
from studio.errors import Cancelled, DiskFull, StudioError
from studio.ops import pictures
from studio.train import descent
from studio.train.loop import step_generator
from studio.train.runs import MODEL, plain, read_metrics
from studio.train.trainee import Trainee

log = logging.getLogger(__name__)

LAST, BEST, METRICS = "last.pt", "best.pt", "metrics.jsonl"
MOST_ROWS = 1000  # lines of the curves that are held while the disk is full
EXPLODED = 1000.0
"""How many times its best running mean a loss may reach (losses below 1 count as 1)."""

WORSE = 10.0
"""How many times worse than untrained the watched metric may get."""
LOOK_SHARE = 6.0
"""A look is followed by at least this many times its own time of steps."""


class Diverged(StudioError):
    """A number became infinite or nonsense; the last good checkpoint is kept."""


class Watcher(Protocol):
    """Who is told. Every call raises Cancelled once the run is to stop."""

    def progress(self, step: int, total: int, phase: str = "") -> None: ...

    def preview(self, image: NDArray[np.uint8]) -> None: ...

    def note(self, **facts: Any) -> None:
        """Facts for the record of the run: metrics, watched, best, seconds."""


@dataclass(frozen=True)
class Plan:
    """How long, how fast, how often to look.

    Attributes:
        steps, minutes: the budget of the whole run; one of them is given.
        schedule: name of the learning-rate schedule.
        patience: stop after so many looks without a better watched metric; 0: never.
        looks: how often, at most, samples are drawn and the validation pictures judged over the whole budget; the first
            ones are closer together.
        keep_s: seconds between checkpoints.
        log_s: seconds between lines of the curves; the first 50 steps have one each.
    """

    steps: int | None = None
    minutes: float | None = None
    schedule: str = "CosineAnnealingLR"
    patience: int = 0
    looks: int = 30
    keep_s: float = 20.0
    log_s: float = 0.5

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("a plan has either steps or minutes")

    def progress(self, step: int, seconds: float) -> float:
        """The part of the budget that is used, 0..1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))

    def look(self, progress: float) -> int:
        """How many looks are due by now."""
        most = self.looks if self.steps is None else min(self.looks, max(4, self.steps // 20))
        return int(most * progress**0.6 + 1e-9)


@dataclass
class Standing:
    """Where a run stands: all that a checkpoint holds besides the trainee's parts."""

    step: int = 0
    seconds: float = 0.0
    looked: int = -1
    first: float = math.nan
    """The watched metric of the untrained networks."""
    best: float = math.nan
    best_step: int = -1
    stale: int = 0
    """Looks since the best."""
    means: dict[str, float] = field(default_factory=dict)
    lowest: dict[str, float] = field(default_factory=dict)
    """Lowest running mean of each loss so far, by which an explosion is seen."""


class Course:
    """One run of a trainee in its folder; takes up the last checkpoint where there is one.

    Args:
        seed: of the steps' randomness.
        identity: what a checkpoint must have been made with to be continued, e.g. the key of the data.
    """

    def __init__(
        self, trainee: Trainee, plan: Plan, folder: Path, watcher: Watcher, *, seed: int = 0, identity: str = ""
    ) -> None:
        self.trainee, self.plan, self.folder, self.watcher = trainee, plan, folder, watcher
        self.seed, self.identity = seed, identity
        self.at = Standing()
        self._rate = descent.schedule(plan.schedule)
        self._set_progress: Callable[[float], None] = getattr(trainee, "set_progress", lambda progress: None)
        self._sums: dict[str, list[float]] = {}
        self._rows: list[dict[str, Any]] = []  # not written yet
        self._logged = self._kept = self._started = time.monotonic()
        self._before = self._looked = self._cost = 0.0

    def run(self) -> dict[str, float]:
        """Trains to the end of the budget and exports the model; returns the last metrics, "steps" and "minutes".

        Raises:
            Cancelled: the watcher wants it to stop; the checkpoint holds the last finished step.
            Diverged: the last good checkpoint is kept.
            DiskFull: there was no room for a checkpoint; the one before is kept.
        """
        self._take_up()
        self._started, self._before = time.monotonic(), self.at.seconds
        try:
            self._look_if_due()
            while self._progress() < 1 and not self._is_stale():
                self._step()
                self._look_if_due()
                if time.monotonic() - self._kept > self.plan.keep_s:
                    self._keep_if_possible()
                self.watcher.progress(self.at.step, self.total(), "training")
        except Cancelled:
            self._log()
            self._keep()
            self.export()
            raise
        self._log()
        self._keep()
        if self.plan.patience and (self.folder / BEST).is_file():
            self._restore(self._read(BEST))
        self.export()
        self.watcher.note(metrics=self._last_metrics(), seconds=self.at.seconds)
        finite = {name: value for name, value in self._last_metrics().items() if value is not None}
        return {**finite, "steps": float(self.at.step), "minutes": self.at.seconds / 60}

    def total(self) -> int:
        """Steps of the whole run; an estimate with a budget in minutes."""
        if self.plan.steps is not None:
            return self.plan.steps
        return max(self.at.step, int(self.at.step / max(self._progress(), 1e-6)))

    # ── steps ────────────────────────────────────────────────────────────────

    def _progress(self) -> float:
        self.at.seconds = self._before + time.monotonic() - self._started
        return self.plan.progress(self.at.step, self.at.seconds)

    def _is_stale(self) -> bool:
        return bool(self.plan.patience) and self.at.stale >= self.plan.patience

    def _step(self) -> None:
        progress = self._progress()
        self._set_progress(progress)
        self.trainee.set_rate(self._rate(progress))
        with self._precision():
            metrics = self.trainee.step(self.at.step, step_generator(self.seed, self.at.step))
        self._check(metrics)
        self.at.step += 1
        for name, value in metrics.items():
            self._sums.setdefault(name, []).append(float(value))
        if self.at.step <= 50 or time.monotonic() - self._logged > self.plan.log_s:
            self._log()

    def _precision(self) -> AbstractContextManager[Any]:
        """bfloat16 where the device computes in it (it needs no scaled loss); full precision on the CPU."""
        if torch.get_default_device().type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

    def _check(self, metrics: Mapping[str, float]) -> None:
        """Raises Diverged at a number that is none, or a loss far above where it has been."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} is no longer a number")
            if name.startswith("loss"):
                mean = self.at.means[name] = 0.9 * self.at.means.get(name, abs(value)) + 0.1 * abs(value)
                lowest = self.at.lowest[name] = min(self.at.lowest.get(name, mean), mean)
                if mean > EXPLODED * max(1.0, lowest):
                    raise self._diverged(f"{name} rose to {value:.3g}")

    def _diverged(self, what: str) -> Diverged:
        kept = self._read(LAST)["standing"]["step"] if (self.folder / LAST).is_file() else 0
        return Diverged(
            f"The training diverged at step {self.at.step + 1}: {what}. The checkpoint of step {kept} is kept.",
            "Start again with a learning rate three to ten times smaller, or with gradient clipping on.",
        )

    # ── looks ────────────────────────────────────────────────────────────────

    def _look_if_due(self) -> None:
        due = self.plan.look(self._progress())
        if due <= self.at.looked or self._is_costly():
            return
        began = time.monotonic()
        self.watcher.progress(self.at.step, self.total(), "looking")
        self._log()
        found = {name: float(value) for name, value in self.trainee.validate().items()}
        for name, value in found.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} of the validation pictures is no longer a number")
        self._write_row({f"valid_{name}": value for name, value in found.items()})
        for name, picture in self.trainee.samples().items():
            self._write_sample(name, picture)
        self.at.looked = due
        better = self._weigh(found.get(self.trainee.watched))
        self.watcher.note(
            metrics=self._last_metrics(),
            watched=self.trainee.watched,
            best={"value": self.at.best, "step": self.at.best_step} if self.at.best_step >= 0 else {},
        )
        self._keep()
        if better:
            with files.whole(self.folder / BEST) as part:
                shutil.copyfile(self.folder / LAST, part)
        self.export()
        self._looked, self._cost = time.monotonic(), time.monotonic() - began

    def _is_costly(self) -> bool:
        """With a budget in minutes most of them go into steps; the looks at the begin and at the end are always had."""
        soon = time.monotonic() - self._looked < LOOK_SHARE * self._cost
        return self.plan.minutes is not None and soon and 0 < self._progress() < 1

    def _weigh(self, value: float | None) -> bool:
        """Whether the watched metric is the best so far."""
        if value is None:
            return False
        if math.isnan(self.at.first):
            self.at.first = value
        if self.trainee.watched_falls and 0 < WORSE * self.at.first < value:
            raise self._diverged(f"{self.trainee.watched} of the validation pictures rose to {value:.3g}")
        sign = 1 if self.trainee.watched_falls else -1
        if math.isnan(self.at.best) or sign * value < sign * self.at.best:
            self.at.best, self.at.best_step, self.at.stale = value, self.at.step, 0
            return True
        self.at.stale += 1
        return False

    def _write_sample(self, name: str, picture: NDArray[np.uint8]) -> None:
        path = self.folder / "samples" / name / f"{self.at.step:08d}.png"
        files.write(path, pictures.encode_png(np.ascontiguousarray(picture)))
        if name == "samples" or not (self.folder / "samples" / "samples").is_dir():
            self.watcher.preview(picture)

    def export(self) -> None:
        """Puts the model as it stands into `model/`, whole or not at all. Raises DiskFull."""
        stage, place = self.folder / f"{MODEL}.part", self.folder / MODEL
        shutil.rmtree(stage, ignore_errors=True)
        try:
            stage.mkdir(parents=True)
            facts = {**self.trainee.export(stage), "steps": self.at.step}
            (stage / "facts.json").write_text(json.dumps(facts, indent=1, default=float) + "\n", encoding="utf-8")
            old = self.folder / f"{MODEL}.old"
            shutil.rmtree(old, ignore_errors=True)
            for path in (*stage.rglob("*"), stage):
                files.sync(path)
            if place.exists():
                os.replace(place, old)
            os.replace(stage, place)
            files.sync(self.folder)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise _no_room(error, "The model could not be saved") from error

    # ── what is kept ─────────────────────────────────────────────────────────

    def _keep(self) -> None:
        """Writes the checkpoint. Raises Diverged where a weight is no number, DiskFull; then the old one stays."""
        parts = {name: part.state_dict() for name, part in self.trainee.parts().items()}
        if not _all_finite(parts):
            raise self._diverged("a weight is no longer a number")
        self.at.seconds = self._before + time.monotonic() - self._started
        buffer = io.BytesIO()
        torch.save({"parts": parts, "standing": vars(self.at), "identity": self.identity}, buffer)
        try:
            files.write(self.folder / LAST, buffer.getvalue())
        except DiskFull as error:
            kept = (
                f"that of step {self._read(LAST)['standing']['step']} is kept" if self._has_last() else "none is kept"
            )
            raise DiskFull(
                f"The disk has no room for the checkpoint of step {self.at.step}; {kept}.",
                "Free some room, then continue the training.",
            ) from error
        self._kept = time.monotonic()

    def _keep_if_possible(self) -> None:
        """Writes the checkpoint, or tries again when the next one is due: the disk may have room by then."""
        try:
            self._keep()
        except DiskFull as error:
            log.warning("%s", error)
            self._kept = time.monotonic()

    def _has_last(self) -> bool:
        return (self.folder / LAST).is_file()

    def _take_up(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._has_last():
            state = self._read(LAST)
            if state["identity"] != self.identity:
                raise StudioError(
                    "The pictures are not those this run began with.", "Start a new run, or bring the pictures back."
                )
            self._restore(state)
            self.at = Standing(**state["standing"])
            # A larger budget than before looks less often; one that had stopped early is given another chance.
            self.at.looked = min(self.at.looked, self.plan.look(self.plan.progress(self.at.step, self.at.seconds)))
            if self._is_stale():
                self.at.stale = 0
        for row in (rows := read_metrics(self.folder / METRICS)):
            if int(row["step"] or 0) > self.at.step:  # of the steps that a kill took, which come again
                kept = [json.dumps(one) for one in rows if int(one["step"] or 0) <= self.at.step]
                files.write(self.folder / METRICS, "".join(f"{line}\n" for line in kept).encode())
                break

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return dict(torch.load(self.folder / name, weights_only=True, map_location="cpu"))
        except (OSError, RuntimeError, EOFError, KeyError) as error:
            raise StudioError(f"The checkpoint {name} of this run cannot be read.", "Start a new run.") from error

    def _restore(self, state: Mapping[str, Any]) -> None:
        try:
            for name, part in self.trainee.parts().items():
                part.load_state_dict(state["parts"][name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise StudioError("The settings do not fit this run's checkpoint.", "Start a new run.") from error

    def _log(self) -> None:
        """One line of the curves: the means since the last one."""
        if self._sums:
            self._write_row({name: float(np.mean(values)) for name, values in self._sums.items()})
            self._sums = {}
        self._logged = time.monotonic()

    def _write_row(self, metrics: Mapping[str, float]) -> None:
        """Adds a line to the curves. Those that a full disk refuses wait for the next one, as long as there is one."""
        self._rows.append({"step": self.at.step, "seconds": round(self.at.seconds, 2), **plain(metrics)})
        lines = "".join(json.dumps(row) + "\n" for row in self._rows).encode()
        try:
            with (self.folder / METRICS).open("ab", buffering=0) as file:
                start = file.tell()
                if file.write(lines) < len(lines):
                    file.truncate(start)  # no half line
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not files.is_full(error) or len(self._rows) > MOST_ROWS:
                raise _no_room(error, "The curves could not be saved") from error
            return
        self._rows = []

    def _last_metrics(self) -> dict[str, float | None]:
        """The last value of every name."""
        last: dict[str, float | None] = {}
        for row in read_metrics(self.folder / METRICS)[-200:]:
            last.update({name: value for name, value in row.items() if name not in ("step", "seconds")})
        return last


def _all_finite(parts: Any) -> bool:
    """Whether every floating tensor in a nest of dicts and lists is finite."""
    if isinstance(parts, torch.Tensor):
        return not parts.is_floating_point() or bool(torch.isfinite(parts).all())
    if isinstance(parts, Mapping):
        return all(_all_finite(value) for value in parts.values())
    return all(_all_finite(value) for value in parts) if isinstance(parts, (list, tuple)) else True


def _no_room(error: OSError, what: str) -> StudioError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{what}: the disk is full.", "Free some room, then continue the training.")
    return StudioError(f"{what}: {error.strerror}.", "Look at the studio's folder, then continue the training.")
