"""How noise is added and taken away again, on plain arrays: schedules, forward noising, DDPM, DDIM and flow updates.

Time is counted as the libraries do: t = 0 is the least noisy of `steps` levels, t = steps - 1 the noisiest; the papers
count 1..T. `kept` (the papers' alpha-bar) is the share of the clean picture's variance that is left. The level below
t = 0 is the clean picture itself, kept = 1.

Sources: Ho, Jain, Abbeel 2020 (DDPM); Nichol, Dhariwal 2021 (improved DDPM); Song, Meng, Ermon 2021 (DDIM);
Dhariwal, Nichol 2021 (classifier guidance); Ho, Salimans 2022 (classifier-free guidance); Lipman et al. 2023 and
Liu, Gong, Liu 2023 (flow matching, rectified flow).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

STEPS = 1000
"""Noise levels of a training, as in Ho et al. 2020."""


@dataclass(frozen=True)
class Schedule:
    """Noise added per level: `betas` float64 (steps,), each in (0, 1)."""

    name: str
    betas: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.betas.ndim != 1 or not ((self.betas > 0) & (self.betas < 1)).all():
            raise ValueError("betas are one row of numbers between 0 and 1")

    @property
    def steps(self) -> int:
        return len(self.betas)

    @property
    def kept(self) -> NDArray[np.float64]:
        """alpha-bar, the product of 1 - beta up to each level: (steps,), falling."""
        return np.cumprod(1 - self.betas, dtype=np.float64)

    @property
    def snr(self) -> NDArray[np.float64]:
        """Signal-to-noise ratio kept / (1 - kept): (steps,), falling."""
        return np.asarray(self.kept / (1 - self.kept), dtype=np.float64)

    @property
    def posterior_variance(self) -> NDArray[np.float64]:
        """beta-tilde: the variance of x_(t-1) given x_t and x_0, never more than beta: (steps,), 0 at t = 0."""
        before = np.append(1.0, self.kept[:-1])
        return self.betas * (1 - before) / (1 - self.kept)

    def at(self, t: int) -> float:
        """kept at level t; 1 below the first level. Raises ValueError past the last."""
        if not -1 <= t < self.steps:
            raise ValueError(f"t is between -1 and {self.steps - 1}, not {t}")
        return float(self.kept[t]) if t >= 0 else 1.0


def linear(steps: int = STEPS, start: float = 1e-4, end: float = 0.02) -> Schedule:
    """betas rise evenly (Ho et al. 2020; the limits are meant for 1000 levels)."""
    return Schedule("linear", np.linspace(start, end, steps))


def cosine(steps: int = STEPS, offset: float = 0.008, most: float = 0.999) -> Schedule:
    """kept falls as cos² (Nichol, Dhariwal 2021), no beta above `most`."""

    def level(u: float) -> float:
        return math.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2

    return Schedule(
        "cosine", np.array([min(most, 1 - level((t + 1) / steps) / level(t / steps)) for t in range(steps)])
    )


SCHEDULES = {"linear": linear, "cosine": cosine}


def ladder(levels: int, steps: int) -> list[int]:
    """The `steps` levels a sampler visits, noisiest first, evenly spaced and starting at the last level.

    Raises ValueError unless 1 <= steps <= levels.
    """
    if not 1 <= steps <= levels:
        raise ValueError(f"steps are between 1 and {levels}, not {steps}")
    return [round(levels - k * levels / steps) - 1 for k in range(steps)]


# ── forward ──────────────────────────────────────────────────────────────────


def noised(clean: Array, noise: Array, kept: Array | float) -> Array:
    """x_t = sqrt(kept) x_0 + sqrt(1 - kept) noise."""
    return np.sqrt(kept) * clean + np.sqrt(1 - np.asarray(kept)) * noise


def clean_from(x: Array, noise: Array, kept: Array | float) -> Array:
    """The x_0 that noise predicted in x_t means."""
    return (x - np.sqrt(1 - np.asarray(kept)) * noise) / np.sqrt(kept)


def noise_from(x: Array, clean: Array, kept: Array | float) -> Array:
    """The noise that x_0 predicted from x_t means."""
    return (x - np.sqrt(kept) * clean) / np.sqrt(1 - np.asarray(kept))


# ── backward ─────────────────────────────────────────────────────────────────


def posterior(x: Array, clean: Array, kept: float, before: float) -> tuple[Array, float]:
    """Mean and variance of q(x_before given x_t and x_0) from the level `kept` to the less noisy level `before`."""
    step = 1 - kept / before  # beta of this, perhaps long, step
    mean = math.sqrt(before) * step / (1 - kept) * clean + math.sqrt(1 - step) * (1 - before) / (1 - kept) * x
    return mean, (1 - before) / (1 - kept) * step


def learned_variance(fraction: Array, kept: float, before: float) -> Array:
    """Between beta-tilde (fraction 0) and beta (1), evenly in the logarithm (Nichol, Dhariwal 2021, eq. 15)."""
    step = 1 - kept / before
    small = max((1 - before) / (1 - kept) * step, 1e-20)
    return np.exp(fraction * math.log(step) + (1 - fraction) * math.log(small))


def ddpm_step(x: Array, clean: Array, kept: float, before: float, noise: Array, variance: Array | None = None) -> Array:
    """One ancestral step from x_t with predicted x_0; no noise is added on the way to the clean picture.

    `variance` replaces beta-tilde, as where it is learned.
    """
    mean, small = posterior(x, clean, kept, before)
    if before >= 1:
        return mean
    return mean + np.sqrt(small if variance is None else variance) * noise


def ddim_step(
    x: Array, clean: Array, kept: float, before: float, eta: float = 0.0, noise: Array | None = None
) -> Array:
    """One step of Song et al. 2021, eq. 12. eta = 0 draws nothing; eta = 1 has the variance of the ancestral step."""
    predicted = noise_from(x, clean, kept)
    sigma = eta * math.sqrt((1 - before) / (1 - kept) * (1 - kept / before))
    moved = math.sqrt(before) * clean + math.sqrt(max(0.0, 1 - before - sigma**2)) * predicted
    return moved if noise is None or sigma == 0 else moved + sigma * noise


# ── guidance ─────────────────────────────────────────────────────────────────


def guided(conditional: Array, unconditional: Array, scale: float) -> Array:
    """Classifier-free guidance: scale 0 ignores the label, 1 is the conditional model, more exaggerates.

    In Ho, Salimans 2022 the same is written (1 + w) conditional - w unconditional, with w = scale - 1.
    """
    return unconditional + scale * (conditional - unconditional)


def steered(noise: Array, gradient: Array, kept: float, scale: float) -> Array:
    """Classifier guidance: predicted noise minus scale sqrt(1 - kept) times the gradient of log p(label given x_t)."""
    return noise - scale * math.sqrt(1 - kept) * gradient
