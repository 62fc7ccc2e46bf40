"""What a network is asked is written down, in order, and not for ever."""

from __future__ import annotations

import numpy as np
import pytest

from studio.runtimes import recorder
from studio.runtimes.base import Settings, runtime
from tests.runtimes.networks import convolution


def test_questions_are_kept_in_order_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "LIMIT", 3)
    cache = tmp_path / "cache"
    session = runtime("recorder").load(convolution(tmp_path / "network.onnx"), Settings(cache=cache))
    for number in range(5):
        session.run({"images": np.full((1, 3, 16, 16), number, np.float32)})
    session.close()
    assert [call["images"].flat[0] for call in recorder.calls(cache, "network")] == [0, 1, 2]
    assert recorder.calls(cache, "another part") == []


def test_it_needs_a_place_to_write_to(tmp_path):
    with pytest.raises(ValueError, match="folder"):
        runtime("recorder").load(convolution(tmp_path / "network.onnx"), Settings())
