"""How detectors write down their boxes: one table of output layouts, chosen by shape.

A decoder turns raw outputs into candidates in pixels of the network input. To add a layout, add a row to LAYOUTS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from studio.errors import Unsupported
from studio.ops.boxes import Floats, xywh_to_xyxy

Outputs = Mapping[str, NDArray[Any]]
STRIDES = (8, 16, 32)  # px of the cells of a grid
WIDEST_LOG = 20.0  # a side of e^20 cells is none: such numbers are px
_COCO_COLUMNS = {84: 80, 85: 80}  # columns of a table -> classes, where nobody names them: detectors of COCO
MANY = 1000  # heads without anchors answer with a few hundred boxes, grids with thousands


class Candidates(NamedTuple):
    """Boxes (N, 4) xyxy in px of the network input, scores (N,) 0..1, labels (N,) class numbers."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Head:
    """What is known about the outputs before they are read.

    Attributes:
        shapes: shape of each output by name, as it came out of a run.
        size: (height, width) of the network input in px.
        classes: number of classes where names are known, else None.
        kind: the head's class name, where ultralytics wrote it into the file.
    """

    shapes: Mapping[str, tuple[int, ...]]
    size: tuple[int, int]
    classes: int | None = None
    kind: str = ""
    cells: int = field(init=False)

    def __post_init__(self) -> None:
        height, width = self.size
        object.__setattr__(self, "cells", sum((height // s) * (width // s) for s in STRIDES))

    @property
    def main(self) -> tuple[int, int]:
        """Rows and columns of the first output with three axes."""
        rows, columns = next((shape[1:] for shape in self.shapes.values() if len(shape) == 3), (0, 0))
        return rows, columns

    def pair(self) -> tuple[str, str] | None:
        """Names of the scores (1, N, C) and the boxes (1, N, 4), where those two are all there is."""
        if len(self.shapes) != 2 or any(len(shape) != 3 for shape in self.shapes.values()):
            return None
        names = sorted(self.shapes, key=lambda name: ("box" in name.lower(), self.shapes[name][2] == 4))
        scores, boxes = names
        fits = self.shapes[boxes][2] == 4 and self.shapes[boxes][1] == self.shapes[scores][1]
        return (scores, boxes) if fits else None


class Layout(NamedTuple):
    """`matches` says whether a head is of this kind, `classes` how many it tells apart (None: the shape does not say),
    `decode` reads it; `nms` where repeats must be suppressed afterwards."""

    matches: Callable[[Head], bool]
    classes: Callable[[Head], int | None]
    decode: Callable[[Outputs, Head, float], Candidates]
    nms: bool


def choose(head: Head, wanted: str | None = None) -> Layout:
    """The layout called `wanted`, or the first that matches. Raises Unsupported with the shapes."""
    if wanted is not None:
        if wanted not in LAYOUTS:
            raise Unsupported(f"There is no output layout {wanted!r}.", f"Use one of: {', '.join(LAYOUTS)}.")
        return LAYOUTS[wanted]
    _refuse_two_readings(head)
    for layout in LAYOUTS.values():
        if layout.matches(head):
            return layout
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in head.shapes.items())
    raise Unsupported(
        f"The outputs of this network ({shapes}) are not those of a detection model the studio knows.",
        f"Export it as a detector, or name the layout in the card: {', '.join(LAYOUTS)}.",
    )


def name_of(layout: Layout) -> str:
    return next(name for name, one in LAYOUTS.items() if one is layout)


def _refuse_two_readings(head: Head) -> None:
    """A row a box may hold an objectness before its class scores or not; only the number of classes tells."""
    rows, columns = head.main
    is_table = len(head.shapes) == 1 and rows > columns >= 6 and (rows > MANY or rows == head.cells)
    if is_table and head.classes is None and rows != 3 * head.cells and columns not in _COCO_COLUMNS:
        raise Unsupported(
            f"The outputs of this network ({rows} x {columns}) can be read as boxes of {columns - 5} classes with an "
            f"objectness, or of {columns - 4} classes without one.",
            "Give the names of its classes.",
        )


def _is_labelled(head: Head) -> bool:
    return {"labels", "boxes", "scores"} <= set(head.shapes)


def _is_grid_pair(head: Head) -> bool:
    return head.pair() is not None and head.main[0] > MANY


def _is_query_pair(head: Head) -> bool:
    return head.pair() is not None and head.main[0] <= MANY


def _has_objectness(head: Head) -> bool:
    """Whether the columns are those of a box, an objectness and the classes; without names only COCO's are known."""
    columns = head.main[1]
    classes = head.classes if head.classes is not None else _COCO_COLUMNS.get(columns)
    return columns >= 6 and classes == columns - 5


def _is_yolox(head: Head) -> bool:
    return head.main[0] == head.cells and _has_objectness(head)


def _is_objectness(head: Head) -> bool:
    rows, columns = head.main
    is_long = rows > max(MANY, columns) and rows != head.cells and _has_objectness(head)
    return columns >= 6 and (rows == 3 * head.cells or is_long)  # three anchors a cell


def _is_query_rows(head: Head) -> bool:
    rows, columns = head.main
    if not 0 < rows <= MANY or rows == head.cells:
        return False
    return head.classes == columns - 4 and columns != 6


def _is_query_final(head: Head) -> bool:
    return _is_final(head) and head.kind == "RTDETRDecoder"


def _is_final(head: Head) -> bool:
    rows, columns = head.main
    return columns == 6 and 0 < rows <= MANY


def _is_columns(head: Head) -> bool:
    rows, columns = head.main
    return min(rows, columns) >= 5 and rows != columns


def _column_classes(head: Head) -> int | None:
    """Where a head carries more than classes (masks, keypoints), only the names tell how many are classes."""
    width = min(head.main) - 4
    return head.classes if head.classes is not None and head.classes <= width else width


def _columns(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """YOLOv8, v9, 11, 12: (1, 4 + C, N), cx cy w h in px, no objectness. Transposed exports are turned round."""
    table = _first(outputs)  # (4 + C, N)
    table = table.T if table.shape[0] > table.shape[1] else table
    scores = table[4 : 4 + (_column_classes(head) or 0)]  # (C, N)
    best = scores.max(axis=0)
    kept = np.flatnonzero(best >= confidence)
    boxes = xywh_to_xyxy(table[:4, kept].T.astype(np.float32))
    return Candidates(boxes, best[kept].astype(np.float32), scores[:, kept].argmax(axis=0))


def _objectness(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """YOLOv5, v7: (1, N, 5 + C), cx cy w h in px, objectness, class scores; the score is their product."""
    table = _first(outputs)
    table = table[table[:, 4] >= confidence]  # a class score is at most 1, so this loses nothing
    scores = table[:, 5:] * table[:, 4:5]  # (N, C)
    labels = scores.argmax(axis=1)
    best = scores[np.arange(len(labels)), labels]
    kept = best >= confidence
    return Candidates(xywh_to_xyxy(table[kept, :4].astype(np.float32)), best[kept].astype(np.float32), labels[kept])


def _yolox(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """YOLOX: (1, N, 5 + C), one row a cell of the grids of 8, 16 and 32 px: x, y from the cell's corner in cells, the
    logarithms of w, h in cells, objectness, class scores. Exports that decode inside give px already."""
    table = _first(outputs)
    centres, sides = table[:, :2].astype(np.float32), table[:, 2:4].astype(np.float32)
    if not len(sides) or sides.max() < WIDEST_LOG:
        cells, strides = _grid(head)
        centres, sides = (centres + cells) * strides, np.exp(sides) * strides
    found = np.concatenate([centres, sides, table[:, 4:]], axis=1)
    return _objectness({"table": found[None]}, head, confidence)


def _grid(head: Head) -> tuple[Floats, Floats]:
    """Corners (N, 2) of all cells as x, y in cells, and their strides (N, 1) in px."""
    height, width = head.size
    grids = [(np.mgrid[0 : height // s, 0 : width // s][::-1].reshape(2, -1).T, s) for s in STRIDES]
    strides = [np.full((len(cells), 1), s, np.float32) for cells, s in grids]
    return np.concatenate([cells for cells, _ in grids]).astype(np.float32), np.concatenate(strides)


def _final(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """YOLOv10, 26: (1, 300, 6), x1 y1 x2 y2 in px, score, class; nothing is left to suppress."""
    table = _first(outputs)
    table = table[table[:, 4] >= confidence].astype(np.float32)
    return Candidates(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _query_final(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """RT-DETR by ultralytics since 8.4: (1, 300, 6), cx cy w h in 0..1, score, class."""
    found = _final(outputs, head, confidence)
    return found._replace(boxes=xywh_to_xyxy(found.boxes) * _scale(head))


def _query_rows(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """RT-DETR by ultralytics before 8.4: (1, 300, 4 + C), cx cy w h in 0..1, class scores."""
    table = _first(outputs)
    return _best(xywh_to_xyxy(table[:, :4].astype(np.float32)) * _scale(head), table[:, 4:], confidence)


def _query_pair(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """DETR, RT-DETR, D-FINE: logits (1, Q, C) and boxes (1, Q, 4), cx cy w h in 0..1.

    One logit more than there are classes is DETR's "nothing here": then they compete (softmax), else each is a sigmoid.
    """
    scores_name, boxes_name = _pair(head)
    logits = outputs[scores_name][0].astype(np.float32)
    if head.classes is not None and logits.shape[1] == head.classes + 1:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
    else:
        scores = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
    return _best(xywh_to_xyxy(outputs[boxes_name][0].astype(np.float32)) * _scale(head), scores, confidence)


def _grid_pair(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """SSD, Ultra-Light: scores (1, N, 1 + C) with background first, and boxes (1, N, 4), x1 y1 x2 y2 in 0..1."""
    scores_name, boxes_name = _pair(head)
    return _best(outputs[boxes_name][0].astype(np.float32) * _scale(head), outputs[scores_name][0][:, 1:], confidence)


def _labelled(outputs: Outputs, head: Head, confidence: float) -> Candidates:
    """RT-DETR and D-FINE with their postprocessor: labels (1, Q), boxes (1, Q, 4) x1 y1 x2 y2 in px, scores (1, Q)."""
    boxes, scores, labels = (
        outputs[name].reshape(-1, *outputs[name].shape[2:]) for name in ("boxes", "scores", "labels")
    )
    kept = scores >= confidence
    return Candidates(boxes[kept].astype(np.float32), scores[kept].astype(np.float32), labels[kept].astype(np.int64))


def _first(outputs: Outputs) -> NDArray[Any]:
    return next(value for value in outputs.values() if value.ndim == 3)[0]


def _pair(head: Head) -> tuple[str, str]:
    pair = head.pair()
    if pair is None:
        raise Unsupported("This layout needs two outputs, scores and boxes.", "Name another layout in the card.")
    return pair


def _scale(head: Head) -> Floats:
    height, width = head.size
    return np.array([width, height, width, height], np.float32)


def _best(boxes: Floats, scores: NDArray[Any], confidence: float) -> Candidates:
    """The best class of each box, where it reaches the confidence: boxes (N, 4), scores (N, C)."""
    labels = scores.argmax(axis=1)
    best = scores[np.arange(len(labels)), labels]
    kept = best >= confidence
    return Candidates(boxes[kept], best[kept].astype(np.float32), labels[kept])


def _pair_classes(head: Head) -> int | None:
    width = head.shapes[_pair(head)[0]][2]
    return head.classes if head.classes == width - 1 else width


LAYOUTS: dict[str, Layout] = {  # the first that matches is taken
    "labelled": Layout(_is_labelled, lambda head: None, _labelled, nms=False),
    "grid-pair": Layout(_is_grid_pair, lambda head: head.shapes[_pair(head)[0]][2] - 1, _grid_pair, nms=True),
    "query-pair": Layout(_is_query_pair, _pair_classes, _query_pair, nms=False),
    "yolox": Layout(_is_yolox, lambda head: head.main[1] - 5, _yolox, nms=True),
    "objectness": Layout(_is_objectness, lambda head: head.main[1] - 5, _objectness, nms=True),
    "query-rows": Layout(_is_query_rows, lambda head: head.main[1] - 4, _query_rows, nms=False),
    "query-final": Layout(_is_query_final, lambda head: None, _query_final, nms=False),
    "final": Layout(_is_final, lambda head: None, _final, nms=False),
    "columns": Layout(_is_columns, _column_classes, _columns, nms=True),
}
