"""Stand-ins with the shape of the real thing: a Report without a pipe, and an engine whose every step is a choice."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio import files
from studio.cards import Card, Source
from studio.database import Database
from studio.device import Device
from studio.engines.base import Report, Result
from studio.errors import Cancelled, Unsupported
from studio.tasks import Explore, Generate, Task, Train


class FakeReport:
    """A Report that remembers. `cancel_after` steps it raises Cancelled.

    Args:
        assets: pictures by id, RGB uint8 (H, W, 3).
    """

    def __init__(
        self, assets: dict[str, NDArray[np.uint8]] | None = None, cache: Path = Path(), cancel_after: int | None = None
    ) -> None:
        self.assets = assets or {}
        self.cache = cache
        self.cancel_after = cancel_after
        self.steps: list[tuple[int, int, str]] = []
        self.previews: list[NDArray[np.uint8]] = []

    def progress(self, step: int, total: int, phase: str = "") -> None:
        if self.cancel_after is not None and len(self.steps) >= self.cancel_after:
            raise Cancelled
        self.steps.append((step, total, phase))

    def preview(self, image: NDArray[np.uint8]) -> None:
        self.previews.append(image)

    def asset(self, id: str) -> NDArray[np.uint8]:
        return self.assets[id]


class PacedEngine:
    """A real engine in a real worker, as slow or as broken as the prompt says.

    Prompts: "slow" (50 ms a step), "crash" (an ordinary bug), "die" (killed as by the system), "deaf" (says nothing),
    "refuse" (a StudioError). Anything else paints a picture from the seed. A question and a
    training take 20 ms a step.
    """

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        if card.options.get("broken"):
            raise Unsupported("This card cannot be loaded.", "Choose another.")
        self._ballast = np.ones(int(card.options.get("megabytes", 0)) * 2**17)

    def run(self, task: Task, report: Report) -> Result:
        if isinstance(task, (Explore, Train)):
            for step in range(int(task.args.get("steps", 1)) if isinstance(task, Explore) else task.steps or 1):
                report.progress(step, 0, "step")
                time.sleep(0.02)
            return Result(data={"op": task.op} if isinstance(task, Explore) else {})
        assert isinstance(task, Generate)
        steps = task.steps or 1
        for step in range(steps):
            report.progress(step, steps, "step")
            _ACTS.get(task.prompt, lambda: None)()
        rng = np.random.default_rng(task.seed)
        image = rng.integers(0, 256, (task.height or 64, task.width or 64, 3), dtype=np.uint8)
        report.preview(image[::4, ::4])
        report.progress(steps, steps, "step")
        return Result(images=(image,), data={"seeds": [task.seed], "seconds": {}, "infotext": [task.prompt]})

    def close(self) -> None:
        self._ballast = np.empty(0)


def _crash() -> None:
    raise ZeroDivisionError("an ordinary bug")


def _refuse() -> None:
    raise Unsupported("That cannot be done.", "Do something else.")


_ACTS: dict[str, Any] = {
    "slow": lambda: time.sleep(0.05),
    "crash": _crash,
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "deaf": lambda: time.sleep(60),
    "refuse": _refuse,
}

DEVICE = Device("test", 1, 8 * 2**30, "cpu")


def paced_card(id: str = "paced", **options: Any) -> Card:
    """A card served by PacedEngine (put `PACED` into ENGINES as "paced" first; see the `paced` fixture)."""
    return Card(
        id=id,
        title=id.title(),
        tasks=("generate",),
        engine="paced",
        licence="Apache-2.0",
        source=Source(kind="none"),
        memory=int(options.get("memory", 60 * 2**20)),
        options=options,
        defaults={"steps": 4, "width": 64, "height": 64},
    )


class FullDisk:
    """A disk without room from `fill` to `free`: no transaction is committed and no file is finished, as SQLite and
    the system say it. What is there can be read.

    Args:
        monkeypatch: pytest's; the disk is free again after the test.
    """

    def __init__(self, monkeypatch: Any) -> None:
        self.is_full = False
        self._sync = files.sync
        connection = Database._connection
        monkeypatch.setattr(Database, "_connection", lambda db: _Connection(connection(db), self))
        monkeypatch.setattr(files, "sync", self.sync)

    def fill(self) -> None:
        self.is_full = True

    def free(self) -> None:
        self.is_full = False

    def sync(self, path: Path) -> None:
        if self.is_full and path.is_file():
            raise OSError(errno.ENOSPC, "No space left on device")
        self._sync(path)


class _Connection:
    def __init__(self, connection: sqlite3.Connection, disk: FullDisk) -> None:
        self._connection, self._disk = connection, disk

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if self._disk.is_full and statement == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *values)

    def executemany(self, statement: str, values: Any) -> sqlite3.Cursor:
        return self._connection.executemany(statement, values)
