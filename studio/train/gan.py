"""Trainees of the GAN lab: one game of two networks, whose rules the kinds change.

An update of the discriminator on real and made pictures, then one of the generator, against the discriminator as it
then is. `Gan.step` is what a course calls; `Gan.observe` does the same and tells all that both saw.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from studio.nets.gan import DenseDiscriminator, DenseGenerator, Verdict
from studio.train import descent
from studio.train.data import Data
from studio.train.gan_losses import LOSSES, gradient_norm, soften
from studio.train.gan_measure import RandomFeatures, coverage, diversity, kernel_distance
from studio.train.options_gan import GanOptions
from studio.train.sheets import grid
from studio.train.trainee import Pixels, Stateful

COLUMNS, ROWS = 8, 4
MOST_WIDE = 512
"""Pixels that a sheet of samples may be wide."""
JUDGED = 256
"""Made pictures that `validate` compares."""
KEPT = 48
"""Training pictures that travel with an exported model."""


@dataclass(frozen=True)
class Batch:
    """What one update is made from. All tensors have B rows."""

    real: Tensor
    """(B, 3, S, S) in -1..1."""
    seen: Tensor | None
    """The condition that belongs to the real pictures: one-hot class, edges."""
    noise: Tensor
    """(B, Z)."""
    condition: Tensor | None
    """The condition of the made pictures."""


@dataclass(frozen=True)
class Observation:
    """One update of each, seen from inside. Scores are logits or a critic's values, (B,)."""

    real: Tensor
    fake: Tensor
    fake_after: Tensor
    real_before: Tensor
    real_after: Tensor
    fake_before: Tensor
    fake_after_d: Tensor
    """Of the same made pictures, after D's update."""
    fake_after_g: Tensor
    """Of what the updated G makes from the same noise."""
    metrics: Mapping[str, float]


class Gan:
    """The first GAN (Goodfellow et al. 2014), and the frame of all others.

    Subclasses say what the networks are, what a batch is drawn from, and what is added to the losses.
    """

    watched = "kernel_distance"
    watched_falls = True
    kind: ClassVar[str] = "gan"

    def __init__(self, options: GanOptions, data: Data, seed: int) -> None:
        self.options, self.data = options, data
        self.loss = LOSSES[options.loss]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator, self.discriminator = self.networks()
            fixed = torch.Generator().manual_seed(seed + 1)
            self.fixed = self.draw(JUDGED, fixed)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        betas = (options.momentum, 0.99)
        self.g_optimizer = descent.optimizer(options.optimizer, self.generator.parameters(), options.rate, betas)
        d_rate = options.rate * options.d_rate
        self.d_optimizer = descent.optimizer(options.optimizer, self.discriminator.parameters(), d_rate, betas)
        self.held_out = data.batch(some(data.valid, JUDGED))
        self.features = RandomFeatures(data.batch(some(data.train, JUDGED)))
        self.real_features = self.features(self.held_out)

    # ── the rules a kind may change ──────────────────────────────────────────

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator, drawn from torch's own randomness, which is seeded around this call."""
        o = self.options
        return (
            DenseGenerator(size=o.size, noise=o.noise, width=o.width),
            DenseDiscriminator(size=o.size, width=o.width),
        )

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Noise (count, Z) and the condition of the pictures to be made, None where there is none."""
        return torch.randn((count, self.options.noise), generator=generator), None

    def conditions(self, real: Tensor, labels: Tensor) -> Tensor | None:
        """What the discriminator is told about real pictures with these class labels."""
        return None

    def make(
        self, net: nn.Module, noise: Tensor, condition: Tensor | None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Pictures (B, 3, S, S); `generator` is where a network draws randomness of its own in training."""
        return net(noise, condition)

    def judge(self, pictures: Tensor, condition: Tensor | None) -> Verdict:
        return self.discriminator(pictures, condition)

    def d_extra(
        self, step: int, batch: Batch, fake: Tensor, verdicts: tuple[Verdict, Verdict], generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        """What is added to the discriminator's loss, and what there is to report of it."""
        return None, {}

    def g_extra(
        self, step: int, batch: Batch, fake: Tensor, verdict: Verdict, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        """What is added to the generator's loss."""
        return None, {}

    def after_d(self) -> dict[str, float]:
        """Called after each of the discriminator's updates."""
        return {}

    def resize(self, pictures: Tensor) -> Tensor:
        """Real pictures as the discriminator sees them now."""
        return pictures

    # ── the game ─────────────────────────────────────────────────────────────

    def step(self, step: int, generator: torch.Generator) -> Mapping[str, float]:
        self.begin(step)
        metrics: dict[str, float] = {}
        for turn in range(self.options.d_steps):
            batch = self.batch(generator)
            metrics |= self.update_d(step * self.options.d_steps + turn, batch, generator)
        metrics |= self.update_g(step, batch, generator)
        self._follow(step)
        return metrics

    def begin(self, step: int) -> None:
        """Called before each step; a network that grows does it here."""
        self.generator.train()
        self.discriminator.train()

    def batch(self, generator: torch.Generator) -> Batch:
        real, labels = self.data.draw(self.options.batch, generator, self.options.augment)
        noise, condition = self.draw(self.options.batch, generator)
        return Batch(self.resize(real), self.conditions(real, labels), noise, condition)

    def update_d(self, step: int, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """One update of the discriminator; the generator stands still."""
        o = self.options
        with torch.no_grad():
            fake = self.make(self.generator, batch.noise, batch.condition, generator)
        self.discriminator.requires_grad_(True)
        self.d_optimizer.zero_grad(set_to_none=True)
        real_shown, fake_shown = soften(batch.real, o.soften, generator), soften(fake, o.soften, generator)
        real = self.judge(real_shown, batch.seen)
        made = self.judge(fake_shown, batch.condition)
        loss = self.loss.discriminator(real.scores, made.scores, o.smooth)
        extra, more = self.d_extra(step, batch, fake, (real, made), generator)
        (loss if extra is None else loss + extra).backward()
        metrics = {"loss_d": float(loss.detach()), "grad_d": gradient_norm(self.discriminator), **more}
        self._descend(self.discriminator, self.d_optimizer)
        metrics |= self.after_d()
        return metrics | self._opinions(real.scores, made.scores)

    def update_g(self, step: int, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """One update of the generator; the discriminator stands still and only hands gradients through."""
        self.discriminator.requires_grad_(False)
        self.g_optimizer.zero_grad(set_to_none=True)
        fake = self.make(self.generator, batch.noise, batch.condition, generator)
        verdict = self.judge(soften(fake, self.options.soften, generator), batch.condition)
        loss = self.loss.generator(verdict.scores)
        extra, more = self.g_extra(step, batch, fake, verdict, generator)
        (loss if extra is None else loss + extra).backward()
        metrics = {"loss_g": float(loss.detach()), "grad_g": gradient_norm(self.generator), **more}
        self._descend(self.generator, self.g_optimizer)
        return metrics

    def observe(self, step: int, generator: torch.Generator) -> Observation:
        """One update of each, as `step` does them, with what both saw. Scores are those of plain pictures."""
        self.begin(step)
        batch = self.batch(generator)
        noise = torch.Generator().manual_seed(step)

        def score(pictures: Tensor, condition: Tensor | None) -> Tensor:
            with torch.no_grad():
                found = self.judge(pictures, condition).scores
            return found.reshape(len(found), -1).mean(1)

        def made() -> Tensor:
            with torch.no_grad():
                return self.make(self.generator, batch.noise, batch.condition, noise.manual_seed(step))

        fake = made()
        before = score(batch.real, batch.seen), score(fake, batch.condition)
        metrics = self.update_d(step, batch, generator)
        after = score(batch.real, batch.seen), score(fake, batch.condition)
        metrics |= self.update_g(step, batch, generator)
        fake_after = made()
        return Observation(
            real=batch.real,
            fake=fake,
            fake_after=fake_after,
            real_before=before[0],
            real_after=after[0],
            fake_before=before[1],
            fake_after_d=after[1],
            fake_after_g=score(fake_after, batch.condition),
            metrics=metrics,
        )

    def set_rate(self, scale: float) -> None:
        for optimizer in (self.g_optimizer, self.d_optimizer):
            descent.set_rate(optimizer, scale)

    # ── what the course asks ─────────────────────────────────────────────────

    def parts(self) -> Mapping[str, Stateful]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer,
        }

    @torch.no_grad()
    def pictures(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """What the averaged generator makes, (B, 3, S, S) in -1..1."""
        return torch.cat(
            [
                self.make(self.average, noise[i : i + 64], None if condition is None else condition[i : i + 64])
                for i in range(0, len(noise), 64)
            ]
        ).clamp(-1, 1)

    def validate(self) -> Mapping[str, float]:
        fake = self.full(self.pictures(*self.fixed))
        made = self.features(fake)
        return {
            "kernel_distance": kernel_distance(made, self.real_features),
            "diversity": diversity(made, self.real_features),
            "coverage": coverage(made, self.real_features),
        }

    def full(self, pictures: Tensor) -> Tensor:
        """Enlarged to the full side, where a network still grows."""
        side = self.options.size
        return pictures if pictures.shape[-1] == side else F.interpolate(pictures, size=(side, side), mode="nearest")

    def samples(self) -> Mapping[str, Pixels]:
        noise, condition = self.fixed
        shown = slice(COLUMNS * ROWS)
        made = self.pictures(noise[shown], None if condition is None else condition[shown])
        return {"samples": grid(self.full(made), COLUMNS)}

    def export(self, folder: Path) -> Mapping[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"generator.{k}": v for k, v in self.average.state_dict().items()}
        tensors |= {f"discriminator.{k}": v for k, v in self.discriminator.state_dict().items()}
        learned = {f"generator.{k}" for k, _ in self.average.named_parameters()}
        learned |= {f"discriminator.{k}" for k, _ in self.discriminator.named_parameters()}
        # Running variances may be too small for half precision; they are few.
        tensors = {k: (v.half() if k in learned else v).contiguous() for k, v in tensors.items()}
        kept = some(self.data.train, KEPT)
        tensors["pictures"] = torch.from_numpy(np.ascontiguousarray(self.data.pictures[kept]))
        tensors["labels"] = torch.from_numpy(np.ascontiguousarray(self.data.labels[kept]).astype(np.int64))
        save_file(tensors, folder / "model.safetensors")
        config = {
            "kind": self.kind,
            "options": self.options.model_dump(mode="json"),
            "names": list(self.data.names),
        } | self.more_config()
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return {
            "family": "gan",
            "kind": self.kind,
            "size": self.options.size,
            "parameters": {
                "generator": sum(p.numel() for p in self.generator.parameters()),
                "discriminator": sum(p.numel() for p in self.discriminator.parameters()),
            },
            "training_pictures_inside": len(kept),
            "precision": "fp16",
        }

    def more_config(self) -> dict[str, Any]:
        """What the engine needs besides the options."""
        return {}

    def restore(self, config: Mapping[str, Any]) -> None:
        """Takes up what `more_config` wrote."""

    # ── inside ───────────────────────────────────────────────────────────────

    def _descend(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self.options.clip > 0:
            nn.utils.clip_grad_norm_(net.parameters(), self.options.clip)
        optimizer.step()

    def _opinions(self, real: Tensor, made: Tensor) -> dict[str, float]:
        if self.loss.critic:
            return {"score_real": float(real.detach().mean()), "score_fake": float(made.detach().mean())}
        return {"d_real": float(real.detach().sigmoid().mean()), "d_fake": float(made.detach().sigmoid().mean())}

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Moves the averaged generator towards the generator, faster in the first steps."""
        decay = min(self.options.ema, (1 + step) / (10 + step))
        mine, theirs = self.average.state_dict(), self.generator.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floats], [theirs[n] for n in floats], 1 - decay)


def some(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of them, evenly spread: pictures of one class lie side by side."""
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(np.int64)]
