"""The trainees of the diffusion lab: DDPM, improved DDPM and flow matching on small pictures with labels.

One network learns with and without labels (classifier-free guidance); a noisy classifier may learn beside it. What is
shown, measured and kept is the running average of the weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from studio.nets.denoiser import Config, Denoiser, Process
from studio.ops import reverse
from studio.train import descent
from studio.train.data import Data
from studio.train.diffusion_losses import Hybrid, Noisy, loss_of
from studio.train.gan_measure import RandomFeatures, kernel_distance
from studio.train.options_diffusion import DiffusionOptions
from studio.train.trainee import Pixels, Stateful

MOST_LABELS = 64
"""With more names than this the network would see each too rarely; it then learns one label for all."""
BINS = 4
"""Ranges of noise that the validation loss is told for."""
SHOWN = 24
KEPT_PICTURES = 32
SAMPLE_STEPS = 16
COMPARED = 48
WARMUP = 100
"""Steps until the full rate."""
CLASSIFIER_WEIGHT = 0.1
"""Scores of very noisy pictures are guesses; a small weight keeps their loss out of the way of clipping."""


class DiffusionTrainee:
    """What the three have in common; a subclass names its process."""

    watched = "loss"
    watched_falls = True
    process: ClassVar[Process]
    schedule: ClassVar[str] = "linear"

    def __init__(self, options: DiffusionOptions, data: Data, seed: int) -> None:
        self.options, self.data, self.seed = options, data, seed
        self.place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        labelled = len(data.names) <= MOST_LABELS
        self.names = tuple(data.names) if labelled else ("pictures",)
        self.labels = data.labels if labelled else np.zeros_like(data.labels)
        self.config = Config(
            process=self.process,
            size=options.size,
            names=self.names,
            width=options.width,
            schedule=self.schedule,
            classifier=options.classifier and len(self.names) > 1,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = Denoiser(self.config).to(self.place)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.optimizer = descent.optimizer(options.optimizer, self.net.parameters(), options.rate, betas=(0.9, 0.99))
        self.scale = 1.0
        self.loss = loss_of(self.config)
        self.fixed = np.sort(np.random.default_rng(seed).permutation(data.valid)[: max(SHOWN, COMPARED)])
        self.features = RandomFeatures(data.batch(self.fixed))

    def parts(self) -> Mapping[str, Stateful]:
        return {"net": self.net, "average": self.average, "optimizer": self.optimizer}

    def set_rate(self, scale: float) -> None:
        self.scale = scale

    # ── learning ─────────────────────────────────────────────────────────────

    def step(self, step: int, generator: torch.Generator) -> Mapping[str, float]:
        """One update. "loss" is the mean squared error of the prediction; "bound" (improved DDPM) the variance's share
        in bits per dimension; "level_1" to "level_4" the loss by amount of noise, the clearest first.
        """
        self.net.train()
        count = self.options.batch
        clean, labels = self.data.draw(count, generator, self.options.augment)
        labels = labels if len(self.names) == len(self.data.names) else torch.zeros_like(labels)
        left_out = torch.rand(count, generator=generator) < self.options.label_dropout
        told = torch.where(left_out, len(self.names), labels).to(self.place)
        u = (torch.arange(count) + torch.rand(count, generator=generator)) / count  # one of each stratum, rising
        mixed = torch.randn(clean.shape, generator=generator)
        noisy = self._noised(clean, u, mixed)
        errors = self.loss.errors(self.net(noisy.x, noisy.time, told), clean.to(self.place), noisy)
        total = torch.stack([value.mean() for value in errors.values()]).sum()
        found = {"loss": errors["simple"].mean()}
        if "bound" in errors:
            found["bound"] = errors["bound"].mean()
        found |= _by_level(errors["simple"])
        if self.net.classifier is not None:
            scores = self.net.classifier(noisy.x, noisy.time)
            wrong = F.cross_entropy(scores, labels.to(self.place))
            total = total + CLASSIFIER_WEIGHT * wrong
            found["classifier_loss"] = wrong
        descent.set_rate(self.optimizer, self.scale * min(1.0, (step + 1) / WARMUP))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        limit = self.options.clip if self.options.clip > 0 else float("inf")
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), limit)
        if bool(norm.isfinite()):
            self.optimizer.step()
        self._blend(step)
        return {**{name: float(value.detach()) for name, value in found.items()}, "gradient_norm": float(norm)}

    @torch.no_grad()
    def _blend(self, step: int) -> None:
        """The average follows, faster in the first steps."""
        weight = 1 - min(self.options.ema, (1 + step) / (10 + step)) if self.options.ema else 1.0
        torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), weight)

    def _noised(self, clean: Tensor, u: Tensor, mixed: Tensor) -> Noisy:
        return self.loss.noised(clean.to(self.place), u.to(self.place), mixed.to(self.place))

    # ── looking ──────────────────────────────────────────────────────────────

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """On held-out pictures, each at fixed noise: "loss", the same by amount of noise ("level_1" is the
        clearest), "classifier_accuracy" over all levels, "bound" (the mean term of the variational bound in bits per
        dimension, improved DDPM), and "kernel_distance" of samples to held-out pictures (no FID: see `gan_measure`).
        """
        self.average.eval()
        rng = np.random.default_rng(self.seed)
        chosen = np.resize(rng.permutation(self.data.valid), max(64, BINS * 16))
        clean, labels = self.data.batch(chosen), torch.from_numpy(self.labels[chosen])
        u = (torch.arange(len(chosen)) + 0.5) / len(chosen)
        mixed = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
        noisy = self._noised(clean, u, mixed)
        out = self.average(noisy.x, noisy.time, labels.to(self.place))
        simple = self.loss.errors(out, clean.to(self.place), noisy)["simple"]
        found = {"loss": float(simple.mean())}
        found |= {name: float(value) for name, value in _by_level(simple).items()}
        if isinstance(self.loss, Hybrid):
            found["bound"] = float(self.loss.bound(out, clean.to(self.place), noisy).mean())
        if self.average.classifier is not None:
            right = self.average.classifier(noisy.x, noisy.time).argmax(1).cpu() == labels
            found["classifier_accuracy"] = float(right.float().mean())
        found["kernel_distance"] = self.kernel_distance()
        return found

    def kernel_distance(self) -> float:
        """Of samples from fixed noise to held-out pictures with the same labels, on fixed features."""
        chosen = self.fixed[:COMPARED]
        made = self._sampled(self.labels[chosen], SAMPLE_STEPS // 2, seed=self.seed + 1)
        return kernel_distance(
            self.features(torch.from_numpy(made).clamp(-1, 1)), self.features(self.data.batch(chosen))
        )

    def samples(self) -> Mapping[str, Pixels]:
        """ "samples": from fixed noise, one label after the other; "one_look": held-out pictures, noised more and more
        from left to right (above), and what the network sees in each at a single glance (below).
        """
        self.average.eval()
        made = self._sampled([k % len(self.names) for k in range(SHOWN)], SAMPLE_STEPS, seed=self.seed)
        return {"samples": grid(made, 8), "one_look": self._one_look()}

    def _sampled(self, labels: Any, steps: int, seed: int) -> NDArray[np.float32]:
        """DDIM, or Euler for a flow: (N, 3, S, S) with the averaged weights."""
        predict = self.average.predictor([int(label) for label in labels])
        x, rng = reverse.start((len(labels), 3, self.config.size, self.config.size), seed)
        if self.config.process == "flow":
            walk = reverse.flow(predict, x, steps)
        else:
            walk = reverse.ddim(predict, x, self.config.noise_schedule(), steps, rng)
        return [moment.x for moment in walk][-1]

    @torch.no_grad()
    def _one_look(self) -> Pixels:
        count = min(8, len(self.fixed))
        chosen = self.fixed[:count]
        clean, labels = self.data.batch(chosen), torch.from_numpy(self.labels[chosen]).to(self.place)
        mixed = torch.from_numpy(np.random.default_rng(self.seed).standard_normal(clean.shape, np.float32))
        noisy = self._noised(clean, torch.linspace(0.1, 0.95, count), mixed)
        seen = self.loss.clean(self.average(noisy.x, noisy.time, labels), noisy)
        return grid(torch.cat([noisy.x, seen]).cpu().numpy(), count)

    # ── keeping ──────────────────────────────────────────────────────────────

    def export(self, folder: Path) -> Mapping[str, Any]:
        """Averaged weights in half precision, some held-out pictures to try things on, and config.json."""
        weights = {
            name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
            for name, value in self.average.state_dict().items()
        }
        kept = self.fixed[:KEPT_PICTURES]
        weights["pictures"] = torch.from_numpy(self.data.pictures[kept])
        weights["picture_labels"] = torch.from_numpy(self.labels[kept])
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config.write(), indent=1) + "\n", encoding="utf-8")
        return {
            "kind": self.process,
            "size_px": self.config.size,
            "names": list(self.names),
            "parameters": sum(p.numel() for p in self.average.parameters()),
            "pictures_inside": len(kept),
        }


class Ddpm(DiffusionTrainee):
    """Linear betas, the network predicts the noise (Ho et al. 2020)."""

    process = "ddpm"


class ImprovedDdpm(DiffusionTrainee):
    """Cosine schedule, noise and variance learned with the hybrid loss (Nichol, Dhariwal 2021)."""

    process = "improved-ddpm"
    schedule = "cosine"


class Flow(DiffusionTrainee):
    """Straight ways from noise to pictures, the network predicts the velocity (Lipman 2023, Liu 2023)."""

    process = "flow"


def _by_level(errors: Tensor) -> dict[str, Tensor]:
    """Means of errors (N,), sorted from clear to noisy, over BINS ranges of noise."""
    return {f"level_{k + 1}": part.mean() for k, part in enumerate(errors.tensor_split(BINS)) if len(part)}


def grid(pictures: NDArray[np.float32], columns: int) -> Pixels:
    """(N, 3, S, S) in -1..1 as one RGB picture, row by row; the last row may end in white."""
    count, _, side, _ = pictures.shape
    rows = -(-count // columns)
    sheet = np.full((rows * columns, side, side, 3), 255, np.uint8)
    sheet[:count] = (np.clip(pictures, -1, 1) * 127.5 + 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return sheet.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
