"""Turns an ultralytics or yolov5 .pt checkpoint into ONNX, once, in a process of its own:

    python -m studio.engines.export_yolo IN.pt OUT.onnx [IMGSZ]

A .pt is a pickle, and a pickle can run code. So it is read by torch's restricted unpickler into inert records: every
class name it mentions must be on the allow-list and becomes an empty stand-in, so that not even an allowed class's own
code runs. From the records come the tensors, the names and the description of the architecture; ultralytics then builds
the network anew. On failure the last line of stderr is JSON {"error", "message", "hint"} and the exit status is 1.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from studio.engines import yolo_anchors
from studio.errors import IntegrityError, StudioError, UnsafeFile, Unsupported
from studio.intake import pickles
from studio.nets import torchvision_guard

ALLOWED = re.compile(
    r"""torch\.nn\.modules\.[a-z_]+\.[A-Za-z0-9_]+
      | ultralytics\.nn\.modules(\.[a-z_]+)?\.[A-Za-z0-9_]+
      | ultralytics\.nn\.tasks\.[A-Za-z0-9_]+
      | models\.(yolo|common)\.[A-Za-z0-9_]+
      | ultralytics\.utils\.(loss|tal)\.[A-Za-z0-9_]+
      | ultralytics\.(yolo\.)?utils\.IterableSimpleNamespace
      | pathlib\.(_local\.)?(Posix|Windows|PurePosix|PureWindows)?Path
      | numpy\.dtype | numpy\.(_core|core)\.multiarray\.(scalar|_reconstruct) | numpy\.ndarray
      | (builtins|__builtin__)\.getattr""",
    re.VERBOSE,
)
OLD = "models.yolo."  # classes of the yolov5 repository, which has a head of its own
NETWORKS = {  # class in the checkpoint -> class that is built
    "DetectionModel": "DetectionModel",
    "YOLOv10DetectionModel": "DetectionModel",
    "RTDETRDetectionModel": "RTDETRDetectionModel",
}
OLD_NETWORKS = {"Model", "DetectionModel"}
ACTIVATION = re.compile(r"(torch\.)?nn\.[A-Za-z0-9]+\([\w=., -]*\)")
LAYER = re.compile(r"(nn\.)?[A-Za-z0-9_]+")
NOT_LAYERS = {"TorchVision"}  # downloads weights
ENVIRONMENT = {
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_VERBOSE": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",
}


class Record:
    """What stands in for every class of a checkpoint: it holds state and has no behaviour."""

    def __new__(cls, *_args: Any, **_fields: Any) -> Record:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_fields: Any) -> None:
        """Arguments are dropped: pickled modules are made without any."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def export(checkpoint: Path, out: Path, imgsz: int = 640) -> None:
    """Writes `checkpoint` as ONNX with dynamic height and width to `out`, whole or not at all.

    Call it in a child process: it imports ultralytics, which changes PIL, the environment and the loggers.

    Args:
        imgsz: side in px of the picture the network is traced with, a multiple of 32.
    Raises: UnsafeFile, Unsupported, IntegrityError.
    """
    network = read_checkpoint(checkpoint)
    if str(getattr(network, "origin", "")).startswith(OLD):
        return _export_old(network, out, imgsz)
    model = _model(network)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        model.pt_path = str(Path(folder) / "model.pt")  # the exporter writes beside it; there is no such file
        written = _export(model, Path(model.pt_path).with_suffix(".onnx"), imgsz)
        os.replace(written, out)


def read_checkpoint(path: Path) -> Record:
    """The network of a checkpoint as inert records. Nothing in the file is run. Raises UnsafeFile, Unsupported,
    IntegrityError."""
    names = _class_names(path)
    _refuse(path, names)
    stand_ins: list[Any] = [(type(name.rpartition(".")[2], (Record,), {"origin": name}), name) for name in names]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFile(
            f"{path.name} holds more than a network: {pickles.reason(error)}.", "Do not use this file."
        ) from error
    except (RuntimeError, EOFError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError(f"{path.name} is damaged: {_first_line(error)}.", "Download it again.") from error
    if not isinstance(content, Mapping):
        raise Unsupported(f"{path.name} is not an ultralytics checkpoint.", "Import an ONNX export instead.")
    network = content.get("ema") if content.get("ema") is not None else content.get("model")
    if not isinstance(network, Record):
        raise Unsupported(f"{path.name} holds no whole network, only numbers.", "Import an ONNX export instead.")
    return network


def _class_names(path: Path) -> list[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except ValueError as error:  # the format before torch 1.6, which cannot be listed without being read
        raise UnsafeFile(
            f"{path.name} is a bare pickle or no checkpoint at all.", "Import an ONNX export instead."
        ) from error
    except pickle.UnpicklingError as error:
        raise UnsafeFile(
            f"{path.name} cannot be read safely: {pickles.reason(error)}.", "Do not use this file."
        ) from error
    except (OSError, RuntimeError, EOFError, IndexError, KeyError) as error:
        raise IntegrityError(f"{path.name} cannot be read: {_first_line(error)}.", "Download it again.") from error


def _refuse(path: Path, names: list[str]) -> None:
    """Raises for class names that are not on the allow-list."""
    strange = [name for name in names if not ALLOWED.fullmatch(name)]
    if strange:
        raise UnsafeFile(
            f"{path.name} refers to {strange[0]}, which no detection model needs; it was not opened.",
            "Do not use this file.",
        )


def tensors(record: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The state dict of a recorded module: (dotted name, tensor), as torch names them."""
    state = vars(record)
    dropped = state.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers"):
        for name, value in (state.get(kind) or {}).items():
            is_kept = kind == "_parameters" or not dropped or name not in dropped
            if isinstance(value, torch.Tensor) and is_kept:
                yield prefix + name, value.float() if value.is_floating_point() else value
    for name, child in (state.get("_modules") or {}).items():
        if isinstance(child, Record):
            yield from tensors(child, f"{prefix}{name}.")


def architecture(network: Record) -> dict[str, Any]:
    """The checked description of the layers: plain JSON values and layer names only. Raises Unsupported, UnsafeFile."""
    found = vars(network).get("yaml")
    try:
        plan = json.loads(json.dumps(found))
        layers = [str(row[2]) for row in plan["backbone"] + plan["head"]]
        activation = plan.get("activation")
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise Unsupported("The checkpoint does not describe its layers.", "Import an ONNX export instead.") from error
    wrong = [name for name in layers if not LAYER.fullmatch(name) or name in NOT_LAYERS]
    if wrong:
        raise UnsafeFile(f"The checkpoint asks for a layer {wrong[0][:60]!r}.", "Do not use this file.")
    if activation is not None and not ACTIVATION.fullmatch(str(activation)):  # ultralytics would evaluate it as code
        raise UnsafeFile(f"The checkpoint's activation {str(activation)[:60]!r} is code.", "Do not use this file.")
    return plan


def _model(network: Record) -> Any:
    kind = type(network).__name__
    if kind not in NETWORKS:
        raise Unsupported(
            f"The checkpoint holds a {kind}; only detectors are converted.", "Import an ONNX export instead."
        )
    plan = architecture(network)
    names = _names(vars(network).get("names"), int(plan.get("nc", 80)))
    tasks = _ultralytics()
    try:
        model = getattr(tasks, NETWORKS[kind])(plan, ch=int(plan.get("channels", 3)), nc=len(names), verbose=False)
        model.load_state_dict(dict(tensors(network)))
    except Exception as error:  # what a foreign description breaks inside ultralytics is not known
        raise Unsupported(
            f"The layers of the checkpoint do not fit their description ({_first_line(error)}).",
            "Export it to ONNX with the ultralytics version that made it, and import that.",
        ) from error
    model.names, model.args, model.task = names, {"data": None}, "detect"
    return model.float().eval()


def _export_old(network: Record, out: Path, imgsz: int) -> None:
    """A checkpoint of the yolov5 repository. Raises as `export`."""
    kind = type(network).__name__
    if kind not in OLD_NETWORKS:
        raise Unsupported(
            f"The checkpoint holds a {kind}; only detectors are converted.", "Import an ONNX export of it."
        )
    plan, weights = architecture(network), dict(tensors(network))
    try:
        strides = [float(side) for side in vars(network)["stride"]]
        model = yolo_anchors.build(_ultralytics(), plan, weights, strides)
        names = _names(vars(network).get("names"), model.heads[0].out_channels // len(model.anchors[0]) - 5)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            written = Path(folder) / "model.onnx"
            yolo_anchors.write(model, names, written, imgsz)
            os.replace(written, out)
    except StudioError:
        raise
    except Exception as error:  # what a foreign description breaks inside ultralytics and torch is not known
        raise Unsupported(
            f"The layers of this yolov5 checkpoint do not fit their description ({_first_line(error)}).",
            "Export it to ONNX with the yolov5 version that made it, and import that.",
        ) from error


def _names(found: Any, count: int) -> dict[int, str]:
    """Class names by number; a list or a dict in the file."""
    if isinstance(found, (list, tuple)):
        found = dict(enumerate(found))
    if isinstance(found, Mapping) and sorted(found) == list(range(len(found))) and found:
        return {int(key): str(found[key])[:200] for key in sorted(found)}
    return {number: f"class {number}" for number in range(count)}


def _ultralytics() -> Any:
    """The module `ultralytics.nn.tasks`. At import it reads its settings from the environment, so not before."""
    os.environ.update(ENVIRONMENT)
    if "YOLO_CONFIG_DIR" not in os.environ:
        os.environ["YOLO_CONFIG_DIR"] = tempfile.gettempdir()
    torchvision_guard.install()
    return importlib.import_module("ultralytics.nn.tasks")


def _export(model: Any, expected: Path, imgsz: int) -> Path:
    exporter = importlib.import_module("ultralytics.engine.exporter")
    fields = {"format": "onnx", "imgsz": imgsz, "dynamic": True, "simplify": True, "device": "cpu"}
    fields |= {"nms": False, "mode": "export"}  # False keeps the end-to-end head of YOLOv10 and 26
    try:
        exporter.Exporter(overrides=fields)(model=model)
    except Exception as error:  # the exporter raises whatever torch and onnx raise
        raise Unsupported(
            f"The network cannot be written as ONNX: {_first_line(error)}.", "Export it elsewhere."
        ) from error
    if not expected.is_file():
        raise Unsupported("The exporter wrote no ONNX file.", "Export it elsewhere and import the ONNX.")
    return expected


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def main(argv: list[str]) -> int:
    config = tempfile.mkdtemp(prefix="studio-yolo-")
    os.environ["YOLO_CONFIG_DIR"] = config
    try:
        export(Path(argv[0]), Path(argv[1]), int(argv[2]) if len(argv) > 2 else 640)
    except StudioError as error:
        said = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        sys.stderr.write(json.dumps(said) + "\n")
        return 1
    finally:
        shutil.rmtree(config, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
