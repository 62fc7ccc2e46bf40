"""Average precision on cases that can be worked out by hand, and against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from studio.ops.metrics import Found, Truth, mean_average_precision

NONE = np.zeros((0, 4), np.float32)


def box(*corners):
    return np.array(corners, np.float32).reshape(-1, 4)


def test_perfect_and_nothing():
    truth = Truth(box([0, 0, 10, 10], [20, 20, 30, 30]), ["a", "b"])
    perfect = Found(truth.boxes, ["a", "b"], np.array([0.9, 0.8]))
    assert mean_average_precision([truth], [perfect])[0] == 1
    assert mean_average_precision([truth], [Found(NONE, [], np.zeros(0))])[0] == 0
    assert mean_average_precision([], []) == (0.0, {})


def test_worked_example():
    truth = Truth(box([0, 0, 10, 10], [20, 20, 30, 30]), ["a", "a"])
    found = Found(
        box([50, 50, 60, 60], [0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]),
        ["a"] * 4,
        np.array([0.9, 0.8, 0.7, 0.6]),
    )
    # wrong, right, repeated, right: precision 1/2 at recall 1/2 and 2/4 at recall 1
    assert mean_average_precision([truth], [found])[0] == pytest.approx(0.5)


def test_difficult_things_count_neither_way():
    truth = Truth(box([0, 0, 10, 10], [20, 20, 30, 30]), ["a", "a"], [True, False])
    found = Found(truth.boxes, ["a", "a"], np.array([0.9, 0.8]))
    assert mean_average_precision([truth], [found])[0] == 1


@pytest.mark.parametrize("seed", range(3))
def test_near_pycocotools(seed):
    """COCO samples the same curve at 101 recalls, so it may differ by about a hundredth."""
    coco_module, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(seed)
    truths, found, anns, results = [], [], [], []
    for image in range(1, 21):
        low = rng.random((8, 2)) * 300
        boxes = np.concatenate([low, low + 30 + rng.random((8, 2)) * 60], axis=1).astype(np.float32)
        labels = [str(rng.integers(1, 4)) for _ in boxes]
        moved = (boxes + rng.normal(0, 8, boxes.shape)).astype(np.float32)
        scores = rng.random(8).astype(np.float32)
        truths.append(Truth(boxes, labels))
        found.append(Found(moved, labels, scores))
        for old, new, label, score in zip(boxes.tolist(), moved.tolist(), labels, scores.tolist(), strict=True):
            common = {"image_id": image, "category_id": int(label)}
            wide, high = old[2] - old[0], old[3] - old[1]
            bbox = [old[0], old[1], wide, high]
            anns.append({**common, "id": len(anns) + 1, "bbox": bbox, "area": wide * high, "iscrowd": 0})
            results.append({**common, "bbox": [new[0], new[1], new[2] - new[0], new[3] - new[1]], "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_module.COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(1, 21)],
            "annotations": anns,
            "categories": [{"id": i} for i in (1, 2, 3)],
        }
        truth.createIndex()
        run = evaluation.COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert mean_average_precision(truths, found)[0] == pytest.approx(run.stats[1], abs=0.015)
