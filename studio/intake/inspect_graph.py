"""Reads the header of an ONNX or GGUF file in a process of its own and prints what it says as JSON."""

from __future__ import annotations

import ast
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from studio.compress import graphs
from studio.errors import IntegrityError, StudioError, UnsafeFile, Unsupported
from studio.intake.child import fail
from studio.intake.gguf_header import read_facts
from studio.weights.hubcache import safe_name

MAX_NODES = 200_000
FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}  # ONNX's numbers of FLOAT, FLOAT16, DOUBLE -> numpy's names
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def onnx_facts(path: Path) -> dict[str, Any]:
    """Inputs, outputs, class names and side files of an ONNX model, and whether its weights were taken out of it.

    Raises UnsafeFile, IntegrityError, Unsupported.
    """
    import onnx

    try:
        return _facts(path, onnx.load(str(path), load_external_data=False))
    except StudioError:
        raise
    except Exception as error:  # protobuf raises its own kinds, by version, some only when a broken field is read
        raise IntegrityError(f"{path.name} is not a sound ONNX file.", "Copy or download it again.") from error


def _facts(path: Path, model: Any) -> dict[str, Any]:
    if not model.graph.node or not model.graph.output:
        raise IntegrityError(f"{path.name} holds no network.", "Copy or download it again.")
    if len(model.graph.node) > MAX_NODES:
        raise UnsafeFile(f"{path.name} has {len(model.graph.node)} nodes.", "Do not use this file.")
    strange = sorted({opset.domain for opset in model.opset_import} - DOMAINS)
    if strange:
        raise Unsupported(f"{path.name} uses operators of {strange[0]!r}.", "Export it with standard operators.")
    side, is_bare = _side_files(path, model), graphs.is_bare(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    meta = {item.key: item.value for item in model.metadata_props}
    facts = {
        "inputs": {i.name: _shape(i) for i in model.graph.input if i.name not in weights},
        "outputs": {o.name: _shape(o) for o in model.graph.output},
        "names": _names(meta.get("names", "")),
        "task": meta.get("task", ""),
        "side": side,
        "bare": is_bare,
    }
    _refuse_nan(path, model)
    if not side:
        _check(path, _opened(model) if is_bare else model)
    return facts


def _opened(model: Any) -> Any:
    """A bare graph with inputs in place of its weights, for the checker: an array without numbers is none to it."""
    from onnx import helper

    bare = list(graphs.missing(model))
    model.graph.input.extend(helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in bare)
    names = {one.name for one in bare}
    kept = [one for one in model.graph.initializer if one.name not in names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _refuse_nan(path: Path, model: Any) -> None:
    """Looks at every float of the weights; a single number may be a constant of some comparison."""
    for tensor in _tensors(model.graph):
        if tensor.data_type in FLOATS and math.prod(tensor.dims) > 1 and np.isnan(_values(path, tensor)).any():
            raise IntegrityError(
                f"{path.name} is damaged: {tensor.name[:80]!r} holds values that are not numbers (NaN).",
                "Export it again, or get another version.",
            )


def _values(path: Path, tensor: Any) -> Any:
    """The numbers of a tensor, (N,), wherever they stand; its place was checked."""
    from onnx import numpy_helper

    kind = FLOATS[tensor.data_type]
    if tensor.data_location == tensor.EXTERNAL:
        fields = {item.key: item.value for item in tensor.external_data}
        place = path.parent / safe_name(fields["location"])
        return np.memmap(place, kind, "r", int(fields.get("offset", "0")), (math.prod(tensor.dims),))
    if tensor.raw_data:
        return np.frombuffer(tensor.raw_data, kind)
    has_numbers = tensor.float_data or tensor.double_data or tensor.int32_data
    return numpy_helper.to_array(tensor) if has_numbers else np.empty(0)


def _check(path: Path, model: Any) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise IntegrityError(
            f"{path.name} is not a valid ONNX model: {str(error).splitlines()[0][:160]}", "Export it again."
        ) from error
    except UnicodeDecodeError:
        raise  # a name that is no text
    except ValueError:
        return  # larger than a protobuf can be serialised; ONNX Runtime checks it when it loads


def _side_files(path: Path, model: Any) -> list[str]:
    """Names of the files that hold tensors outside of the model, each checked to lie beside it."""
    found: set[str] = set()
    for tensor in _tensors(model.graph):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        fields = {item.key: item.value for item in tensor.external_data}
        name = safe_name(fields.get("location", ""))
        target = path.parent / name
        if not target.is_file():  # in the hub's cache it is a link; an import copies no links
            raise IntegrityError(f"{path.name} needs {name}, which is not beside it.", "Import the folder with both.")
        offset, length = (fields.get(key, "0") for key in ("offset", "length"))
        if not (offset.isdecimal() and length.isdecimal()):
            raise IntegrityError(
                f"{path.name} places {tensor.name[:60]!r} at {offset[:20]!r}, {length[:20]!r} of {name}.",
                "Export it again.",
            )
        if int(offset) + int(length) > target.stat().st_size:
            raise IntegrityError(f"{name} is shorter than {path.name} says.", "Copy or download it again.")
        found.add(name)
    return sorted(found)


def _tensors(graph: Any) -> Any:
    """Every tensor of a graph and of the graphs and constants inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)


def _shape(value: Any) -> list[int]:
    """Sizes of the axes, 0 where they change from run to run."""
    return [int(axis.dim_value) for axis in value.type.tensor_type.shape.dim]


def _names(text: str) -> list[str]:
    """Class names as ultralytics writes them: the text of a dict or list."""
    try:
        found = ast.literal_eval(text) if len(text) < 2**20 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    if isinstance(found, dict):
        found = [found[key] for key in sorted(found)]
    return [str(name)[:200] for name in found] if isinstance(found, list) else []


def gguf_facts(path: Path) -> dict[str, Any]:
    """Architecture, number of tensors and their types. Raises IntegrityError."""
    return read_facts(path)._asdict()


READERS = {"onnx": onnx_facts, "gguf": gguf_facts}


def main(argv: list[str]) -> int:
    try:
        facts = READERS[argv[0]](Path(argv[1]))
    except StudioError as error:
        return fail(error)
    sys.stdout.write(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
