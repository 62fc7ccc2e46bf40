"""The diffusion trainees: finite, reproducible to the bit, continued to the bit, exported to what the engine opens."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from studio.nets.denoiser import Config, Denoiser
from studio.ops import noise
from studio.train.data import Data
from studio.train.diffusion_lab import Ddpm, DiffusionTrainee, Flow, ImprovedDdpm, grid
from studio.train.diffusion_losses import Epsilon, Hybrid, Straight
from studio.train.options_diffusion import RECIPES_DIFFUSION, DiffusionOptions

KINDS = (Ddpm, ImprovedDdpm, Flow)
TINY = DiffusionOptions(size=16, width=16, batch=8, rate=2e-3)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> Data:
    """Three classes: a bar of its own colour, top, middle or bottom."""
    pictures = np.full((60, 16, 16, 3), 30, np.uint8)
    labels = np.arange(60) % 3
    for k, label in enumerate(labels):
        pictures[k, 5 * label : 5 * label + 5, :, label] = 200 + k % 40
    return Data(pictures, labels, ("top", "middle", "bottom"), np.arange(48), np.arange(48, 60), "key")


def walked(trainee: DiffusionTrainee, first: int, last: int) -> list[dict[str, float]]:
    found = []
    for step in range(first, last):
        trainee.set_rate(1 - step / 100)
        found.append(dict(trainee.step(step, torch.Generator().manual_seed(1000 + step))))
    return found


def weights(trainee: DiffusionTrainee) -> dict[str, torch.Tensor]:
    return {f"{part}.{k}": v for part in ("net", "average") for k, v in trainee.parts()[part].state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_finite_and_the_same_for_the_same_seed(kind, data):
    runs = []
    for _ in range(2):
        trainee = kind(TINY, data, 5)
        metrics = walked(trainee, 0, 3)
        assert all(np.isfinite(value) for row in metrics for value in row.values())
        runs.append(weights(trainee))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_run_is_bit_equal(kind, data, tmp_path):
    straight = kind(TINY, data, 5)
    walked(straight, 0, 4)
    first = kind(TINY, data, 5)
    walked(first, 0, 2)
    torch.save({name: part.state_dict() for name, part in first.parts().items()}, tmp_path / "last.pt")
    second = kind(TINY, data, 5)
    for name, state in torch.load(tmp_path / "last.pt", weights_only=True).items():
        second.parts()[name].load_state_dict(state)
    walked(second, 2, 4)
    one, other = weights(straight), weights(second)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_looks_and_is_exported(kind, data, tmp_path):
    trainee = kind(TINY, data, 0)
    before = trainee.validate()
    walked(trainee, 0, 16)
    after = trainee.validate()
    assert after[trainee.watched] < before[trainee.watched]
    assert all(np.isfinite(value) for value in after.values())
    if kind is Flow:
        assert trainee.validate() == after, "validation is fixed"
    assert "bound" in after if kind is ImprovedDdpm else "bound" not in after
    shown = trainee.samples()
    assert set(shown) == {"samples", "one_look"}
    assert all(one.dtype == np.uint8 and one.shape[1] <= 512 for one in shown.values())
    facts = trainee.export(tmp_path)
    assert facts["names"] == ["top", "middle", "bottom"]
    config = Config.read(json.loads((tmp_path / "config.json").read_text()))
    assert config == trainee.config
    assert (tmp_path / "model.safetensors").is_file()


def test_more_names_than_a_small_network_can_learn_become_one(data):
    many = Data(data.pictures, np.arange(60), tuple(f"thing {k}" for k in range(100)), data.train, data.valid, "key")
    trainee = Ddpm(TINY, many, 0)
    assert trainee.names == ("pictures",)
    assert trainee.net.classifier is None
    walked(trainee, 0, 1)


def test_without_averaging_the_average_is_the_network(data):
    trainee = Flow(TINY.model_copy(update={"ema": 0.0, "classifier": False}), data, 0)
    walked(trainee, 0, 2)
    state = weights(trainee)
    assert all(torch.allclose(state[f"net.{k}"], state[f"average.{k}"]) for k in trainee.net.state_dict())


def test_a_rate_that_is_too_high_is_seen_as_such(data):
    trainee = Ddpm(TINY.model_copy(update={"rate": 1e4, "optimizer": "SGD", "clip": 0.0}), data, 0)
    assert max(row["loss"] for row in walked(trainee, 0, 12) if np.isfinite(row["loss"])) > 5


# ── what the losses say ──────────────────────────────────────────────────────


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand((16, 3, 16, 16), generator=generator) * 2 - 1
    return clean, torch.arange(16) / 16, torch.randn(clean.shape, generator=generator)


@pytest.mark.parametrize("loss", [Epsilon(noise.linear()), Hybrid(noise.cosine()), Straight()])
def test_the_right_answer_costs_nothing_and_shows_the_picture(loss):
    clean, u, mixed = batch()
    noisy = loss.noised(clean, u, mixed)
    answer = mixed - clean if isinstance(loss, Straight) else mixed
    out = torch.cat([answer, torch.zeros_like(answer)], dim=1) if isinstance(loss, Hybrid) else answer
    assert loss.errors(out, clean, noisy)["simple"].max() == 0
    low = u < 0.9
    assert torch.allclose(loss.clean(out, noisy)[low], clean[low], atol=1e-3)


def test_the_bound_prefers_beta_tilde_for_a_perfect_mean_and_teaches_the_variance_only():
    loss = Hybrid(noise.cosine())
    clean, u, mixed = batch()
    noisy = loss.noised(clean, u * 0.9 + 0.05, mixed)
    said = torch.zeros_like(mixed, requires_grad=True)
    guess = mixed.clone().requires_grad_()
    small, large = (
        loss.bound(torch.cat([mixed, torch.full_like(mixed, value)], dim=1), clean, noisy) for value in (-1.0, 1.0)
    )
    assert small.abs().max() < 1e-3  # mean and variance are those of the true posterior
    assert (large > small).all()
    loss.bound(torch.cat([guess, said], dim=1), clean, noisy).sum().backward()
    assert guess.grad is not None
    assert guess.grad.abs().max() == 0, "the mean is held still"
    assert said.grad.abs().max() > 0


def test_the_last_level_is_coded_in_bits():
    """At t = 0 the term is the length of the code for 8-bit values: between 0 and some 20 bits, less if surer."""
    loss = Hybrid(noise.cosine())
    clean, _, mixed = batch()
    clean = (clean * 127.5).round() / 127.5
    noisy = loss.noised(clean, torch.zeros(16), mixed)
    right = loss.bound(torch.cat([mixed, -torch.ones_like(mixed)], dim=1), clean, noisy)
    wrong = loss.bound(torch.cat([mixed + 3, -torch.ones_like(mixed)], dim=1), clean, noisy)
    assert (right >= 0).all()
    assert (wrong > right).all()


# ── the network around it ────────────────────────────────────────────────────


def network(process: Any, **more: Any) -> Denoiser:
    torch.manual_seed(0)
    net = Denoiser(Config(process=process, size=16, names=("a", "b", "c"), width=16, classifier=True, **more)).eval()
    for p in net.parameters():  # past the zeros it begins with
        torch.nn.init.normal_(p, std=0.05) if p.ndim > 1 else None
    return net


@pytest.mark.parametrize("process", ["ddpm", "improved-ddpm", "flow"])
def test_guidance_one_is_the_conditional_model_and_zero_the_unconditional(process):
    net = network(process)
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    t: float = 0.5 if process == "flow" else 400
    labelled = net.predictor([1, 2])(x, t).clean
    none = net.predictor([None, None])(x, t).clean
    assert not np.array_equal(labelled, none)
    assert np.array_equal(net.predictor([1, 2], guidance=0)(x, t).clean, none)
    nearly = net.predictor([1, 2], guidance=1 + 1e-6)(x, t).clean
    assert np.allclose(nearly, labelled, atol=1e-4)
    assert (net.predictor([1, 2])(x, t).fraction is not None) == (process == "improved-ddpm")


@pytest.mark.parametrize("process", ["ddpm", "flow"])
def test_the_classifier_steers_as_its_formula_says(process):
    net = network(process)
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32) * 0.3
    t: float = 0.4 if process == "flow" else 300
    plain, steered = net.predictor([1])(x, t).clean, net.predictor([1], classifier_scale=0.5)(x, t).clean
    noisy = torch.from_numpy(x).requires_grad_()
    scores = net.classifier(noisy, torch.tensor([net.time_of(t)])).log_softmax(1)
    slope = torch.autograd.grad(scores[0, 1], noisy)[0].numpy()
    if process == "flow":
        expected = plain + 0.5 * 0.4**2 / 0.6 * slope
    else:
        kept = net.config.noise_schedule().at(300)
        predicted = noise.noise_from(x, plain, kept)
        expected = noise.clean_from(x, noise.steered(predicted, slope, kept, 0.5), kept)
    inside = (np.abs(expected) < 1) & (np.abs(plain) < 1)  # what was clipped cannot be compared
    assert inside.mean() > 0.5
    assert np.allclose(steered[inside], expected[inside], atol=1e-4)
    alone = net.predictor([None], classifier_scale=0.5)(x, t).clean
    assert np.array_equal(alone, net.predictor([None])(x, t).clean), "no label, nothing to steer to"


def test_a_fresh_network_predicts_what_follows_from_the_noise_alone():
    """Preconditioning: almost all noise is told apart without having learned anything."""
    net = Denoiser(Config(process="ddpm", size=16, names=("a",), width=16))
    loss = Epsilon(noise.linear())
    clean, _, mixed = batch()
    noisy = loss.noised(clean * 0.6, torch.full((16,), 0.999), mixed)
    out = net(noisy.x, noisy.time, torch.zeros(16, dtype=torch.long))
    assert loss.errors(out, clean, noisy)["simple"].max() < 0.01


@pytest.mark.parametrize(
    "wrong", [{"process": "gan"}, {"schedule": "none"}, {"names": []}, {"size": 20}, {"width": 17}]
)
def test_a_config_that_is_wrong_is_refused(wrong):
    good = Config(process="ddpm", size=16, names=("a",), width=16).write()
    with pytest.raises(ValueError, match=r"."):
        Denoiser(Config.read({**copy.deepcopy(good), **wrong}))


def test_the_recipes_name_classes_that_are_there(data):
    import importlib

    for name, recipe in RECIPES_DIFFUSION.items():
        module, kind = recipe.target.split(":")
        assert getattr(importlib.import_module(module), kind).process == name
        assert recipe.options.made(recipe.preset)


def test_a_grid_holds_all_pictures():
    sheet = grid(np.ones((5, 3, 4, 4), np.float32), 3)
    assert sheet.shape == (8, 12, 3)
