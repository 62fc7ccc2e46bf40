"""The measures of the VAE lab, on numbers whose answer is known."""

import math

import numpy as np
import pytest
import torch

from studio.errors import InvalidTask
from studio.train import data as pictures
from studio.train import vae_measures
from tests.train.coding import squares, trainee

torch.set_num_threads(1)


def test_auroc_of_known_orders():
    low, high = np.arange(10.0), np.arange(20.0, 30.0)
    assert vae_measures.auroc(low, high) == 1
    assert vae_measures.auroc(high, low) == 0
    assert vae_measures.auroc(low, low) == pytest.approx(0.5)
    assert vae_measures.auroc(np.zeros(5), np.zeros(5)) == 0.5


def test_a_held_out_class_is_neither_learned_nor_judged():
    rest = vae_measures.without(squares(), 2)
    assert 2 not in rest.labels[rest.train]
    assert 2 not in rest.labels[rest.valid]
    assert 2 in rest.labels


def test_a_held_out_group_of_stickers_is_a_class_or_many_or_not_there_at_all():
    data = pictures.load("stickers", 16)
    usual, unusual = vae_measures.parted(data, "food")
    food = {data.names.index(name) for name in unusual.names}
    assert len(food) > 5
    assert not food & {*usual.labels[usual.train], *usual.labels[usual.valid]}
    assert len(unusual.valid) == len(unusual.pictures)
    usual, unusual = vae_measures.parted(data, "rocket")
    assert {unusual.names[label] for label in unusual.labels[unusual.valid]} == {"rocket"}
    usual, unusual = vae_measures.parted(data, "smileys")
    assert len(usual.train) == len(data.train)
    with pytest.raises(InvalidTask, match="no stickers"):
        vae_measures.parted(data, "unicorns")


def test_scores_are_one_a_picture():
    one = trainee("autoencoder")
    found = vae_measures.scores(one, one.data)
    assert found.shape == (16,)
    assert (found > 0).all()


def test_pure_codes_are_pure_and_mixed_ones_are_not():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (4000, 2))
    pure = values + 0.01 * rng.standard_normal((4000, 2))
    mixed = pure @ np.array([[1.0, 1.0], [1.0, -1.0]])
    used = np.array([True, True])
    told_pure, told_mixed = (vae_measures.information(codes, values) for codes in (pure, mixed))
    assert vae_measures.purity(told_pure, used) > 0.97
    assert vae_measures.purity(told_mixed, used) == pytest.approx(0.5, abs=0.05)
    assert vae_measures.gap(told_pure, values) > 0.9 > 0.1 > vae_measures.gap(told_mixed, values)
    assert told_pure[0, 0] == pytest.approx(math.log(4), rel=0.02)
    assert vae_measures.purity(told_pure, ~used) == 0


def test_pictures_with_known_factors():
    data, values = vae_measures.factors(16)
    assert data.pictures.shape == (972, 16, 16, 3)
    assert len(np.unique(values, axis=0)) == 972
    assert not set(data.train) & set(data.valid)


def test_a_drag_is_timed(tmp_path):
    one = trainee("vae")
    one.export(tmp_path)
    found = vae_measures.drag(tmp_path, count=5)
    assert 0 < found["median_ms"] <= found["p95_ms"]
