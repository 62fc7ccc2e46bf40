"""A model in a process of its own: the parent's handle, and the loop that runs in the child.

A crash, a kill or an out-of-memory takes one job and not the app, and ending the process returns its memory.
Messages are tuples over a pipe. Parent to child: ("run", task, assets), ("cancel",), ("stop",).
Child to parent: ("ready", bytes), ("progress", step, total, phase), ("preview", picture), ("done", Result, bytes),
("error", class name, message, hint), ("bug", traceback).
"""

from __future__ import annotations

import importlib
import logging
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from studio.airgap import Airgap
from studio.cards import Card
from studio.device import Device
from studio.engines.base import ENGINES, Engine, Result
from studio.errors import Cancelled, OutOfMemory, StudioError, Unsupported, WorkerDied, by_name
from studio.ops import pictures
from studio.tasks import Task, parse_task

log = logging.getLogger(__name__)

GRACE_S = 8.0  # how long a cancelled run may take to reach its next report before its process is ended
OnEvent = Callable[[str, tuple[Any, ...]], None]

# No worker ever needs the network or an installer; said to the libraries in the words each understands.
# Waiting OpenMP threads sleep: spinning ones made a click's decode 20 times slower while the other core was busy.
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
    "DISABLE_TELEMETRY": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def prepare_environment() -> None:
    """Tells the libraries to stay offline, and makes sure of it. Runs in the child, before any of them is imported."""
    os.environ.update(_ENVIRONMENT)
    Airgap().close()


class Worker:
    """One loaded engine in a child process.

    Args:
        card: what to load.
        folder: its verified files.
        device: the machine, for thread counts and accelerators.
        cache: folder for what can be computed again.
        warm: fork torch engines from the pre-warmed server (where the platform has it) instead of spawning.
    """

    def __init__(self, card: Card, folder: Path, device: Device, cache: Path, *, warm: bool) -> None:
        spec = ENGINES.get(card.engine)
        if spec is None:
            raise Unsupported(
                f"No engine called {card.engine!r} is in this studio.", f"{card.title} is kept, but cannot run here."
            )
        method = "forkserver" if warm and spec.heavy and can_fork() else "spawn"
        context = multiprocessing.get_context(method)
        self.card = card
        self.memory = 0
        self.last_used = time.monotonic()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(  # type: ignore[attr-defined]
            target=_child, args=(theirs, spec.target, card, folder, device, cache), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def alive(self) -> bool:
        return bool(self._process.is_alive())

    def load(self, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Waits until the engine is ready. Raises what its constructor raised, Cancelled or WorkerDied."""
        kind, values = self._listen(lambda *_: None, is_cancelled)
        if kind == "ready":
            self.memory = values[0]

    def run(
        self, task: Task, assets: Mapping[str, Path], on_event: OnEvent, is_cancelled: Callable[[], bool]
    ) -> Result:
        """Runs the task; `on_event("progress" | "preview", values)` is called as it goes.

        Raises Cancelled, WorkerDied or the engine's own StudioError.
        """
        self.last_used = time.monotonic()
        self._send(("run", task.to_json(), dict(assets)))
        _, values = self._listen(on_event, is_cancelled)
        self.memory = max(self.memory, values[1])
        self.last_used = time.monotonic()
        return values[0]  # type: ignore[no-any-return]

    def close(self) -> None:
        """Ends the process; its memory is back when this returns."""
        if self.alive:
            try:
                self._pipe.send(("stop",))
            except (OSError, ValueError):
                log.debug("worker %s closed its pipe first", self.card.id)
            self._process.join(1.5)
        self._end()

    def kill(self) -> None:
        """Ends the process at once; whoever runs a task on it gets WorkerDied, and the pipe stays theirs."""
        self._process.kill()
        self._process.join(5)

    def _listen(self, on_event: OnEvent, is_cancelled: Callable[[], bool]) -> tuple[str, tuple[Any, ...]]:
        deadline: float | None = None
        while True:
            if deadline is None and is_cancelled():
                self._send(("cancel",))
                deadline = time.monotonic() + GRACE_S
            if deadline is not None and time.monotonic() > deadline:
                self._end()
                raise Cancelled
            message = self._receive(0.05)
            if message is None:
                continue
            kind, *values = message
            if kind in ("ready", "done"):
                return kind, tuple(values)
            if kind in ("error", "bug"):
                raise self._failure(kind, values)
            on_event(kind, tuple(values))

    def _receive(self, seconds: float) -> tuple[Any, ...] | None:
        try:
            return self._pipe.recv() if self._pipe.poll(seconds) else None  # type: ignore[no-any-return]
        except (EOFError, OSError) as error:
            raise self._died() from error

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self._pipe.send(message)
        except (OSError, ValueError) as error:
            raise self._died() from error

    def _failure(self, kind: str, values: list[Any]) -> StudioError:
        if kind == "error":
            name, message, hint = values
            error_type = by_name(name)
            return Cancelled() if error_type is Cancelled else error_type(message, hint)
        log.error("worker %s: %s", self.card.id, values[0])
        last = str(values[0]).strip().splitlines()[-1][:200]
        return StudioError(f"{self.card.title} stopped with an error: {last}", "Run it again; the log has the details.")

    def _died(self) -> WorkerDied:
        self._process.join(2)
        code = self._process.exitcode
        self._end()
        killed = code is not None and code in (-signal.SIGKILL, -signal.SIGTERM)
        return WorkerDied(
            f"The process that ran {self.card.title} was ended by the system."
            if killed
            else f"The process that ran {self.card.title} ended unexpectedly (code {code}).",
            "Most often memory ran out: close other programs or choose a smaller model, then run it again."
            if killed
            else "Run it again; it starts afresh.",
        )

    def _end(self) -> None:
        if self.alive:
            self._process.kill()
        self._process.join(5)
        self._pipe.close()


def can_fork() -> bool:
    """Forking after the libraries are imported is safe on Linux; macOS frameworks do not survive it."""
    return sys.platform.startswith("linux")


def prewarm() -> None:
    """Starts the fork server, which imports torch and diffusers in its own process and its own time."""
    if can_fork():
        from multiprocessing import forkserver

        multiprocessing.set_forkserver_preload(["studio.engines.preload"])
        forkserver.ensure_running()


def memory_of(pid: int) -> int:
    """Bytes that would come back if the process ended (unique set size; resident size where the system has no USS)."""
    try:
        process = psutil.Process(pid)
        try:
            return int(process.memory_full_info().uss)
        except (psutil.AccessDenied, AttributeError):
            return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


# ── in the child ─────────────────────────────────────────────────────────────


class Taken:
    """Bytes this process takes, looked up at most once a second: that alone takes as long as a small decoder does."""

    def __init__(self) -> None:
        self._at, self._bytes = -math.inf, 0

    def __call__(self) -> int:
        now = time.monotonic()
        if now - self._at > 1:
            self._at, self._bytes = now, memory_of(os.getpid())
        return self._bytes


class PipeReport:
    """The Report an engine sees: sends to the parent and looks for a cancel at every call."""

    def __init__(self, pipe: Connection, assets: Mapping[str, Path], cache: Path) -> None:
        self._pipe = pipe
        self._assets = assets
        self.cache = cache

    def progress(self, step: int, total: int, phase: str = "") -> None:
        self._raise_if_cancelled()
        self._pipe.send(("progress", step, total, phase))

    def preview(self, image: NDArray[np.uint8]) -> None:
        self._raise_if_cancelled()
        self._pipe.send(("preview", image))

    def asset(self, id: str) -> NDArray[np.uint8]:
        self._raise_if_cancelled()
        return pictures.decode(self._assets[id].read_bytes())

    def _raise_if_cancelled(self) -> None:
        while self._pipe.poll():
            if self._pipe.recv()[0] in ("cancel", "stop"):
                raise Cancelled


def _child(pipe: Connection, target: str, card: Card, folder: Path, device: Device, cache: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the parent, which then stops us
    prepare_environment()
    try:
        engine = _guarded(pipe, partial(_load, target, card, folder, device))
        if engine is None:
            return
        pipe.send(("ready", memory_of(os.getpid())))
        taken = Taken()
        while (message := pipe.recv())[0] != "stop":
            if message[0] == "run":  # a late "cancel" of a job that is already done is ignored
                run = partial(engine.run, parse_task(message[1]), PipeReport(pipe, message[2], cache))
                result = _guarded(pipe, run)
                if result is not None:
                    pipe.send(("done", result, taken()))
        engine.close()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone, so is our reason to be


def _load(target: str, card: Card, folder: Path, device: Device) -> Engine:
    module, _, name = target.partition(":")
    engine: Engine = getattr(importlib.import_module(module), name)(card, folder, device)
    return engine


def _guarded(pipe: Connection, call: Callable[[], Any]) -> Any:
    """The call's value; on failure tells the parent and returns None. The one broad `except` of the child."""
    try:
        return call()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except StudioError as error:
        pipe.send(("error", type(error).__name__, error.message, error.hint))
    except MemoryError:
        pipe.send(
            (
                "error",
                OutOfMemory.__name__,
                "The run needs more memory than the machine has left.",
                "Choose a smaller size or model, or close other programs.",
            )
        )
    except Exception:  # noqa: BLE001 - whatever a library throws must reach the user as words, not as a hang
        pipe.send(("bug", traceback.format_exc()))
    return None
