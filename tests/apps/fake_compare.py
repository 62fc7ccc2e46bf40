"""A measuring job that measures nothing: plausible rows come one by one, with pictures that differ a little."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from studio.compress.comparisons import Comparisons
from studio.jobs import Snapshot
from studio.studio import Studio

# variant -> bytes MB, peak MB, load s, first ms, median ms, spread ms, mAP50 or SSIM, noise of its pictures
ROWS: dict[str, tuple[float, ...]] = {
    "torch-fp32": (10.5, 512, 4.1, 260, 121, 4.0, 0.714, 0),
    "onnxruntime-fp32": (10.5, 148, 0.31, 81, 58, 1.8, 0.714, 1),
    "openvino-fp32": (10.5, 171, 0.72, 60, 45, 1.2, 0.714, 1),
    "openvino-int8": (2.9, 133, 0.75, 55, 38.2, 0.9, 0.71, 4),
    "onnxruntime-int8": (2.9, 121, 0.35, 90, 64, 2.0, 0.711, 4),
    "onnxruntime-int4": (1.5, 150, 0.4, 80, 58.4, 1.9, 0.643, 16),
    "openvino-bf16": (),
}


def variants(card: Any) -> list[str]:
    return list(ROWS)


class FakeCompare:
    """`studio.compare`: a queued job of the fake studio stands for the job; a thread writes the rows."""

    def __init__(self, studio: Studio, pace: float) -> None:
        self._studio, self._pace = studio, pace

    def __call__(self, card_id: str, chosen: Sequence[str], *, owner: str = "local", anyway: bool = False) -> Snapshot:
        store = Comparisons(self._studio.config.home)
        fields = {"prompt": "measure", "steps": 2 * len(chosen), "seed": 1}
        shot = self._studio.submit("starter", fields, owner=owner, kept=False)
        store.begin(card_id, "", {"name": "Test processor", "cores": 2})

        def measure() -> None:
            for key in chosen:
                time.sleep(self._pace)
                put(store, card_id, key)

        threading.Thread(target=measure, daemon=True).start()
        return shot


def row(card_id: str, key: str) -> dict[str, Any]:
    runtime, _, precision = key.partition("-")
    head = {"card": card_id, "runtime": runtime, "precision": precision}
    if not ROWS[key]:
        return {**head, "error": "This processor has no bf16."}
    size, peak, load, first, median, spread, worth, _ = ROWS[key]
    return {
        **head, "bytes": round(size * 2**20), "resident_mb": peak * 0.8, "peak_mb": peak, "load_s": load,
        "first_ms": first, "median_ms": median, "spread_ms": spread,
        "quality": {"map50": worth, "agreement": 1 - (0.714 - worth) * 2},
    }  # fmt: skip


def put(store: Comparisons, card_id: str, key: str) -> None:
    """One row with its pictures and layers."""
    noise = int(ROWS[key][7]) if ROWS[key] else 0
    layers = {f"model.{k}.conv.weight": noise / 100 / (k + 1) for k in range(12)} if noise else {}
    store.put(card_id, row(card_id, key), pictures=pictures(noise) if ROWS[key] else (), layers=layers)


def fill(studio: Studio, card_id: str, keys: Sequence[str] = tuple(ROWS)) -> None:
    """All rows at once."""
    store = Comparisons(studio.config.home)
    store.begin(card_id, "", {"name": "Test processor", "cores": 2})
    for key in keys:
        put(store, card_id, key)


def pictures(noise: int) -> list[Any]:
    """Two pictures of 96 px with that much noise."""
    y, x = np.mgrid[0:96, 0:96] / 96
    rng = np.random.default_rng(noise)
    plain = [np.stack([255 * x, 255 * y, np.full_like(x, shade)], -1) for shade in (90.0, 200.0)]
    return [np.clip(one + rng.normal(0, noise, one.shape), 0, 255).astype(np.uint8) for one in plain]


def attach(studio: Studio, pace: float = 0.2) -> Studio:
    """Gives a studio the fake measurement."""
    studio.compare = FakeCompare(studio, pace)  # type: ignore[attr-defined]
    studio.variants = variants  # type: ignore[attr-defined]
    return studio
