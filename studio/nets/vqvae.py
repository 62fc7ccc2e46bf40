"""VQ-VAE: a grid of codewords from a learned table, and a small prior over the grid so that it can make new pictures.

van den Oord et al., "Neural Discrete Representation Learning" (2017): straight-through gradient, commitment loss, the
codebook by exponential moving averages (appendix A.1), and an autoregressive prior over the codes (here a small causal
transformer instead of their PixelCNN). Codewords that die are restarted at random encoder outputs, as in Dhariwal et
al., "Jukebox" (2020).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.vae import Decoder, Encoder

REDUCTION = 4  # px of the picture a codeword stands for, along each side


class Quantised(NamedTuple):
    """`values` (B, C, h, w) carry the gradient straight through; `indices` (B, h, w) int64; `commitment` scalar."""

    values: Tensor
    indices: Tensor
    commitment: Tensor


class Codebook(nn.Module):
    """K codewords of C numbers, each the moving average of the encoder outputs that chose it.

    Args:
        decay: of the averages, 0..1.
        patience: a codeword chosen less than this often a batch, on average, is restarted.
    """

    words: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, count: int, channels: int, decay: float = 0.97, patience: float = 0.3) -> None:
        super().__init__()
        self.decay, self.patience = decay, patience
        words = torch.randn(count, channels)
        self.register_buffer("words", words)  # (K, C)
        self.register_buffer("counts", torch.ones(count))  # (K,)
        self.register_buffer("sums", words.clone())  # (K, C)

    def nearest(self, features: Tensor) -> Tensor:
        """Index of the nearest codeword by Euclidean distance: (B, C, h, w) -> int64 (B, h, w)."""
        flat = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        distances = self.words.square().sum(dim=1) - 2 * flat @ self.words.T  # the features' own norm changes no order
        return distances.argmin(dim=1).reshape(len(features), *features.shape[2:])

    def look_up(self, indices: Tensor) -> Tensor:
        """int64 (B, h, w) -> (B, C, h, w)."""
        return self.words[indices].permute(0, 3, 1, 2)

    def forward(self, features: Tensor) -> Quantised:
        indices = self.nearest(features)
        chosen = self.look_up(indices)
        commitment = (features - chosen.detach()).square().mean()
        return Quantised(features + (chosen - features).detach(), indices, commitment)

    @torch.no_grad()
    def follow(self, features: Tensor, indices: Tensor, generator: torch.Generator) -> int:
        """Moves the codewords towards what chose them and restarts dead ones; returns how many were restarted."""
        flat = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        chosen = indices.flatten()
        counts = torch.zeros_like(self.counts).index_add_(0, chosen, torch.ones(len(chosen)))
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, flat)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        dead = torch.nonzero(self.counts < self.patience).flatten()
        if len(dead):
            picked = flat[torch.randint(len(flat), (len(dead),), generator=generator)]
            self.counts[dead], self.sums[dead] = 1.0, picked
        self.words.copy_(self.sums / self.counts[:, None].clamp_min(1e-5))
        return len(dead)


def perplexity(indices: Tensor, count: int) -> Tensor:
    """exp of the entropy of how often each of `count` codewords is used: 1 (one word only) to `count` (all alike)."""
    shares = torch.bincount(indices.flatten(), minlength=count).float()
    shares = shares / shares.sum().clamp_min(1)
    return torch.exp(-(shares * (shares + 1e-10).log()).sum())


class Prior(nn.Module):
    """p(codes) = Π p(code_i | codes before it, row by row): a causal transformer over the grid.

    Args:
        count: K codewords.
        places: h * w.
    """

    def __init__(self, count: int, places: int, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.count, self.places = count, places
        self.word = nn.Embedding(count + 1, width)  # the last one begins a picture
        self.place = nn.Parameter(0.02 * torch.randn(places, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.to_logits = nn.Linear(width, count)

    def forward(self, words: Tensor) -> Tensor:
        """Logits (B, n, K) of the words at places 0..n-1, given int64 (B, n) that begins with the start word."""
        n = words.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(n, device=words.device)
        logits: Tensor = self.to_logits(self.layers(self.word(words) + self.place[:n], mask=mask, is_causal=True))
        return logits

    def nats(self, indices: Tensor) -> Tensor:
        """-log p(codes) per place in nats, a scalar; indices (B, h, w)."""
        words = indices.flatten(1)
        begun = F.pad(words, (1, 0), value=self.count)[:, :-1]
        return F.cross_entropy(self(begun).flatten(0, 1), words.flatten())

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """New grids, int64 (count, places), word by word."""
        words = torch.full((count, 1), self.count)
        for _ in range(self.places):
            logits = self(words)[:, -1] / max(temperature, 1e-3)
            words = torch.cat([words, torch.multinomial(logits.softmax(dim=1), 1, generator=generator)], dim=1)
        return words[:, 1:]


class VqVae(nn.Module):
    """Pictures (B, 3, S, S) as grids of S/4 x S/4 codewords.

    Its code, for the engine, is the flattened encoder output (B, C * h * w); `pictures` quantises before it decodes.

    Args:
        words: K, number of codewords.
        word_size: C, numbers in a codeword.
    """

    def __init__(
        self, *, size: int, width: int = 32, words: int = 128, word_size: int = 16, decay: float = 0.97
    ) -> None:
        super().__init__()
        self.size, self.classes, self.side, self.word_size = size, 0, size // REDUCTION, word_size
        self.latents, self.code_size = 0, word_size * self.side**2
        self.encoder, self.decoder = Encoder(size, width, self.side), Decoder(size, width, self.side)
        self.to_word = nn.Conv2d(self.encoder.channels, word_size, 1)
        self.from_word = nn.Conv2d(word_size, self.decoder.channels, 3, padding=1)
        self.codebook = Codebook(words, word_size, decay)
        self.prior = Prior(words, self.side**2)

    def features(self, x: Tensor) -> Tensor:
        """The encoder's output before quantisation, (B, C, h, w)."""
        found: Tensor = self.to_word(self.encoder(x))
        return found

    def decode(self, quantised: Tensor) -> Tensor:
        """Codewords (B, C, h, w) to pictures (B, 3, S, S)."""
        made: Tensor = self.decoder(self.from_word(quantised))
        return made

    def codes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.features(x).flatten(1)

    def grid(self, z: Tensor) -> Tensor:
        """The codewords nearest to codes (B, C * h * w): int64 (B, h, w)."""
        return self.codebook.nearest(z.reshape(len(z), self.word_size, self.side, self.side))

    def pictures(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.decode(self.codebook.look_up(self.grid(z)))

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Codes of grids from the prior, (count, C * h * w)."""
        words = self.prior.sample(count, generator, temperature)
        return self.codebook.look_up(words.reshape(count, self.side, self.side)).flatten(1)
