"""Reads the header of an ONNX or GGUF file in a process of its own and prints what it says as JSON."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

from studio.errors import IntegrityError, StudioError, UnsafeFile, Unsupported
from studio.intake.child import fail
from studio.weights.hubcache import safe_name

MAX_NODES = 200_000
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def onnx_facts(path: Path) -> dict[str, Any]:
    """Inputs, outputs, class names and side files of an ONNX model. Raises UnsafeFile, IntegrityError, Unsupported."""
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own kinds, by version
        raise IntegrityError(f"{path.name} is not a sound ONNX file.", "Copy or download it again.") from error
    if not model.graph.node or not model.graph.output:
        raise IntegrityError(f"{path.name} holds no network.", "Copy or download it again.")
    if len(model.graph.node) > MAX_NODES:
        raise UnsafeFile(f"{path.name} has {len(model.graph.node)} nodes.", "Do not use this file.")
    strange = sorted({opset.domain for opset in model.opset_import} - DOMAINS)
    if strange:
        raise Unsupported(f"{path.name} uses operators of {strange[0]!r}.", "Export it with standard operators.")
    side = _side_files(path, model)
    if not side:
        _check(path, model)
    weights = {tensor.name for tensor in model.graph.initializer}
    meta = {item.key: item.value for item in model.metadata_props}
    return {
        "inputs": {i.name: _shape(i) for i in model.graph.input if i.name not in weights},
        "outputs": {o.name: _shape(o) for o in model.graph.output},
        "names": _names(meta.get("names", "")),
        "task": meta.get("task", ""),
        "side": side,
    }


def _check(path: Path, model: Any) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise IntegrityError(
            f"{path.name} is not a valid ONNX model: {str(error).splitlines()[0][:160]}", "Export it again."
        ) from error
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
        if int(fields.get("offset", 0)) + int(fields.get("length", 0)) > target.stat().st_size:
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
    """Architecture and number of tensors of a GGUF file. Raises IntegrityError."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        field = reader.get_field("general.architecture")
        arch = str(field.contents()) if field is not None else ""
        end = max((int(t.data_offset) + int(t.n_bytes) for t in reader.tensors), default=0)
    except Exception as error:  # the reader trusts its input and breaks in many ways
        raise IntegrityError(f"{path.name} is not a sound GGUF file.", "Copy or download it again.") from error
    if not reader.tensors or end > path.stat().st_size:
        raise IntegrityError(f"{path.name} is cut off.", "Copy or download it again.")
    return {"arch": arch, "tensors": len(reader.tensors), "types": sorted({t.tensor_type.name for t in reader.tensors})}


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
