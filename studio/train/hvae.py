"""Trainee: the hierarchical VAE. Its loss is the VAE's, with the KL summed over the levels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from studio.train.coders import JUDGED
from studio.train.options_vae import HvaeOptions
from studio.train.vae import VaeTrainee


class HvaeTrainee(VaeTrainee):
    """Reports the KL of every level apart."""

    network = "hvae"
    options: HvaeOptions

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "channels": self.options.channels}

    def passed(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        found = self.net(x, generator)
        return found.made, found.kl

    def levels(self, kl: Tensor) -> dict[str, float]:
        """Name of each level and its share of a KL (L,) in nats, coarse to fine."""
        parts = kl.split([count for _, count in self.net.groups()])
        return {name: float(part.sum()) for (name, _), part in zip(self.net.groups(), parts, strict=True)}

    def measured(self, x: Tensor, labels: Tensor | None) -> dict[str, float]:
        kl = self.net(x, torch.Generator().manual_seed(self.seed)).kl.mean(dim=0)
        named = {f"kl_{name.replace(' × ', 'x')}": value for name, value in self.levels(kl).items()}
        return {**super().measured(x, labels), **named}

    def bars(self, x: Tensor, labels: Tensor | None) -> list[float]:
        """Mean KL in nats of the latents of the whole, the largest first."""
        kl = self.net(x, torch.Generator().manual_seed(self.seed)).kl.mean(dim=0)[: self.options.latents]
        each: list[float] = kl.sort(descending=True).values.tolist()
        return each

    def facts(self) -> dict[str, Any]:
        kl = self.net(self._held_out(JUDGED)[0], torch.Generator().manual_seed(self.seed)).kl.mean(dim=0)
        top = kl[: self.options.latents].tolist()
        return {
            "beta": self.options.beta,
            "deviation": self.options.deviation,
            "kl_per_latent": [round(value, 4) for value in top],
            "kl_per_level": {name: round(value, 3) for name, value in self.levels(kl).items()},
        }
