"""Fake answers for Detect and Segment tasks, and the cards that give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from studio.cards import Card, Source
from studio.engines.base import Result


def found(task: Any, assets: Any) -> Result:
    """Two dogs and a cat, side by side."""
    width, height = Image.open(assets[task.image]).size
    rows = [("dog", 0.9, 0.05), ("dog", 0.6, 0.4), ("cat", 0.35, 0.7)]
    kept = [row for row in rows if row[1] >= task.confidence and (not task.classes or row[0] in task.classes)]
    boxes = [[x * width, 0.2 * height, (x + 0.25) * width, 0.8 * height] for _, _, x in kept]
    return Result(data={
        "width": width, "height": height, "boxes": boxes, "scores": [score for _, score, _ in kept],
        "labels": [label for label, _, _ in kept], "model_classes": ["cat", "dog"], "seconds": {"network": 0.01},
    })  # fmt: skip


def cut(task: Any, assets: Any) -> Result:
    """Discs of three sizes around the first click or the middle of the box; of everything, a left and a right half."""
    width, height = Image.open(assets[task.image]).size
    y, x = np.mgrid[0:height, 0:width]
    if task.everything:
        masks = [x < width / 3, x > width * 2 / 3]
    else:
        x0, y0 = (
            task.points[0][:2] if task.points else ((task.box[0] + task.box[2]) / 2, (task.box[1] + task.box[3]) / 2)
        )
        masks = [np.hypot(x - x0, y - y0) <= share * min(width, height) for share in (0.2, 0.35, 0.1)]
    return Result(masks=tuple(masks), data={
        "width": width, "height": height, "scores": [0.93, 0.81, 0.7][: len(masks)],
        "areas": [int(mask.sum()) for mask in masks], "boxes": [], "seconds": {"decode": 0.01},
    })  # fmt: skip


FINDERS: dict[str, Callable[[Any, Any], Result]] = {"detect": found, "segment": cut}
_ROWS = (("finder", "Test finder", "detect", "yolo"), ("cutter", "Test cutter", "segment", "sam"))
CARDS = {
    id_: Card(
        id=id_,
        title=title,
        tasks=(task,),
        engine=engine,
        licence="Apache-2.0",
        source=Source(kind="none"),
        memory=100 * 2**20,
    )
    for id_, title, task, engine in _ROWS
}
