"""Trainees with convolutions: DCGAN, conditional GAN, Wasserstein GAN."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.gan import ConvDiscriminator, ConvGenerator, Verdict
from studio.train.gan import MOST_WIDE, ROWS, Batch, Gan
from studio.train.gan_losses import clip_weights, gradient_penalty, soften
from studio.train.options_gan import ConvGanOptions, WganOptions
from studio.train.sheets import grid
from studio.train.trainee import Pixels


class ConvGan(Gan):
    """DCGAN (Radford et al. 2016)."""

    kind = "dcgan"
    options: ConvGanOptions

    def networks(self) -> tuple[nn.Module, nn.Module]:
        o = self.options
        return (
            ConvGenerator(size=o.size, noise=o.noise, width=o.width),
            ConvDiscriminator(size=o.size, width=o.width, norm=o.norm),
        )


class ConditionalGan(ConvGan):
    """Both know the class (Mirza and Osindero 2014): joined to G's noise, projected in D (Miyato and Koyama 2018)."""

    kind = "cgan"

    @property
    def classes(self) -> int:
        return len(self.data.names)

    def networks(self) -> tuple[nn.Module, nn.Module]:
        o = self.options
        return (
            # The class is half as long a vector as the noise is on average: heard, and not alone.
            ConvGenerator(
                size=o.size, noise=o.noise, width=o.width, conditions=self.classes, emphasis=o.noise**0.5 / 2
            ),
            ConvDiscriminator(size=o.size, width=o.width, norm=o.norm, conditions=self.classes),
        )

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        noise = torch.randn((count, self.options.noise), generator=generator)
        known = torch.from_numpy(self.data.labels[self.data.train])
        labels = known[torch.randint(0, len(known), (count,), generator=generator)]
        return noise, F.one_hot(labels, self.classes).float()

    def conditions(self, real: Tensor, labels: Tensor) -> Tensor | None:
        return F.one_hot(labels, self.classes).float()

    def samples(self) -> Mapping[str, Pixels]:
        """One class a column, one noise a row."""
        columns = min(self.classes, MOST_WIDE // self.options.size)
        noise = self.fixed[0][:ROWS].repeat_interleave(columns, 0)
        condition = torch.eye(self.classes)[:columns].repeat(ROWS, 1)
        return {"samples": grid(self.pictures(noise, condition), columns)}


class WGan(ConvGan):
    """Wasserstein GAN, by clipping (Arjovsky et al. 2017) or by gradient penalty (Gulrajani et al. 2017)."""

    kind = "wgan"
    options: WganOptions

    def d_extra(
        self, step: int, batch: Batch, fake: Tensor, verdicts: tuple[Verdict, Verdict], generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        distance = {"wasserstein": float((verdicts[0].scores.mean() - verdicts[1].scores.mean()).detach())}
        if self.options.penalty == 0:
            return None, distance
        shown = soften(torch.cat([batch.real, fake]), self.options.soften, generator).chunk(2)
        penalty, norm = gradient_penalty(lambda x: self.judge(x, None), shown[0], shown[1], generator)
        return self.options.penalty * penalty, {**distance, "critic_norm": float(norm)}

    def after_d(self) -> dict[str, float]:
        if self.options.weight_clip == 0:
            return {}
        return {"clipped": clip_weights(self.discriminator, self.options.weight_clip)}
