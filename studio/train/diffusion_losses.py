"""What the three processes ask of a network: how a picture is noised, and how wrong the answer is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from studio.nets.denoiser import Config
from studio.ops.noise import Schedule


class Noisy(NamedTuple):
    """Pictures on their way.

    Attributes:
        x: the noisy pictures (N, 3, S, S).
        time: what the network is told, 0..1, (N,).
        level: t of the schedule, int64 (N,); of no meaning for a flow.
        noise: what was mixed in, like x.
    """

    x: Tensor
    time: Tensor
    level: Tensor
    noise: Tensor


class ProcessLoss(Protocol):
    def noised(self, clean: Tensor, u: Tensor, noise: Tensor) -> Noisy:
        """Pictures (N, 3, S, S) at the noise that u (N,) in [0, 1) stands for."""

    def errors(self, out: Tensor, clean: Tensor, noisy: Noisy) -> Mapping[str, Tensor]:
        """Per picture (N,): "simple", what is compared and plotted, and what else is added to the loss."""

    def clean(self, out: Tensor, noisy: Noisy) -> Tensor:
        """The picture the network sees, (N, 3, S, S), not clipped."""


class Epsilon:
    """The network predicts the noise: L_simple of Ho et al. 2020, eq. 14."""

    def __init__(self, schedule: Schedule) -> None:
        self.levels = schedule.steps
        self.kept = torch.from_numpy(schedule.kept.astype(np.float32))

    def noised(self, clean: Tensor, u: Tensor, noise: Tensor) -> Noisy:
        level = (u * self.levels).long().clamp(max=self.levels - 1)
        kept = self._at(level, clean)
        x = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        return Noisy(x, (level + 1) / self.levels, level, noise)

    def errors(self, out: Tensor, clean: Tensor, noisy: Noisy) -> Mapping[str, Tensor]:
        return {"simple": (out[:, :3] - noisy.noise).square().mean(dim=(1, 2, 3))}

    def clean(self, out: Tensor, noisy: Noisy) -> Tensor:
        kept = self._at(noisy.level, noisy.x)
        return (noisy.x - (1 - kept).sqrt() * out[:, :3]) / kept.sqrt()

    def _at(self, level: Tensor, like: Tensor) -> Tensor:
        return self.kept.to(like.device)[level][:, None, None, None]


class Hybrid(Epsilon):
    """The network predicts the noise and the variance: L_hybrid of Nichol, Dhariwal 2021, eq. 16.

    The variational bound's part teaches the variance only: the predicted mean is held still in it. Its weight is 0.001
    for the sum over all levels, which is 1 for the mean over 1000 of them.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.weight = self.levels / 1000
        before = np.append(1.0, schedule.kept[:-1])
        small = np.append(schedule.posterior_variance[1:2], schedule.posterior_variance[1:])  # not 0 at t = 0
        columns = {
            "log_beta": np.log(schedule.betas),
            "log_small": np.log(small),
            "of_clean": np.sqrt(before) * schedule.betas / (1 - schedule.kept),
            "of_x": np.sqrt(1 - schedule.betas) * (1 - before) / (1 - schedule.kept),
        }
        self.table = {name: torch.from_numpy(column.astype(np.float32)) for name, column in columns.items()}

    def errors(self, out: Tensor, clean: Tensor, noisy: Noisy) -> Mapping[str, Tensor]:
        bound = self.bound(out, clean, noisy)
        return {**super().errors(out, clean, noisy), "bound": self.weight * bound}

    def bound(self, out: Tensor, clean: Tensor, noisy: Noisy) -> Tensor:
        """Each picture's term of the variational bound at its level, in bits per dimension: (N,)."""
        row = {name: t.to(out.device)[noisy.level][:, None, None, None] for name, t in self.table.items()}
        fraction = (out[:, 3:] + 1) / 2
        log_variance = fraction * row["log_beta"] + (1 - fraction) * row["log_small"]
        seen = self.clean(out.detach(), noisy)
        mean = row["of_clean"] * seen + row["of_x"] * noisy.x
        true_mean = row["of_clean"] * clean + row["of_x"] * noisy.x
        apart = log_variance - row["log_small"]
        distance = (true_mean - mean).square() * torch.exp(-log_variance)
        divergence = 0.5 * (apart - 1 + torch.exp(-apart) + distance)
        code = -_log_likelihood(clean, mean, 0.5 * log_variance)
        term = torch.where((noisy.level == 0)[:, None, None, None], code, divergence)
        return term.mean(dim=(1, 2, 3)) / math.log(2)


@dataclass(frozen=True)
class Straight:
    """The network predicts the velocity noise - clean of a straight line: conditional flow matching with the paths of
    Lipman et al. 2023 (sigma_min = 0) and Liu et al. 2023. Times are drawn evenly.
    """

    def noised(self, clean: Tensor, u: Tensor, noise: Tensor) -> Noisy:
        at = u[:, None, None, None]
        return Noisy((1 - at) * clean + at * noise, u, torch.zeros_like(u, dtype=torch.long), noise)

    def errors(self, out: Tensor, clean: Tensor, noisy: Noisy) -> Mapping[str, Tensor]:
        return {"simple": (out - (noisy.noise - clean)).square().mean(dim=(1, 2, 3))}

    def clean(self, out: Tensor, noisy: Noisy) -> Tensor:
        return noisy.x - noisy.time[:, None, None, None] * out


def loss_of(config: Config) -> ProcessLoss:
    """The loss that belongs to a process."""
    makers: dict[str, Callable[[], ProcessLoss]] = {
        "ddpm": lambda: Epsilon(config.noise_schedule()),
        "improved-ddpm": lambda: Hybrid(config.noise_schedule()),
        "flow": Straight,
    }
    return makers[config.process]()


def _log_likelihood(clean: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Log probability of 8-bit values (in -1..1) under a normal distribution cut into their 256 bins, in nats."""
    upper = (clean - mean + 1 / 255) * torch.exp(-log_sigma)
    lower = (clean - mean - 1 / 255) * torch.exp(-log_sigma)
    up, low = torch.special.ndtr(upper), torch.special.ndtr(lower)
    inside = (up - low).clamp(min=1e-12)
    inside = torch.where(clean < -0.999, up.clamp(min=1e-12), inside)
    return torch.where(clean > 0.999, (1 - low).clamp(min=1e-12), inside).log()
