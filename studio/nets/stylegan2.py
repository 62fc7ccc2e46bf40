"""A small StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN").

A mapping network turns noise z into a style w; the style scales the channels of every convolution; the size of what
comes out is restored by demodulation. There are two styled convolutions per resolution (one at 4 x 4), and each
resolution adds its RGB to the enlarged picture of the one below ("output skips").
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.equalised import EqualConv, EqualLinear, halve, leaky, pixel_norm, spread
from studio.nets.gan import BASE, Verdict, levels
from studio.nets.progressive import widths

MAPPING_RATE = 0.1
"""The mapping network learns this much slower. The paper has 0.01, for trainings a thousand times as long."""


class Mapping(nn.Module):
    """z (B, Z) -> w (B, W), after z is put on a sphere. Keeps a running mean of w for truncation."""

    mean: Tensor

    def __init__(self, *, noise: int, style: int, layers: int = 4) -> None:
        super().__init__()
        sizes = [noise, *[style] * layers]
        self.layers = nn.ModuleList(
            EqualLinear(inputs, outputs, slow=MAPPING_RATE) for inputs, outputs in itertools.pairwise(sizes)
        )
        self.register_buffer("mean", torch.zeros(style))

    def forward(self, z: Tensor) -> Tensor:
        w = pixel_norm(z)
        for layer in self.layers:
            w = leaky(layer(w))
        return w

    @torch.no_grad()
    def follow(self, w: Tensor, decay: float = 0.995) -> None:
        """Moves the mean style towards that of a batch."""
        self.mean.lerp_(w.mean(0), 1 - decay)


def truncate(w: Tensor, mean: Tensor, psi: float) -> Tensor:
    """The truncation trick: styles (..., W) pulled towards the mean; 1 leaves them, 0 is the average picture."""
    return mean + psi * (w - mean)


class StyledConv(nn.Module):
    """A convolution whose input channels are scaled by a style, its output rescaled to unit variance.

    Scaling weights (the paper) and scaling the input give the same numbers; the second needs no weights per picture:
    y_j = d_j · conv(s · x)_j with d_j = 1 / sqrt(sum over i, k of (s_i · w_ijk)^2).
    """

    def __init__(self, inputs: int, outputs: int, style: int, kernel: int = 3, *, demodulate: bool = True) -> None:
        super().__init__()
        self.style = EqualLinear(style, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale, self.padding, self.demodulate = 1 / math.sqrt(inputs * kernel * kernel), kernel // 2, demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (B, inputs, H, W), w (B, W) -> (B, outputs, H, W)."""
        styles = self.style(w)  # (B, inputs)
        weight = self.weight * self.scale
        y = F.conv2d(x * styles[:, :, None, None], weight, padding=self.padding)
        if self.demodulate:
            power = styles.square() @ weight.square().sum((2, 3)).T  # (B, outputs)
            y = y * torch.rsqrt(power + 1e-8)[:, :, None, None]
        return y


class StyledLayer(nn.Module):
    """Styled convolution, one picture of noise, bias, leaky ReLU.

    Where it doubles the resolution it convolves first and enlarges then, a quarter of the work of the other order; the
    paper's transposed convolution with a blur behind it costs the same.
    """

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, style: int, side: int, *, up: bool) -> None:
        super().__init__()
        self.conv = StyledConv(inputs, outputs, style)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.up, self.side = up, side
        self.register_buffer("noise", torch.randn(1, 1, side, side))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """`noise` (B, 1, side, side); None takes the layer's own fixed picture of noise."""
        x = self.conv(x, w)
        x = enlarge(x) if self.up else x
        x = x + self.strength * (self.noise if noise is None else noise)
        return leaky(x + self.bias[:, None, None])


class Synthesis(nn.Module):
    """One style per layer (B, `layers`, W) -> pictures (B, 3, S, S) in about -1..1."""

    def __init__(self, *, size: int, style: int, width: int) -> None:
        super().__init__()
        channels = widths(size, width)
        self.constant = nn.Parameter(torch.randn(1, channels[0], BASE, BASE))
        layers = [StyledLayer(channels[0], channels[0], style, BASE, up=False)]
        for i, (inputs, outputs) in enumerate(itertools.pairwise(channels), start=1):
            layers.append(StyledLayer(inputs, outputs, style, BASE << i, up=True))
            layers.append(StyledLayer(outputs, outputs, style, BASE << i, up=False))
        self.layers = nn.ModuleList(layers)
        self.rgb = nn.ModuleList(StyledConv(c, 3, style, 1, demodulate=False) for c in channels)
        self.shade = nn.Parameter(torch.zeros(3))

    @property
    def count(self) -> int:
        """How many styles a picture takes: 1 + 2 per doubling."""
        return len(self.layers)

    def sides(self) -> list[int]:
        """The resolution at which each layer works."""
        return [BASE, *[BASE << i for i in range(1, len(self.rgb)) for _ in range(2)]]

    def forward(self, styles: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """With a `generator` every layer's noise is drawn anew, without one it is the fixed noise."""
        x = self.constant.expand(len(styles), -1, -1, -1)
        picture = None
        for i, layer in enumerate(self.layers):
            w = styles[:, i]
            fresh = (
                None if generator is None
                else torch.randn((len(x), 1, layer.side, layer.side), generator=generator).to(x.device)
            )  # fmt: skip
            x = layer(x, w, fresh)
            if i % 2 == 0:  # the last layer of its resolution
                added = self.rgb[i // 2](x, w)
                picture = added if picture is None else enlarge(picture) + added
        assert picture is not None
        return picture + self.shade[:, None, None]


class StyleGenerator(nn.Module):
    """Mapping and synthesis; z (B, Z) -> pictures (B, 3, S, S)."""

    def __init__(self, *, size: int, noise: int, style: int, width: int) -> None:
        super().__init__()
        self.mapping = Mapping(noise=noise, style=style)
        self.synthesis = Synthesis(size=size, style=style, width=width)

    def styles(self, w: Tensor, other: Tensor | None = None, crossover: int | None = None) -> Tensor:
        """w for every layer (B, layers, W); from layer `crossover` on it is `other` (style mixing)."""
        count = self.synthesis.count
        spread_out = w[:, None].expand(-1, count, -1)
        if other is None or crossover is None:
            return spread_out
        fine = torch.arange(count, device=w.device)[None, :, None] >= crossover
        return torch.where(fine, other[:, None], spread_out)

    def forward(self, z: Tensor, psi: float = 1.0) -> Tensor:
        return self.synthesis(self.styles(truncate(self.mapping(z), self.mapping.mean, psi)))


class ResidualBlock(nn.Module):
    """Two convolutions and a halving, beside a 1 x 1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = EqualConv(inputs, inputs), EqualConv(inputs, outputs)
        self.shortcut = EqualConv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky(self.second(halve(leaky(self.first(x)))))  # halved before the wider convolution: a third cheaper
        return (y + self.shortcut(halve(x))) / math.sqrt(2)


class ResidualDiscriminator(nn.Module):
    """StyleGAN2's discriminator with the minibatch standard deviation before its last layers."""

    def __init__(self, *, size: int, width: int) -> None:
        super().__init__()
        channels = widths(size, width)[::-1]  # finest first
        self.rgb = EqualConv(3, channels[0], 1)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in itertools.pairwise(channels)))
        self.last = EqualConv(channels[-1] + 1, channels[-1])
        self.hidden = EqualLinear(channels[-1] * BASE * BASE, channels[-1])
        self.score = EqualLinear(channels[-1], 1)
        self.levels = levels(size)

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> Verdict:
        x = leaky(self.last(spread(self.blocks(leaky(self.rgb(pictures))))))
        return Verdict(self.score(leaky(self.hidden(x.flatten(1))))[:, 0])


def enlarge(x: Tensor) -> Tensor:
    """Twice the height and width, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
