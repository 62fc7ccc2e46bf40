import importlib
import io
import json
import math

import numpy as np
import pytest
import torch

from studio.train.gan_growing import detail_at, detail_of
from studio.train.options_gan import RECIPES_GAN
from tests.train.gan_data import discs

SMALL = {"size": 16, "batch": 8, "noise": 8, "width": 4}
MORE = {
    "infogan": {"categories": 4},
    "progressive-gan": {"stage_steps": 2, "r1_every": 2},
    "stylegan2": {"r1_every": 2, "style": 8, "path": 0.5},
}


def trainee(name, seed=0, **chosen):
    recipe = RECIPES_GAN[name]
    module, _, kind = recipe.target.partition(":")
    options = recipe.options.made(recipe.preset, {**SMALL, **MORE.get(name, {}), **chosen})
    return getattr(importlib.import_module(module), kind)(options, discs(), seed)


def train(one, first, last):
    for step in range(first, last):
        metrics = one.step(step, torch.Generator().manual_seed(1000 + step))
    return metrics


def state(one):
    buffer = io.BytesIO()
    torch.save({name: part.state_dict() for name, part in one.parts().items()}, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def flat(nested):
    if isinstance(nested, torch.Tensor):
        return [nested]
    if isinstance(nested, dict):
        return [t for value in nested.values() for t in flat(value)]
    return [t for value in nested for t in flat(value)] if isinstance(nested, (list, tuple)) else []


@pytest.mark.parametrize("name", RECIPES_GAN)
def test_trains_repeats_and_continues_bit_equal(name, tmp_path):
    one = train_through = trainee(name)
    metrics = train(train_through, 0, 6)
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"loss_d", "loss_g", "grad_d", "grad_g"} <= set(metrics)

    half = trainee(name)
    train(half, 0, 3)
    kept = state(half)
    resumed = trainee(name)
    for part, saved in kept.items():
        resumed.parts()[part].load_state_dict(saved)
    train(resumed, 3, 6)
    for a, b in zip(flat(state(one)), flat(state(resumed)), strict=True):
        assert torch.equal(a, b)

    found = one.validate()
    assert one.watched in found
    assert all(math.isfinite(value) for value in found.values())
    for picture in one.samples().values():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[1] <= 512
    facts = one.export(tmp_path)
    assert facts["training_pictures_inside"] == 40
    assert json.loads((tmp_path / "config.json").read_text())["options"]["size"] == 16


def test_another_seed_is_another_network():
    weights = [next(trainee("dcgan", seed).generator.parameters()) for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_construction_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    train(trainee("stylegan2"), 0, 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_rates_scale_from_the_peak():
    one = trainee("dcgan", rate=0.01, d_rate=2.0)
    one.set_rate(0.5)
    one.set_rate(0.1)
    assert one.g_optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert one.d_optimizer.param_groups[0]["lr"] == pytest.approx(0.002)


def test_wgan_clips_and_wgan_gp_reports_its_norm():
    clipped = trainee("wgan")
    metrics = train(clipped, 0, 2)
    assert 0 < metrics["clipped"] <= 1
    assert max(float(p.abs().max()) for p in clipped.discriminator.parameters()) <= 0.02 + 1e-7
    assert train(trainee("wgan-gp"), 0, 2)["critic_norm"] > 0


def test_an_observation_shows_one_update_of_each():
    one = trainee("dcgan")
    before = state(one)
    seen = one.observe(0, torch.Generator().manual_seed(0))
    after = state(one)
    assert seen.real.shape == seen.fake.shape == seen.fake_after.shape == (8, 3, 16, 16)
    assert not torch.equal(seen.fake, seen.fake_after)
    changed = {part for part in before if any(map(differs, flat(before[part]), flat(after[part])))}
    assert {"generator", "discriminator"} <= changed
    assert "average" not in changed
    # D's update raises real above made.
    gain = (seen.real_after - seen.real_before).mean() - (seen.fake_after_d - seen.fake_before).mean()
    assert float(gain) > 0


def differs(a, b):
    return not torch.equal(a, b)


def test_growing_follows_steps_or_budget():
    assert [detail_at(s, 10, 3) for s in (0, 9, 10, 14, 19, 20, 29, 30, 500)] == [0, 0, 0.1, 0.5, 1, 1, 1, 1.1, 3]
    details = [detail_of(k / 1000, 3) for k in range(1001)]
    assert details[0] == 0
    assert details[-1] == 3
    assert details == sorted(details)
    assert 0.3 < sum(d == 3 for d in details) / 1001 < 0.7
    assert 0.1 < sum(d == 0 for d in details) / 1001 < 0.2
    one = trainee("progressive-gan", stage_steps=0)
    one.set_progress(0.999)
    train(one, 0, 1)
    assert one.growth.detail == 2
    assert state(one)["growth"] == {"detail": 2.0}
