"""A small convolutional autoencoder and VAE for square pictures of 16, 32 or 64 px, and the sums of their losses.

Pictures are float (B, 3, S, S) in -1..1, codes float (B, D). Every network of the lab answers the same three calls, so
that one engine drives them all: `codes` (picture to code), `pictures` (code to picture) and `draw` (new codes).

Kingma and Welling, "Auto-Encoding Variational Bayes" (2014); Sohn et al., "Learning Structured Output Representation
using Deep Conditional Generative Models" (2015) for the labels; Ng, "Sparse Autoencoder" (2011) for the sparse code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 4  # px: the side of the last feature map
LABEL_SIZE = 32


class Posterior(NamedTuple):
    """q(z|x): a normal distribution with a diagonal covariance. Both (B, D)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """mean + deviation * eps, eps ~ N(0, 1): the reparameterisation that lets gradients through the sampling."""
        eps = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return self.mean + (0.5 * self.log_variance).exp() * eps.to(self.mean.device)


def kl_per_latent(posterior: Posterior) -> Tensor:
    """KL(q(z_d|x) || N(0, 1)) in nats for every picture and latent, (B, D). Its sum over d is the picture's KL."""
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def gaussian_error(made: Tensor, wanted: Tensor, deviation: float) -> Tensor:
    """-log p(x|z) in nats per picture (B,), without its constant: squares over twice the decoder's variance.

    `gaussian_constant` completes it to the negative log-likelihood.
    """
    return (made - wanted).square().flatten(1).sum(dim=1) / (2 * deviation**2)


def gaussian_constant(values: int, deviation: float) -> float:
    """What a normal density of `values` numbers adds to the negative log-likelihood, in nats."""
    return 0.5 * values * math.log(2 * math.pi * deviation**2)


def bernoulli_kl(target: float, activity: Tensor) -> Tensor:
    """KL(Bernoulli(target) || Bernoulli(activity)) in nats, elementwise; activity in 0..1 (Ng 2011, section 3)."""
    activity = activity.clamp(1e-5, 1 - 1e-5)
    return target * torch.log(target / activity) + (1 - target) * torch.log((1 - target) / (1 - activity))


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))), starting as the identity, so that no normalisation is needed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


def widths(size: int, width: int, smallest: int = SMALLEST) -> list[int]:
    """Channels after each halving of the picture's side until it is `smallest` px: width, 2 width, 4 width, ..."""
    return [width * min(4, 2**i) for i in range(int(math.log2(size // smallest)))]


class Encoder(nn.Module):
    """(B, 3, S, S) -> (B, channels, smallest, smallest), halving the side at each stage."""

    def __init__(self, size: int, width: int, smallest: int = SMALLEST) -> None:
        super().__init__()
        stages = widths(size, width, smallest)
        layers: list[nn.Module] = []
        for before, after in zip([3, *stages], stages, strict=False):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), Residual(after)]
        self.layers = nn.Sequential(*layers, nn.SiLU())
        self.channels = stages[-1]

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features


class Decoder(nn.Module):
    """(B, channels, smallest, smallest) -> (B, 3, S, S) in -1..1, doubling the side at each stage."""

    def __init__(self, size: int, width: int, smallest: int = SMALLEST) -> None:
        super().__init__()
        stages = widths(size, width, smallest)[::-1]
        layers: list[nn.Module] = []
        for before, after in zip(stages, [*stages[1:], max(16, width // 2)], strict=True):
            layers += [Residual(before), nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(max(16, width // 2), 3, 3, padding=1))
        self.channels = stages[0]

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.layers(features)
        return torch.tanh(made)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"linear": lambda x: x, "sigmoid": torch.sigmoid, "relu": F.relu}


class Autoencoder(nn.Module):
    """x̂ = g(f(x)): the code is a vector of numbers, without a distribution over it.

    Args:
        size: side of the pictures, 16, 32 or 64 px.
        width: channels of the first stage.
        latents: D, length of the code.
        activation: of the code: "linear", "sigmoid" (0..1, for the KL sparsity penalty) or "relu" (for L1).
    """

    def __init__(self, *, size: int, width: int = 32, latents: int = 32, activation: str = "linear") -> None:
        super().__init__()
        self.size, self.latents, self.code_size, self.classes = size, latents, latents, 0
        self.encoder, self.decoder = Encoder(size, width), Decoder(size, width)
        flat = self.encoder.channels * SMALLEST**2
        self.to_code, self.from_code = nn.Linear(flat, latents), nn.Linear(latents, flat)
        self.activation = ACTIVATIONS[activation]

    def codes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The code of each picture, (B, D)."""
        return self.activation(self.to_code(self.encoder(x).flatten(1)))

    def pictures(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (B, D) to pictures (B, 3, S, S) in -1..1."""
        features = self.from_code(z).reshape(len(z), self.decoder.channels, SMALLEST, SMALLEST)
        made: Tensor = self.decoder(features)
        return made

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor | None:
        """None: nothing says how its codes are distributed."""
        return None


class Vae(nn.Module):
    """q(z|x) = N(mean, deviation²), p(z) = N(0, 1), p(x|z) normal with a fixed deviation; all given the label, if any.

    Args:
        classes: number of labels that encoder and decoder are told; 0 makes it unconditional.
    """

    def __init__(self, *, size: int, width: int = 32, latents: int = 32, classes: int = 0) -> None:
        super().__init__()
        self.size, self.latents, self.code_size, self.classes = size, latents, latents, classes
        self.encoder, self.decoder = Encoder(size, width), Decoder(size, width)
        flat, told = self.encoder.channels * SMALLEST**2, LABEL_SIZE if classes else 0
        self.label = nn.Embedding(classes, LABEL_SIZE) if classes else None
        self.to_posterior, self.from_code = nn.Linear(flat + told, 2 * latents), nn.Linear(latents + told, flat)

    def posterior(self, x: Tensor, labels: Tensor | None = None) -> Posterior:
        """q(z|x) of pictures (B, 3, S, S)."""
        mean, log_variance = self.to_posterior(self._told(self.encoder(x).flatten(1), labels)).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-12, 6))  # wider than any posterior that trains; keeps exp() finite

    def codes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The posterior's mean, (B, D)."""
        return self.posterior(x, labels).mean

    def pictures(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (B, D) to pictures (B, 3, S, S) in -1..1, the mean of p(x|z)."""
        features = self.from_code(self._told(z, labels)).reshape(-1, self.decoder.channels, SMALLEST, SMALLEST)
        made: Tensor = self.decoder(features)
        return made

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Codes from the prior, its deviation times `temperature`: (count, D)."""
        return temperature * torch.randn((count, self.latents), generator=generator)

    def _told(self, values: Tensor, labels: Tensor | None) -> Tensor:
        if self.label is None:
            return values
        if labels is None:
            raise ValueError("a conditional network needs labels")
        return torch.cat([values, self.label(labels)], dim=1)
