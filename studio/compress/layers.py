"""What a conversion did to each layer's weights: the relative error of what is stored, by the layer's name.

Every format keeps its weights in another way; each is read back as the runtime will read it, one array after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from studio.compress import graphs
from studio.compress.precisions import is_matrix
from studio.compress.quality import output_error
from studio.compress.variants import PartFile

Named = Iterator[tuple[str, NDArray[Any]]]
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
DIGITS = 6
PLAIN = "/WithoutBiases"  # what OpenVINO adds to the name of an operator that it took the bias from


def errors(source: Path, folder: Path, made: PartFile) -> dict[str, float]:
    """By the name of each matrix: length of the error of its weights over their own length.

    Args:
        source: the ONNX file in full precision.
        folder: where the converted part is.

    Empty where no weight changed. Layers whose weights the format hides are left out.
    """
    model = graphs.read(source)
    own = {item.name: item for item in model.graph.initializer if item.data_type in FLOATS and is_matrix((*item.dims,))}
    found: dict[str, float] = {}
    for name, stored in _READERS[_format(made)](model, folder, made):
        if name not in own:
            continue
        array = numpy_helper.to_array(own[name])
        if array.size == stored.size:  # grouped convolutions have an axis more in OpenVINO
            found[name] = round(output_error(array, stored.reshape(array.shape)), DIGITS)
    return found if any(found.values()) else {}


def _format(made: PartFile) -> str:
    return Path(made.weights or made.file).suffix


# ── ONNX ─────────────────────────────────────────────────────────────────────


def _from_packed(model: onnx.ModelProto, folder: Path, made: PartFile) -> Named:
    from studio.compress.packed import arrays

    return arrays(folder / made.weights)


def _from_gguf(model: onnx.ModelProto, folder: Path, made: PartFile) -> Named:
    from studio.compress.gguf_file import read_gguf

    yield from read_gguf(folder / made.weights).items()


def _from_onnx(model: onnx.ModelProto, folder: Path, made: PartFile) -> Named:
    """What DequantizeLinear or Cast makes of an initializer, under the name that it had."""
    graph = graphs.read(folder / made.file).graph
    stored = {item.name: item for item in graph.initializer}
    for node in graph.node:
        item = stored.get(node.input[0]) if node.input else None
        if item is None:
            continue
        if node.op_type == "Cast":
            yield node.output[0], numpy_helper.to_array(item).astype(np.float32)
        elif node.op_type == "DequantizeLinear":
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
            codes, scale, *zero = (numpy_helper.to_array(stored[name]) for name in node.input if name in stored)
            yield item.name.removesuffix("_quantized"), _dequantized(codes, scale, zero[0] if zero else None, axis)
    places = _places(model)
    for node in graph.node:
        place = places.get(node.input[1].rpartition("_Q")[0]) if node.op_type == "MatMulNBits" else None
        if place is not None:
            facts = {entry.name: entry.i for entry in node.attribute}
            codes, scales = (numpy_helper.to_array(stored[name]) for name in node.input[1:3])
            values = (_unsigned4(codes).astype(np.float32) - 8).reshape(scales.size, -1) * scales.reshape(-1, 1)
            array = values.reshape(facts["N"], -1)[:, : facts["K"]].T
            name, order = place
            yield name, array.transpose(np.argsort(order)) if order else array


def _dequantized(
    codes: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any] | None, axis: int
) -> NDArray[np.floating[Any]]:
    """(codes - zero) * scale; one scale for all, or one for each place along `axis`."""
    along = [1] * codes.ndim
    if scale.size > 1:
        along[axis] = scale.size
    shift = 0 if zero is None else zero.astype(np.float32).reshape(along if zero.size > 1 else [1] * codes.ndim)
    values: NDArray[np.floating[Any]] = (codes.astype(np.float32) - shift) * scale.reshape(along)
    return values


# ── OpenVINO ─────────────────────────────────────────────────────────────────


def _from_openvino(model: onnx.ModelProto, folder: Path, made: PartFile) -> Named:
    """Weights lose their names there, but the operators that use them keep those of the ONNX file."""
    from studio.runtimes.openvino_runtime import library

    places = _places(model)
    users = {
        name: [places.get(one) for one in node.input]
        for node in model.graph.node
        for name in (node.name, *node.output)  # what makes the network's output is called as that
        if name
    }
    for op in library().Core().read_model(str(folder / made.file)).get_ops():
        inputs = users.get(op.get_friendly_name().removesuffix(PLAIN), ())
        for number, place in enumerate(inputs[: op.get_input_size()]):
            value = _constant(op.input_value(number).get_node()) if place is not None else None
            if value is not None and place is not None:
                name, order = place
                yield name, value.transpose(np.argsort(order)) if len(order) == value.ndim else value


def _places(model: onnx.ModelProto) -> dict[str, tuple[str, list[int]]]:
    """Which initializer an input of a node is, by its name, and how its axes were moved on the way."""
    found: dict[str, tuple[str, list[int]]] = {item.name: (item.name, []) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Transpose" and node.input[0] in found and node.attribute:
            found[node.output[0]] = node.input[0], list(node.attribute[0].ints)
    return found


def _constant(node: Any) -> NDArray[Any] | None:
    """What a subgraph of constants gives; None where it is none, or has an operator that weights are not stored by."""
    kind = node.get_type_name()
    if kind == "Constant":
        data: NDArray[Any] = np.array(node.get_data())
        nibbles = _NIBBLES.get(node.get_element_type().get_type_name())
        return data if nibbles is None else nibbles(data.view(np.uint8)).reshape(list(node.get_shape()))
    if kind not in _FOLDED:
        return None
    inputs = [_constant(node.input_value(number).get_node()) for number in range(node.get_input_size())]
    return None if any(one is None for one in inputs) else _FOLDED[kind](*inputs)


def _unsigned4(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two numbers of each byte, the lower half first."""
    return np.stack([data.ravel() & 15, data.ravel() >> 4], axis=1)


def _signed4(data: NDArray[np.uint8]) -> NDArray[np.int8]:
    halves = _unsigned4(data).astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8)


_NIBBLES: Mapping[str, Callable[[NDArray[np.uint8]], NDArray[Any]]] = {"u4": _unsigned4, "i4": _signed4}
_FOLDED: Mapping[str, Callable[..., NDArray[Any]]] = {
    "Convert": lambda values: values.astype(np.float32),
    "Multiply": lambda values, scale: values * scale,
    "Subtract": lambda values, zero: values - zero,
    "Reshape": lambda values, shape: values.reshape(shape),
    "Transpose": lambda values, order: values.transpose(order),
}
_READERS: Mapping[str, Callable[[onnx.ModelProto, Path, PartFile], Named]] = {
    ".safetensors": _from_packed,
    ".gguf": _from_gguf,
    ".onnx": _from_onnx,
    ".xml": _from_openvino,
}
