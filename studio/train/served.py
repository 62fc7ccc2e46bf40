"""A run's model as MLflow loads it: `mlflow.pyfunc.load_model("runs:/<id>/model").predict({"op": ..., "args": ...})`.

Found through the MLmodel file that `studio.train.record` writes, with the studio's modules in a zip beside it.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.cards import Card, Source
from studio.device import probe
from studio.engines.base import ENGINES, Engine
from studio.errors import Unsupported
from studio.tasks import Explore, make_task


class Direct:
    """A Report for one who only wants the answer."""

    cache = Path()

    def progress(self, step: int, total: int, phase: str = "") -> None:
        """Nobody looks."""

    def preview(self, image: Any) -> None:
        """Nobody looks."""

    def asset(self, id: str) -> Any:
        raise Unsupported("A served model is asked without pictures.", "Give latents, labels or a seed.")


class Served:
    """Args:
    folder: model.safetensors, config.json and studio.json of a run.
    """

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "studio.json").read_text(encoding="utf-8"))
        module, _, name = ENGINES[facts["engine"]].target.partition(":")
        card = Card(
            id="served",
            title=facts["run"],
            tasks=("explore",),
            engine=facts["engine"],
            licence="unknown",
            source=Source(kind="none"),
            size=None,
            memory=None,
        )
        self._engine: Engine = getattr(importlib.import_module(module), name)(card, folder, probe("cpu"))

    def predict(self, model_input: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """{"op", "args"} of the lab's operations -> {"images": [uint8 (H, W, 3)], "data": {...}}."""
        task = make_task(Explore.kind, {"op": model_input["op"], "args": dict(model_input.get("args", {}))})
        result = self._engine.run(task, Direct())
        return {"images": list(result.images), "data": dict(result.data)}


def _load_pyfunc(path: str) -> Served:
    """MLflow's own name for its way in."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return Served(Path(path))
