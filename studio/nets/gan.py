"""Generators and discriminators for small pictures: fully connected (GAN), convolutional (DCGAN) and their variants.

Pictures are float (B, 3, S, S) in -1..1 with S = 16, 32 or 64. A generator takes noise (B, Z) and, where it knows
classes or codes, a condition (B, K): a one-hot class or codes. A discriminator answers a `Verdict`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

BASE = 4
"""Side of the smallest feature map."""


class Verdict(NamedTuple):
    """What a discriminator says about B pictures. Scores are logits (or a critic's values): above 0 means real."""

    scores: Tensor
    """(B,), or (B, h, w) of a discriminator that judges patches."""
    codes: Tensor | None = None
    """(B, K) what it reads back of an InfoGAN's codes: logits of the category first, then means."""


NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "layer": lambda channels: nn.GroupNorm(1, channels),  # one group is layer normalisation over (C, H, W)
    "none": lambda channels: nn.Identity(),
}


def levels(size: int) -> int:
    """How often 4 is doubled to reach `size`. Raises ValueError where it is not reached."""
    count = (size // BASE).bit_length() - 1
    if size != BASE << count or count < 1:
        raise ValueError(f"the picture side must be 8, 16, 32 or 64, not {size}")
    return count


def start(net: nn.Module) -> None:
    """DCGAN's initial weights: N(0, 0.02) for convolutions, N(1, 0.02) for normalisations (Radford et al. 2016)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


class DenseGenerator(nn.Module):
    """Noise to picture without a single convolution: the generator of the first GAN (Goodfellow et al. 2014)."""

    def __init__(self, *, size: int, noise: int, width: int) -> None:
        super().__init__()
        hidden = 8 * width
        self.size = size
        self.net = nn.Sequential(
            nn.Linear(noise, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, 2 * hidden), nn.BatchNorm1d(2 * hidden), nn.ReLU(),
            nn.Linear(2 * hidden, 3 * size * size), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.net(noise).view(-1, 3, self.size, self.size)


class DenseDiscriminator(nn.Module):
    """Picture to one score, fully connected."""

    def __init__(self, *, size: int, width: int) -> None:
        super().__init__()
        hidden = 8 * width
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * size * size, 2 * hidden), nn.LeakyReLU(0.2),
            nn.Linear(2 * hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> Verdict:
        return Verdict(self.net(pictures)[:, 0])


class ConvGenerator(nn.Module):
    """DCGAN's generator: noise is reshaped to 4 x 4 features and doubled by transposed convolutions.

    `condition` (B, `conditions`), a one-hot class or codes, joins the noise (Mirza and Osindero 2014), multiplied by
    `emphasis`: beside a hundred numbers of noise a single 1 is easily overheard.
    """

    def __init__(
        self, *, size: int, noise: int, width: int, norm: str = "batch", conditions: int = 0, emphasis: float = 1.0
    ) -> None:
        super().__init__()
        self.emphasis = emphasis
        count = levels(size)
        channels = [width << i for i in reversed(range(count))]  # widest at 4 x 4
        self.first = nn.Linear(noise + conditions, channels[0] * BASE * BASE)
        blocks: list[nn.Module] = [NORMS[norm](channels[0]), nn.ReLU()]
        for wide, narrow in itertools.pairwise(channels):
            blocks += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1), NORMS[norm](narrow), nn.ReLU()]
        blocks += [nn.ConvTranspose2d(channels[-1], 3, 4, 2, 1), nn.Tanh()]
        self.blocks = nn.Sequential(*blocks)
        self.wide = channels[0]
        start(self)

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        joined = noise if condition is None else torch.cat([noise, condition * self.emphasis], 1)
        return self.blocks(self.first(joined).view(-1, self.wide, BASE, BASE))


class ConvDiscriminator(nn.Module):
    """DCGAN's discriminator, halved by strided convolutions to 4 x 4 features.

    With `conditions` the class's embedding is multiplied onto the features and added to the score, the projection of
    Miyato and Koyama 2018. With `codes` a second head reads InfoGAN's codes back (Chen et al. 2016).
    """

    def __init__(self, *, size: int, width: int, norm: str = "batch", conditions: int = 0, codes: int = 0) -> None:
        super().__init__()
        channels = [width << i for i in range(levels(size))]
        blocks: list[nn.Module] = [nn.Conv2d(3, channels[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for narrow, wide in itertools.pairwise(channels):
            blocks += [nn.Conv2d(narrow, wide, 4, 2, 1), NORMS[norm](wide), nn.LeakyReLU(0.2)]
        self.blocks = nn.Sequential(*blocks)
        features = channels[-1] * BASE * BASE
        self.score = nn.Linear(features, 1)
        self.classes = nn.Linear(conditions, features, bias=False) if conditions else None
        self.codes = (
            nn.Sequential(nn.Linear(features, 128), nn.LeakyReLU(0.1), nn.Linear(128, codes)) if codes else None
        )
        start(self)
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, 0.0, 0.02)

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> Verdict:
        features = self.blocks(pictures).flatten(1)  # (B, features)
        scores = self.score(features)[:, 0]
        if self.classes is not None and condition is not None:
            scores = scores + (self.classes(condition) * features).sum(1) / features.shape[1] ** 0.5
        return Verdict(scores, None if self.codes is None else self.codes(features))
