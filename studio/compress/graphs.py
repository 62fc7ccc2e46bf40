"""ONNX graphs without their weights, and weights without their graph.

A graph is a few hundred kilobytes; its weights are in the model's own safetensors files already, or in a packed file.
`strip` takes them out, `assemble` puts them back, so a model's network runs without torch and is not kept twice.
An initializer "model.conv_in.weight" finds the array "conv_in.weight" of the safetensors files.
"""

from __future__ import annotations

import gzip
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from studio.compress.weightfiles import weight_files
from studio.errors import IntegrityError, Unsupported

PREFIX = "model."
TAKEN = "studio.weights"  # the graph's metadata key: how many arrays were taken out
HALF = ".half"  # ends the name of a weight stored as float16 whose graph casts it
LARGE = 2 * 2**30  # a protobuf ends here; above it the weights stand in a file beside the graph
SMALL = 16  # arrays with fewer numbers stay in the graph: most are shapes and scales, not weights

Weights = Mapping[str, NDArray[Any]]


def read(file: Path) -> onnx.ModelProto:
    """The graph with its weights, from an .onnx or .onnx.gz file. Raises IntegrityError."""
    try:
        return (
            onnx.load(str(file)) if file.suffix != ".gz" else onnx.load_from_string(gzip.decompress(file.read_bytes()))
        )
    except Exception as error:  # protobuf raises classes of its own for every kind of damage
        raise IntegrityError(f"{file.name} cannot be read as an ONNX network.", "Download the model again.") from error


def floats(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The float arrays of a graph by their names."""
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    return {item.name: item for item in model.graph.initializer if item.data_type in kinds}


def weights_of(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """The float arrays of a graph that are worth packing by their names, as float32."""
    return {
        name: numpy_helper.to_array(item).astype(np.float32)
        for name, item in floats(model).items()
        if int(np.prod(item.dims)) >= SMALL
    }


def strip(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """A copy of the graph in which those arrays keep name, shape and type, but no numbers."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for item in bare.graph.initializer:
        if item.name in names:
            for field in ("raw_data", "float_data", "int32_data", "double_data", "external_data"):
                item.ClearField(field)  # type: ignore[arg-type]
            item.data_type = onnx.TensorProto.FLOAT
    entry = bare.metadata_props.add()
    entry.key, entry.value = TAKEN, str(len(names))
    return bare


def narrowed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph that stores its float32 weights as float16, cast back by the graph itself: half the file, and
    every runtime computes in float32 as before."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for item in half.graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT and int(np.prod(item.dims)) >= SMALL:
            name = item.name
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), f"{name}{HALF}"))
            casts.append(onnx.helper.make_node("Cast", [item.name], [name], f"{name}{HALF}", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    return half


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the weights that `narrowed` stored as float16 in float32 again, in place."""
    stored = {item.name: item for item in model.graph.initializer if item.name.endswith(HALF)}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in stored:
            item = stored[node.input[0]]
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float32), node.output[0]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def is_narrow(model: onnx.ModelProto) -> bool:
    """Whether `narrowed` made it."""
    return any(item.name.endswith(HALF) for item in model.graph.initializer)


def straight(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, in place, with weights that are transposed before use stored as they are used: what quantizes
    weights looks at what goes into a product, and takes no `Transpose` for a weight."""
    arrays = {item.name: item for item in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    kept = []
    for node in model.graph.node:
        item = arrays.get(node.input[0]) if node.op_type == "Transpose" else None
        if item is None:
            kept.append(node)
            continue
        order = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), None)
        turned = np.ascontiguousarray(np.transpose(numpy_helper.to_array(item), order))
        model.graph.initializer.append(numpy_helper.from_array(turned, node.output[0]))
        uses[item.name] -= 1
        if not uses[item.name]:
            model.graph.initializer.remove(item)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def terse(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, in place, with numbers for names, and without zero points that are zero: in a small network of 8
    bits they are a seventh of the file. The names of inputs and outputs stay."""
    arrays = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        zero = arrays.get(node.input[2]) if node.op_type == "DequantizeLinear" and len(node.input) == 3 else None
        if zero is not None and node.input[0] in arrays and not numpy_helper.to_array(zero).any():
            del node.input[2]
    used = {name for node in model.graph.node for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    names = {value.name: value.name for value in (*model.graph.input, *model.graph.output)} | {"": ""}
    short = {name for name in names if name}
    fresh = (name for name in (f"{number:x}" for number in itertools.count()) if name not in short)

    def named(name: str) -> str:
        if name not in names:
            names[name] = next(fresh)
        return names[name]

    for item in model.graph.initializer:
        item.name = named(item.name)
    for node in model.graph.node:
        node.ClearField("name")
        for ports in (node.input, node.output):
            ports[:] = [named(name) for name in ports]
    return model


def is_bare(model: onnx.ModelProto) -> bool:
    """Whether the weights were taken out."""
    return any(entry.key == TAKEN for entry in model.metadata_props)


def missing(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The arrays of a bare graph that have no numbers."""
    for item in model.graph.initializer:
        has_numbers = item.raw_data or item.float_data or not np.prod(item.dims)
        if item.data_type == onnx.TensorProto.FLOAT and not has_numbers:
            yield item


def assemble(bare: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Puts float32 weights into a bare graph, in place. Names may lack the graph's prefix.

    Raises IntegrityError for a missing array or one of another shape, which it names.
    """
    for item in missing(bare):
        array = weights.get(item.name)
        array = weights.get(item.name.removeprefix(PREFIX)) if array is None else array
        if array is None:
            raise IntegrityError(f"The weights lack {item.name!r}, which the graph needs.", "Convert the model again.")
        if tuple(array.shape) != tuple(item.dims):
            raise IntegrityError(
                f"{item.name!r} is {tuple(array.shape)}; the graph wants {tuple(item.dims)}.",
                "The graph is of another version of this model: convert it again.",
            )
        item.raw_data = np.ascontiguousarray(array, np.float32).tobytes()
    kept = [entry for entry in bare.metadata_props if entry.key != TAKEN]
    del bare.metadata_props[:]
    bare.metadata_props.extend(kept)
    return bare


def save(model: onnx.ModelProto, file: Path) -> None:
    """Writes the graph without the exporter's notes, its weights beside it where they are too large for one file."""
    for node in model.graph.node:  # where in whose source each operator came from: up to a megabyte
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    model.graph.ClearField("value_info")  # shapes in between, which every runtime works out by itself
    if model.ByteSize() >= LARGE:
        onnx.save_model(model, str(file), save_as_external_data=True, location=f"{file.name}.weights")
    else:
        onnx.save_model(model, str(file))


def stored_weights(folder: Path) -> dict[str, NDArray[Any]]:
    """All arrays of the safetensors files of a folder, sharded or not, in the type they are stored in.

    Raises IntegrityError where there is no file or one cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found: dict[str, NDArray[Any]] = {}
    for file in weight_files(folder):
        try:
            found.update(load_file(file))
        except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            raise IntegrityError(f"{file.name} cannot be read: {error}.", "Download the model again.") from error
    if not found:
        raise IntegrityError(f"There are no safetensors files in {folder.name}.", "Download the model again.")
    return found


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the graph computes in 8 bits already."""
    kinds = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger"}
    return any(node.op_type in kinds for node in model.graph.node)


def refuse_quantized(model: onnx.ModelProto, title: str) -> None:
    """Raises Unsupported for a graph that is quantized already: doing it twice loses twice."""
    if is_quantized(model):
        raise Unsupported(f"{title} is quantized already.", "Start from its full-precision version.")
