"""What ONNX Runtime made of a graph is kept, read again, and made anew where it is damaged."""

from __future__ import annotations

import numpy as np

from studio.runtimes.base import Settings
from studio.runtimes.onnx_runtime import OnnxRuntime
from tests.runtimes.networks import convolution

FEED = {"images": np.random.default_rng(0).random((1, 3, 64, 64), np.float32)}


def test_the_optimised_graph_is_kept_and_a_damaged_one_is_made_anew(tmp_path):
    file, cache = convolution(tmp_path / "network.onnx"), tmp_path / "cache"
    first = OnnxRuntime().load(file, Settings(cache=cache)).run(FEED)["output0"]
    (kept,) = cache.glob("*.onnx")
    kept.write_bytes(b"damaged")
    again = OnnxRuntime().load(file, Settings(cache=cache)).run(FEED)["output0"]
    np.testing.assert_array_equal(first, again)
    assert kept.read_bytes() != b"damaged"


def test_other_weights_of_one_file_are_kept_apart(tmp_path):
    file, cache = convolution(tmp_path / "network.onnx"), tmp_path / "cache"
    for key in ("a", "b"):
        OnnxRuntime().load(file, Settings(cache=cache, key=key))
    assert len(list(cache.glob("*.onnx"))) == 2


def test_numbers_of_another_type_are_cast_and_metadata_is_read(tmp_path):
    session = OnnxRuntime().load(convolution(tmp_path / "network.onnx"), Settings())
    assert session.metadata["kind"] == "convolutions"
    assert session.run({"images": np.zeros((1, 3, 32, 32), np.uint8)})["output0"].shape == (1, 6, 8, 8)
    session.close()
