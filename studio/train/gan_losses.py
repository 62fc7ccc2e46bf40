"""What both players try to lower, and what keeps a discriminator smooth. Scores are (B,) or (B, h, w)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from studio.nets.gan import Verdict

Judge = Callable[[Tensor], Verdict]


class Loss(NamedTuple):
    """`critic` scores have no scale of their own; the others are logits, D(x) = sigmoid(score)."""

    discriminator: Callable[[Tensor, Tensor, float], Tensor]
    """(scores of real, scores of fake, label smoothing) -> a number."""
    generator: Callable[[Tensor], Tensor]
    """scores of fake -> a number."""
    critic: bool = False


def _logistic(real: Tensor, fake: Tensor, smooth: float) -> Tensor:
    """-log D(x) - log(1 - D(G(z))); `smooth` lowers only the real label (one-sided, Salimans et al. 2016)."""
    target = torch.full_like(real, 1 - smooth)
    return F.binary_cross_entropy_with_logits(real, target) + F.softplus(fake).mean()


LOSSES: Mapping[str, Loss] = {
    # Goodfellow et al. 2014: the generator of the formula, log(1 - D(G(z))), and the one they used, -log D(G(z)).
    "minimax": Loss(_logistic, lambda fake: -F.softplus(fake).mean()),
    "non-saturating": Loss(_logistic, lambda fake: F.softplus(-fake).mean()),
    "hinge": Loss(
        lambda real, fake, smooth: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
        lambda fake: -fake.mean(),
        critic=True,
    ),
    # Arjovsky et al. 2017. The negative of the first estimates the distance, up to the critic's Lipschitz constant.
    "wasserstein": Loss(lambda real, fake, smooth: fake.mean() - real.mean(), lambda fake: -fake.mean(), critic=True),
}


def gradient_penalty(judge: Judge, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """((|gradient| - 1)^2 averaged, mean |gradient|) on random points between real and fake (Gulrajani et al. 2017)."""
    share = torch.rand((len(real), 1, 1, 1), generator=generator).to(real.device)
    between = real.detach().lerp(fake.detach(), share).requires_grad_()
    scores = judge(between).scores
    (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    norms = gradient.flatten(1).norm(dim=1)  # (B,)
    return (norms - 1).square().mean(), norms.detach().mean()


def real_penalty(judge: Judge, real: Tensor) -> Tensor:
    """R1: the mean squared gradient norm at real pictures (Mescheder et al. 2018)."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(judge(real).scores.sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


@torch.no_grad()
def clip_weights(net: torch.nn.Module, bound: float) -> float:
    """Puts every weight into -bound..bound, in place; returns the share that lies on the bound."""
    held, count = 0, 0
    for weight in net.parameters():
        weight.clamp_(-bound, bound)
        held += int((weight.abs() >= bound).sum())
        count += weight.numel()
    return held / max(1, count)


def gradient_norm(net: torch.nn.Module) -> float:
    """Length of the gradient that lies in the weights of `net`."""
    found = [weight.grad for weight in net.parameters() if weight.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found)))) if found else 0.0


# ── what both players' pictures go through, so that few real pictures last longer ───────────────────────


def soften(pictures: Tensor, kinds: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """DiffAugment (Zhao et al. 2020): the same kind of change for real and fake, and gradients pass through it."""
    for kind in kinds:
        pictures = CHANGES[kind](pictures, generator)
    return pictures


def _uniform(pictures: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    drawn = torch.rand((len(pictures), 1, 1, 1), generator=generator) * (high - low) + low
    return drawn.to(pictures.device)


def _colour(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness by up to 0.25, saturation 0..2 times, contrast 0.5..1.5 times."""
    x = pictures + _uniform(pictures, generator, -0.25, 0.25)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * _uniform(pictures, generator, 0, 2)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * _uniform(pictures, generator, 0.5, 1.5)


def _shift(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Moved by up to an eighth of the side each way; the border continues its last pixels."""
    batch, channels, height, width = pictures.shape
    reach = max(1, height // 8)
    rows, columns = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator).to(pictures.device)
    padded = F.pad(pictures, (reach,) * 4, mode="replicate")
    index = torch.arange(batch, device=pictures.device)[:, None, None]
    down = torch.arange(height, device=pictures.device)[None, :, None] + rows[:, None, None]
    right = torch.arange(width, device=pictures.device)[None, None, :] + columns[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, down, right].permute(0, 3, 1, 2).reshape(batch, channels, height, width)


def _cutout(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A grey square of a third of the side, anywhere."""
    batch, _, height, width = pictures.shape
    side = height // 3
    top, left = torch.randint(0, height - side + 1, (2, batch), generator=generator).to(pictures.device)
    rows = torch.arange(height, device=pictures.device)[None, :] - top[:, None]  # (B, H)
    columns = torch.arange(width, device=pictures.device)[None, :] - left[:, None]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return pictures * ~inside[:, None]


CHANGES: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "colour": _colour,
    "shift": _shift,
    "cutout": _cutout,
}
