"""A small hierarchical VAE: a latent vector for the whole, latent maps for parts and details.

The idea is NVAE's (Vahdat and Kautz 2020): the decoder runs from coarse to fine and asks at each scale for latents
whose prior depends on all coarser ones; the posterior is given relative to that prior; the cells are residual, with
squeeze-and-excitation. Far smaller, and without their normalisations, flows and spectral penalty.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.vae import SMALLEST, Posterior, kl_per_latent

FULL_SIZE_WIDTH = 16  # channels at the picture's own size, where each costs the most


class Passed(NamedTuple):
    """What a pass gives: the picture, the code (B, L), and the KL in nats of every latent (B, L)."""

    made: Tensor
    code: Tensor
    kl: Tensor


class Cell(nn.Module):
    """NVAE's residual cell of the encoder, used on both sides: two 3x3 convolutions, then squeeze-and-excitation.

    Their decoder's depthwise cell costs about three times as much on a CPU at these widths.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(4, channels // 8)
        self.layers = nn.Sequential(
            nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip
        self.gate = nn.Sequential(nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        change = self.layers(x)
        return x + 0.3 * change * self.gate(change.mean(dim=(2, 3)))[:, :, None, None]


class Scale(nn.Module):
    """One level of latent maps: z ~ p(z | h), h <- cell(h + z). h is (B, C, s, s), z is (B, channels, s, s)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.prior = nn.Conv2d(width, 2 * channels, 1)
        self.relative = nn.Conv2d(2 * width, 2 * channels, 3, padding=1)
        self.from_latent = nn.Conv2d(channels, width, 1)
        self.cell = Cell(width)
        for last in (self.prior, self.relative):  # posterior = prior = N(0, 1) at the beginning
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def spread(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The prior's mean and log deviation, both (B, channels, s, s)."""
        mean, log_deviation = self.prior(h).chunk(2, dim=1)
        return mean, log_deviation.clamp(-4, 2)

    def shift(self, h: Tensor, seen: Tensor, log_deviation: Tensor) -> Posterior:
        """The posterior in units of the prior: mean and log variance of (z - prior mean) / prior deviation."""
        mean, log_variance = self.relative(torch.cat([h, seen], dim=1)).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-12, 4))

    def onward(self, h: Tensor, z: Tensor) -> Tensor:
        on: Tensor = self.cell(h + self.from_latent(z))
        return on


class HierarchicalVae(nn.Module):
    """A vector of `latents` numbers, then `channels` maps at 4x4, 8x8 (and 16x16 for 64 px).

    A code is all of them in units of their priors, coarse to fine, (B, L). A code may be shorter: what is left out is
    0, the prior's mean; so the first `latents` numbers alone are a picture, and any normal numbers are a sample.
    """

    def __init__(self, *, size: int, width: int = 40, latents: int = 16, channels: int = 4) -> None:
        super().__init__()
        self.size, self.latents, self.channels, self.classes = size, latents, channels, 0
        self.sides = [side for side in (4, 8, 16) if side <= max(8, size // 4)]
        self.code_size = latents + sum(channels * side**2 for side in self.sides)
        halvings = int(math.log2(size // SMALLEST))
        self.stem = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.up = nn.ModuleList([Cell(width) for _ in range(halvings)])
        self.halve = nn.ModuleList([nn.Conv2d(width, width, 4, stride=2, padding=1) for _ in range(halvings - 1)])
        flat = width * SMALLEST**2
        self.to_top, self.from_top = nn.Linear(flat, 2 * latents), nn.Linear(latents, flat)
        self.scales = nn.ModuleList([Scale(width, channels) for _ in self.sides])
        outs = [width] * (halvings - 1) + [FULL_SIZE_WIDTH]
        self.grow = nn.ModuleList([nn.Conv2d(width, out, 3, padding=1) for out in outs])
        self.between = nn.ModuleList([Cell(width) for _ in range(halvings - 1)])
        self.last = nn.Sequential(nn.SiLU(), nn.Conv2d(FULL_SIZE_WIDTH, 3, 3, padding=1), nn.Tanh())

    def groups(self) -> list[tuple[str, int]]:
        """Name and number of latents of each level, coarse to fine."""
        return [("vector", self.latents), *((f"{s} × {s}", self.channels * s * s) for s in self.sides)]

    def forward(self, x: Tensor, generator: torch.Generator | None = None, *, sample: bool = True) -> Passed:
        """Encodes and decodes (B, 3, S, S), with drawn latents or, without `sample`, the posteriors' means."""
        seen = self._look(x)
        mean, log_variance = self.to_top(seen[SMALLEST].flatten(1)).chunk(2, dim=1)
        top = Posterior(mean, log_variance.clamp(-12, 4))
        code, kl = [top.sample(generator) if sample else top.mean], [kl_per_latent(top)]
        h = self._begin(code[0])
        for stage in range(len(self.grow) + 1):
            side = SMALLEST * 2**stage
            if side in self.sides:
                scale: Scale = self.scales[self.sides.index(side)]  # type: ignore[assignment]
                prior_mean, log_deviation = scale.spread(h)
                posterior = scale.shift(h, seen[side], log_deviation)
                z = posterior.sample(generator) if sample else posterior.mean
                code.append(z.flatten(1))
                kl.append(kl_per_latent(posterior).flatten(1))  # unchanged by measuring in the prior's units
                h = scale.onward(h, prior_mean + log_deviation.exp() * z)
            h = self._grow(h, stage)
        return Passed(self.last(h), torch.cat(code, dim=1), torch.cat(kl, dim=1))

    def codes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The posteriors' means, in units of the priors, (B, L)."""
        return self(x, sample=False).code

    def pictures(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (B, up to L) to pictures (B, 3, S, S) in -1..1."""
        z = F.pad(z, (0, self.code_size - z.shape[1]))
        parts = list(z.split([count for _, count in self.groups()], dim=1))
        h = self._begin(parts[0])
        for stage in range(len(self.grow) + 1):
            side = SMALLEST * 2**stage
            if side in self.sides:
                index = self.sides.index(side)
                scale: Scale = self.scales[index]  # type: ignore[assignment]
                mean, log_deviation = scale.spread(h)
                units = parts[index + 1].reshape(len(z), self.channels, side, side)
                h = scale.onward(h, mean + log_deviation.exp() * units)
            h = self._grow(h, stage)
        made: Tensor = self.last(h)
        return made

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Codes from the priors: in their units all are N(0, temperature²)."""
        return temperature * torch.randn((count, self.code_size), generator=generator)

    def _look(self, x: Tensor) -> dict[int, Tensor]:
        """The encoder's features by their side in px."""
        h, found = self.stem(x), {}
        for index, cell in enumerate(self.up):
            h = cell(h if index == 0 else self.halve[index - 1](h))
            found[h.shape[-1]] = h
        return found

    def _begin(self, top: Tensor) -> Tensor:
        flat: Tensor = self.from_top(top)
        return flat.reshape(len(top), -1, SMALLEST, SMALLEST)

    def _grow(self, h: Tensor, stage: int) -> Tensor:
        if stage == len(self.grow):
            return h
        grown: Tensor = self.grow[stage](F.interpolate(h, scale_factor=2))
        return grown if stage == len(self.between) else self.between[stage](grown)
