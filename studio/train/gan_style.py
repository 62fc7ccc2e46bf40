"""The trainee of the small StyleGAN2 (Karras et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from studio.nets.gan import Verdict
from studio.nets.stylegan2 import ResidualDiscriminator, StyleGenerator
from studio.train.gan import Batch, Gan
from studio.train.gan_losses import real_penalty
from studio.train.options_gan import StyleGanOptions
from studio.train.trainee import Stateful

PATH_DECAY = 0.01
PATH_EVERY = 8


class StyleGan(Gan):
    """Style mixing while it trains, R1 on the discriminator every so many updates, path length where asked for."""

    kind = "stylegan2"
    options: StyleGanOptions

    def networks(self) -> tuple[nn.Module, nn.Module]:
        o = self.options
        self.path_mean = _Number()
        return (
            StyleGenerator(size=o.size, noise=o.noise, style=o.style, width=o.width),
            ResidualDiscriminator(size=o.size, width=o.width),
        )

    def make(
        self, net: nn.Module, noise: Tensor, condition: Tensor | None, generator: torch.Generator | None = None
    ) -> Tensor:
        """In training some rows switch to another style from a random layer on, and all noise is drawn anew."""
        assert isinstance(net, StyleGenerator)
        w = net.mapping(noise)
        if generator is None:
            return net.synthesis(net.styles(w))
        return net.synthesis(self._mixed(net, w, generator), generator)

    def _mixed(self, net: StyleGenerator, w: Tensor, generator: torch.Generator) -> Tensor:
        """Styles (B, layers, W)."""
        styles = net.styles(w)
        if self.training_mean:
            net.mapping.follow(w.detach())
        other = net.mapping(torch.randn((len(w), self.options.noise), generator=generator))
        count = net.synthesis.count
        switch = torch.randint(1, count, (len(w),), generator=generator)
        mixes = torch.rand(len(w), generator=generator) < self.options.mixing
        first = torch.where(mixes, switch, count)[:, None, None]  # the first layer that takes the other style
        return torch.where(torch.arange(count)[None, :, None] >= first, other[:, None], styles)

    @property
    def training_mean(self) -> bool:
        """The mean style follows only what is made with gradients, so once per step."""
        return torch.is_grad_enabled()

    def d_extra(
        self, step: int, batch: Batch, fake: Tensor, verdicts: tuple[Verdict, Verdict], generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        o = self.options
        if o.r1 == 0 or step % o.r1_every:
            return None, {}
        penalty = real_penalty(lambda x: self.judge(x, None), batch.real)
        return penalty * (o.r1 / 2 * o.r1_every), {"r1": float(penalty.detach())}

    def g_extra(
        self, step: int, batch: Batch, fake: Tensor, verdict: Verdict, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Path length regularisation: |J^T y| for random pictures y is held near its running mean."""
        o, net = self.options, self.generator
        if o.path == 0 or step % PATH_EVERY:
            return None, {}
        assert isinstance(net, StyleGenerator)
        half = max(1, len(batch.noise) // 2)
        styles = net.styles(net.mapping(batch.noise[:half]))
        picture = net.synthesis(styles, generator)
        y = torch.randn(picture.shape, generator=generator) / math.sqrt(picture.shape[2] * picture.shape[3])
        (gradient,) = torch.autograd.grad((picture * y).sum(), styles, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()  # (half,)
        mean = self.path_mean.value.lerp_(lengths.detach().mean(), PATH_DECAY)
        penalty = (lengths - mean).square().mean()
        return penalty * (o.path * PATH_EVERY), {"path_length": float(lengths.detach().mean())}

    def parts(self) -> Mapping[str, Stateful]:
        return {**super().parts(), "path_mean": self.path_mean}


class _Number(nn.Module):
    """One number that a checkpoint holds."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
