"""What is measured comes while it is measured: size and load time first, quality next, times with every run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from studio.cards import load_cards
from studio.compress import measure, samples
from studio.compress.subjects import Subject
from studio.config import ROOT
from studio.errors import StudioError
from studio.ops.metrics import Truth
from studio.train import world

MODELS = ROOT / "models"


@pytest.fixture(scope="module")
def detector():
    card = load_cards(MODELS)["starter-detector"]
    folder = MODELS / card.source.path
    return Subject("onnxruntime-fp32", card, "yolo", folder, (folder / "model.onnx").stat().st_size)


def test_rows_come_live_and_one_that_fails_stops_no_other(detector, tmp_path):
    lost = replace(detector, name="openvino-fp32", folder=tmp_path)
    phases = []
    found = list(
        measure.measure(
            [detector, lost], 1, runs=2, compared=3, on_step=lambda done, total, phase: phases.append((done, total))
        )
    )
    rows = [one.row for one in found]
    assert [row["precision"] for row in rows] == ["fp32"] * 5
    loaded, compared, failed, first, last = rows
    assert loaded["load_s"] > 0
    assert loaded["bytes"] == detector.bytes
    assert not {"median_ms", "quality"} & set(loaded)
    assert compared["quality"]["agreement"] == 1.0
    assert "no .onnx file" in failed["error"]
    assert (first["runs"], last["runs"], last["of"]) == (1, 2, 2)
    assert last["median_ms"] > 0
    assert last["quality"] == compared["quality"]
    assert [one.pictures is None for one in found] == [True, False, True, True, True]
    assert phases == sorted(phases)
    assert len(found[1].pictures) == 3


def test_a_detectors_pictures_show_its_boxes(detector):
    found = next(one for one in measure.measure([detector], 1, runs=1, compared=2) if one.pictures)
    plain = next(iter(samples.for_card(detector.card, detector.folder, 1, first=1000)[0].assets.values()))
    assert found.pictures[0].shape == plain.shape
    assert 0 < np.count_nonzero((found.pictures[0] != plain).any(axis=2)) < 0.5 * plain[..., 0].size


def answer(boxes, labels, scores, truth):
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array(labels),
        "scores": np.array(scores, np.float32),
        "true_boxes": truth.boxes,
        "true_labels": np.array(truth.labels),
    }


def test_a_box_that_nobody_sees_does_not_count_as_disagreement():
    truth = Truth(np.array([[0, 0, 10, 10]], np.float32), ["cat"])
    base = [answer([[0, 0, 10, 10], [50, 50, 60, 60]], ["cat", "dog"], [0.9, 0.1], truth)]
    other = [answer([[0, 0, 10, 10]], ["cat"], [0.9], truth)]
    wrong = [answer([[0, 0, 10, 10]], ["dog"], [0.9], truth)]
    assert measure._quality(base, other) == {"agreement": 1.0, "box_iou": 1.0, "map50": 1.0}
    assert measure._quality(base, wrong) == {"agreement": 0.0, "box_iou": 0.0, "map50": 0.0}


def test_masks_are_compared_with_fp32_and_with_the_truth():
    mask, half = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    mask[:4], half[:2] = True, True
    base, other = [{"mask": mask, "true_mask": mask}], [{"mask": half, "true_mask": mask}]
    assert measure._quality(base, other) == {"mask_iou": 0.5, "true_iou": 0.5}


def test_average_precision_is_counted_on_enough_scenes(detector):
    assert samples.compared(detector.card) >= 48
    assert samples.compared(detector.card.model_copy(update={"tasks": ("segment",)})) < 20


def sticker(name, seed, shift=0, error=0.0):
    """A picture that shows what was asked for, and what a UNet answered to two questions on the way."""
    thing = next(one for one in world.THINGS if one.name == name)
    picture = Image.new("RGB", (128, 128), (240, 240, 240))
    image = world.sticker(thing.emoji, 96)
    picture.paste(image, (16 + shift, 16), image)
    steps = np.random.default_rng(seed).standard_normal((2, 4, 8, 8)).astype(np.float32)
    return {"image": np.asarray(picture), "thing": np.array(name), "steps": steps * (1 + error)}


def test_paintings_are_judged_by_thing_and_step_not_by_pixels():
    try:
        base = [sticker("dog", 0), sticker("banana", 1)]
    except StudioError:
        pytest.skip("there is no emoji font here")
    other = [sticker("dog", 0, shift=9, error=0.1), sticker("banana", 1, shift=9, error=0.1)]
    found = measure._quality(base, other)
    assert found["step_error"] == pytest.approx(0.1, abs=1e-3)
    assert found["psnr"] < 25
    assert found["sharpness"] > 0.9
    wrong = [{**base[0], "thing": np.array("pear")}]
    judged = [measure._right(answers, measure._things) for answers in (other, wrong)]
    assert judged == [{"right_thing": 1.0}, {"right_thing": 0.0}]
    assert measure._right([{**base[0], "thing": np.array("no such thing")}], measure._things) == {}
