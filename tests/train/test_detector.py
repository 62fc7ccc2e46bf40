"""The starter detector: truths fit pictures, the measure is right where it is known, and a run leaves a usable file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from studio.train import detector
from studio.train.detector import (
    Batches,
    Recipe,
    average_precision,
    batch_of,
    decode,
    mirrored,
    targets,
    training_scene,
)
from studio.train.world import DETECTOR_CLASSES
from tests.train.test_world import needs_font

TINY = Recipe(stages=((0, (64,)),), batch=2, mirrored_after=1)


@needs_font
def test_targets_are_the_boxes_of_things_with_a_class():
    drawn = training_scene(3, 96, TINY)
    classes, boxes = targets(drawn)
    known = [i for i, name in enumerate(drawn.classes) if name is not None]
    assert [DETECTOR_CLASSES[int(c)] for c in classes] == [drawn.classes[i] for i in known]
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1) * 96
    np.testing.assert_allclose(corners, drawn.boxes[known], atol=1e-3)


@needs_font
def test_a_mirrored_scene_is_still_true():
    drawn = training_scene(4, 96, TINY)
    other = mirrored(drawn)
    for box, mask in zip(other.boxes, other.masks, strict=True):
        columns = np.flatnonzero(mask.any(0))
        assert (box[0], box[2]) == (columns[0], columns[-1] + 1)
    assert np.array_equal(mirrored(other).picture, drawn.picture)


@needs_font
def test_a_step_has_the_same_batch_whenever_it_is_drawn():
    in_order, alone = Batches(TINY, seed=1, workers=0), Batches(TINY, seed=1, workers=0)
    for step in range(3):
        batch = in_order.at(step)
    again = alone.at(2)
    assert all(np.array_equal(batch[key], again[key]) for key in ("img", "batch_idx", "cls", "bboxes"))


@needs_font
def test_a_batch_has_the_layout_of_the_loss():
    batch = batch_of([training_scene(i, 64, TINY) for i in range(3)])
    things = len(batch["cls"])
    assert batch["img"].shape == (3, 3, 64, 64)
    assert batch["bboxes"].shape == (things, 4)
    assert len(batch["batch_idx"]) == things


def test_decode_keeps_the_better_of_two_boxes_of_one_class():
    raw = np.zeros((4 + 3, 4), np.float32)
    raw[:4] = np.array([[20, 20, 10, 10], [21, 20, 10, 10], [60, 60, 8, 8], [20, 20, 10, 10]], np.float32).T
    raw[4 + 1, :3] = 0.8, 0.9, 0.5
    raw[4 + 2, 3] = 0.7
    boxes, scores, labels = decode(raw)
    assert list(zip(labels, np.round(scores.astype(float), 3), strict=True)) == [(1, 0.9), (2, 0.7), (1, 0.5)]
    np.testing.assert_allclose(boxes[0], [16, 15, 26, 25])


def test_average_precision_of_perfect_and_of_useless_findings():
    pytest.importorskip("pycocotools")
    box = np.array([10, 10, 60, 60], np.float32)
    truths = [(0, 3, box), (1, 3, box), (1, 5, box + 20)]
    perfect = average_precision(truths, [(*t, 0.9) for t in truths], pictures=2)
    assert perfect["map50"] == perfect["map50_95"] == pytest.approx(1)
    assert average_precision(truths, [(0, 3, box + 300, 0.9)], pictures=2)["map50"] == 0
    half = average_precision(truths, [(*t, 0.9) for t in truths[:2]], pictures=2)
    assert half["per_class"] == {DETECTOR_CLASSES[3]: pytest.approx(1), DETECTOR_CLASSES[5]: 0}


@needs_font
def test_two_steps_of_training_leave_a_file_that_runs(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    metrics = detector.train(tmp_path, steps=2, recipe=TINY, workers=0)
    assert metrics["steps"] == 2
    assert np.isfinite(metrics["loss"])
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    facts = session.get_modelmeta().custom_metadata_map
    assert list(json.loads(facts["names"]).values()) == list(DETECTOR_CLASSES)
    assert json.loads(facts["imgsz"]) == [192, 192]
    (out,) = session.run(None, {"images": np.zeros((1, 3, 64, 96), np.float32)})
    assert out.shape == (1, 4 + len(DETECTOR_CLASSES), 8 * 12 + 4 * 6 + 2 * 3)
    assert 0 <= detector.evaluate(tmp_path, scenes=2, size_px=64)["map50"] <= 1
