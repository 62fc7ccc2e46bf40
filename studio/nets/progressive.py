"""Progressive growing (Karras et al. 2018): both networks start at 4 x 4 and double their resolution while they train.

`detail` says how far they have grown: 0 is 4 x 4, 1 is 8 x 8, and 1.25 means that the 16 x 16 layers count a quarter
and the enlarged 8 x 8 picture three quarters.
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from studio.nets.equalised import EqualConv, EqualLinear, double, halve, leaky, pixel_norm, spread
from studio.nets.gan import BASE, Verdict, levels


def stage(detail: float) -> tuple[int, float]:
    """The finest stage that counts and how much, 0 < alpha <= 1; alpha is 1 for stage 0."""
    index = math.ceil(detail)
    return index, 1.0 if index == detail else detail - (index - 1)


class GrowingGenerator(nn.Module):
    """Noise (B, Z) to pictures (B, 3, side, side) in about -1..1, where side is 4 · 2^ceil(detail)."""

    def __init__(self, *, size: int, noise: int, width: int) -> None:
        super().__init__()
        channels = widths(size, width)
        self.first = EqualLinear(noise, channels[0] * BASE * BASE)
        self.wide = channels[0]
        self.blocks = nn.ModuleList(
            nn.ModuleList([EqualConv(inputs, outputs), EqualConv(outputs, outputs)])
            for inputs, outputs in zip([channels[0], *channels], channels, strict=False)
        )
        self.rgb = nn.ModuleList(EqualConv(c, 3, 1) for c in channels)

    def forward(self, noise: Tensor, detail: float) -> Tensor:
        index, alpha = stage(detail)
        x = self.first(pixel_norm(noise)).view(-1, self.wide, BASE, BASE)
        before = None
        for i in range(index + 1):
            if i == index and alpha < 1:
                before = self.rgb[i - 1](x)
            x = x if i == 0 else double(x)
            for conv in self.blocks[i]:
                x = pixel_norm(leaky(conv(x)))
        picture = self.rgb[index](x)
        return picture if before is None else double(before).lerp(picture, alpha)


class GrowingDiscriminator(nn.Module):
    """Pictures (B, 3, side, side) of the generator's current side to scores (B,)."""

    def __init__(self, *, size: int, width: int) -> None:
        super().__init__()
        channels = widths(size, width)
        self.rgb = nn.ModuleList(EqualConv(3, c, 1) for c in channels)
        self.blocks = nn.ModuleList(
            nn.ModuleList([EqualConv(fine, fine), EqualConv(fine, coarse)])
            for coarse, fine in itertools.pairwise(channels)
        )
        self.last = EqualConv(channels[0] + 1, channels[0])
        self.score = nn.Sequential(nn.Flatten(), EqualLinear(channels[0] * BASE * BASE, 1))

    def forward(self, pictures: Tensor, detail: float) -> Verdict:
        index, alpha = stage(detail)
        x = leaky(self.rgb[index](pictures))
        for i in range(index, 0, -1):
            for conv in self.blocks[i - 1]:
                x = leaky(conv(x))
            x = halve(x)
            if i == index and alpha < 1:
                x = leaky(self.rgb[i - 1](halve(pictures))).lerp(x, alpha)
        return Verdict(self.score(leaky(self.last(spread(x))))[:, 0])


def widths(size: int, width: int) -> list[int]:
    """Channels per stage, 4 x 4 first: `width` at the finest, doubled towards the coarse ones up to four times."""
    count = levels(size)
    return [width * min(4, 1 << (count - i)) for i in range(count + 1)]
