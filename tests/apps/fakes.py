"""A Studio whose engine runs in this process, slow enough to be watched and quick enough for a test."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from studio.cards import Card, Source
from studio.config import Config
from studio.device import Device
from studio.engines.base import Result
from studio.errors import Cancelled, Unsupported
from studio.pool import Pool
from studio.studio import Studio
from studio.weights.store import Store
from tests.apps.finders import CARDS, FINDERS

DEVICE = Device("Test processor", 2, 12 * 2**30, "cpu")


def own(piece: Any) -> dict[str, Any]:
    """What a piece was made with, as its script receives it."""
    return json.loads(piece.js_on_load.partition("studio.mount(")[2].partition(", ")[2].partition(", element, ")[0])


class FakeEngine:
    """Paints discs whose colour is the seed's. `pace` is seconds a step; "slow" in the prompt makes it half a second,
    "very slow" three.

    The prompt "refuse" fails.
    """

    alive = True

    def __init__(self, pace: float) -> None:
        self.pace = pace

    def run(self, task: Any, assets: Any, on_event: Any, is_cancelled: Any) -> Result:
        if getattr(task, "prompt", "") == "refuse":
            raise Unsupported("This model cannot do that.", "Choose another model.")
        if task.kind in FINDERS:
            return FINDERS[task.kind](task, assets)
        if task.kind == "explore":
            return Result(data={"op": task.op})
        steps = task.steps or 20
        rng = np.random.default_rng(task.seed)
        count, side = task.count, task.width or 128
        y, x = np.mgrid[0:side, 0:side] / side - 0.5
        images = []
        for _ in range(count):
            disc = (np.hypot(x, y) < 0.3)[..., None]
            images.append(np.where(disc, rng.integers(40, 255, 3), rng.integers(150, 250, 3)).astype(np.uint8))
        noise = rng.integers(0, 256, images[0].shape, dtype=np.uint8)
        for step in range(steps):
            if is_cancelled():
                raise Cancelled
            on_event("progress", (step * count, steps * count, "step"))
            share = step / steps
            on_event("preview", ((images[0] * share + noise * (1 - share)).astype(np.uint8)[::4, ::4],))
            time.sleep(3.0 if "very slow" in task.prompt else 0.5 if "slow" in task.prompt else self.pace)
        on_event("progress", (steps * count, steps * count, "decoding"))
        seeds = [task.seed + k for k in range(count)]
        notes = ["The prompt names nothing this model knows."] if "xyzzy" in task.prompt else []
        return Result(tuple(images), data={"seeds": seeds, "seconds": {"painting": steps * self.pace}, "notes": notes})


class FakePool(Pool):
    """Pretends to load, in no time."""

    pace = 0.0

    @contextmanager
    def lease(self, card: Card, is_cancelled: Any = None, need: Any = None) -> Iterator[Any]:  # type: ignore[override]
        yield FakeEngine(self.pace)


def fake_card(id: str = "starter", **values: Any) -> Card:
    given = {"title": "Starter pictures", "defaults": {"steps": 20, "guidance_scale": 3.0, "width": 128, "height": 128}}
    return Card(
        id=id, tasks=("generate",), engine="diffusion", licence="Apache-2.0", memory=580 * 2**20,
        source=Source(kind="builtin", path=id), **{**given, **values},
    )  # fmt: skip


def fake_studio(folder: Path, *, pace: float = 0.0, mode: str = "local", **settings: Any) -> Studio:
    """A studio on an empty home with one ready model of each kind."""
    models = folder / "models"
    (models / "starter").mkdir(parents=True, exist_ok=True)
    facts = {"things": ["pizza", "rocket", "cat face", "strawberry"]}
    (models / "starter" / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    config = Config(home=folder / "home", cache=folder / "cache", models=models, mode=mode, prewarm=False, **settings)
    studio = Studio(config, DEVICE)
    studio.store = Store(config, {"starter": fake_card(), **CARDS})
    studio.pool = FakePool(6 * 2**30, studio.store.path, DEVICE, config.cache)
    studio.pool.pace = pace
    return studio
