"""The training loop: it learns, resumes to the bit, and stops where its reporter says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from studio.train.loop import Average, Plan, fit, orthogonalise


def regression():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 24))

    def loss(step, generator):
        x = torch.randn((16, 24), generator=generator)
        value = (net(x) - x.flip(1)).square().mean()
        return value, {"twice": 2 * value}

    return net, loss


@pytest.mark.parametrize("muon_rate", [None, 0.02])
def test_it_learns_and_reports(tmp_path, muon_rate):
    net, loss = regression()
    seen = []
    before = loss(0, torch.Generator().manual_seed(1))[0].item()
    plan = Plan(steps=150, rate=1e-2, muon_rate=muon_rate, warmup=5, ema=0.9)
    metrics = fit(
        net, loss, plan, checkpoint=tmp_path / "c.pt", report=lambda step, total, values: seen.append((step, total))
    )
    assert loss(0, torch.Generator().manual_seed(1))[0].item() < before / 2
    assert metrics["steps"] == 150
    assert metrics["twice"] == pytest.approx(2 * metrics["loss"], rel=1e-4)
    assert seen[0] == (20, 150)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("lanes", [1, 2])
def test_resumed_is_bit_equal_to_uninterrupted(tmp_path, lanes):
    plan = Plan(steps=40, rate=1e-2, muon_rate=0.02, warmup=5, report_every=5)
    whole, loss = regression()
    fit(whole, loss, plan, checkpoint=tmp_path / "whole.pt", lanes=lanes)

    class Stop(Exception):
        pass

    def stop(step, total, metrics):
        if step == 15:
            raise Stop

    torn, loss = regression()
    with pytest.raises(Stop):
        fit(torn, loss, plan, checkpoint=tmp_path / "torn.pt", report=stop, lanes=lanes)
    resumed, loss = regression()
    fit(resumed, loss, plan, checkpoint=tmp_path / "torn.pt", lanes=lanes)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_average_is_applied_and_taken_back():
    net = nn.Linear(2, 2)
    average = Average(net, 0.9)
    old = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.add_(1)
    with average.applied(net):
        assert torch.equal(net.weight, old)
    assert torch.allclose(net.weight, old + 1)


@pytest.mark.parametrize("shape", [(3, 20, 50), (2, 40, 16)])
def test_orthogonalise(shape):
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert 0.5 < values.min() <= values.max() < 1.3


def test_a_plan_has_one_budget():
    with pytest.raises(ValueError, match="either"):
        Plan()
    with pytest.raises(ValueError, match="either"):
        Plan(steps=1, minutes=1)


def test_the_rate_warms_up_and_falls_to_zero():
    plan = Plan(steps=100, warmup=10)
    rates = [plan.scale(step, plan.progress(step, 0.0)) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) > 0.95
    assert rates[-1] == pytest.approx(0, abs=1e-9)
