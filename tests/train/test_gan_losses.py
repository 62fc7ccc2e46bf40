import math

import pytest
import torch
from torch import nn

from studio.nets.gan import Verdict
from studio.train.gan_losses import (
    CHANGES,
    LOSSES,
    clip_weights,
    gradient_norm,
    gradient_penalty,
    real_penalty,
    soften,
)  # fmt: skip


def test_the_penalty_of_a_linear_critic_is_known():
    weight = torch.randn(3 * 8 * 8)
    length = float(weight.norm())
    judge = lambda x: Verdict(x.flatten(1) @ weight)  # noqa: E731
    real, fake = torch.randn(2, 5, 3, 8, 8)
    penalty, norm = gradient_penalty(judge, real, fake, torch.Generator().manual_seed(0))
    assert float(norm) == pytest.approx(length, rel=1e-5)
    assert float(penalty) == pytest.approx((length - 1) ** 2, rel=1e-5)
    assert float(real_penalty(judge, real)) == pytest.approx(length**2, rel=1e-5)


def test_clipping_holds_and_counts():
    net = nn.Linear(10, 10)
    net.weight.data.uniform_(-1, 1)
    outside = int((net.weight.abs() >= 0.3).sum() + (net.bias.abs() >= 0.3).sum())
    share = clip_weights(net, 0.3)
    assert float(torch.cat([p.detach().flatten() for p in net.parameters()]).abs().max()) <= 0.3 + 1e-7
    assert share == pytest.approx(outside / 110)


def test_losses_at_known_scores():
    zero = torch.zeros(4)
    assert float(LOSSES["minimax"].discriminator(zero, zero, 0)) == pytest.approx(2 * math.log(2))
    assert float(LOSSES["minimax"].generator(zero)) == pytest.approx(-math.log(2))
    assert float(LOSSES["non-saturating"].generator(zero)) == pytest.approx(math.log(2))
    assert float(LOSSES["hinge"].discriminator(zero + 2, zero - 2, 0)) == 0
    assert float(LOSSES["wasserstein"].discriminator(zero + 3, zero + 1, 0)) == -2


def test_minimax_fades_where_the_other_does_not():
    """While D is sure that a picture is made, only the non-saturating loss still pulls."""
    slopes = {}
    for name in ("minimax", "non-saturating"):
        score = torch.full((1,), -8.0, requires_grad=True)
        LOSSES[name].generator(score).backward()
        slopes[name] = abs(float(score.grad))
    assert slopes["minimax"] < 1e-3 < 0.99 < slopes["non-saturating"]


def test_gradient_norm():
    net = nn.Linear(2, 1)
    assert gradient_norm(net) == 0
    net(torch.tensor([[3.0, 4.0]])).sum().backward()
    assert gradient_norm(net) == pytest.approx(math.sqrt(9 + 16 + 1))


@pytest.mark.parametrize("kind", CHANGES)
def test_changes_keep_shape_repeat_and_let_gradients_through(kind):
    pictures = torch.rand(6, 3, 16, 16, requires_grad=True)
    changed = soften(pictures, (kind,), torch.Generator().manual_seed(3))
    again = soften(pictures, (kind,), torch.Generator().manual_seed(3))
    assert changed.shape == pictures.shape
    assert torch.equal(changed, again)
    assert not torch.equal(changed, pictures)
    changed.sum().backward()
    assert float(pictures.grad.abs().sum()) > 0
