"""Measures of what is lost, against known values."""

import math

import numpy as np
import pytest

from studio.compress import quality
from studio.errors import InvalidTask, Unsupported
from studio.ops.metrics import Found, Truth


def picture(seed=0, side=64):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def found(*rows):
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Found(boxes, [row[1] for row in rows], np.array([row[2] for row in rows], np.float32))


def test_equal_things_are_perfect():
    one = picture()
    assert quality.pictures([one], [one]) == {"mse": 0.0, "psnr": 100.0, "ssim": pytest.approx(1.0)}
    assert quality.output_error(one, one) == 0
    assert not quality.difference(one, one).any()
    assert quality.mask_iou(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == 1
    box = found(([0, 0, 10, 10], "dog", 0.9))
    assert quality.boxes([box], [box]) == {"agreement": 1.0, "box_iou": pytest.approx(1.0)}


def test_known_distances():
    dark, light = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), 110, np.uint8)
    assert quality.mse(dark, light) == 100
    assert quality.psnr(dark, light) == pytest.approx(10 * math.log10(255**2 / 100))
    assert quality.ssim(dark, light) == pytest.approx((2 * 100 * 110 + 6.5025) / (100**2 + 110**2 + 6.5025))
    assert (quality.difference(dark, light) == 40).all()
    assert quality.output_error([3.0, 4.0], [3.0, 3.0]) == pytest.approx(0.2)


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    one = picture(1)
    other = np.clip(one.astype(int) + np.random.default_rng(2).integers(-30, 30, one.shape), 0, 255).astype(np.uint8)
    theirs = metrics.structural_similarity(
        one, other, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert quality.ssim(one, other) == pytest.approx(theirs, abs=1e-3)


def test_boxes_in_common_and_against_the_truth():
    reference = found(([0, 0, 10, 10], "dog", 0.9), ([20, 20, 40, 40], "cat", 0.8))
    answer = found(([0, 0, 10, 9], "dog", 0.8), ([20, 20, 40, 40], "dog", 0.8), ([50, 50, 60, 60], "cat", 0.3))
    truth = Truth(np.array([[0, 0, 10, 10]], np.float32), ["dog"])
    measured = quality.boxes([reference], [answer], [truth])
    assert measured["agreement"] == pytest.approx(2 / 5)
    assert measured["box_iou"] == pytest.approx(0.9)
    assert measured["map50"] == pytest.approx(1.0)
    assert quality.boxes([found()], [found()])["agreement"] == 1
    assert quality.boxes([reference], [found()]) == {"agreement": 0.0, "box_iou": 0.0}


def test_masks_and_coder():
    full, half = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    half[:2] = True
    assert quality.masks([full], [half], [half]) == {"mask_iou": 0.5, "true_iou": 1.0}
    assert quality.coder([picture()], [picture()]) == {"coder_psnr": 100.0}


def test_no_numbers_are_seen():
    assert quality.output_error([1.0, 2.0], [1.0, math.nan]) == math.inf
    assert quality.output_error([0.0], [1.0]) == math.inf
    with pytest.raises(Unsupported, match="no numbers"):
        quality.refuse_nan(np.array([1, math.inf]), "int1 of it")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InvalidTask):
        quality.pictures([], [])
    with pytest.raises(InvalidTask):
        quality.psnr(picture(), picture(side=32))
    with pytest.raises(InvalidTask, match="too small"):
        quality.ssim(picture(side=1), picture(side=1))
    with pytest.raises(InvalidTask):
        quality.masks([np.ones((2, 2), bool)], [])


def test_layers_are_told_apart():
    errors = quality.layer_errors({"a": [3.0, 4.0], "b": [1.0]}, {"a": [3.0, 3.0], "b": [1.0]})
    assert errors == {"a": pytest.approx(0.2), "b": 0.0}


def test_every_leading_measure_is_explained():
    assert set(quality.LEADING) <= set(quality.MEASURES)
    assert quality.leading({"psnr": 1.0, "ssim": 1.0}) == "ssim"
    assert quality.leading({}) == ""


def test_a_blurred_picture_is_less_sharp_and_of_the_same_structure():
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    rows = picture.astype(float)
    for _ in range(12):
        rows = (rows + np.roll(rows, 1, 0) + np.roll(rows, 1, 1)) / 3
    blurred = rows.round().astype(np.uint8)
    assert quality.paintings([picture], [picture]) == {"sharpness": 1.0, "structure": pytest.approx(1.0)}
    assert quality.sharpness(picture, blurred) < 0.6
    noisy = np.clip(picture + np.random.default_rng(1).normal(0, 60, picture.shape), 0, 255).astype(np.uint8)
    assert quality.sharpness(picture, noisy) < 0.6
    assert quality.structure(picture, noisy) > 0.95
    assert quality.structure(picture, np.roll(picture, 24, 0)) < 0.5
    assert quality.structure(np.full_like(picture, 9), np.full_like(picture, 9)) == 1.0


def test_steps_are_compared_one_by_one():
    first = [np.ones((2, 4, 8, 8)), 2 * np.ones((2, 4, 8, 8))]
    assert quality.steps(first, first) == {"step_error": 0.0}
    assert quality.steps(first, [1.1 * one for one in first])["step_error"] == pytest.approx(0.1)


def test_every_measure_that_is_listed_is_made():
    assert "lpips" not in quality.MEASURES
    pixels = [name for name, measure in quality.MEASURES.items() if measure.tolerable is None]
    assert pixels == ["mse", "psnr", "ssim"]
