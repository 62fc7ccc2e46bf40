"""OpenVINO reads its own files and ONNX, and keeps compiled networks."""

from __future__ import annotations

import numpy as np
import pytest

from studio.errors import IntegrityError
from studio.runtimes.base import Settings
from studio.runtimes.onnx_runtime import OnnxRuntime
from studio.runtimes.openvino_runtime import OpenvinoRuntime, library
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
