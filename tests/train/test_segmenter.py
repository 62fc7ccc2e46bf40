"""The starter segmenter: regions and questions are true, the loss is fair, and a run leaves a usable folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from studio.nets.sam import build_sam
from studio.train import segmenter
from studio.train.asking import Question, around, ask, clicks, correct, innermost, overlap
from studio.train.photographs import photographs
from studio.train.regions import CHANCES, regions
from studio.train.segmenter import Recipe, mask_losses
from tests.nets.test_sam import TINY
from tests.train.test_world import needs_font

RECIPE = Recipe(stages=((0, (64,)),), batch=2, asked=2, scored=2)


@needs_font
@pytest.mark.parametrize("kind", CHANCES)
def test_regions_lie_in_the_picture_and_repeat_with_the_seed(kind):
    if kind == "photo" and not photographs():
        pytest.skip("scikit-image with its photographs is not installed")
    first, again = (regions(5, size=64, kinds={kind: 1}) for _ in range(2))
    assert first.picture.shape == (64, 64, 3)
    assert len(first.masks) > 0
    assert not first.masks[:, first.height :].any()
    assert not first.masks[:, :, first.width :].any()
    assert np.array_equal(first.picture, again.picture)
    assert np.array_equal(first.masks, again.masks)


def disc(size: int = 64, radius: int = 12) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (x - 40) ** 2 + (y - 20) ** 2 <= radius**2


def test_clicks_and_boxes_are_of_the_mask():
    rng = np.random.default_rng(0)
    mask = disc()
    points = clicks(mask[None], 20, rng)[0].astype(int)
    assert mask[points[:, 1], points[:, 0]].all()
    np.testing.assert_array_equal(innermost(mask), [40, 20])
    np.testing.assert_array_equal(around(mask[None], rng, jitter=0)[0], [28, 8, 53, 33])


@pytest.mark.parametrize("kind", ["click", "box", "clicks"])
def test_questions_say_inside_of_inside_and_outside_of_outside(kind):
    masks = np.stack([disc(), ~disc()])
    for seed in range(5):
        question = ask(kind, masks, np.random.default_rng(seed))
        if question.points is None:
            assert question.boxes.shape == (2, 4)
            continue
        columns, rows = question.points.long().unbind(-1)
        for mask, x, y, label in zip(masks, columns, rows, question.labels, strict=True):
            assert mask[y.numpy(), x.numpy()].tolist() == label.bool().tolist()


def test_a_correcting_click_lies_where_the_answer_is_wrong():
    masks = disc()[None]
    everything = torch.full((1, 1, 32, 32), 5.0)
    question = correct(Question(boxes=torch.zeros(1, 4)), everything, masks, np.random.default_rng(0))
    x, y = question.points[0, 0].long().tolist()
    assert not masks[0, y, x]
    assert question.labels.tolist() == [[0.0]]
    assert question.logits is everything


def test_the_right_mask_costs_least():
    truth = torch.from_numpy(disc()).float()[None, None]
    logits = torch.cat([truth * 20 - 10, torch.zeros_like(truth), 10 - truth * 20], 1)  # right, undecided, inverted
    costs = mask_losses(logits, truth)[0]
    assert costs[0] < 0.01 < costs[1] < costs[2]
    assert overlap(logits, truth)[0].tolist() == [1, 0, 0]


@needs_font
def test_two_steps_of_training_leave_a_folder_that_answers(tmp_path):
    metrics = segmenter.train(tmp_path, steps=2, recipe=RECIPE, config=TINY, workers=0)
    assert metrics["steps"] == 2
    assert np.isfinite(metrics["loss"])
    sam = segmenter.load(tmp_path)
    fresh = build_sam(TINY)
    assert {n: v.shape for n, v in sam.state_dict().items()} == {n: v.shape for n, v in fresh.state_dict().items()}
    figures = segmenter.evaluate(tmp_path, scenes=2, size_px=64)
    assert all(0 <= figures[name] <= figures["best_of_3_iou"] for name in ("click_iou",))


def test_photographs_are_judged_against_peoples_regions(tmp_path, shared_weights):
    bsds = shared_weights / "segment" / "bsds500"
    if not bsds.is_dir():
        pytest.skip("the BSDS500 pictures are not here")
    segmenter.export(build_sam(TINY), tmp_path, config=TINY)
    figures = segmenter.evaluate_photographs(tmp_path, bsds, pictures=1)
    assert figures["pictures"] == 1
    assert figures["regions"] > 0
