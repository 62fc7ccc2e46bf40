"""The trainee of InfoGAN (Chen et al. 2016): codes without labels, kept meaningful by reading them back."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.gan import ConvDiscriminator, ConvGenerator, Verdict
from studio.train.gan import MOST_WIDE, Batch
from studio.train.gan_kinds import ConvGan
from studio.train.options_gan import InfoGanOptions
from studio.train.sheets import grid
from studio.train.trainee import Pixels

SPREAD = 1.0
"""Standard deviation that the reader of the continuous codes is assumed to have; the category is to come first."""


class InfoGan(ConvGan):
    """One categorical code and some continuous ones join the noise. A head on the discriminator, Q, reads them back."""

    kind = "infogan"
    options: InfoGanOptions

    def networks(self) -> tuple[nn.Module, nn.Module]:
        o = self.options
        codes = o.categories + o.continuous
        return (
            ConvGenerator(size=o.size, noise=o.noise, width=o.width, conditions=codes),
            ConvDiscriminator(size=o.size, width=o.width, norm=o.norm, codes=codes),
        )

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        o = self.options
        noise = torch.randn((count, o.noise), generator=generator)
        kinds = torch.randint(0, o.categories, (count,), generator=generator)
        codes = torch.rand((count, o.continuous), generator=generator) * 2 - 1
        return noise, torch.cat([F.one_hot(kinds, o.categories).float(), codes], 1)

    def d_extra(
        self, step: int, batch: Batch, fake: Tensor, verdicts: tuple[Verdict, Verdict], generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Q shares D's trunk, so it learns from the made pictures while D does."""
        loss, metrics = self._read(verdicts[1], batch.condition)
        return self.options.information * loss, metrics

    def g_extra(
        self, step: int, batch: Batch, fake: Tensor, verdict: Verdict, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        loss, metrics = self._read(verdict, batch.condition)
        return self.options.information * loss, metrics

    def _read(self, verdict: Verdict, condition: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """-log Q(c | x) up to constants; the bound on the mutual information in nats; how often the category fits."""
        kinds = self.options.categories
        assert verdict.codes is not None
        assert condition is not None
        category = condition[:, :kinds].argmax(1)
        entropy = F.cross_entropy(verdict.codes[:, :kinds], category)
        error = (verdict.codes[:, kinds:] - condition[:, kinds:]).square()
        surprise = error.sum(1).mean() / (2 * SPREAD**2) if error.shape[1] else torch.zeros(())
        right = (verdict.codes[:, :kinds].argmax(1) == category).float().mean()
        return entropy + surprise, {
            "information": math.log(kinds) - float(entropy.detach()),
            "codes_right": float(right),
        }

    def samples(self) -> Mapping[str, Pixels]:
        """Samples: one category a column, one noise a row. Codes: the first continuous code from -1 to 1."""
        o = self.options
        columns, rows = min(o.categories, MOST_WIDE // o.size), 4
        kinds = torch.eye(o.categories)[:columns]
        noise = self.fixed[0][:rows].repeat_interleave(columns, 0)
        still = torch.zeros(rows * columns, o.continuous)
        shown = {"samples": grid(self.pictures(noise, torch.cat([kinds.repeat(rows, 1), still], 1)), columns)}
        if o.continuous:
            sweep = torch.zeros(columns * 8, o.continuous)
            sweep[:, 0] = torch.linspace(-1, 1, 8).repeat(columns)
            condition = torch.cat([kinds.repeat_interleave(8, 0), sweep], 1)
            shown["codes"] = grid(self.pictures(self.fixed[0][:1].expand(columns * 8, -1), condition), 8)
        return shown
