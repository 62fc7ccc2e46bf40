"""A training that learns nothing ends early and says so."""

import math

import pytest
import torch
from torch import nn

from studio.starters.budget import PROOF, SKIPS, Budget, Collapse, Guard, Journal, descend


def descended(tmp_path, loss, steps=600, **guarded):
    net = nn.Linear(1, 1)
    plan = Budget(math.inf, rate=0.1, warmup=1, steps=steps)
    taken = []

    def counted(progress, share):
        taken.append(progress)
        return loss(net), {}, 1

    guard = Guard("network", **guarded)
    try:
        descend(net, counted, plan, Journal(tmp_path / "log"), lambda: None, lambda: "kept", guard=guard)
    finally:
        descended.steps = len(taken)
    return net


def test_what_learns_goes_to_the_end(tmp_path):
    net = descended(tmp_path, lambda net: (net.weight - 3).square().sum() + net.bias.square().sum(), trivial=20.0)
    assert descended.steps == 600
    assert abs(net.weight.item() - 3) < 2


def test_what_is_no_better_than_the_trivial_answer_ends_after_a_tenth(tmp_path):
    with pytest.raises(Collapse, match="does not learn"):
        descended(tmp_path, lambda net: 0 * net.weight.sum() + 1.0, steps=600, trivial=1.0)
    assert descended.steps <= 600 * PROOF + 2


def test_without_a_trivial_answer_the_untrained_network_is_the_measure(tmp_path):
    with pytest.raises(Collapse):
        descended(tmp_path, lambda net: 0 * net.weight.sum() + 5.0, steps=600)


def test_losses_that_are_no_numbers_end_it(tmp_path):
    with pytest.raises(Collapse, match="finite"):
        descended(tmp_path, lambda net: net.weight.sum() * math.nan, steps=100)
    assert descended.steps == SKIPS


def test_the_rate_rises_stays_and_falls_to_nothing():
    plan = Budget(math.inf, warmup=10, flat=0.25, steps=100)
    scales = [plan.scale(step, plan.progress(step)) for step in range(101)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[10:25] == pytest.approx([1.0] * 15)
    assert scales[100] == pytest.approx(0, abs=1e-6)
    assert torch.tensor(scales[25:]).diff().max() <= 0
