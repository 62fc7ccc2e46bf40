"""Trainee: VQ-VAE with a codebook by moving averages, and its prior, which learns alongside from the codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from studio.nets.vqvae import perplexity
from studio.train.coders import JUDGED, CoderTrainee, squared_error
from studio.train.options_vae import VqOptions


class VqTrainee(CoderTrainee[VqOptions]):
    """Reconstruction, commitment, and the prior's code length (whose gradient reaches the prior alone)."""

    network = "vq-vae"
    _seen: tuple[Tensor, Tensor]

    def arguments(self) -> dict[str, Any]:
        own = self.options
        return {
            "size": own.size, "width": own.width, "words": own.words, "word_size": own.word_size, "decay": own.decay,
        }  # fmt: skip

    def losses(self, x: Tensor, labels: Tensor | None, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        found, features, indices = self._terms(x)
        self._seen = features.detach(), indices
        return {**found, "perplexity": perplexity(indices, self.options.words)}

    def judged(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        found, _, indices = self._terms(x)
        used = torch.unique(indices).numel()
        return {
            **found,
            "perplexity": perplexity(indices, self.options.words),
            "codewords_used": torch.tensor(float(used)),
        }

    def _terms(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        features = self.net.features(x)
        quantised = self.net.codebook(features)
        error = squared_error(self.net.decode(quantised.values), x)
        per_word = self.net.prior.nats(quantised.indices)
        # The commitment is a mean over values; on the scale of a sum over the picture it weighs as in the paper.
        held = self.options.commitment * quantised.commitment * features[0].numel()
        found = {
            "loss": error + held + per_word,
            "reconstruction": error,
            "commitment": quantised.commitment,
            "prior_bits": per_word / math.log(2),
        }
        return found, features, quantised.indices

    def after(self, generator: torch.Generator) -> Mapping[str, float]:
        return {"restarted": float(self.net.codebook.follow(*self._seen, generator))}

    def drawn(self, count: int) -> Tensor | None:
        """Half as many as of the others: each is written word by word."""
        return super().drawn(count // 2)

    def bars(self, x: Tensor, labels: Tensor | None) -> list[float]:
        """How often each codeword is used, the most used first."""
        counts = torch.bincount(self.net.grid(self.net.codes(x)).flatten(), minlength=self.options.words)
        shares: list[float] = (counts / counts.sum()).sort(descending=True).values.tolist()
        return shares

    def facts(self) -> dict[str, Any]:
        indices = self.net.grid(self.net.codes(self._held_out(JUDGED)[0]))
        return {
            "words": self.options.words,
            "perplexity": round(float(perplexity(indices, self.options.words)), 1),
            "codewords_used": int(torch.unique(indices).numel()),
            "prior_bits": round(float(self.net.prior.nats(indices)) / math.log(2), 3),
            "prior": "a small causal transformer over the grid of codewords",
        }
