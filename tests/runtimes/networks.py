"""Small networks as ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def convolution(file: Path, size: tuple[int, int] | None = None, width: int = 16) -> Path:
    """Two convolutions, (1, 3, H, W) -> (1, 6, H/4, W/4); sides free where no size is given.

    `width` is the number of channels between them; 32 and more make the second one large enough to be compressed.
    """
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(0.2 * rng.standard_normal(shape).astype(np.float32), name)

    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["images", "a"], ["x"], name="one", **window),
        helper.make_node("Relu", ["x"], ["y"], name="two"),
        helper.make_node("Conv", ["y", "b"], ["output0"], name="three", **window),
    ]
    sides: list[str | int] = list(size or ("height", "width"))
    out: list[str | int] = [size[0] // 4, size[1] // 4] if size else ["rows", "columns"]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *sides])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, *out])],
        [weights("a", width, 3, 3, 3), weights("b", 6, width, 3, 3)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"kind": "convolutions"})
    onnx.save(model, str(file))
    return file
