"""A cheap look at latents: one linear map from latent channels to RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LatentMap(NamedTuple):
    """rgb = latent @ weight + bias, RGB in -1..1. weight (C, 3), bias (3,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """Latents (1, C, h, w) as the UNet sees them -> RGB (h, w, 3), not clipped."""
        return latents[0].permute(1, 2, 0).float().cpu() @ self.weight + self.bias


# Published least-squares fits for the two VAEs that nearly everybody uses (4 channels, by scaling factor).
PUBLISHED: dict[float, tuple[list[list[float]], list[float]]] = {
    0.18215: (
        [[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]],
        [0.0, 0.0, 0.0],
    ),
    0.13025: (
        [[0.3651, 0.4232, 0.4341], [-0.2533, -0.0042, 0.1068], [0.1076, 0.1111, -0.0362], [-0.3165, -0.2492, -0.2188]],
        [0.1084, -0.0175, -0.0011],
    ),
}


def published(scaling_factor: float, channels: int) -> LatentMap | None:
    """The known map of a VAE, or None."""
    known = PUBLISHED.get(round(scaling_factor, 5)) if channels == 4 else None
    return None if known is None else LatentMap(torch.tensor(known[0]), torch.tensor(known[1]))


def fit(decode: Callable[[Tensor], Tensor], channels: int, like: Tensor) -> LatentMap:
    """Least squares over what `decode` makes of patchy random latents.

    Args:
        decode: latents (N, C, h, w) as the UNet sees them -> pictures (N, 3, H, W) in -1..1.
        channels: C.
        like: a tensor whose device and dtype the latents take.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    patches = torch.randn(4, channels, 4, 4, generator=generator)
    latents = F.interpolate(patches, scale_factor=4, mode="nearest").to(like)  # (4, C, 16, 16)
    pictures = F.adaptive_avg_pool2d(decode(latents).float(), latents.shape[-2:]).cpu()  # (4, 3, 16, 16)
    known = latents.float().cpu().permute(0, 2, 3, 1).reshape(-1, channels)  # (4 * 256, C)
    known = torch.cat([known, torch.ones(len(known), 1)], dim=1)
    wanted = pictures.permute(0, 2, 3, 1).reshape(-1, 3)  # (4 * 256, 3)
    solution = torch.linalg.lstsq(known, wanted).solution  # (C + 1, 3)
    return LatentMap(solution[:-1], solution[-1])
