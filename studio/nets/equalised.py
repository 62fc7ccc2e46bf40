"""Layers with equalised learning rate and their companions, shared by progressive growing and StyleGAN2.

Weights are drawn from N(0, 1) and scaled by He's constant at run time, so that every layer learns at the same speed
(Karras et al. 2018, "Progressive Growing of GANs", section 4.1).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU times sqrt(2), which keeps the variance of what passes through."""
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


class EqualLinear(nn.Module):
    """(B, inputs) -> (B, outputs). `slow` < 1 makes the layer learn that much slower (StyleGAN's mapping network)."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, slow: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / slow)
        self.bias = nn.Parameter(torch.full((outputs,), bias / slow))
        self.scale, self.slow = slow / math.sqrt(inputs), slow

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.slow)


class EqualConv(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H, W) with an odd kernel."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.padding = 1 / math.sqrt(inputs * kernel * kernel), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


def pixel_norm(x: Tensor) -> Tensor:
    """Every pixel's channels (axis 1) to unit mean square (Karras et al. 2018, section 4.2)."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def spread(x: Tensor, group: int = 4) -> Tensor:
    """Appends one channel: how much the pictures of a group differ, so that a collapsed batch gives itself away.

    The minibatch standard deviation of Karras et al. 2018, section 3. (B, C, H, W) -> (B, C + 1, H, W).
    """
    batch, channels, height, width = x.shape
    group = math.gcd(batch, group)
    parts = x.reshape(group, batch // group, channels, height, width)
    deviation = (parts.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))  # (batch // group,)
    return torch.cat([x, deviation.repeat(group).reshape(batch, 1, 1, 1).expand(-1, 1, height, width)], 1)


def double(x: Tensor) -> Tensor:
    """Twice the height and width, nearest neighbour."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def halve(x: Tensor) -> Tensor:
    """Half the height and width, the mean of 2 x 2."""
    return F.avg_pool2d(x, 2)
