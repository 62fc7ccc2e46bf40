"""What works here, what does not, and why. Each check is a function from the studio to a Finding."""

from __future__ import annotations

import shutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import numpy as np

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
    """Loads and runs every installed model with connections to other machines blocked.

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
        if card.tasks[0] not in TASKS:  # a lab's engine has its own questions
            continue
        yield _try(studio, card)


def _try(studio: Studio, card: Card) -> Finding:
    try:
        for job in studio.run(card.id, _sample(studio, card)):
            last = job
    except StudioError as error:
        return Finding(card.id, False, str(error))
    if last.artifact:
        studio.library.delete(last.artifact)
    return Finding(card.id, last.state == "done", f"{last.seconds:.1f} s" if last.state == "done" else last.message)


def _sample(studio: Studio, card: Card) -> dict[str, object]:
    """The smallest honest task for the card's kind, on a picture made here."""
    if card.tasks[0] == "generate":
        return {"prompt": "a red apple", "steps": 2, "seed": 0}
    rows, columns = np.mgrid[0:192, 0:256]
    disc = (columns - 128) ** 2 + (rows - 96) ** 2 < 60**2
    picture = np.where(disc[..., None], (200, 40, 40), (230, 230, 225)).astype(np.uint8)
    image = studio.library.add_image(picture, "doctor").id
    return {"image": image} if card.tasks[0] == "detect" else {"image": image, "points": [(128, 96, 1), (5, 5, 0)]}


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
    return Finding("models", counts["damaged"] == 0 and counts["ready"] > 0, text)
