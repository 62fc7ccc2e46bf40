"""From a run to a model: the passing card with which a lab opens it, and the lasting one in the store."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from studio.cards import Card, Source
from studio.intake.convert import discard
from studio.tasks import Train
from studio.train.recipe import Recipe
from studio.train.runs import Run
from studio.weights.store import Store

_PASSING = re.compile(r"run\.([a-z0-9-]+)\.([0-9a-f]+)")
KEPT = ("model.safetensors", "config.json", "facts.json")
MEMORY = 450 * 2**20  # bytes a worker with a small torch model takes


def record(task: Train, recipe: Recipe, owner: str) -> dict[str, Any]:
    """The fields of a new run."""
    return {
        "recipe": task.recipe,
        "family": recipe.family,
        "title": recipe.title if recipe.title else task.recipe,
        "options": task.options,
        "data": task.data,
        "seed": task.seed,
        "steps": task.steps,
        "minutes": task.minutes,
        "patience": task.patience,
        "owner": owner,
    }


def task_of(run: Run) -> Train:
    """The task that goes on with a run."""
    return Train(
        recipe=run.recipe,
        run=run.id,
        steps=run.steps,
        minutes=run.minutes,
        data=run.data,
        options=run.options,
        seed=run.seed,
        patience=run.patience,
    )


def passing_card(run: Run, folder: Path) -> Card:
    """A card that lives as long as this model of the run: training on makes another."""
    stamp = f"{(folder / 'config.json').stat().st_mtime_ns & 0xFFFFFFFFFF:x}"
    return Card(
        id=f"run.{run.id}.{stamp}"[:80],
        title=run.title,
        tasks=("explore",),
        engine=run.family,
        licence="unknown",
        source=Source(kind="none"),
        size=None,
        memory=MEMORY,
    )


def run_of(card_id: str) -> str | None:
    """The run behind a passing card's id; None for any other."""
    found = _PASSING.fullmatch(card_id)
    return found[1] if found else None


def adopt(store: Store, run: Run, folder: Path, title: str = "") -> Card:
    """Copies a run's model into the store. Raises DiskFull."""
    made_of = run.data if run.data in ("digits", "library") or run.data.startswith("stickers") else "own pictures"
    card = Card(
        id=run.id,
        title=title if title else f"{run.title} ({made_of.replace(':', ', ')})",
        summary=f"Trained on this device on {made_of.replace(':', ', ')}, {run.step} steps.",
        tasks=("explore",),
        engine=run.family,
        # The shipped pictures leave what is made with them free; of all others only the user can know.
        licence="Apache-2.0" if made_of == "digits" or made_of.startswith("stickers") else "unknown",
        source=Source(kind="imported"),
        size=None,
        memory=MEMORY,
        options={"run": run.id, "recipe": run.recipe},
    )
    stage = store.stage()
    try:
        for name in KEPT:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, stage / name)
        return store.take(stage, card)
    finally:
        discard(stage)
