"""A U-Net small enough to learn in minutes on a laptop, and a classifier that reads noisy pictures.

Pictures are cut into patches so that the widest layers always see 16x16 positions: 16 px pictures as they are, 32 px in
2x2 patches, 64 px in 4x4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GRID = 16


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of t (N,) in 0..1, at `width` / 2 frequencies: (N, width)."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = 1000 * t.float()[:, None] * rates  # (N, width / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Residual(nn.Module):
    """Two convolutions; time and label scale and shift what is between them. Begins as the identity."""

    def __init__(self, into: int, out: int, told: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, into), nn.SiLU(), nn.Conv2d(into, out, 3, padding=1))
        self.norm = nn.GroupNorm(8, out)
        self.told = nn.Linear(told, 2 * out)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        self.around = nn.Identity() if into == out else nn.Conv2d(into, out, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[:, :, None, None].chunk(2, dim=1)  # (N, out, 1, 1)
        h = self.norm(self.first(x)) * (1 + scale) + shift
        return self.around(x) + self.second(F.silu(h))


class Attention(nn.Module):
    """Every position looks at every other. Begins as the identity."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, width)
        self.read = nn.Conv2d(width, 3 * width, 1)
        self.write = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.write.weight)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.read(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w).mT.unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v)  # (N, heads, h w, c / heads)
        return x + self.write(seen.mT.reshape(n, c, h, w))


class SmallUNet(nn.Module):
    """Noisy pictures, their time and label in; a prediction of the same shape (or twice the channels) out.

    Args:
        size: picture side in px: 16, 32 or 64.
        width: channels at 16x16; twice as many at 8x8 and 4x4. A multiple of 16.
        classes: labels 0..classes - 1; label `classes` means "none given".
        channels: 3 for a prediction, 6 where the variance is learned as well.
    """

    def __init__(self, size: int = 32, width: int = 48, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        if size not in (16, 32, 64) or width % 16:
            raise ValueError("size is 16, 32 or 64 and width a multiple of 16")
        patch, wide, told = size // GRID, 2 * width, 4 * width
        self.width = width
        self.time = nn.Sequential(nn.Linear(2 * width, told), nn.SiLU(), nn.Linear(told, told))
        self.label = nn.Embedding(classes + 1, told)
        self.cut = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(3 * patch**2, width, 3, padding=1))
        self.down1 = Residual(width, width, told)  # 16x16
        self.to2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.down2, self.look2 = Residual(width, wide, told), Attention(wide)  # 8x8
        self.to3 = nn.Conv2d(wide, wide, 3, stride=2, padding=1)
        self.mid1, self.look3, self.mid2 = Residual(wide, wide, told), Attention(wide), Residual(wide, wide, told)
        self.up2, self.look4 = Residual(2 * wide, wide, told), Attention(wide)
        self.up1 = Residual(wide + width, width, told)
        self.up0 = Residual(2 * width, width, told)
        self.out = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, channels * patch**2, 3, padding=1),
            nn.PixelShuffle(patch),
        )  # fmt: skip
        nn.init.zeros_(self.out[2].weight)
        nn.init.zeros_(self.out[2].bias)
        nn.init.normal_(self.label.weight, std=0.5)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """x (N, 3, size, size), t (N,) in 0..1 (1 is all noise), labels int64 (N,) -> (N, channels, size, size)."""
        told = F.silu(self.time(time_embedding(t, 2 * self.width)) + self.label(labels))
        h0 = self.cut(x.contiguous(memory_format=torch.channels_last))
        h1 = self.down1(h0, told)
        h2 = self.look2(self.down2(self.to2(h1), told))
        h = self.mid2(self.look3(self.mid1(self.to3(h2), told)), told)
        h = self.look4(self.up2(torch.cat([_double(h), h2], dim=1), told))
        h = self.up1(torch.cat([_double(h), h1], dim=1), told)
        h = self.up0(torch.cat([h, h0], dim=1), told)
        return self.out(h)


class NoisyClassifier(nn.Module):
    """Reads the label of a noisy picture, for classifier guidance (Dhariwal, Nichol 2021).

    Args:
        size, classes: as for SmallUNet.
        width: channels at 8x8, twice as many at 4x4.
    """

    def __init__(self, size: int = 32, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        patch, told = size // GRID, 4 * width
        self.width = width
        self.time = nn.Sequential(nn.Linear(2 * width, told), nn.SiLU())
        self.cut = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(3 * patch**2, width, 3, stride=2, padding=1))
        self.first = Residual(width, width, told)  # 8x8
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.second = Residual(2 * width, 2 * width, told)  # 4x4
        self.out = nn.Sequential(
            nn.GroupNorm(8, 2 * width), nn.SiLU(), nn.Flatten(), nn.Linear(2 * width * (GRID // 4) ** 2, classes)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, 3, size, size), t (N,) in 0..1 -> scores before softmax (N, classes)."""
        told = self.time(time_embedding(t, 2 * self.width))
        h = self.first(self.cut(x.contiguous(memory_format=torch.channels_last)), told)
        return self.out(self.second(self.down(h), told))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
