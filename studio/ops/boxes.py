"""Boxes: geometry of fitting a picture into a network's input, overlap, and suppression of repeats. Pure numpy.

Boxes are float32 (N, 4), x1 y1 x2 y2; every function takes and returns N = 0 without a special case at the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Fit:
    """How a picture of `source` size sits inside a network input of `target` size. Sizes are (height, width) in px.

    The picture is scaled to `inner` and placed at (`left`, `top`); what is left over is padding.
    The mapping uses the rounded sizes, so that `to_source` undoes `to_target` exactly.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    inner: tuple[int, int]
    left: int
    top: int

    def to_source(self, boxes: Floats) -> Floats:
        """Boxes in pixels of the network input -> pixels of the picture; not clipped."""
        return ((boxes - self._offset()) / self._scale()).astype(np.float32)  # (N, 4)

    def to_target(self, boxes: Floats) -> Floats:
        """Boxes in pixels of the picture -> pixels of the network input."""
        return (boxes * self._scale() + self._offset()).astype(np.float32)  # (N, 4)

    def _scale(self) -> NDArray[np.float64]:
        x, y = self.inner[1] / self.source[1], self.inner[0] / self.source[0]
        return np.array([x, y, x, y])

    def _offset(self) -> NDArray[np.float64]:
        return np.array([self.left, self.top, self.left, self.top], np.float64)


def letterbox(source: tuple[int, int], target: tuple[int, int], stride: int = 0, *, corner: bool = False) -> Fit:
    """The largest placement that keeps the aspect ratio, centred or in the top left corner. Sizes are (height, width),
    all at least 1.

    With `stride` > 0 the input is cut to the smallest multiple of it that holds the picture ("rectangular" inference):
    a 4:3 picture then costs three quarters of a square one.
    """
    scale = min(target[0] / source[0], target[1] / source[1])
    inner = max(1, round(source[0] * scale)), max(1, round(source[1] * scale))
    if stride > 0:
        target = tuple(-(-side // stride) * stride for side in inner)  # type: ignore[assignment]
    if corner:
        return Fit(source, target, inner, left=0, top=0)
    # The odd pixel of padding goes to the bottom and right, as in the letterbox the YOLO weights were trained with.
    return Fit(source, target, inner, left=(target[1] - inner[1]) // 2, top=(target[0] - inner[0]) // 2)


def stretch(source: tuple[int, int], target: tuple[int, int]) -> Fit:
    """The picture fills the input; the aspect ratio is not kept."""
    return Fit(source, target, target, left=0, top=0)


def xywh_to_xyxy(boxes: Floats) -> Floats:
    """Centre x, centre y, width, height -> x1 y1 x2 y2, any unit."""
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    return np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32, copy=False)


def xyxy_to_xywh(boxes: Floats) -> Floats:
    """x1 y1 x2 y2 -> centre x, centre y, width, height, any unit."""
    low, high = boxes[..., :2], boxes[..., 2:4]
    return np.concatenate([(low + high) / 2, high - low], axis=-1).astype(np.float32, copy=False)


def clip(boxes: Floats, height: int, width: int) -> Floats:
    """Boxes cut to the picture; one that lay outside gets no area."""
    limit = np.array([width, height, width, height], np.float32)
    return np.minimum(np.maximum(boxes, 0), limit).astype(np.float32, copy=False)


def area(boxes: Floats) -> Floats:
    """(N,) areas; 0 for an inverted box."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def iou_matrix(first: Floats, second: Floats) -> Floats:
    """(N, M) overlap divided by union, 0..1; two boxes without area have 0."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inner = np.maximum(high - low, 0).prod(axis=2)  # (N, M)
    union = area(first)[:, None] + area(second)[None] - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def nms(
    boxes: Floats, scores: Floats, labels: NDArray[np.integer], iou: float, limit: int = 300, consider: int = 30_000
) -> Indices:
    """Greedy non-maximum suppression within each class.

    Returns the indices of at most `limit` boxes, best score first; of two boxes of one class that overlap by more than
    `iou` the better stays. Equal scores keep their order. Only the `consider` best boxes take part.
    """
    order = np.argsort(-scores, kind="stable")[:consider]
    classes = labels[order]
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T)  # four (N,): columns are several times faster than rows
    size = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    alive = np.arange(len(order))
    kept: list[int] = []
    while len(alive) and len(kept) < limit:
        best, rest = alive[0], alive[1:]
        kept.append(best)
        wide = np.minimum(x2[rest], x2[best]) - np.maximum(x1[rest], x1[best])
        high = np.minimum(y2[rest], y2[best]) - np.maximum(y1[rest], y1[best])
        inner = np.maximum(wide, 0) * np.maximum(high, 0)
        repeated = (classes[rest] == classes[best]) & (inner > iou * (size[rest] + size[best] - inner))
        alive = rest[~repeated]
    return order[np.array(kept, np.intp)]
