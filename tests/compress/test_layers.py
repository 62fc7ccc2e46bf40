"""The bars: what each way of storing does to a layer's weights, read back from whatever was written."""

from __future__ import annotations

import pytest

from studio.compress import layers, quantize
from tests.compress.jobs import convolutional
from tests.runtimes.networks import convolution


@pytest.fixture
def job(tmp_path):
    return convolutional("decoder", convolution(tmp_path / "decoder.onnx", width=32), tmp_path)


@pytest.mark.parametrize(
    ("runtime", "precision", "least", "most"),
    [
        ("onnxruntime", "fp16", 1e-5, 1e-3),
        ("openvino", "fp16", 1e-5, 1e-3),
        ("onnxruntime", "int8", 1e-3, 0.02),
        ("openvino", "int8", 1e-3, 0.02),
        ("openvino", "int8-weights", 1e-3, 0.02),
        ("onnxruntime", "int4", 0.03, 0.2),
        ("onnxruntime", "palette-16", 0.03, 0.2),
        ("onnxruntime", "gguf-q4_0", 0.03, 0.2),
        ("onnxruntime", "pruned-50", 0.1, 0.6),
        ("onnxruntime", "int1", 0.4, 0.8),
    ],
)
def test_every_format_tells_what_it_lost(job, runtime, precision, least, most):
    made = quantize.way(runtime, precision)(job)
    found = layers.errors(job.source, job.out, made)
    assert set(found) == {"b"}  # the other one is too small to be compressed
    assert least < found["b"] < most


def test_nothing_is_lost_in_full_precision(job):
    for runtime in ("onnxruntime", "openvino"):
        assert layers.errors(job.source, job.out, quantize.way(runtime, "fp32")(job)) == {}
