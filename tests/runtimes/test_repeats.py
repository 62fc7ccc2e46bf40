"""A network with free sides answers the same whether it was compiled for a shape or not, and keeps only a few."""

from __future__ import annotations

import numpy as np
import pytest

from studio.errors import Unsupported
from studio.runtimes.base import Settings, runtime
from studio.runtimes.repeats import RepeatSession
from tests.runtimes.networks import convolution


class Counting:
    """A session that answers which shapes it was made for."""

    inputs = outputs = ()

    def __init__(self, name="free"):
        self.name, self.closed = name, False
        self.metadata: dict[str, str] = {}

    def run(self, feed):
        assert not self.closed
        return {"by": self.name}

    def close(self):
        self.closed = True


def at(side):
    return {"images": np.zeros((1, 3, side, side), np.float32)}


def test_a_shape_is_compiled_when_it_comes_again_and_the_oldest_leaves():
    made = {}

    def compiled(shapes):
        side = shapes["images"][-1]
        made[side] = Counting(side)
        return made[side]

    free = Counting()
    session = RepeatSession(free, compiled, 2)
    answers = [session.run(at(side))["by"] for side in (32, 64, 32, 32, 32, 64, 64, 96, 96)]
    assert answers == ["free", "free", "free", 32, 32, "free", 64, "free", 96]
    assert made[32].closed
    session.close()
    assert all(one.closed for one in (free, *made.values()))


def test_what_cannot_be_compiled_runs_free():
    def compiled(shapes):
        raise Unsupported("no such operator", "")

    session = RepeatSession(Counting(), compiled, 1)
    assert [session.run(at(side))["by"] for side in (32, 32, 32, 64, 64)] == ["free"] * 5
    session.close()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_compiled_for_a_shape_or_not_the_answer_is_the_same(name, tmp_path):
    file = convolution(tmp_path / "network.onnx")
    session = runtime(name).load(file, Settings(repeats=1))
    plain = runtime(name).load(file, Settings())
    rng = np.random.default_rng(0)
    for height, width in ((64, 48), (64, 48), (64, 48), (32, 64), (32, 64), (64, 48)):
        feed = {"images": rng.random((1, 3, height, width), np.float32)}
        got, wanted = session.run(feed)["output0"], plain.run(feed)["output0"]
        assert got.shape == (1, 6, height // 4, width // 4)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    session.close()
    plain.close()


def test_a_network_of_fixed_sides_is_compiled_once(tmp_path):
    file = convolution(tmp_path / "network.onnx", size=(64, 64))
    session = runtime("openvino").load(file, Settings(repeats=2))
    assert not isinstance(session, RepeatSession)
    session.close()
