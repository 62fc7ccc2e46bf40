"""What works here, what does not, and why. Each check is a function from the studio to a Finding."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studio.cards import Card
from studio.errors import StudioError
from studio.studio import Studio
from studio.tasks import TASKS


@dataclass(frozen=True)
class Finding:
    """One line of the report. `detail` is a fact, or what is wrong and what to do."""

    name: str
    ok: bool
    detail: str


def examine(studio: Studio) -> Iterator[Finding]:
    """The quick checks, nothing is loaded."""
    for check in (_python, _packages, _machine, _disk, _models):
        yield check(studio)


def air_gap(studio: Studio) -> Iterator[Finding]:
    """Loads and runs every model that is ready, with connections to other machines blocked: the tasks' models on a
    picture made here, the labs' models by one of their questions, the trainer by a training of a few steps.

    Workers always run blocked (see `studio.worker`); this process is blocked by its caller (`studio.airgap`).
    """
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=1).close()  # TEST-NET-1, RFC 5737: nobody is there
        yield Finding("connections", False, "a connection to another machine was possible")
    except StudioError:
        yield Finding("connections", True, "connections to other machines are blocked")
    except OSError as error:
        yield Finding("connections", False, f"not blocked by the studio ({error})")
    for card in studio.cards(ready=True):
        yield run_once(studio, card)


def run_once(studio: Studio, card: Card) -> Finding:
    """Whether the model loads and answers a small request; nothing of it is kept."""
    kind = card.tasks[0]
    begin = time.monotonic()
    try:
        wrong = _ASKED[kind](studio, card) if kind in _ASKED else _run(studio, card)
    except StudioError as error:
        wrong = str(error)
    return Finding(card.id, not wrong, wrong or f"{time.monotonic() - begin:.1f} s")


def _run(studio: Studio, card: Card) -> str:
    """What went wrong with the smallest honest task for the card's kind, empty where nothing did."""
    kind = card.tasks[0]
    if kind not in TASKS:
        return f"nothing is known to ask a model for {kind!r}"
    fields = dict(_FIELDS.get(kind, {}))
    if TASKS[kind].model_fields.get("image") is not None and TASKS[kind].model_fields["image"].is_required():
        fields["image"] = studio.library.add_image(_picture(), "doctor").id
    for job in studio.run(card.id, fields):
        last = job
    if last.artifact:
        studio.library.delete(last.artifact)
    return "" if last.state == "done" else last.message


def _explore(studio: Studio, card: Card) -> str:
    op, args = _QUESTIONS.get(card.engine, ("about", {}))
    studio.explore(card.id, op, args)
    return ""


def _train(studio: Studio, card: Card) -> str:
    """A few steps in a home of their own, so that no run is left."""
    with tempfile.TemporaryDirectory() as folder:
        config = studio.config.model_copy(update={"home": Path(folder), "prewarm": False})
        lab = Studio(config, studio.device)
        try:
            run = lab.trainings.begin("vae", data="digits", steps=3, seed=0)
            waiting = next(job.id for job in lab.jobs.active())
            lab.start()
            for job in lab.jobs.watch(waiting):
                last = job
            state = lab.runs.get(run.id).state
        finally:
            lab.close()
    return "" if state == "finished" else last.message or f"the training is {state}"


_ASKED: dict[str, Callable[[Studio, Card], str]] = {"explore": _explore, "train": _train}
_FIELDS: dict[str, dict[str, object]] = {  # what a task needs besides a picture
    "generate": {"prompt": "a red apple", "steps": 2, "seed": 0},
    "segment": {"points": [(128, 96, 1), (5, 5, 0)]},
}
_QUESTIONS: dict[str, tuple[str, dict[str, object]]] = {  # engine of a lab -> operation, arguments
    "vae": ("samples", {"count": 1}),
    "gan": ("samples", {"count": 1}),
    "diffusion-lab": ("sample", {"count": 1, "steps": 2}),
}


def _picture() -> NDArray[np.uint8]:
    """A red disc on grey, 192 x 256."""
    rows, columns = np.mgrid[0:192, 0:256]
    disc = (columns - 128) ** 2 + (rows - 96) ** 2 < 60**2
    return np.where(disc[..., None], (200, 40, 40), (230, 230, 225)).astype(np.uint8)


def _python(studio: Studio) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), f"{version} (3.11 or newer is needed)")


def _packages(studio: Studio) -> Finding:
    missing = [name for name in _REQUIRED if not _installed(name)]
    return Finding(
        "packages", not missing, f"missing: {', '.join(missing)}; run `make setup`" if missing else "all here"
    )


_REQUIRED = ("gradio", "torch", "diffusers", "transformers", "onnxruntime", "opencv-python", "segment-anything")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _machine(studio: Studio) -> Finding:
    device, budget = studio.device, studio.pool.budget
    text = (
        f"{device.name}, {device.cores} cores, {device.memory / 2**30:.1f} GB; models may use {budget / 2**30:.1f} GB"
    )
    return Finding("machine", budget >= 700 * 2**20, text)


def _disk(studio: Studio) -> Finding:
    free = shutil.disk_usage(studio.config.home).free
    return Finding("disk", free > 2**30, f"{free / 2**30:.1f} GB free for pictures and models")


def _models(studio: Studio) -> Finding:
    counts = Counter(studio.store.state(card).status for card in studio.cards())
    text = f"{counts['ready']} ready, {counts['absent']} to download, {counts['damaged']} damaged"
    text += f", {counts['unusable']} kept that nothing here can run" if counts["unusable"] else ""
    return Finding("models", counts["damaged"] == 0 and counts["ready"] > 0, text)
