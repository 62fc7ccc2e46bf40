"""The VAE lab's networks by name, and how a saved one is built again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from studio.nets.hvae import HierarchicalVae
from studio.nets.vae import Autoencoder, Vae
from studio.nets.vqvae import VqVae


class Coder(Protocol):
    """What every network of the lab can do. Pictures are float (B, 3, size, size) in -1..1."""

    size: int
    latents: int
    """Numbers of the code that mean something one by one; 0 where only all together do."""
    code_size: int
    classes: int
    """Labels that `codes` and `pictures` must be told; 0 for none."""

    def codes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Pictures to their codes, (B, code_size), without chance."""

    def pictures(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes to pictures."""

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor | None:
        """New codes from the network's own prior, (count, code_size); None where it has none."""


NETWORKS: dict[str, Callable[..., Any]] = {
    "autoencoder": Autoencoder,
    "vae": Vae,
    "vq-vae": VqVae,
    "hvae": HierarchicalVae,
}


def build(network: str, arguments: Mapping[str, Any]) -> Any:
    """A fresh network, an nn.Module that is a Coder. Raises KeyError or TypeError for what does not exist."""
    return NETWORKS[network](**arguments)
