"""Samplers on a world whose best network is known: pictures from a normal distribution around a mean."""

from __future__ import annotations

import numpy as np
import pytest

from studio.ops import noise, reverse

MEAN, SPREAD = 0.3, 0.2
SHAPE = (64, 1, 8, 8)


def ideal(schedule: noise.Schedule) -> reverse.Predict:
    """E[x_0 given x_t] where x_0 ~ N(MEAN, SPREAD²)."""

    def predict(x: reverse.Pictures, t: float) -> reverse.Guess:
        kept = schedule.at(int(t))
        gain = SPREAD**2 * np.sqrt(kept) / (kept * SPREAD**2 + 1 - kept)
        return reverse.Guess((MEAN + gain * (x - np.sqrt(kept) * MEAN)).astype(np.float32))

    return predict


def ideal_flow(x: reverse.Pictures, u: float) -> reverse.Guess:
    gain = SPREAD**2 * (1 - u) / ((1 - u) ** 2 * SPREAD**2 + u**2)
    return reverse.Guess((MEAN + gain * (x - (1 - u) * MEAN)).astype(np.float32))


def last(walk: object) -> np.ndarray:
    return [moment.x for moment in walk][-1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("schedule", [noise.linear(), noise.cosine()], ids=lambda s: s.name)
def test_every_sampler_arrives_at_the_distribution(schedule):
    x, rng = reverse.start(SHAPE, 1)
    made = {
        "ddpm": last(reverse.ddpm(ideal(schedule), x, schedule, 200, rng)),
        "ddim": last(reverse.ddim(ideal(schedule), x, schedule, 200, rng)),
        "eta": last(reverse.ddim(ideal(schedule), x, schedule, 200, rng, eta=1.0)),
        "flow": last(reverse.flow(ideal_flow, x, 100)),
    }
    for name, found in made.items():
        assert found.mean() == pytest.approx(MEAN, abs=0.02), name
        assert found.std() == pytest.approx(SPREAD, rel=0.12), name


def test_ddim_is_decided_by_the_noise_and_settles_with_more_steps():
    schedule = noise.linear()
    x, _ = reverse.start(SHAPE, 4)
    runs = {
        steps: last(reverse.ddim(ideal(schedule), x, schedule, steps, np.random.default_rng(steps)))
        for steps in (5, 10, 50, 500)
    }
    again = last(reverse.ddim(ideal(schedule), x, schedule, 50, np.random.default_rng(99)))
    assert np.array_equal(runs[50], again)
    away = [float(np.abs(runs[steps] - runs[500]).mean()) for steps in (5, 10, 50)]
    assert away[0] > away[1] > away[2]
    assert away[2] < 0.02


def test_inversion_comes_back():
    schedule = noise.linear()
    clean = np.random.default_rng(5).normal(MEAN, SPREAD, SHAPE).astype(np.float32)
    up = last(reverse.invert(ideal(schedule), clean, schedule, 200))
    assert up.std() == pytest.approx(1, abs=0.1)
    down = reverse.ddim(ideal(schedule), up, schedule, 200, np.random.default_rng(0))
    assert np.abs(last(down) - clean).mean() < 0.02
    up = last(reverse.invert_flow(ideal_flow, clean, 200))
    assert np.abs(last(reverse.flow(ideal_flow, up, 200)) - clean).mean() < 0.02


def test_noise_of_a_picture_does_not_depend_on_its_neighbours():
    alone, _ = reverse.start((1, 3, 4, 4), 7)
    among, _ = reverse.start((5, 3, 4, 4), 7)
    assert np.array_equal(alone[0], among[0])
    assert not np.array_equal(among[0], among[1])


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps):
    x, rng = reverse.start((1, 1, 2, 2), 0)
    schedule = noise.linear()
    for walk in (
        reverse.ddpm(ideal(schedule), x, schedule, steps, rng),
        reverse.ddim(ideal(schedule), x, schedule, steps, rng),
        reverse.flow(ideal_flow, x, steps),
    ):
        with pytest.raises(ValueError, match="steps"):
            next(walk)
