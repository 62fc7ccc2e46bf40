"""TAESD, the tiny autoencoder of latent diffusion models, with the weight names of diffusers' `AutoencoderTiny`.

Written out here so that the VAE lab opens one without importing diffusers, which takes seconds and 400 MB.
Architecture: Ollin Boer Bohan, https://github.com/madebyollin/taesd (MIT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """relu(x + conv relu conv relu conv)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class _Layers(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)


class AutoencoderTiny(nn.Module):
    """Pictures (B, 3, H, W) in -1..1 to latents (B, C, H/r, W/r) and back.

    Args:
        config: diffusers' config.json of an `AutoencoderTiny` whose blocks are all of one width, as TAESD's are.

    Raises ValueError for another width from block to block, KeyError for what is missing.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths = {*config["encoder_block_out_channels"], *config["decoder_block_out_channels"]}
        if len(widths) != 1:
            raise ValueError("blocks of different widths are not TAESD's")
        width, self.channels = int(widths.pop()), int(config["latent_channels"])
        down, up = config["num_encoder_blocks"], config["num_decoder_blocks"]
        self.reduction = 2 ** (len(down) - 1)
        inner: list[nn.Module] = []
        for stage, blocks in enumerate(down):
            first = stage == 0
            inner.append(nn.Conv2d(3 if first else width, width, 3, 1 if first else 2, 1, bias=first))
            inner += [Block(width) for _ in range(blocks)]
        self.encoder = _Layers([*inner, nn.Conv2d(width, self.channels, 3, padding=1)])
        outer: list[nn.Module] = [nn.Conv2d(self.channels, width, 3, padding=1), nn.ReLU()]
        for stage, blocks in enumerate(up):
            last = stage == len(up) - 1
            outer += [Block(width) for _ in range(blocks)]
            outer += [] if last else [nn.Upsample(scale_factor=2)]
            outer.append(nn.Conv2d(width, 3 if last else width, 3, padding=1, bias=last))
        self.decoder = _Layers(outer)

    def encode(self, x: Tensor) -> Tensor:
        found: Tensor = self.encoder.layers(x.add(1).div(2))
        return found

    def decode(self, latents: Tensor) -> Tensor:
        made: Tensor = self.decoder.layers(torch.tanh(latents / 3) * 3)
        return made.mul(2).sub(1)
