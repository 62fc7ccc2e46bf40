"""How good detections are: average precision as Pascal VOC 2010 and later define it. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studio.ops.boxes import Floats, iou_matrix


@dataclass(frozen=True)
class Truth:
    """What is on one picture: boxes (N, 4) xyxy, labels, and which of them are neither asked for nor counted wrong."""

    boxes: Floats
    labels: Sequence[str]
    difficult: Sequence[bool] = ()


@dataclass(frozen=True)
class Found:
    """What was found on one picture: boxes (N, 4) xyxy, labels, scores (N,)."""

    boxes: Floats
    labels: Sequence[str]
    scores: Floats


def mean_average_precision(
    truths: Sequence[Truth], found: Sequence[Found], iou: float = 0.5
) -> tuple[float, dict[str, float]]:
    """The mean over the classes that occur in `truths`, and each class's average precision, all 0..1."""
    if len(truths) != len(found):
        raise ValueError("one Found for every Truth")
    labels = sorted({label for truth in truths for label in truth.labels})
    each = {label: average_precision(truths, found, label, iou) for label in labels}
    return (float(np.mean(list(each.values()))) if each else 0.0), each


def average_precision(truths: Sequence[Truth], found: Sequence[Found], label: str, iou: float = 0.5) -> float:
    """Area under the precision-recall curve of one class, precision made monotone, every point counted.

    A find is right where it overlaps most a true box that no better find has taken, by at least `iou`.
    """
    scores: list[NDArray[np.float32]] = []
    rights: list[NDArray[np.float64]] = []
    wanted = 0
    for truth, answer in zip(truths, found, strict=True):
        right, count = _matches(truth, answer, label, iou)
        picked = np.array([name == label for name in answer.labels], bool)
        scores.append(np.asarray(answer.scores, np.float32)[picked])
        rights.append(right)
        wanted += count
    if wanted == 0 or not scores:
        return 0.0
    right = np.concatenate(rights)[np.argsort(-np.concatenate(scores), kind="stable")]
    right = right[~np.isnan(right)]
    hits = np.cumsum(right)
    recall = np.concatenate([[0.0], hits / wanted, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(right) + 1), [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision[1:]))


def _matches(truth: Truth, answer: Found, label: str, iou: float) -> tuple[NDArray[np.float64], int]:
    """For each find of the class, in its own order, 1 right, 0 wrong, NaN not counted; and how many were wanted."""
    mine = [i for i, name in enumerate(truth.labels) if name == label]
    picked = [i for i, name in enumerate(answer.labels) if name == label]
    difficult = np.array([bool(truth.difficult[i]) if truth.difficult else False for i in mine], bool)
    result = np.zeros(len(picked))
    if mine and picked:
        overlap = iou_matrix(np.asarray(answer.boxes)[picked], np.asarray(truth.boxes)[mine])
        taken = np.zeros(len(mine), bool)
        for i in np.argsort(-np.asarray(answer.scores)[picked], kind="stable"):
            best = int(overlap[i].argmax())
            if overlap[i, best] < iou:
                continue
            result[i] = np.nan if difficult[best] else float(not taken[best])
            taken[best] = True
    return result, int((~difficult).sum())
