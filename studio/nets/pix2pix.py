"""Picture to picture (Isola et al. 2017): a U-Net that paints and a discriminator that judges patches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.gan import Verdict, levels, start


class UNet(nn.Module):
    """Edges float (B, 1, S, S) in -1..1 to a picture (B, 3, S, S) in -1..1.

    What each halving sees is handed over to the doubling of the same size, so that lines stay where they are. There is
    no noise input and no dropout (the paper's source of variety), so the same edges always give the same picture.
    """

    def __init__(self, *, size: int, width: int) -> None:
        super().__init__()
        count = levels(size)
        channels = [width * min(4, 1 << i) for i in range(count)]
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, 1), nn.Identity() if i == 0 else nn.BatchNorm2d(outputs))
            for i, (inputs, outputs) in enumerate(zip([1, *channels], channels, strict=False))
        )
        outputs = [*channels[-2::-1], 3]
        joined = [channels[-1], *(2 * c for c in channels[-2::-1])]
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(inputs, out, 4, 2, 1), nn.Identity() if i == count - 1 else nn.BatchNorm2d(out)
            )
            for i, (inputs, out) in enumerate(zip(joined, outputs, strict=True))
        )
        start(self)

    def forward(self, edges: Tensor, condition: Tensor | None = None) -> Tensor:
        seen: list[Tensor] = []
        x = edges
        for block in self.down:
            x = block(F.leaky_relu(x, 0.2) if seen else x)
            seen.append(x)
        x = seen.pop()
        for block in self.up:
            x = block(F.relu(x))
            if seen:
                x = torch.cat([x, seen.pop()], 1)
        return x.tanh()


class PatchDiscriminator(nn.Module):
    """Edges and picture to one score per patch (B, h, w): real texture is judged where it is, not as a whole."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(4, width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )  # fmt: skip
        start(self)

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> Verdict:
        """`pictures` (B, 3, S, S); `condition` is the edges (B, 1, S, S)."""
        if condition is None:
            raise ValueError("a patch discriminator judges a picture together with its edges")
        return Verdict(self.net(torch.cat([condition, pictures], 1))[:, 0])


def sobel(pictures: Tensor, threshold: float = 0.35) -> Tensor:
    """Lines of pictures (B, 3, S, S) in -1..1: float (B, 1, S, S), -1 on a line, 1 on paper, greys between.

    Sobel's gradient on 3 x 3 of the colour that changes most, kept where it is largest across the line (the thinning of
    Canny 1986), so that lines are one pixel wide as drawn ones are. `threshold` is the gradient, in parts of black to
    white, from which a line is fully dark.
    """
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=pictures.device) / 8
    kernel = torch.stack([across, across.T])[:, None]  # (2, 1, 3, 3)
    batch, channels, height, width = pictures.shape
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate").reshape(batch * channels, 1, height + 2, width + 2)
    gradients = F.conv2d(padded, kernel).view(batch, channels, 2, height, width)
    lengths = gradients.square().sum(2).sqrt()  # (B, 3, S, S), 0..about 1
    length, colour = lengths.max(1, keepdim=True)
    x, y = (gradients[:, :, k].gather(1, colour) for k in (0, 1))
    sector = (torch.atan2(y, x) * (4 / math.pi)).round().long() % 4  # 0 right, 1 down right, 2 down, 3 down left
    around = F.pad(length, (1, 1, 1, 1))

    def neighbour(right: int, down: int) -> Tensor:
        return around[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    # Of two that are equal the one before is dropped.
    tops = [
        (length >= neighbour(right, down) - 1e-6) & (length > neighbour(-right, -down) + 1e-6)
        for right, down in ((1, 0), (1, 1), (0, 1), (-1, 1))
    ]
    is_top = torch.stack(tops).gather(0, sector[None])[0]
    return 1 - 2 * (length * is_top / threshold).clamp(max=1)
