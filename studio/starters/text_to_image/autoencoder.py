"""The autoencoder of the starter pictures, 512 px <-> 16x16 latents of 16 channels, and how it begins.

Six stages without normalisation do not train from diffusers' own start: signals fade on the way through, ReLUs die, and
the answer stays the mean picture. Here it begins as a thumbnail: three channels carry the colours through all stages,
averaged on the way down, and repeated on the way up; the others begin as noise of constant size (He et al., 2015), and
all residual branches at zero. So the first step already does better than the mean picture.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets import torchvision_guard

CHANNELS = 16
SHRINK = 32
CENTRE = ((1, 1),)
CORNERS = ((1, 1), (1, 2), (2, 1), (2, 2))
"""Taps of a 3x3 kernel with stride 2 that see each pixel once."""
SPREAD = 3.0
"""Latents of a colour in 0..1 run over so much."""
FAINT = 0.1
"""How much the channels that begin as noise are heard in the first pictures."""


def network(stages: int = 6, widths: tuple[int, int] = (48, 64)) -> Any:
    """A fresh AutoencoderTiny that reduces height and width by 2 ** (stages - 1), begun as a thumbnail."""
    torchvision_guard.install()
    from diffusers import AutoencoderTiny

    down, up = (0, 1, 2, 3, 3, 4)[:stages], (6, 4, 3, 2, 1, 0)[-stages:]
    net = AutoencoderTiny(
        encoder_block_out_channels=(widths[0],) * stages,
        decoder_block_out_channels=(widths[1],) * stages,
        num_encoder_blocks=down,
        num_decoder_blocks=up,
        latent_channels=CHANNELS,
    )
    begin(net)
    return net


@torch.no_grad()
def begin(net: Any) -> None:
    """Makes a thumbnail of it: what `decoder(encoder(x))` gives is x, averaged over SHRINK x SHRINK pixels."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for block in net.modules():
        if type(block).__name__ == "AutoencoderTinyBlock":
            nn.init.zeros_(block.conv[-1].weight)
    encoder, decoder = ([m for m in part.layers if isinstance(m, nn.Conv2d)] for part in (net.encoder, net.decoder))
    for layer in (*encoder[:-1], *decoder[1:]):
        _carry(layer, CORNERS if layer.stride == (2, 2) else CENTRE)
    _carry(encoder[-1], CENTRE, SPREAD, -SPREAD / 2)
    _carry(decoder[0], CENTRE, 1 / SPREAD, 0.5)
    rest = decoder[-1].weight[:, 3:]
    rest.copy_(FAINT * torch.randn_like(rest) / rest[0].numel() ** 0.5)


def _carry(layer: nn.Conv2d, taps: tuple[tuple[int, int], ...], scale: float = 1.0, bias: float = 0.0) -> None:
    """The first three channels out are the first three in, averaged over the taps."""
    layer.weight[:3] = 0
    for y, x in taps:
        for channel in range(3):
            layer.weight[channel, channel, y, x] = scale / len(taps)
    if layer.bias is not None:
        layer.bias[:3] = bias


def difference(made: Tensor, wanted: Tensor) -> Tensor:
    """How far two pictures (N, 3, H, W) in [-1, 1] are apart: values, and edges at three scales."""
    off = (made - wanted) / 2
    total = 8 * off.square().mean() + off.abs().mean()
    for _ in range(3):
        total = total + off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
        off = F.avg_pool2d(off, 2)
    return total


def psnr(made: Tensor, wanted: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB, both (N, 3, H, W) in [-1, 1]."""
    error = ((made.float().clamp(-1, 1) - wanted) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * torch.log10(error + 1e-10)).mean())


def loss(net: Any, wanted: Tensor) -> Tensor:
    """The difference after a little noise on the latents, and how far their mean and deviation are from 0 and 1."""
    latents = net.encoder(wanted).float()
    made = net.decoder(latents + 0.05 * torch.randn_like(latents))
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    return difference(made.float(), wanted) + 0.01 * (mean.square().mean() + (deviation - 1).square().mean())


@torch.no_grad()
def standardise(net: Any, latents: Tensor) -> float:
    """Rescales the encoder's last layer so that `latents`, its answers so far, get mean 0 and deviation 1 in every
    channel, and lets the decoder's first layer undo that; returns the smallest deviation there was.

    Padding makes the latter exact only inside the border; the decoder is polished afterwards.
    """
    mean, deviation = latents.float().mean(dim=(0, 2, 3)), latents.float().std(dim=(0, 2, 3)).clamp(min=1e-6)
    last: Any = net.encoder.layers[-1]
    last.weight.div_(deviation[:, None, None, None])
    last.bias.sub_(mean).div_(deviation)
    first: Any = next(m for m in net.decoder.modules() if isinstance(m, nn.Conv2d))
    first.bias.add_((first.weight * mean[:, None, None]).sum(dim=(1, 2, 3)))
    first.weight.mul_(deviation[:, None, None])
    return float(deviation.min())
