"""Bits by layer: as good as trying everything, within the budget, and better than one width for all."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.compress.allocate import (
    Option,
    allocate,
    blocks,
    by_lagrange,
    candidates,
    layers,
    plan,
    sensitivity,
    settle,
    uniform_bytes,
)
from studio.compress.packing import round_trip
from studio.compress.schemes import F16, symmetric
from studio.errors import Cancelled, InvalidTask

SCHEME = symmetric(4)
TABLES = st.lists(
    st.lists(st.tuples(st.integers(0, 400), st.floats(0, 100)), min_size=1, max_size=4), min_size=1, max_size=5
)


def as_table(rows):
    return {f"layer{i}": [Option(SCHEME, size, error) for size, error in row] for i, row in enumerate(rows)}


@settings(max_examples=150, deadline=None)
@given(TABLES, st.integers(0, 1500))
def test_nothing_better_fits(rows, budget):
    table = as_table(rows)
    possible = [c for c in itertools.product(*table.values()) if sum(one.bytes for one in c) <= budget]
    if not possible:
        with pytest.raises(InvalidTask, match="too few"):
            allocate(table, budget)
        return
    found = allocate(table, budget)
    assert found.bytes <= budget
    assert found.error == pytest.approx(min(sum(one.error for one in c) for c in possible))
    assert by_lagrange(table, budget).bytes <= budget


def test_what_cannot_be_chosen_from_is_refused():
    with pytest.raises(InvalidTask):
        allocate({"a": []}, 10)
    with pytest.raises(InvalidTask, match="no number"):
        allocate({"a": [Option(SCHEME, 1, float("nan"))]}, 10)
    assert allocate({}, 0).bytes == 0


def test_many_layers_take_no_time_and_stay_within_the_budget():
    rng = np.random.default_rng(0)
    table = {
        f"{i}": [Option(SCHEME, int(b * s), float(e * 4.0**-b)) for b in (2, 3, 4, 5, 6, 8)]
        for i, (s, e) in enumerate(zip(rng.integers(1e3, 1e6, 200), rng.exponential(size=200), strict=True))
    }
    budget = sum(options[2].bytes for options in table.values())
    found = allocate(table, budget)
    assert budget * 0.999 <= found.bytes <= budget
    assert found.error < 0.6 * sum(options[2].error for options in table.values())


class Network:
    """Three linear layers of very different weight for the output."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.weights = {
            "in.weight": rng.normal(size=(64, 64)).astype(np.float32) * 0.1,
            "mid.a.weight": rng.normal(size=(64, 64)).astype(np.float32),
            "mid.b.weight": rng.normal(size=(64, 64)).astype(np.float32) * 3,
            "mid.b.bias": np.zeros(64, np.float32),
        }
        self.x = rng.normal(size=(16, 64)).astype(np.float32)
        self.reference = self.run(self.weights)

    def run(self, weights):
        return self.x @ weights["in.weight"] + self.x @ weights["mid.a.weight"] + self.x @ weights["mid.b.weight"]

    def loss(self, changed):
        return float(np.square(self.run({**self.weights, **changed}) - self.reference).mean())


@pytest.mark.parametrize("tried", [(), (2, 4)])
@pytest.mark.parametrize("divide", [layers, lambda weights: blocks(weights, 2)])
def test_mixed_widths_beat_one_width_at_the_same_bytes(divide, tried):
    net = Network()
    units = divide(net.weights)
    seen = []
    tick = lambda done, total: seen.append((done, total))  # noqa: E731
    table = sensitivity(net.weights, units, net.loss, candidates(), tick, tried)
    assert seen[-1] == (len(units), len(units))
    assert all(len(options) == len(candidates()) for options in table.values())
    budget = uniform_bytes(net.weights, SCHEME)
    found = settle(net.weights, units, net.loss, table, budget)
    chosen = plan(found, units, net.weights)
    assert chosen["mid.b.bias"] == F16
    mixed = net.loss({name: round_trip(net.weights[name], scheme) for name, scheme in chosen.items()})
    uniform = net.loss({name: round_trip(net.weights[name], SCHEME) for name in layers(net.weights)})
    assert found.bytes <= budget
    assert mixed < uniform * 0.8


def test_measuring_can_be_cancelled():
    def stop(done, total):
        raise Cancelled

    net = Network()
    with pytest.raises(Cancelled):
        sensitivity(net.weights, layers(net.weights), net.loss, candidates(), stop)


def test_blocks_are_the_parts_of_names():
    names = ("down.1.resnets.0.conv1.weight", "down.1.resnets.1.conv1.weight", "down.2.conv.weight", "conv_in.weight")
    weights = {name: np.zeros((64, 64), np.float32) for name in names}
    assert {unit: len(found) for unit, found in blocks(weights, 2).items()} == {"down": 3, "conv_in": 1}
    assert {unit: len(found) for unit, found in blocks(weights, 3).items()} == {"down.1": 2, "down.2": 1, "conv_in": 1}
    assert blocks(weights, 9) == layers(weights)
    assert blocks({}) == {}


def test_a_layer_that_is_not_missed_gets_what_is_left_and_never_too_little():
    """A dead layer errs nowhere when tried alone; at one bit it would wake up and spoil everything."""

    class Dead(Network):
        def run(self, weights):
            woken = np.abs(weights["mid.b.weight"] - self.weights["mid.b.weight"]).mean() > 1.2
            return self.x @ weights["in.weight"] + 100 * woken + self.x @ weights["mid.a.weight"]

    net = Dead()
    units = layers(net.weights)
    table = sensitivity(net.weights, units, net.loss, candidates())
    budget = uniform_bytes(net.weights, SCHEME)
    found = settle(net.weights, units, net.loss, table, budget)
    chosen = {name: found.chosen[name].scheme for name in units}
    assert chosen["mid.b.weight"].bits >= 2
    assert net.loss({name: round_trip(net.weights[name], scheme) for name, scheme in chosen.items()}) < 0.1
    with pytest.raises(InvalidTask):
        settle(net.weights, units, net.loss, table, 10)
