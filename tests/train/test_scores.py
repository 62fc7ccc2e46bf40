"""The predicted IoU: learned from what the network's own masks are worth, and from nothing else."""

from __future__ import annotations

import torch

from studio.nets.sam import build_sam
from studio.train.regions import regions
from studio.train.scores import score_loss, teach_scores
from tests.nets.test_sam import TINY

DRAWN = [regions(seed, size=64, kinds={"leaves": 1}) for seed in range(6)]


def test_only_the_head_learns_and_it_learns():
    torch.manual_seed(0)
    sam = build_sam(TINY)
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    first, later = teach_scores(sam, DRAWN, epochs=0), teach_scores(sam, DRAWN, epochs=1000)
    changed = {name for name, value in sam.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("iou_prediction_head" in name for name in changed)
    assert later < 0.5 * first


def test_for_a_click_the_right_order_costs_less_than_the_wrong_one_of_the_same_error():
    worth = torch.tensor([[0.5, 0.6, 0.5, 0.4]])
    right, wrong = worth + torch.tensor([0, 0.1, 0, -0.1]), worth + torch.tensor([0, -0.1, 0, 0.1])
    click, box = torch.ones(1), torch.zeros(1)
    assert score_loss(right, worth, click) < score_loss(wrong, worth, click)
    assert torch.isclose(score_loss(right, worth, box), score_loss(wrong, worth, box))
