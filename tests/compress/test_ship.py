"""The graphs that ship beside a model hold its architecture and nothing of its weights."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from studio.compress import graphs
from studio.compress.ship import keep
from studio.config import ROOT


def test_even_the_smallest_weight_is_taken_out(tmp_path):
    """A bias of three colours that stayed behind would go on colouring the pictures of the next training."""
    weights = {"model.w": np.ones((3, 8), np.float32), "model.b": np.full(3, 5.0, np.float32)}
    node = helper.make_node("Gemm", ["x", "model.w", "model.b"], ["y"], transB=1)
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n]) for name, n in (("x", 8), ("y", 3)))
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], stored))
    (tmp_path / "exported").mkdir()
    onnx.save(model, tmp_path / "exported" / "network.onnx")
    keep(tmp_path / "exported", tmp_path)
    bare = graphs.read(tmp_path / "graphs" / "network.onnx")
    assert graphs.is_bare(bare)
    trained = {"w": np.zeros((3, 8)), "b": np.array([1.0, 2.0, 3.0])}
    found = {item.name: numpy_helper.to_array(item) for item in graphs.assemble(bare, trained).graph.initializer}
    assert found["model.b"].tolist() == [1, 2, 3]
    assert not found["model.w"].any()


@pytest.mark.parametrize("file", sorted(ROOT.glob("models/*/graphs/*.onnx")), ids=lambda f: f"{f.parts[-3]}-{f.stem}")
def test_no_shipped_graph_holds_a_weight(file):
    held = graphs.floats(graphs.read(file))
    assert not [name for name, item in held.items() if name.startswith(graphs.PREFIX) and item.raw_data]
