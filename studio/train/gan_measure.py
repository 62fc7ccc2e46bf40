"""How near a generator's pictures are to real ones, measured without a pretrained network.

FID and KID compare features of Inception, which no offline studio of this size carries and which knows photographs
of 299 px. Here the same comparison as KID's (an unbiased squared maximum mean discrepancy with the cubic kernel,
Bińkowski et al. 2018) is made on the features of *fixed random convolutions*. The number is called kernel distance; it
is comparable between models on the same data and size, and with nothing else. It is no FID and no KID.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES_SEED = 20_140_610
CHANNELS = (16, 32, 64)


class RandomFeatures(nn.Module):
    """Pictures (N, 3, S, S) in -1..1 to features (N, D), less the reference's mean, each layer to unit mean square.

    Three strided random convolutions with ReLU; of each layer the means over 2 x 2 fields are taken, and of the
    picture itself those over 8 x 8. The weights are the same in every run and on every machine.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, reference: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(FEATURES_SEED)
        sizes = (3, *CHANNELS)
        self.weights = [
            torch.randn((b, a, 3, 3), generator=generator) * math.sqrt(2 / (9 * a))
            for a, b in itertools.pairwise(sizes)
        ]
        layers = self._layers(reference)
        self.register_buffer("mean", torch.cat([layer.mean(0) for layer in layers]))
        # One scale a layer: a scale for every feature would blow up those that hardly vary, as in a plain corner.
        scales = [layer.var(0, unbiased=False).mean().sqrt() + 1e-6 for layer in layers]
        self.register_buffer(
            "deviation", torch.cat([s.expand(x.shape[1]) for s, x in zip(scales, layers, strict=True)])
        )

    def _layers(self, pictures: Tensor) -> list[Tensor]:
        found = [F.adaptive_avg_pool2d(pictures, 8).flatten(1)]
        x = pictures
        for weight in self.weights:
            x = F.relu(F.conv2d(x, weight.to(x.device), stride=2, padding=1))
            found.append(F.adaptive_avg_pool2d(x, 2).flatten(1))
        return found

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        return (torch.cat(self._layers(pictures), 1) - self.mean) / self.deviation


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """Unbiased squared MMD of two sets of features (N, D) and (M, D), N and M at least 2, with (x·y / D + 1)^3.

    About 0 for two samples of the same pictures; it may be a little below.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        k, n = kernel(a, a), len(a)
        return (k.sum() - k.diagonal().sum()) / (n * (n - 1))

    return float(within(first) + within(second) - 2 * kernel(first, second).mean())


def diversity(fake: Tensor, real: Tensor) -> float:
    """Mean distance between two fakes, as a part of that between two reals: features (N, D). 0 is total collapse."""

    def spread(features: Tensor) -> float:
        return float(torch.pdist(features).mean()) if len(features) > 1 else 0.0

    return spread(fake) / max(1e-9, spread(real))


def coverage(fake: Tensor, real: Tensor) -> float:
    """The part of the reals (M, D) that are some fake's nearest: every kind that is never painted lowers it.

    Even fresh real pictures would not reach 1, as several may share a nearest one.
    """
    return len(torch.cdist(fake, real).argmin(1).unique()) / max(1, len(real))
