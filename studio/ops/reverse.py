"""From noise to pictures: samplers as generators over what a network predicts. Stopping is not asking for the next.

A network is a function `predict(x, t) -> Guess`. It is called once a step with x float32 (N, C, H, W) and a level t
(int) of the schedule, or, for flows, a time u (float, 1 is noise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from studio.ops import noise as math
from studio.ops.noise import Schedule

Pictures = NDArray[np.float32]


class Guess(NamedTuple):
    """What a network says of x_t.

    Attributes:
        clean: the picture it sees in there, (N, C, H, W), about -1..1.
        fraction: where its variance lies between beta-tilde (0) and beta (1), as `clean`; None where it is not learned.
    """

    clean: Pictures
    fraction: Pictures | None = None


Predict = Callable[[Pictures, float], Guess]


class Moment(NamedTuple):
    """One step of the way: `x` after it, the level `t` that was left, and the clean pictures predicted there."""

    t: float
    x: Pictures
    clean: Pictures


def start(shape: tuple[int, ...], seed: int) -> tuple[Pictures, np.random.Generator]:
    """The noise everything begins with, and the generator that goes on after it. Same seed, same noise.

    Picture k of a batch has noise of its own, whatever the size of the batch.
    """
    first = [np.random.default_rng([seed, k]).standard_normal(shape[1:], np.float32) for k in range(shape[0])]
    return np.stack(first), np.random.default_rng([seed, 2**31])


def ddpm(predict: Predict, x: Pictures, schedule: Schedule, steps: int, rng: np.random.Generator) -> Iterator[Moment]:
    """Ancestral sampling (Ho et al. 2020), with learned variance where the network has one.

    With fewer steps than levels each step spans several, with the beta that belongs to it (Nichol, Dhariwal 2021).
    """
    levels = math.ladder(schedule.steps, steps)
    for t, below in zip(levels, [*levels[1:], -1], strict=True):
        kept, before = schedule.at(t), schedule.at(below)
        guess = predict(x, t)
        variance = None if guess.fraction is None else math.learned_variance(guess.fraction, kept, before)
        drawn = rng.standard_normal(x.shape, np.float32)
        x = math.ddpm_step(x, guess.clean, kept, before, drawn, variance).astype(np.float32)
        yield Moment(t, x, guess.clean)


def ddim(
    predict: Predict, x: Pictures, schedule: Schedule, steps: int, rng: np.random.Generator, eta: float = 0.0
) -> Iterator[Moment]:
    """Song et al. 2021: with eta 0 the noise alone decides the picture, whatever the number of steps, nearly."""
    levels = math.ladder(schedule.steps, steps)
    for t, below in zip(levels, [*levels[1:], -1], strict=True):
        guess = predict(x, t)
        drawn = rng.standard_normal(x.shape, np.float32) if eta > 0 else None
        x = math.ddim_step(x, guess.clean, schedule.at(t), schedule.at(below), eta, drawn).astype(np.float32)
        yield Moment(t, x, guess.clean)


def flow(predict: Predict, x: Pictures, steps: int) -> Iterator[Moment]:
    """Euler steps along the velocity (x - clean) / u, from u = 1 to 0. Raises ValueError for no steps."""
    if steps < 1:
        raise ValueError(f"steps are at least 1, not {steps}")
    for k in range(steps):
        u, after = 1 - k / steps, 1 - (k + 1) / steps
        guess = predict(x, u)
        x = (guess.clean + (after / u) * (x - guess.clean)).astype(np.float32)
        yield Moment(u, x, guess.clean)


def invert(predict: Predict, clean: Pictures, schedule: Schedule, steps: int) -> Iterator[Moment]:
    """DDIM walked upwards: from pictures to the noise that would have made them, about (Song et al. 2021, 4.3)."""
    x, levels = clean, math.ladder(schedule.steps, steps)[::-1]
    for below, t in zip([-1, *levels[:-1]], levels, strict=True):
        # The network has no level for a clean picture, so the first step asks at the lowest one.
        guess = predict(x, max(below, 0))
        kept = schedule.at(max(below, 0))
        predicted = math.noise_from(x, guess.clean, kept)
        seen = guess.clean if below >= 0 else x
        x = math.noised(seen, predicted, schedule.at(t)).astype(np.float32)
        yield Moment(t, x, guess.clean)


def invert_flow(predict: Predict, clean: Pictures, steps: int) -> Iterator[Moment]:
    """Euler steps from the picture to noise."""
    x = clean
    for k in range(steps):
        u, after = k / steps, (k + 1) / steps
        at = max(u, 1e-2)  # the velocity (x - clean) / u has no value at 0
        guess = predict(x, at)
        x = (x + (after - u) * (x - guess.clean) / at).astype(np.float32)
        yield Moment(after, x, guess.clean)
