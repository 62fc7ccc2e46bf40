"""Box geometry against slow, obvious references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.ops import boxes as ops

EMPTY = np.zeros((0, 4), np.float32)
sides = st.integers(1, 5000)


def _random(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.random((count, 2)) * 80
    return np.concatenate([low, low + rng.random((count, 2)) * 40], axis=1).astype(np.float32)


def _slow_nms(boxes, scores, labels, iou):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(labels[j] != labels[i] or ops.iou_matrix(boxes[i : i + 1], boxes[j : j + 1])[0, 0] <= iou for j in kept):
            kept.append(i)
    return kept


@settings(max_examples=150, deadline=None)
@given(sides, sides, st.sampled_from([32, 320, 640]), st.sampled_from([0, 32]))
def test_letterbox_is_undone_exactly(height, width, side, stride):
    fit = ops.letterbox((height, width), (side, side), stride)
    whole = np.array([[0, 0, width, height]], np.float32)
    inside = fit.to_target(whole)[0]
    assert fit.top + fit.inner[0] <= fit.target[0]
    assert fit.left + fit.inner[1] <= fit.target[1]
    assert inside.tolist() == [fit.left, fit.top, fit.left + fit.inner[1], fit.top + fit.inner[0]]
    np.testing.assert_allclose(fit.to_source(fit.to_target(whole)), whole, rtol=1e-4, atol=1e-2)


def test_letterbox_keeps_the_aspect_ratio_and_centres():
    fit = ops.letterbox((480, 640), (640, 640))
    assert (fit.inner, fit.top, fit.left) == ((480, 640), 80, 0)
    assert ops.letterbox((480, 640), (640, 640), stride=32).target == (480, 640)


def test_stretch_fills():
    fit = ops.stretch((100, 50), (240, 320))
    np.testing.assert_allclose(fit.to_source(np.array([[0, 0, 320, 240]], np.float32)), [[0, 0, 50, 100]], rtol=1e-6)


def test_iou_of_known_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    found = ops.iou_matrix(boxes, boxes)
    np.testing.assert_allclose(found[0], [1, 1 / 3, 0, 0], rtol=1e-6)
    assert found[3, 3] == 0


def test_xywh_of_a_known_box():
    assert ops.xywh_to_xyxy(np.array([[5, 6, 4, 2]], np.float32)).tolist() == [[3, 5, 7, 7]]


def test_clip():
    found = ops.clip(np.array([[-5, -5, 20, 20], [30, 30, 40, 40]], np.float32), height=10, width=15)
    assert found.tolist() == [[0, 0, 15, 10], [15, 10, 15, 10]]


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_nms_is_greedy_within_each_class(iou, seed):
    boxes, rng = _random(120, seed), np.random.default_rng(seed)
    scores, labels = rng.random(120).astype(np.float32).round(2), rng.integers(0, 3, 120)
    assert ops.nms(boxes, scores, labels, iou, limit=1000).tolist() == _slow_nms(boxes, scores, labels, iou)


def test_nms_stops_at_the_limit():
    boxes = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(9)], np.float32)
    scores = np.linspace(0.1, 0.9, 9, dtype=np.float32)
    assert ops.nms(boxes, scores, np.zeros(9, int), 0.5, limit=2).tolist() == [8, 7]


def test_nothing_in_nothing_out():
    none = np.zeros(0, np.float32)
    assert ops.nms(EMPTY, none, none.astype(int), 0.5).tolist() == []
    assert ops.iou_matrix(EMPTY, _random(3)).shape == (0, 3)
    for function in (ops.xywh_to_xyxy, lambda boxes: ops.clip(boxes, 5, 5)):
        assert function(EMPTY).shape == (0, 4)
    assert ops.letterbox((10, 20), (32, 32)).to_source(EMPTY).shape == (0, 4)
