"""Schedules, forward noising and the updates, against closed forms and against diffusers' own schedulers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.ops import noise, reverse

RNG = np.random.default_rng(0)
SHAPE = (2, 3, 8, 8)
SCHEDULES = [noise.linear(), noise.cosine()]


def pictures() -> np.ndarray:
    return RNG.uniform(-1, 1, SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def diffusers() -> Any:
    pytest.importorskip("torch")
    from studio.nets import torchvision_guard

    torchvision_guard.install()
    return pytest.importorskip("diffusers")


def made(kind: Any, schedule: noise.Schedule, **more: Any) -> Any:
    """One of diffusers' schedulers on our betas, with its table in double precision: single is coarse."""
    found = kind(trained_betas=schedule.betas, clip_sample=False, timestep_spacing="trailing", **more)
    found.alphas_cumprod = pytest.importorskip("torch").from_numpy(schedule.kept)
    return found


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_schedules_fall_from_picture_to_noise(schedule):
    kept = schedule.kept
    assert (np.diff(kept) < 0).all()
    assert kept[0] > 0.99
    assert kept[-1] < 1e-4
    assert np.allclose(schedule.snr, kept / (1 - kept))
    assert (schedule.posterior_variance <= schedule.betas).all()
    assert schedule.posterior_variance[0] == 0
    assert schedule.at(-1) == 1.0


def test_the_cosine_schedule_keeps_more_in_the_middle():
    linear, cosine = SCHEDULES
    assert cosine.kept[500] == pytest.approx(np.cos(0.509 / 1.008 * np.pi / 2) ** 2, abs=1e-3)
    assert linear.kept[500] < 0.1


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_betas_equal_diffusers(diffusers, name):
    theirs = {"linear": "linear", "cosine": "squaredcos_cap_v2"}[name]
    kwargs = {"beta_start": 1e-4, "beta_end": 0.02} if name == "linear" else {}
    found = diffusers.DDPMScheduler(beta_schedule=theirs, **kwargs).betas.numpy()
    assert np.abs(noise.SCHEDULES[name]().betas - found).max() < 1e-5


@pytest.mark.parametrize("betas", [np.array([0.1, 1.0]), np.array([0.0]), np.array([[0.1]]), np.array([np.nan])])
def test_betas_that_are_none_are_refused(betas):
    with pytest.raises(ValueError, match="betas"):
        noise.Schedule("own", betas)


@pytest.mark.parametrize("t", [-2, 1000, 10**9])
def test_levels_out_of_range_are_refused(t):
    with pytest.raises(ValueError, match="between"):
        noise.linear().at(t)


@pytest.mark.parametrize(("levels", "steps"), [(1000, 1), (1000, 5), (1000, 7), (1000, 50), (1000, 1000), (10, 10)])
def test_a_ladder_starts_at_the_top_and_falls(levels, steps):
    found = noise.ladder(levels, steps)
    assert len(found) == steps
    assert found[0] == levels - 1
    assert found[-1] >= 0
    assert (np.diff(found) < 0).all()


def test_a_ladder_is_diffusers_trailing_spacing(diffusers):
    theirs = diffusers.DDIMScheduler(timestep_spacing="trailing")
    for steps in (5, 10, 50):
        theirs.set_timesteps(steps)
        assert noise.ladder(1000, steps) == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_a_ladder_without_rungs_is_refused(steps):
    with pytest.raises(ValueError, match="steps"):
        noise.ladder(1000, steps)


# ── forward ──────────────────────────────────────────────────────────────────


def test_forward_noising_has_the_mean_and_variance_it_says():
    schedule, clean = noise.linear(), np.full(200_000, 0.5)
    for t in (0, 250, 999):
        x = noise.noised(clean, RNG.standard_normal(clean.shape), schedule.at(t))
        assert x.mean() == pytest.approx(np.sqrt(schedule.at(t)) * 0.5, abs=0.01)
        assert x.var() == pytest.approx(1 - schedule.at(t), abs=0.01)


def test_many_small_steps_are_one_long_one():
    """The product of 1 - beta is the whole point of alpha-bar: x_t from x_(t-1), 300 times, has the same statistics."""
    schedule, x = noise.linear(), np.full(100_000, 0.8)
    for beta in schedule.betas[:301]:
        x = np.sqrt(1 - beta) * x + np.sqrt(beta) * RNG.standard_normal(x.shape)
    assert x.mean() == pytest.approx(np.sqrt(schedule.at(300)) * 0.8, abs=0.01)
    assert x.var() == pytest.approx(1 - schedule.at(300), abs=0.01)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_forward_noising_equals_diffusers(diffusers, torch, schedule):
    theirs, clean, mixed = made(diffusers.DDPMScheduler, schedule), pictures(), pictures()
    for t in (0, 17, 500, 999):
        found = theirs.add_noise(torch.from_numpy(clean), torch.from_numpy(mixed), torch.tensor([t, t])).numpy()
        assert np.abs(noise.noised(clean, mixed, schedule.at(t)) - found).max() < 1e-5


def test_noise_and_picture_are_two_ways_to_say_the_same():
    clean, mixed, kept = pictures(), pictures(), 0.3
    x = noise.noised(clean, mixed, kept)
    assert np.allclose(noise.clean_from(x, mixed, kept), clean, atol=1e-5)
    assert np.allclose(noise.noise_from(x, clean, kept), mixed, atol=1e-5)


# ── backward ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("steps", [1000, 50])
def test_the_ancestral_step_equals_diffusers(diffusers, torch, schedule, steps):
    theirs = made(diffusers.DDPMScheduler, schedule, variance_type="fixed_small")
    theirs.set_timesteps(steps)
    levels = noise.ladder(1000, steps)
    for k in (0, steps // 3, steps - 2, steps - 1):
        t, below = levels[k], ([*levels, -1])[k + 1]
        x, predicted = pictures(), pictures()
        fresh = torch.Generator().manual_seed(3)
        out = theirs.step(torch.from_numpy(predicted), t, torch.from_numpy(x), generator=fresh)
        drawn = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).numpy()
        clean = noise.clean_from(x, predicted, schedule.at(t))
        ours = noise.ddpm_step(x, clean, schedule.at(t), schedule.at(below), drawn)
        scale = max(1.0, np.abs(out.prev_sample.numpy()).max())  # unclipped x_0 at the top level is in the hundreds
        assert np.abs(ours - out.prev_sample.numpy()).max() / scale < 1e-5


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_ddim_step_equals_diffusers(diffusers, torch, schedule, eta):
    theirs = made(diffusers.DDIMScheduler, schedule, set_alpha_to_one=True)
    theirs.set_timesteps(20)  # theirs finds the level below as t - 1000 // 20
    for t in (999, 499, 99, 49):
        x, predicted = pictures(), pictures()
        drawn = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
        out = theirs.step(torch.from_numpy(predicted), t, torch.from_numpy(x), eta=eta, variance_noise=drawn)
        clean = noise.clean_from(x, predicted, schedule.at(t))
        ours = noise.ddim_step(x, clean, schedule.at(t), schedule.at(t - 50), eta, drawn.numpy())
        scale = max(1.0, np.abs(out.prev_sample.numpy()).max())
        assert np.abs(ours - out.prev_sample.numpy()).max() / scale < 1e-5


def test_ddim_with_eta_one_has_the_mean_and_variance_of_the_ancestral_step():
    x, clean, drawn = pictures(), pictures(), pictures()
    args = (0.2, 0.35)
    assert np.allclose(noise.ddim_step(x, clean, *args, 1.0, drawn), noise.ddpm_step(x, clean, *args, drawn), atol=1e-5)


def test_learned_variance_lies_between_its_limits():
    schedule = noise.cosine()
    for t in (1, 500, 998):
        args = schedule.at(t), schedule.at(t - 1)
        small, large = schedule.posterior_variance[t], schedule.betas[t]
        assert noise.learned_variance(np.array(0.0), *args) == pytest.approx(small)
        assert noise.learned_variance(np.array(1.0), *args) == pytest.approx(large)
        assert small < noise.learned_variance(np.array(0.5), *args) < large


def test_learned_variance_equals_diffusers(diffusers, torch):
    schedule = noise.cosine()
    theirs = made(diffusers.DDPMScheduler, schedule, variance_type="learned_range")
    said = pictures()  # -1..1
    for t in (5, 700):
        found = theirs._get_variance(t, predicted_variance=torch.from_numpy(said)).exp().numpy()
        ours = noise.learned_variance((said + 1) / 2, schedule.at(t), schedule.at(t - 1))
        assert np.abs(ours / found - 1).max() < 1e-4  # theirs takes betas from its single-precision table


# ── flow and guidance ────────────────────────────────────────────────────────


def test_one_euler_step_along_a_straight_line_arrives():
    clean, mixed = pictures(), pictures()
    for steps in (1, 7):
        last = [m.x for m in reverse.flow(lambda x, u: reverse.Guess(clean), mixed, steps)][-1]
        assert np.allclose(last, clean, atol=1e-5)


def test_guidance_scales():
    conditional, unconditional = pictures(), pictures()
    assert np.allclose(noise.guided(conditional, unconditional, 1.0), conditional, atol=1e-6)
    assert np.array_equal(noise.guided(conditional, unconditional, 0.0), unconditional)
    ho_salimans = (1 + 2) * conditional - 2 * unconditional
    assert np.allclose(noise.guided(conditional, unconditional, 3.0), ho_salimans, atol=1e-5)


def test_steering_with_no_scale_or_no_slope_changes_nothing():
    predicted = pictures()
    assert np.array_equal(noise.steered(predicted, pictures(), 0.4, 0.0), predicted)
    assert np.array_equal(noise.steered(predicted, np.zeros(SHAPE), 0.4, 5.0), predicted)
