"""Channels that leave are really gone: fewer weights, a graph that runs, and the answer of the ones that stayed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from studio.compress import graphs, quantize
from studio.compress.channels import prune
from studio.compress.conversion import _part
from studio.compress.networks import assembled
from studio.compress.parts import Part
from studio.errors import InvalidTask, Unsupported
from studio.runtimes.base import Settings, runtime

WINDOW = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def made(nodes, weights, out, shape=(1, 3, 16, 16)):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def drawn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def detector_like():
    """What a YOLO block does: split, an own path that is added, joined again, depthwise, a head that stays."""
    weights = {
        "a": drawn(32, 3, 3, 3), "ab": drawn(32), "b": drawn(16, 16, 3, 3), "c": drawn(24, 48, 1, 1),
        "d": drawn(24, 1, 3, 3), "db": drawn(24), "e": drawn(5, 24, 1, 1), "halves": np.array([16, 16]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["1"], **WINDOW),
        helper.make_node("Sigmoid", ["1"], ["1s"]),
        helper.make_node("Mul", ["1", "1s"], ["1m"]),
        helper.make_node("Split", ["1m", "halves"], ["2", "3"], axis=1),
        helper.make_node("Conv", ["3", "b"], ["4"], **WINDOW),
        helper.make_node("Add", ["3", "4"], ["5"]),
        helper.make_node("Concat", ["2", "3", "5"], ["6"], axis=1),
        helper.make_node("Conv", ["6", "c"], ["7"]),
        helper.make_node("Conv", ["7", "d", "db"], ["8"], group=24, **WINDOW),
        helper.make_node("MaxPool", ["8"], ["9"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["9", "e"], ["y"]),
    ]
    return made(nodes, weights, (1, 5, 8, 8))


def mlp_like():
    """A hidden layer between two products, beside a residual that stays."""
    weights = {"up": drawn(16, 64), "upb": drawn(64), "down": drawn(64, 16), "half": np.float32(0.5).reshape(1)}
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["1"]),
        helper.make_node("Add", ["upb", "1"], ["2"]),
        helper.make_node("Mul", ["2", "half"], ["3"]),
        helper.make_node("Relu", ["3"], ["4"]),
        helper.make_node("MatMul", ["4", "down"], ["5"]),
        helper.make_node("Add", ["5", "x"], ["y"]),
    ]
    return made(nodes, weights, (1, 7, 16), (1, 7, 16))


def silence(weights, name, bias, count, axis=0):
    """Makes the first channels of a layer answer nothing at all: without them nothing changes."""
    np.moveaxis(weights[name], axis, 0)[:count] = 0
    if bias:
        weights[bias][:count] = 0


@pytest.mark.parametrize("build", [detector_like, mlp_like])
def test_the_graph_runs_with_fewer_channels(build):
    model = build()
    weights = graphs.weights_of(model)
    before = sum(array.size for array in weights.values())
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    left = prune(model, weights, 0.25)
    assert sum(array.size for array in left.weights.values()) < 0.8 * before
    assert 0 < max(left.errors.values()) < 1
    onnx.checker.check_model(model, full_check=True)
    import onnxruntime as ort

    answer = ort.InferenceSession(model.SerializeToString()).run(None, {"x": drawn(*shape)})[0]
    wanted = [side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim]
    assert list(answer.shape) == wanted
    assert np.isfinite(answer).all()


def test_channels_that_said_nothing_are_the_first_to_go_and_nobody_misses_them():
    import onnxruntime as ort

    model = mlp_like()
    weights = {name: array.copy() for name, array in graphs.weights_of(model).items()}
    silence(weights, "up", "upb", 16, axis=1)
    for item in model.graph.initializer:
        if item.name in weights:
            item.CopyFrom(numpy_helper.from_array(weights[item.name], item.name))
    feed = {"x": drawn(1, 7, 16)}
    whole = ort.InferenceSession(model.SerializeToString()).run(None, feed)[0]
    left = prune(model, weights, 0.25)
    assert left.weights["up"].shape == (16, 48)
    assert left.weights["down"].shape == (48, 16)
    pruned = ort.InferenceSession(model.SerializeToString()).run(None, feed)[0]
    np.testing.assert_allclose(pruned, whole, rtol=1e-4, atol=1e-4)


def test_what_cannot_leave_is_said():
    lone = made([helper.make_node("Conv", ["x", "a"], ["y"], **WINDOW)], {"a": drawn(32, 3, 3, 3)}, (1, 32, 16, 16))
    with pytest.raises(Unsupported, match="No channel"):
        prune(lone, graphs.weights_of(lone), 0.5)
    with pytest.raises(InvalidTask):
        prune(lone, graphs.weights_of(lone), 1.5)


def test_a_pruned_part_is_smaller_on_disk_and_loads(tmp_path):
    source, out = tmp_path / "network.onnx", tmp_path / "out"
    out.mkdir()
    onnx.save(detector_like(), str(source))
    feeds = [{"x": drawn(1, 3, 16, 16)}]
    job = quantize.Job("network", source, out, feeds)
    about = Part("network", ("x",), ("y",))
    half = _part(job, "onnxruntime", "fp16", about)
    size = (out / half.file).stat().st_size
    made = _part(job, "onnxruntime", "pruned-rows-50", about)
    assert (out / made.weights).stat().st_size + (out / made.file).stat().st_size < size
    assert made.layers
    assert made.note == ""
    session = runtime("openvino").load(
        out / made.file, Settings(), lambda: assembled(out / made.file, out / made.weights)
    )
    assert session.run(feeds[0])["y"].shape == (1, 5, 8, 8)


def test_a_part_without_such_channels_stays_whole_and_says_so(tmp_path):
    source, out = tmp_path / "network.onnx", tmp_path / "out"
    out.mkdir()
    lone = made([helper.make_node("Conv", ["x", "a"], ["y"], **WINDOW)], {"a": drawn(64, 3, 3, 3)}, (1, 64, 16, 16))
    onnx.save(lone, str(source))
    job = quantize.Job("network", source, out, [{"x": drawn(1, 3, 16, 16)}])
    part = _part(job, "onnxruntime", "pruned-rows-25", Part("network", ("x",), ("y",)))
    assert part.precision == "fp16"
    assert "stays in fp16" in part.note


def test_less_than_was_asked_for_is_said(tmp_path):
    """One of two branches makes what comes out of the network, and may not lose a channel."""
    source, out = tmp_path / "network.onnx", tmp_path / "out"
    out.mkdir()
    wide = {"kernel_shape": [9, 9], "pads": [4, 4, 4, 4]}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], **WINDOW),
        helper.make_node("Conv", ["p", "b"], ["q"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["x", "c"], ["r"], **wide),
        helper.make_node("Add", ["q", "r"], ["y"]),
    ]
    weights = {"a": drawn(64, 3, 3, 3), "b": drawn(5, 64, 1, 1), "c": drawn(5, 3, 9, 9)}
    onnx.save(made(nodes, weights, (1, 5, 16, 16)), str(source))
    job = quantize.Job("network", source, out, [{"x": drawn(1, 3, 16, 16)}])
    part = _part(job, "onnxruntime", "pruned-rows-25", Part("network", ("x",), ("y",)))
    assert part.note.startswith("16% of the network's weights went, 25% were asked for")
