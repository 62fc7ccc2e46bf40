"""Every numpy sampler against its namesake in diffusers, with the same noise and the same network."""

import numpy as np
import pytest
import torch

from studio.errors import Unsupported
from studio.ops import solvers
from studio.ops.gaussian import Gaussian
from studio.tasks import SCHEDULERS

SHAPE = (1, 4, 8, 8)
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
      "set_alpha_to_one": False, "steps_offset": 1}  # fmt: skip
STARTER = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": False, "steps_offset": 1,
           "timestep_spacing": "trailing"}  # fmt: skip
COSINE = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False, "timestep_spacing": "linspace"}


def network(x, t):
    """Something smooth that depends on both."""
    return np.tanh(0.7 * x + 0.1 * np.sin(t / 100)).astype(np.float32)


def ours(solver, first=0, start=None):
    stream = Gaussian(5)
    noise = stream.draw(SHAPE)
    x = noise * np.float32(solver.scale) if start is None else solver.noised(start, noise, first)
    for i in range(first, len(solver.times)):
        x = solver.leave(network(solver.enter(x, i), solver.times[i]), i, x, stream.draw)
    return x


def theirs(scheduler, steps, first=0, start=None):
    generator = torch.Generator().manual_seed(5)
    scheduler.set_timesteps(steps)
    noise = torch.randn(SHAPE, generator=generator)
    times = scheduler.timesteps[first:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    x = noise * scheduler.init_noise_sigma
    if start is not None:
        x = scheduler.add_noise(torch.from_numpy(start), noise, times[:1])
    takes_generator = "generator" in scheduler.step.__code__.co_varnames
    extra = {"generator": generator} if takes_generator else {}
    for t in times:
        output = torch.from_numpy(network(scheduler.scale_model_input(x, t).numpy(), float(t)))
        x = scheduler.step(output, t, x, **extra).prev_sample
    return x.numpy()


def diffusers_sampler(name, config):
    from studio.engines import samplers
    from studio.engines.diffusion_load import diffusers

    own = diffusers().DDIMScheduler(**config)
    return samplers.make_scheduler(own, name)


@pytest.mark.parametrize("name", solvers.SOLVERS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("config", [SD, STARTER, COSINE], ids=["sd", "starter", "cosine"])
def test_equals_diffusers(name, prediction, config):
    config = {**config, "prediction_type": prediction}
    for steps in (1, 4, 20):
        wanted = theirs(diffusers_sampler(name, config), steps)
        found = ours(solvers.make(name, {**config, "_class_name": "DDIMScheduler"}, steps))
        if not np.isfinite(wanted).all():  # diffusers' Euler a takes the root of -1e-9 where the schedule ends steeply
            assert (name, config["beta_schedule"]) == ("Euler a", "squaredcos_cap_v2")
            assert np.isfinite(found).all()
            continue
        assert np.allclose(found, wanted, atol=2e-3 * max(1, np.abs(wanted).max())), steps


@pytest.mark.parametrize("name", ["DDIM", "Euler", "Euler a", "DPM++ 2M"])
def test_image_to_image_equals_diffusers(name):
    start = Gaussian(9).draw(SHAPE)
    wanted = theirs(diffusers_sampler(name, SD), 10, first=4, start=start)
    found = ours(solvers.make(name, {**SD, "_class_name": "DDIMScheduler"}, 10), first=4, start=start)
    assert np.allclose(found, wanted, atol=2e-3 * max(1, np.abs(wanted).max()))


def test_zero_terminal_noise():
    config = {**STARTER, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    for name in ("DDIM", "Euler"):
        wanted = theirs(diffusers_sampler(name, config), 8)
        found = ours(solvers.make(name, {**config, "_class_name": "DDIMScheduler"}, 8))
        assert np.allclose(found, wanted, atol=5e-3 * max(1, np.abs(wanted).max())), name


def test_what_is_not_known_is_refused_by_name():
    config = {**SD, "_class_name": "DDIMScheduler"}
    for name in set(SCHEDULERS) - set(solvers.SOLVERS) - {"default"}:
        assert not solvers.knows(name, config)
        with pytest.raises(Unsupported, match=name):
            solvers.make(name, config, 4)
    assert not solvers.knows("default", {"_class_name": "FlowMatchEulerDiscreteScheduler"})
    with pytest.raises(Unsupported, match="1000"):
        solvers.make("DDIM", config, 1001)
    with pytest.raises(Unsupported, match="guess"):
        solvers.make("DDIM", {**config, "prediction_type": "guess"}, 4)
