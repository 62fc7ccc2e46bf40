"""From a run to a model: the passing card with which a lab opens it, and the lasting one in the store."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from studio.cards import Card, Source
from studio.errors import IntegrityError
from studio.intake.convert import discard
from studio.tasks import Train, make_task
from studio.train.recipe import Recipe
from studio.train.runs import Run
from studio.weights.store import Store

_PASSING = re.compile(r"run\.([a-z0-9-]+)\.([0-9a-f]+)")
WEIGHTS, FACTS = "model.safetensors", "facts.json"
KEPT = (WEIGHTS, "config.json", FACTS)
PICTURES: Mapping[str, tuple[str, ...]] = {
    "vae": ("lab.pictures", "lab.labels", "lab.codes"),
    "gan": ("pictures", "labels"),
    "diffusion-lab": ("pictures", "picture_labels"),
}
"""Family -> the tensors with which pictures of its data travel inside a model; the first holds the pictures. Codes
count among them, since the decoder makes the pictures of them again."""
COUNTS = ("pictures_inside", "training_pictures_inside")
"""Names under which facts.json says how many they are."""
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


def task_of(run: Run, **budget: Any) -> Train:
    """The task that goes on with a run; `budget` are steps and minutes other than the run's. Raises InvalidTask."""
    names = ("recipe", "steps", "minutes", "data", "options", "seed", "patience")
    task = make_task(Train.kind, {"run": run.id, **{name: getattr(run, name) for name in names}, **budget})
    assert isinstance(task, Train)
    return task


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


def is_shipped(data: str) -> bool:
    """Whether pictures come with the studio; of all others only the user can say who may see them."""
    return data == "digits" or data.startswith("stickers")


def inside(folder: Path, family: str) -> int:
    """How many pictures of its data the model in a folder holds."""
    name = PICTURES[family][0] if family in PICTURES else ""
    try:
        with safe_open(folder / WEIGHTS, "np") as file:
            return int(file.get_slice(name).get_shape()[0]) if name in file.keys() else 0  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError):
        return 0


def without_pictures(source: Path, target: Path, family: str) -> None:
    """Copies a model's files without the pictures inside. Raises IntegrityError where they cannot be read."""
    try:
        tensors = load_file(source / WEIGHTS)
        facts = json.loads((source / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise IntegrityError(f"The model of this run cannot be read: {error}.", "Train it on for a moment.") from error
    save_file({name: value for name, value in tensors.items() if name not in PICTURES[family]}, target / WEIGHTS)
    facts |= {name: 0 for name in COUNTS if name in facts}
    (target / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def adopt(store: Store, run: Run, folder: Path, title: str = "", *, pictures: bool | None = None) -> Card:
    """Copies a run's model into the store.

    Args:
        pictures: whether the pictures inside it go along; None: only those that come with the studio.

    Raises DiskFull, IntegrityError.
    """
    shipped = is_shipped(run.data)
    made_of = run.data.replace(":", ", ") if shipped else "my library" if run.data == "library" else "own pictures"
    stage = store.stage()
    try:
        for name in KEPT:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, stage / name)
        if inside(folder, run.family) and not (shipped if pictures is None else pictures):
            without_pictures(folder, stage, run.family)
        held = inside(stage, run.family)
        card = Card(
            id=run.id,
            title=title if title else f"{run.title} ({made_of})",
            summary=f"Trained on this device on {made_of}, {run.step} steps. "
            + (f"Holds {held} of these pictures." if held else "Holds none of these pictures."),
            tasks=("explore",),
            engine=run.family,
            # The shipped pictures leave what is made with them free; of all others only the user can know.
            licence="Apache-2.0" if shipped else "unknown",
            source=Source(kind="imported"),
            size=None,
            memory=MEMORY,
            options={"run": run.id, "recipe": run.recipe},
        )
        return store.take(stage, card)
    finally:
        discard(stage)
