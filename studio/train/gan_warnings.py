"""What can go wrong between two networks, read from the curves. Pure: rows of metrics in, sentences out; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

Row = Mapping[str, float | None]
WINDOW = 100
"""Rows that are looked at, at most the last quarter of a run."""
FEWEST = 20
"""With fewer rows nothing is said: every GAN's start looks wrong."""


class Concern(NamedTuple):
    """`name` is stable, `sentence` says what is seen, `advice` what to do."""

    name: str
    sentence: str
    advice: str


def warnings(rows: Sequence[Row]) -> list[Concern]:
    """What the curves of a run tell, worst first; empty where all is well or it is too early to say.

    `rows` are in the order of steps, as in metrics.jsonl. Understood: loss_d, loss_g, d_real and d_fake (means of D(x)
    in 0..1; absent for critics), grad_g, valid_diversity (1 is as varied as the data), critic_norm (WGAN-GP).
    """
    found = [check(rows) for check in CHECKS]
    return [warning for warning in found if warning is not None]


def _values(rows: Sequence[Row], name: str) -> list[float]:
    """Of the rows that have it; a number that JSON could not hold was stored as None and counts as none."""
    found = [row[name] for row in rows if name in row]
    return [math.nan if value is None else float(value) for value in found]


def _recent(rows: Sequence[Row], name: str) -> list[float]:
    """The last values, [] where there are too few to judge."""
    values = _values(rows, name)
    return values[-min(WINDOW, max(FEWEST, len(values) // 4)) :] if len(values) >= FEWEST else []


def _broken(rows: Sequence[Row]) -> Concern | None:
    values = [value for name in ("loss_d", "loss_g") for value in _values(rows[-WINDOW:], name)]
    if all(math.isfinite(value) for value in values):
        return None
    return Concern(
        "diverged",
        "A loss is no longer a number: the weights are lost.",
        "Go back to the last good checkpoint and train with a third of the learning rate.",
    )


def _diverging(rows: Sequence[Row]) -> Concern | None:
    for name, who in (("loss_g", "generator"), ("loss_d", "discriminator")):
        values = _values(rows, name)
        recent = _recent(rows, name)
        early = [abs(v) for v in values[FEWEST // 2 : max(FEWEST, len(values) // 4)] if math.isfinite(v)]
        if not recent or not early or not all(map(math.isfinite, recent)):
            continue
        half = len(recent) // 2
        now, before = fmean(map(abs, recent[half:])), fmean(map(abs, recent[:half]))
        if now > 20 and now > 8 * fmean(early) and now > before:
            return Concern(
                "diverging",
                f"The {who}'s loss grows without end ({now:.0f}, from {fmean(early):.1f} at the start).",
                "Lower the learning rate, clip gradients at 1, or use WGAN-GP or R1, which hold D back.",
            )
    return None


def _collapsed(rows: Sequence[Row]) -> Concern | None:
    values = _values(rows, "valid_diversity")[-3:]
    if len(values) < 2 or max(values[-2:]) >= 0.5:
        return None
    return Concern(
        "mode collapse",
        f"The samples look alike: they vary {100 * values[-1]:.0f} % as much as the real pictures.",
        "Give the discriminator less to memorise (DiffAugment), lower its rate, or switch to WGAN-GP.",
    )


def _too_strong(rows: Sequence[Row]) -> Concern | None:
    real, fake = _recent(rows, "d_real"), _recent(rows, "d_fake")
    if not real or not fake or fmean(real) < 0.95 or fmean(fake) > 0.05:
        return None
    return Concern(
        "discriminator too strong",
        f"D is sure of everything (real {fmean(real):.2f}, fake {fmean(fake):.2f}), so G learns little from it.",
        "Lower the discriminator's learning rate or its updates per step, smooth the real labels by 0.1, or add "
        "DiffAugment.",
    )


def _too_weak(rows: Sequence[Row]) -> Concern | None:
    real, fake = _recent(rows, "d_real"), _recent(rows, "d_fake")
    if not real or not fake or fmean(real) - fmean(fake) > 0.02 or len(_values(rows, "d_real")) < 3 * FEWEST:
        return None
    return Concern(
        "discriminator too weak",
        f"D cannot tell real from fake (real {fmean(real):.2f}, fake {fmean(fake):.2f}), so it guides nobody.",
        "Look at the samples: if they are poor, raise the discriminator's learning rate or width, or lower smoothing "
        "and augmentation.",
    )


def _vanishing(rows: Sequence[Row]) -> Concern | None:
    norms, values = _recent(rows, "grad_g"), _values(rows, "grad_g")
    if not norms or fmean(norms) > 1e-3 or fmean(norms) > 0.05 * max(values):
        return None
    return Concern(
        "vanishing gradient",
        f"Almost nothing reaches the generator (gradient norm {fmean(norms):.1g}).",
        "Use the non-saturating loss instead of minimax, or a Wasserstein critic.",
    )


def _not_lipschitz(rows: Sequence[Row]) -> Concern | None:
    norms = _recent(rows, "critic_norm")
    if not norms or 0.5 < fmean(norms) < 1.5:
        return None
    return Concern(
        "penalty not kept",
        f"The critic's gradient norm is {fmean(norms):.1f} where the penalty wants 1.",
        "Raise the penalty's weight or the critic's updates per step; below 1, wait: early critics are flat.",
    )


CHECKS: tuple[Callable[[Sequence[Row]], Concern | None], ...] = (
    _broken, _diverging, _collapsed, _too_strong, _vanishing, _not_lipschitz, _too_weak,
)  # fmt: skip
