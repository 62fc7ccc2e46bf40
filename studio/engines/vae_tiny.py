"""The autoencoder of the starter's latent diffusion (diffusers' `AutoencoderTiny`) as a model of the VAE lab.

It has no prior and no held-out pictures of its own; the shipped stickers stand in for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from studio.nets.autoencoder_tiny import AutoencoderTiny
from studio.ops import fitting
from studio.train import sources
from studio.train.coder_export import principal

SIZE = 128
STICKERS = 24


class TinyCoder:
    """The three calls of `studio.nets.coders.Coder` around encoder and decoder."""

    size, latents, classes = SIZE, 0, 0

    def __init__(self, net: AutoencoderTiny) -> None:
        self.net = net
        self.channels, self.side = net.channels, SIZE // net.reduction
        self.code_size = self.channels * self.side**2

    def codes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.net.encode(x).flatten(1)

    def pictures(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.net.decode(z.reshape(len(z), self.channels, self.side, self.side))

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor | None:
        return None


def load(folder: Path, config: dict[str, Any]) -> tuple[TinyCoder, dict[str, Any], dict[str, Tensor]]:
    """Network, config and the lab's tensors, for `vae_model.Model`."""
    net = AutoencoderTiny(config)
    weights = load_file(str(folder / "diffusion_pytorch_model.safetensors"))
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    coder = TinyCoder(net.eval().requires_grad_(False).to(memory_format=torch.channels_last))
    pictures, labels, names = _stickers()
    with torch.inference_mode():
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        codes = torch.cat([coder.codes(some) for some in x.split(16)])
        made = torch.cat([coder.pictures(some) for some in codes.split(16)])
    mean, directions, deviations = principal(codes)
    errors = ((made.clamp(-1, 1) - x) / 2).square().mean(dim=(1, 2, 3))
    lab = {
        "pictures": torch.from_numpy(pictures),
        "labels": labels,
        "codes": codes,
        "mean": mean,
        "deviation": codes.std(dim=0),
        "directions": directions,
        "direction_deviations": deviations,
        "error_quantiles": torch.quantile(errors, torch.linspace(0, 1, 101)),
    }
    facts = {"grid": [coder.channels, coder.side, coder.side]}
    return coder, {**config, "network": "autoencoder-tiny", "names": list(names), "facts": facts}, lab


def _stickers() -> tuple[Any, Tensor, tuple[str, ...]]:
    """Shipped stickers from all groups, each on a plain colour, labelled with its group."""
    atlas = sources.atlas()
    groups = tuple(dict.fromkeys(atlas.groups))
    chosen = list(range(0, len(atlas.names), max(1, len(atlas.names) // STICKERS)))[:STICKERS]
    found = []
    for place, index in enumerate(chosen):
        sticker = fitting.cover(atlas.stickers[index], SIZE - 24, SIZE - 24)
        ground = np.empty((SIZE, SIZE, 3), np.float32)
        ground[:] = sources.BACKGROUNDS[place % len(sources.BACKGROUNDS)]
        alpha = sticker[..., 3:].astype(np.float32) / 255
        inner = ground[12:-12, 12:-12]
        inner[:] = inner * (1 - alpha) + sticker[..., :3] * alpha
        found.append(ground.round().astype(np.uint8))
    labels = torch.tensor([groups.index(atlas.groups[index]) for index in chosen])
    return np.stack(found), labels, groups
