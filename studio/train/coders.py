"""What all trainees of the VAE lab share, and those without a distribution: plain, denoising and sparse autoencoder.

A trainee says how its network is built, what its losses are, and what is worth measuring and showing; steps, averages,
samples and the export are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from studio.nets import coders
from studio.nets.vae import bernoulli_kl
from studio.train import coder_export, descent, loop, sheets
from studio.train.data import Data
from studio.train.options_vae import CoderOptions, DenoisingOptions, SparseOptions
from studio.train.trainee import Pixels, Stateful

O = TypeVar("O", bound=CoderOptions)  # noqa: E741 - the options of one trainee
SHOWN = 16
JUDGED = 256
"""Held-out pictures that validation looks at, and that samples show."""


class Averaged(loop.Average):
    """The running average of a network's parameters. Buffers (codebooks, counts) are averages already: taken as is."""

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        super().update(net, step)
        for name, value in net.named_buffers():
            self.weights[name].copy_(value)

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        with super().applied(net), torch.no_grad():
            net.eval()
            try:
                yield
            finally:
                net.train()


class CoderTrainee(Generic[O]):
    """A Trainee (`studio.train.trainee`) around one of `studio.nets.coders.NETWORKS`."""

    watched = "loss"
    watched_falls = True
    network: ClassVar[str] = "autoencoder"

    def __init__(self, options: O, data: Data, seed: int) -> None:
        self.options, self.data, self.seed = options, data, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = coders.build(self.network, self.arguments()).to(memory_format=torch.channels_last)
        self.optimizer = descent.optimizer(options.optimizer, self.net.parameters(), options.rate)
        self.average = Averaged(self.net, options.ema)

    # ── what a subclass says ─────────────────────────────────────────────────

    def arguments(self) -> dict[str, Any]:
        """For the network's constructor; they are also what config.json holds."""
        return {"size": self.options.size, "width": self.options.width, "latents": self.options.latents}

    def losses(self, x: Tensor, labels: Tensor | None, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """ "loss" to descend, and its parts, for pictures (B, 3, S, S)."""
        return self.judged(x, labels, generator)

    def judged(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        """As `losses`, as it counts at the end of the training; what validation reports."""
        error = squared_error(self.net.pictures(self.net.codes(x)), x)
        return {"loss": error, "reconstruction": error}

    def measured(self, x: Tensor, labels: Tensor | None) -> dict[str, float]:
        """What else is worth knowing of held-out pictures."""
        return {}

    def after(self, generator: torch.Generator) -> Mapping[str, float]:
        """Called after each update: constraints, codebooks."""
        return {}

    def bars(self, x: Tensor, labels: Tensor | None) -> list[float] | None:
        """One number per latent to draw: what it is used for. None draws nothing."""
        return self.net.codes(x, labels).std(dim=0).tolist()

    def facts(self) -> dict[str, Any]:
        """What the lab says about the finished model beyond what all have."""
        return {}

    # ── the contract ─────────────────────────────────────────────────────────

    def parts(self) -> Mapping[str, Stateful]:
        return {"net": self.net, "optimizer": self.optimizer, "average": self.average}

    def step(self, step: int, generator: torch.Generator) -> Mapping[str, float]:
        x, labels = self.data.draw(self.options.batch, generator, self.options.augment)
        found = self.losses(_last(x), self._told(labels), step, generator)
        self.optimizer.zero_grad(set_to_none=True)
        (found["loss"] / x[0].numel()).backward()  # per value, so that gradients and their clipping suit any size
        limit = self.options.clip if self.options.clip > 0 else float("inf")
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), limit)
        self.optimizer.step()
        extra = self.after(generator)
        self.average.update(self.net, step)
        return {**{name: float(value.detach()) for name, value in found.items()}, **extra, "gradient": float(norm)}

    def set_rate(self, scale: float) -> None:
        descent.set_rate(self.optimizer, scale)

    def validate(self) -> Mapping[str, float]:
        x, labels = self._held_out(JUDGED)
        generator = torch.Generator().manual_seed(self.seed)
        with self.average.applied(self.net):
            found = self.judged(x, labels, generator)
            made = self.reconstructed(x, labels)
            return {
                **{name: float(value) for name, value in found.items()},
                "psnr": float(psnr(made, x).mean()),
                **self.measured(x, labels),
            }

    def samples(self) -> Mapping[str, Pixels]:
        x, labels = self._held_out(SHOWN)
        many, their = self._held_out(JUDGED)
        with self.average.applied(self.net):
            rows = self.compared(x, labels)
            found = {"reconstructions": sheets.rows(rows, columns=8)}
            drawn = self.drawn(48)
            if drawn is not None:
                found["samples"] = sheets.grid(drawn, columns=8)
            heights = self.bars(many, their)
            if heights is not None:
                found["latents"] = sheets.bars(heights)
        return found

    def export(self, folder: Path) -> Mapping[str, Any]:
        with self.average.applied(self.net):
            facts = self.facts()
            return coder_export.export(
                self.net, self.network, self.arguments(), self.data, folder, facts, told=self._told
            )

    # ── pictures of where it stands ──────────────────────────────────────────

    def reconstructed(self, x: Tensor, labels: Tensor | None) -> Tensor:
        made: Tensor = self.net.pictures(self.net.codes(x, labels), labels)
        return made

    def compared(self, x: Tensor, labels: Tensor | None) -> list[Tensor]:
        """Rows to lay under each other: pictures, and what becomes of them."""
        return [x, self.reconstructed(x, labels)]

    def drawn(self, count: int) -> Tensor | None:
        """New pictures from fixed noise; None where the network cannot make any."""
        codes = self.net.draw(count, torch.Generator().manual_seed(self.seed))
        if codes is None:
            return None
        labels = torch.arange(count) % max(1, self.net.classes)
        made: Tensor = self.net.pictures(codes, self._told(labels))
        return made

    def _held_out(self, most: int) -> tuple[Tensor, Tensor | None]:
        chosen = self.data.valid[:most]
        return _last(self.data.batch(chosen)), self._told(torch.from_numpy(self.data.labels[chosen]))

    def _told(self, labels: Tensor) -> Tensor | None:
        return labels if self.net.classes else None


def squared_error(made: Tensor, wanted: Tensor) -> Tensor:
    """Squared error summed over a picture's values (range -1..1), the mean over the pictures; a scalar."""
    return (made - wanted).square().flatten(1).sum(dim=1).mean()


def psnr(made: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per picture (B,), both (B, 3, H, W) in -1..1."""
    error = ((made.clamp(-1, 1) - wanted) / 2).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error + 1e-10)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class Plain(CoderTrainee[CoderOptions]):
    """x̂ = g(f(x)), squared error."""


def _grain(x: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    return (x + amount * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


def _salt_and_pepper(x: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    shape = (len(x), 1, *x.shape[2:])
    hit = torch.rand(shape, generator=generator) < amount
    return torch.where(hit, torch.randint(2, shape, generator=generator) * 2.0 - 1, x)


def _masked(x: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    hit = torch.rand((len(x), 1, 8, 8), generator=generator) < amount
    scale = x.shape[-1] // 8
    return torch.where(hit.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3), 0.0, x)


CORRUPTIONS: Mapping[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "Gaussian": _grain,
    "salt-and-pepper": _salt_and_pepper,
    "masking": _masked,
}
"""(pictures (B, 3, S, S) in -1..1, amount, generator) -> corrupted pictures; see `DenoisingOptions`."""


class Denoising(CoderTrainee[DenoisingOptions]):
    """Corrupted in, clean out (Vincent et al. 2008, "Extracting and Composing Robust Features ...")."""

    def corrupted(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return CORRUPTIONS[self.options.noise](x, self.options.amount, generator)

    def judged(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        error = squared_error(self.net.pictures(self.net.codes(self.corrupted(x, generator))), x)
        return {"loss": error, "reconstruction": error}

    def measured(self, x: Tensor, labels: Tensor | None) -> dict[str, float]:
        noisy = self.corrupted(x, torch.Generator().manual_seed(self.seed))
        cleaned = self.net.pictures(self.net.codes(noisy))
        return {"psnr_noisy": float(psnr(noisy, x).mean()), "psnr_cleaned": float(psnr(cleaned, x).mean())}

    def compared(self, x: Tensor, labels: Tensor | None) -> list[Tensor]:
        noisy = self.corrupted(x, torch.Generator().manual_seed(self.seed))
        return [x, noisy, self.net.pictures(self.net.codes(noisy))]

    def facts(self) -> dict[str, Any]:
        return {"corruption": {"noise": self.options.noise, "amount": self.options.amount}}


class Sparse(CoderTrainee[SparseOptions]):
    """Few active latents: KL to a target activity (Ng 2011, sigmoid codes) or L1 (ReLU codes).

    With L1 the decoder's first weights are kept at length 1 per latent; else it would shrink the codes and grow them.
    """

    def arguments(self) -> dict[str, Any]:
        activation = {"KL": "sigmoid", "L1": "relu"}[self.options.penalty]
        return {**super().arguments(), "activation": activation}

    def judged(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        codes = self.net.codes(x)
        error = squared_error(self.net.pictures(codes), x)
        penalty = {"KL": self._kl, "L1": self._l1}[self.options.penalty](codes)
        return {"loss": error + self.options.strength * penalty, "reconstruction": error, "sparsity": penalty}

    def _kl(self, codes: Tensor) -> Tensor:
        return bernoulli_kl(self.options.target, codes.mean(dim=0)).sum()

    def _l1(self, codes: Tensor) -> Tensor:
        return codes.abs().sum(dim=1).mean()

    def measured(self, x: Tensor, labels: Tensor | None) -> dict[str, float]:
        return {"active_latents": float(self._on(self.net.codes(x)).float().sum(dim=1).mean())}

    def _on(self, codes: Tensor) -> Tensor:
        return codes > {"KL": 0.1, "L1": 0.01}[self.options.penalty]

    @torch.no_grad()
    def after(self, generator: torch.Generator) -> Mapping[str, float]:
        if self.options.penalty == "L1":
            weight = self.net.from_code.weight  # (flat, D)
            weight.div_(weight.norm(dim=0, keepdim=True).clamp_min(1e-6))
        return {}

    def bars(self, x: Tensor, labels: Tensor | None) -> list[float]:
        """The share of pictures for which a latent is on."""
        shares: list[float] = self._on(self.net.codes(x)).float().mean(dim=0).tolist()
        return shares

    def facts(self) -> dict[str, Any]:
        return {"sparsity": {"by": self.options.penalty, "strength": self.options.strength}}
