"""Trainees: VAE, β-VAE and their conditional forms.

The loss is the negative ELBO with a weight on its KL, E_q[-log p(x|z)] + β KL(q(z|x) || p(z)) (Kingma and Welling 2014;
Higgins et al. 2017 for β), both in nats per picture, summed over pixels and latents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from studio.nets.vae import gaussian_constant, gaussian_error, kl_per_latent
from studio.train.coders import JUDGED, CoderTrainee
from studio.train.options_vae import VaeOptions

ACTIVE = 0.01
"""A latent is in use where its mean varies more than this over the data (Burda et al. 2016)."""


class VaeTrainee(CoderTrainee[VaeOptions]):
    """VAE and, with another β, β-VAE."""

    network = "vae"

    def losses(self, x: Tensor, labels: Tensor | None, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        warm = min(1.0, (step + 1) / self.options.warm_up) if self.options.warm_up else 1.0
        return self._terms(x, labels, generator, warm)

    def judged(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        terms = self._terms(x, labels, generator, 1.0)
        constant = gaussian_constant(x[0].numel(), self.options.deviation)
        return {**terms, "elbo": -(terms["reconstruction"] + terms["kl"] + constant)}

    def _terms(self, x: Tensor, labels: Tensor | None, generator: torch.Generator, warm: float) -> dict[str, Tensor]:
        made, kl = self.passed(x, labels, generator)
        error = gaussian_error(made, x, self.options.deviation).mean()
        each = kl.mean(dim=0)  # (D,)
        paid = each.clamp_min(self.options.free_bits).sum() if self.options.free_bits else each.sum()
        return {"loss": error + self.options.beta * warm * paid, "reconstruction": error, "kl": each.sum()}

    def passed(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures decoded from drawn codes, and the KL of every picture and latent (B, D)."""
        posterior = self.net.posterior(x, labels)
        return self.net.pictures(posterior.sample(generator), labels), kl_per_latent(posterior)

    def measured(self, x: Tensor, labels: Tensor | None) -> dict[str, float]:
        return {"active_latents": float((self.net.codes(x, labels).var(dim=0) > ACTIVE).sum())}

    def bars(self, x: Tensor, labels: Tensor | None) -> list[float]:
        """Mean KL of each latent in nats, the largest first."""
        generator = torch.Generator().manual_seed(self.seed)
        each: list[float] = self.passed(x, labels, generator)[1].mean(dim=0).sort(descending=True).values.tolist()
        return each

    def facts(self) -> dict[str, Any]:
        x, labels = self._held_out(JUDGED)
        kl = self.passed(x, labels, torch.Generator().manual_seed(self.seed))[1].mean(dim=0)
        return {
            "beta": self.options.beta,
            "deviation": self.options.deviation,
            "kl_per_latent": [round(value, 4) for value in kl.tolist()],
        }


class ConditionalVae(VaeTrainee):
    """Encoder and decoder are told the label (Sohn et al. 2015), so the latents need not hold it."""

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "classes": max(1, self.data.classes)}
