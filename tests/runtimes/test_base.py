"""Runtimes are found by name, and what goes wrong in one is said in words."""

from __future__ import annotations

import pytest

from studio.errors import IntegrityError, OutOfMemory, Unsupported
from studio.runtimes import base
from studio.runtimes.base import RUNTIMES, TITLES, Settings, runtime
from studio.runtimes.onnx_runtime import run_error
from tests.runtimes.networks import convolution


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "recorder"])
def test_every_runtime_is_found_by_its_name(name):
    assert runtime(name).name == name
    assert name in TITLES


def test_what_is_not_there_is_said(monkeypatch):
    with pytest.raises(Unsupported, match="abacus"):
        runtime("abacus")
    monkeypatch.setitem(RUNTIMES, "openvino", "studio.runtimes.nowhere:Nothing")
    with pytest.raises(Unsupported, match="OpenVINO is not installed"):
        runtime("openvino")


def test_a_librarys_words_are_cut_to_a_line():
    assert base.first_line(ValueError("first.\nsecond")) == "first"
    assert base.first_line(ValueError()) == "ValueError"
    assert len(base.first_line(ValueError("x" * 999))) == 200


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("Failed to allocate")])
def test_the_end_of_memory_is_known_from_every_library(error, tmp_path):
    assert base.is_out_of_memory(error)
    assert isinstance(run_error(tmp_path / "network.onnx", error), OutOfMemory)
    assert not base.is_out_of_memory(RuntimeError("wrong shape"))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_broken_file_and_a_wrong_input_are_refused(name, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(IntegrityError, match=r"broken\.onnx"):
        runtime(name).load(broken, Settings())
    session = runtime(name).load(convolution(tmp_path / "network.onnx", (64, 64)), Settings())
    import numpy as np

    with pytest.raises(Unsupported, match="stopped"):
        session.run({"images": np.zeros((1, 4, 64, 64), np.float32)})
    session.close()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_ports_say_names_shapes_and_types(name, tmp_path):
    session = runtime(name).load(convolution(tmp_path / "network.onnx"), Settings())
    assert session.inputs[0] == base.Port("images", (1, 3, None, None), "float32")
    assert session.outputs[0].name == "output0"
    session.close()
