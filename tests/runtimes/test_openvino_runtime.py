"""OpenVINO reads its own files and ONNX, and keeps compiled networks."""

from __future__ import annotations

import numpy as np
import pytest

from studio.device import probe
from studio.errors import IntegrityError, Unsupported
from studio.runtimes.base import Settings
from studio.runtimes.onnx_runtime import OnnxRuntime
from studio.runtimes.openvino_runtime import OpenvinoRuntime, hint_of, library
from tests.runtimes.networks import convolution

FEED = {"images": np.random.default_rng(0).random((1, 3, 64, 64), np.float32)}


def test_it_answers_as_onnx_runtime_does_from_either_file_and_from_its_cache(tmp_path):
    file = convolution(tmp_path / "network.onnx")
    own = tmp_path / "network.xml"
    library().save_model(library().Core().read_model(str(file)), str(own), compress_to_fp16=False)
    wanted = OnnxRuntime().load(file, Settings()).run(FEED)["output0"]
    settings = Settings(cache=tmp_path / "cache")
    for source in (file, own, own):
        session = OpenvinoRuntime().load(source, settings)
        np.testing.assert_allclose(session.run(FEED)["output0"], wanted, rtol=1e-4, atol=1e-5)
        session.close()
    assert any((tmp_path / "cache").iterdir())


def test_a_file_without_its_weights_is_refused(tmp_path):
    file = tmp_path / "network.xml"
    file.write_text("<net/>")
    with pytest.raises(IntegrityError, match="missing"):
        OpenvinoRuntime().load(file, Settings())


def test_a_precision_is_asked_for_by_name():
    old, new = ["FP32", "INT8"], ["FP32", "INT8", "BF16"]
    assert [hint_of("fp32", can) for can in (old, new)] == ["f32", "f32"]
    assert hint_of("bf16", new) == "bf16"
    with pytest.raises(Unsupported, match="does not compute in bf16"):
        hint_of("bf16", old)
    with pytest.raises(Unsupported, match="int4"):
        hint_of("int4", new)


def test_fp32_is_fp32_on_every_processor(tmp_path):
    """Left to itself OpenVINO computes in bf16 where the processor can, and is a percent off."""
    file = convolution(tmp_path / "network.onnx", width=64)
    wanted = OnnxRuntime().load(file, Settings()).run(FEED)["output0"]
    errors = {}
    for precision in ("fp32", *(["bf16"] if probe().computes("bf16") else [])):
        settings = Settings(cache=tmp_path / "cache", precision=precision)  # one cache: each gets its own from it
        for _ in range(2):
            got = OpenvinoRuntime().load(file, settings).run(FEED)["output0"]
            errors.setdefault(precision, []).append(float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted)))
    assert max(errors["fp32"]) < 1e-5
    assert min(errors.get("bf16", [1])) > 1e-4


def test_onnx_runtime_has_no_bf16(tmp_path):
    with pytest.raises(Unsupported, match="does not compute in bf16"):
        OnnxRuntime().load(convolution(tmp_path / "network.onnx"), Settings(precision="bf16"))


def test_a_rested_network_runs_again(tmp_path):
    session = OpenvinoRuntime().load(convolution(tmp_path / "network.onnx"), Settings(repeats=1))
    first = session.run(FEED)["output0"]
    for _ in range(3):
        session.rest()
        np.testing.assert_array_equal(session.run(FEED)["output0"], first)
