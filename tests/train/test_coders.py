"""The trainees of the VAE lab: each learns, reproduces, resumes, shows and exports."""

import json
import math

import numpy as np
import pytest
import torch

from studio.errors import InvalidTask
from studio.train.coders import CORRUPTIONS
from studio.train.options_vae import RECIPES_VAE, VaeOptions
from tests.train.coding import course, squares, trainee

torch.set_num_threads(1)


@pytest.mark.parametrize("name", RECIPES_VAE)
def test_it_learns(name):
    one = trainee(name)
    before = one.validate()
    curve = course(one, 40)
    after = one.validate()
    assert np.mean([m["reconstruction"] for m in curve[-5:]]) < 0.8 * curve[0]["reconstruction"]
    assert after["psnr"] > before["psnr"]
    assert all(math.isfinite(value) for found in (*curve, after) for value in found.values())


@pytest.mark.parametrize("name", RECIPES_VAE)
def test_the_same_seed_gives_the_same_weights(name):
    data = squares()
    torch.manual_seed(1)  # the global generator must not matter
    first = trainee(name, data)
    course(first, 4)
    torch.manual_seed(2)
    second = trainee(name, data)
    course(second, 4)
    theirs = second.net.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in first.net.state_dict().items())
    assert not all(
        torch.equal(a, b)
        for a, b in zip(first.net.parameters(), trainee(name, data, seed=3).net.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", RECIPES_VAE)
def test_a_checkpoint_continues_bit_equal(name, tmp_path):
    whole = trainee(name)
    course(whole, 3)
    torch.save({key: part.state_dict() for key, part in whole.parts().items()}, tmp_path / "last.pt")
    course(whole, 3, start=3)
    again = trainee(name)
    for key, state in torch.load(tmp_path / "last.pt", weights_only=True).items():
        again.parts()[key].load_state_dict(state)
    course(again, 3, start=3)
    assert all(torch.equal(v, again.net.state_dict()[k]) for k, v in whole.net.state_dict().items())
    assert all(torch.equal(v, again.average.weights[k]) for k, v in whole.average.weights.items())


@pytest.mark.parametrize("name", RECIPES_VAE)
def test_validation_and_samples_leave_the_training_alone(name):
    one = trainee(name)
    course(one, 2)
    before = {key: value.clone() for key, value in one.net.state_dict().items()}
    assert one.validate() == one.validate()
    shown = one.samples()
    assert all(torch.equal(value, one.net.state_dict()[key]) for key, value in before.items())
    assert one.net.training
    assert all(p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3 and p.shape[1] <= 512 for p in shown.values())
    assert "reconstructions" in shown
    assert ("samples" in shown) == (name not in ("autoencoder", "denoising-ae", "sparse-ae"))


@pytest.mark.parametrize("name", RECIPES_VAE)
def test_the_export_is_small_whole_and_serialisable(name, tmp_path):
    one = trainee(name)
    course(one, 2)
    facts = one.export(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert json.loads(json.dumps(dict(facts)))["network"] == config["network"]
    assert config["names"] == ["red", "green", "blue", "yellow"]


def test_the_parts_of_the_elbo_add_up():
    found = trainee("vae", deviation=0.3).validate()
    constant = 0.5 * 16 * 16 * 3 * math.log(2 * math.pi * 0.3**2)
    assert found["elbo"] == pytest.approx(-(found["reconstruction"] + found["kl"] + constant), rel=1e-5)
    assert found["loss"] == pytest.approx(found["reconstruction"] + found["kl"], rel=1e-5)
    heavier = trainee("beta-vae", deviation=0.3).validate()
    assert heavier["loss"] == pytest.approx(heavier["reconstruction"] + 4 * heavier["kl"], rel=1e-5)


def test_free_nats_cost_nothing():
    one = trainee("vae", free_bits=10.0)
    found = one.validate()
    assert found["loss"] == pytest.approx(found["reconstruction"] + 10.0 * one.options.latents, rel=1e-5)


def test_the_kl_grows_in_with_the_warm_up():
    one = trainee("vae", warm_up=10)
    x, _ = one.data.draw(8, torch.Generator().manual_seed(0))
    with torch.no_grad():
        early, late = (one.losses(x, None, step, torch.Generator().manual_seed(0)) for step in (0, 20))
    assert float(early["loss"] - early["reconstruction"]) == pytest.approx(0.1 * float(late["kl"]), abs=2e-3)


@pytest.mark.parametrize("noise", CORRUPTIONS)
def test_corruptions_change_what_they_say(noise):
    x = torch.full((4, 3, 16, 16), 0.2)
    corrupted = CORRUPTIONS[noise](x, 0.3, torch.Generator().manual_seed(0))
    assert corrupted.shape == x.shape
    assert corrupted.abs().max() <= 1
    changed = (corrupted != x).float().mean()
    assert (changed > 0.99) if noise == "Gaussian" else (0.15 < changed < 0.45)
    assert torch.equal(corrupted, CORRUPTIONS[noise](x, 0.3, torch.Generator().manual_seed(0)))
    assert one_step(trainee("denoising-ae", noise=noise)) > 0


def one_step(one):
    return course(one, 1)[0]["reconstruction"]


@pytest.mark.parametrize("penalty", ["KL", "L1"])
def test_more_strength_leaves_fewer_latents_on(penalty):
    active = []
    for strength in (0.0, 40.0):
        one = trainee("sparse-ae", penalty=penalty, strength=strength)
        course(one, 30)
        active.append(one.validate()["active_latents"])
    assert active[1] < active[0]


def test_a_conditional_network_is_told_the_label():
    one = trainee("cvae")
    assert one.net.classes == 4
    x, labels = one._held_out(4)
    other = (labels + 1) % 4
    assert not torch.equal(one.net.codes(x, labels), one.net.codes(x, other))
    with pytest.raises(ValueError, match="labels"):
        one.net.codes(x)


def test_the_rate_is_scaled_from_its_peak():
    one = trainee("vae", rate=0.01)
    one.set_rate(0.5)
    one.set_rate(0.25)
    assert one.optimizer.param_groups[0]["lr"] == pytest.approx(0.0025)


def test_settings_have_bounds_and_words():
    with pytest.raises(InvalidTask, match="beta"):
        VaeOptions.made({}, {"beta": -1})
    for recipe in RECIPES_VAE.values():
        for name, field in recipe.options.model_fields.items():
            assert field.description, name
            assert field.title, name
        assert set(recipe.options.first) <= set(recipe.options.model_fields)
