"""OpenCV's and scikit-image's classical methods: no weights, nothing to download, real photographs.

A card names one in `options["method"]`; METHODS is the table. Each method works on a picture of at most `side` px, for
speed, and its answer is mapped back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from studio.cards import Card
from studio.device import Device
from studio.engines import classic_detect, classic_segment
from studio.engines.base import Report, Result
from studio.engines.classic_detect import Hits
from studio.engines.classic_segment import Hints, Segments
from studio.errors import CardError, InvalidTask
from studio.ops import boxes as ops
from studio.ops import masks as mask_ops
from studio.ops.detections import detect_data, unknown_classes
from studio.tasks import Detect, Segment, Task

Picture = NDArray[np.uint8]
MASK_BYTES = 512 * 2**20  # together; "everything" in a large picture would otherwise fill the memory


class Method(NamedTuple):
    """`find` works on a picture whose longer side is at most `side` px. `classes` are those a detector knows."""

    kind: type[Task]
    find: Callable[..., Any]
    side: int
    classes: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    "people": Method(Detect, classic_detect.people, 960, ("person",)),
    "faces": Method(Detect, classic_detect.faces, 1280, ("face",)),
    "codes": Method(Detect, classic_detect.codes, 1600, classic_detect.CODES),
    "grabcut": Method(Segment, classic_segment.grabcut, 720),
    "felzenszwalb": Method(Segment, classic_segment.felzenszwalb, 960),
    "watershed": Method(Segment, classic_segment.watershed, 1600),
}


class Classic:
    """Answers `Detect` or `Segment`, as the card's method does."""

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        """Raises CardError for a method that is not in METHODS. The folder is not read."""
        name = str(card.options.get("method", ""))
        if name not in METHODS:
            raise CardError(f"{card.id}: there is no method {name!r}.", f"Set options.method to: {', '.join(METHODS)}.")
        self._method = METHODS[name]

    def run(self, task: Task, report: Report) -> Result:
        """Raises InvalidTask for another kind of task, unknown classes, and clicks or boxes outside the picture."""
        if not isinstance(task, self._method.kind):
            raise InvalidTask(
                f"This method cannot {task.kind}.", f"It can {self._method.kind.kind}; choose another model."
            )
        image = report.asset(task.image)  # type: ignore[attr-defined]
        small, scale = _shrink(image, self._method.side)
        report.progress(0, 1, "looking")
        started = time.perf_counter()
        if isinstance(task, Detect):
            return self._detect(task, image, small, scale, started)
        assert isinstance(task, Segment)
        return self._segment(task, image, small, scale, report)

    def close(self) -> None:
        """There is nothing to free."""

    def _detect(
        self, task: Detect, image: Picture, small: Picture, scale: NDArray[np.float32], started: float
    ) -> Result:
        unknown_classes(task.classes, self._method.classes)
        hits: Hits = self._method.find(small)
        if not len(hits.boxes) and self._method.find is classic_detect.codes and small is not image:
            hits, scale = self._method.find(image), np.ones(4, np.float32)  # small codes drown in large pictures
        wanted = [label in task.classes or not task.classes for label in hits.labels]
        kept = np.flatnonzero(np.array(wanted, bool) & (hits.scores >= task.confidence))
        numbers = np.array([self._method.classes.index(label) for label in hits.labels], np.int64)
        order = kept[ops.nms(hits.boxes[kept], hits.scores[kept], numbers[kept], task.iou, task.max_detections)]
        height, width = image.shape[:2]
        boxes = ops.clip(hits.boxes[order] / scale, height, width)
        order, boxes = order[ops.area(boxes) > 0], boxes[ops.area(boxes) > 0]
        labels = [hits.labels[i] for i in order]
        seconds = {"network": time.perf_counter() - started}
        data = detect_data((height, width), boxes, hits.scores[order], labels, self._method.classes, seconds)
        if hits.texts is not None:
            data["texts"] = [hits.texts[i] for i in order]
        return Result(data=data)

    def _segment(
        self, task: Segment, image: Picture, small: Picture, scale: NDArray[np.float32], report: Report
    ) -> Result:
        started = time.perf_counter()
        hints = _hints(task, image, small, scale)
        found: Segments = self._method.find(small, hints, report)
        scored = [(classic_segment.contrast(small, mask), mask) for mask in found.masks]
        scored.sort(key=lambda pair: -pair[0])
        height, width = image.shape[:2]
        room = max(1, MASK_BYTES // (height * width))
        large = [(score, _enlarge(mask, height, width)) for score, mask in scored[:room]]
        large = [
            (score, mask) for score, mask in large if mask_ops.area(mask) >= (task.min_area if task.everything else 1)
        ]
        masks = tuple(mask for _, mask in large)
        data = {
            "width": width,
            "height": height,
            "scores": [round(score, 4) for score, _ in large],
            "areas": [mask_ops.area(mask) for mask in masks],
            "boxes": [mask_ops.box(mask).tolist() for mask in masks],
            "left_out": found.left_out + max(0, len(scored) - room),
            "seconds": {"masks": time.perf_counter() - started},
        }
        return Result(masks=masks, data=data)


def _shrink(image: Picture, side: int) -> tuple[Picture, NDArray[np.float32]]:
    """The picture with its longer side at most `side`, and the factor of each box coordinate (4,)."""
    height, width = image.shape[:2]
    if max(height, width) <= side:
        return image, np.ones(4, np.float32)
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    x, y = size[0] / width, size[1] / height
    return small, np.array([x, y, x, y], np.float32)


def _enlarge(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """The mask at the picture's size, with smooth edges where it was smaller."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR) > 127


def _hints(task: Segment, image: Picture, small: Picture, scale: NDArray[np.float32]) -> Hints:
    """The task in pixels of the small picture. Raises InvalidTask for what lies outside the picture."""
    height, width = image.shape[:2]
    for x, y, _ in task.points:
        if not (0 <= x < width and 0 <= y < height):
            raise InvalidTask(
                f"The click at {x:g},{y:g} is outside the picture ({width}×{height}).", "Click inside it."
            )
    box = None
    if task.box is not None:
        clipped = ops.clip(np.array([task.box], np.float32), height, width)
        if ops.area(clipped)[0] <= 0:
            raise InvalidTask(f"The box is outside the picture ({width}×{height}).", "Draw it inside the picture.")
        left, top, right, bottom = (clipped[0] * scale).tolist()
        box = int(left), int(top), max(int(left) + 1, round(right)), max(int(top) + 1, round(bottom))
    factor = float(scale[:2].mean())
    limit = small.shape[1] - 1, small.shape[0] - 1
    marks = [(min(int(x * scale[0]), limit[0]), min(int(y * scale[1]), limit[1]), on) for x, y, on in task.points]
    return Hints(
        marks=tuple(marks),
        box=box,
        everything=task.everything,
        brush=max(3, round(task.brush * factor)),
        min_area=max(1, round(task.min_area * factor**2)),
        scale=task.scale,
    )
