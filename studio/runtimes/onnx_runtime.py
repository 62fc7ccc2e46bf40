"""Networks on ONNX Runtime: quick to load, at home on every processor."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from studio.errors import IntegrityError, OutOfMemory, StudioError, Unsupported
from studio.runtimes.base import Arrays, Port, Settings, first_line, is_out_of_memory

PROVIDERS = {"auto": ("CUDAExecutionProvider", "CPUExecutionProvider"), "cpu": ("CPUExecutionProvider",)}
BROKEN = (
    errors.InvalidProtobuf,
    errors.InvalidGraph,
    errors.InvalidArgument,
    errors.NoSuchFile,
    errors.NoModel,
    errors.Fail,
)
REFUSED = (errors.NotImplemented, errors.RuntimeException, errors.EPFail)
DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
CACHED_BYTES = 2**30  # larger networks are not written down a second time


class OnnxSession:
    """A graph in memory. `feed` is cast to what the graph declares."""

    def __init__(self, session: ort.InferenceSession, file: Path) -> None:
        self._session = session
        self._file = file
        self.inputs = tuple(_port(item) for item in session.get_inputs())
        self.outputs = tuple(_port(item) for item in session.get_outputs())
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        self._dtypes = {port.name: np.dtype(port.dtype) for port in self.inputs}

    def run(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        arrays = {name: np.asarray(value, self._dtypes.get(name)) for name, value in feed.items()}
        try:
            values = self._session.run(None, arrays)
        except (*BROKEN, *REFUSED, ValueError) as error:
            raise run_error(self._file, error) from error
        return dict(zip((port.name for port in self.outputs), values, strict=True))

    def rest(self) -> None:
        """Its arena is kept: getting it anew would cost more than it saves."""

    def close(self) -> None:
        del self._session


class OnnxRuntime:
    name = "onnxruntime"
    suffixes = (".onnx",)

    def load(self, file: Path, settings: Settings, data: Callable[[], bytes] | None = None) -> OnnxSession:
        """See `Runtime.load`. The graph, optimised once, is kept in `settings.cache` and read from there next time."""
        if settings.precision != "fp32":
            raise Unsupported(f"ONNX Runtime does not compute in {settings.precision} here.", "Choose fp32.")
        cached = _cached(file, settings)
        is_known = cached is not None and cached.is_file()
        options = _options(settings)
        draft = None
        if is_known:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        elif cached is not None:
            draft = cached.with_name(f".{cached.name}.{uuid.uuid4().hex[:8]}.onnx")
            options.optimized_model_filepath = str(draft)
        try:
            session = _open(
                cached if is_known and cached is not None else file, options, settings, not is_known and data
            )
        except StudioError:
            if is_known and cached is not None:  # what was kept is damaged; it can be made anew
                cached.unlink(missing_ok=True)
                return self.load(file, settings, data)
            raise
        finally:
            if draft is not None and draft.is_file():
                os.replace(draft, cached)  # type: ignore[arg-type]
        return OnnxSession(session, file)


def run_error(file: Path, error: Exception) -> StudioError:
    """What a failed run means for the user."""
    if is_out_of_memory(error):
        return OutOfMemory(f"{file.name} does not fit into memory.", "Close other models or use a smaller one.")
    return Unsupported(
        f"{file.name} stopped: {first_line(error)}.", "Check `imgsz` in the card against the network's input."
    )


def _options(settings: Settings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, settings.threads)
    # Threads that wait by spinning gain a little on an idle machine and cost a third when anything else runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # old exports warn once per weight
    return options


def _open(
    file: Path, options: ort.SessionOptions, settings: Settings, data: Callable[[], bytes] | Literal[False] | None
) -> ort.InferenceSession:
    providers = [name for name in PROVIDERS[settings.accelerator] if name in ort.get_available_providers()]
    try:
        return ort.InferenceSession(data() if data else str(file), options, providers=providers)
    except BROKEN as error:
        if is_out_of_memory(error):
            raise run_error(file, error) from error
        raise IntegrityError(
            f"{file.name} cannot be read as an ONNX network: {first_line(error)}.",
            "Verify the model or download it again.",
        ) from error
    except REFUSED as error:
        raise Unsupported(
            f"{file.name} cannot run here: {first_line(error)}.", "Export it with an older opset."
        ) from error


def _cached(file: Path, settings: Settings) -> Path | None:
    """Where the optimised graph of this file is kept; its name changes with the file and the library."""
    try:
        stat = file.stat()
        if settings.cache is None or settings.accelerator != "cpu" or stat.st_size > CACHED_BYTES:
            return None
        settings.cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    facts = f"{settings.key} {file.resolve()} {stat.st_size} {stat.st_mtime_ns} {ort.__version__}"
    return settings.cache / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.onnx"


def _port(item: Any) -> Port:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in item.shape)
    return Port(item.name, shape, DTYPES.get(item.type, item.type))
