"""Networks on OpenVINO: 8-bit arithmetic where the processor has it, compiled networks kept on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.errors import IntegrityError, OutOfMemory, StudioError, Unsupported
from studio.runtimes.base import Arrays, Port, Session, Settings, first_line, is_out_of_memory
from studio.runtimes.pages import given_back
from studio.runtimes.repeats import RepeatSession, Shapes

HINTS = {"fp32": "f32", "bf16": "bf16"}  # precision -> OpenVINO's name of it


def library() -> Any:
    """The `openvino` module, without its telemetry: that package counts as not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # how Python spells "not there"
    import openvino

    return openvino


class OpenvinoSession:
    """A compiled network. Inputs are cast to what it declares; outputs are copies."""

    def __init__(self, compiled: Any, file: Path, weights: Path | None = None) -> None:
        self._compiled = compiled
        self._weights = weights
        self._request = compiled.create_infer_request()
        self._file = file
        self.inputs = tuple(_port(item) for item in compiled.inputs)
        self.outputs = tuple(_port(item) for item in compiled.outputs)
        self.metadata: Mapping[str, str] = {}  # not kept by this format
        self._dtypes = {port.name: np.dtype(port.dtype) for port in self.inputs}

    def run(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        arrays = {name: np.asarray(value, self._dtypes.get(name)) for name, value in feed.items()}
        weights, self._weights = self._weights, None
        try:
            with given_back(weights) if weights is not None else nullcontext():  # the first run copies them
                found = self._request.infer(arrays)
        except (RuntimeError, ValueError, KeyError) as error:
            raise _failed(self._file, error) from error
        return {port.name: np.array(found[i]) for i, port in enumerate(self.outputs)}

    def rest(self) -> None:
        self._compiled.release_memory()

    def close(self) -> None:
        del self._request, self._compiled


class OpenvinoRuntime:
    name = "openvino"
    suffixes = (".xml", ".onnx")

    def __init__(self) -> None:
        library()

    def load(self, file: Path, settings: Settings, data: Callable[[], bytes] | None = None) -> Session:
        """See `Runtime.load`. Reads OpenVINO's own .xml (with .bin beside it) and .onnx."""
        session = self._load(file, settings, data)
        if not settings.repeats or all(None not in port.shape for port in session.inputs):
            return session

        def compiled(shapes: Shapes) -> Session:
            return self._load(file, replace(settings, shapes=shapes), data)  # read anew: the graph was let go of

        return RepeatSession(session, compiled, settings.repeats)

    def _load(self, file: Path, settings: Settings, data: Callable[[], bytes] | None) -> OpenvinoSession:
        ov = library()
        core = ov.Core()
        weights = file.with_name(file.name.partition(".")[0] + ".bin") if ".xml" in file.suffixes else None
        if not file.is_file() or (weights is not None and not weights.is_file()):
            raise IntegrityError(f"{file.name} or its .bin is missing.", "Convert the model again.")
        try:
            if data is None:
                model = core.read_model(str(file))
            elif weights is None:
                model = core.read_model(data())
            else:
                model = core.read_model(data(), ov.Tensor(np.fromfile(weights, np.uint8)))
        except RuntimeError as error:
            raise _unreadable(file, error) from error
        try:
            if settings.shapes:
                model.reshape({name: list(shape) for name, shape in settings.shapes.items()})
            place = _place(core, settings)
            hint = hint_of(settings.precision, core.get_property(place, "OPTIMIZATION_CAPABILITIES"))
            with given_back(weights) if weights is not None else nullcontext():
                compiled = core.compile_model(model, place, _properties(settings, hint))
        except RuntimeError as error:
            raise _failed(file, error) from error
        del model  # the compiled network holds the weights; the graph would hold them a second time
        return OpenvinoSession(compiled, file, weights)


def hint_of(precision: str, capabilities: Collection[str]) -> str:
    """The precision to ask for by name: without it OpenVINO computes fp32 in bf16 wherever the processor can.

    Args:
        capabilities: of the device, as OpenVINO tells them ("FP32", "BF16", "INT8", ...).
    Raises Unsupported where the device lacks that arithmetic.
    """
    if precision not in HINTS or precision not in ("fp32", *(name.lower() for name in capabilities)):
        raise Unsupported(f"OpenVINO does not compute in {precision} on this processor.", "Choose fp32.")
    return HINTS[precision]


def _properties(settings: Settings, hint: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": max(1, settings.threads),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # pinned threads wait for a core that something else holds
    }
    if settings.cache is not None:
        try:
            cache = settings.cache / hint
            cache.mkdir(parents=True, exist_ok=True)
            properties |= {"CACHE_DIR": str(cache), "CACHE_MODE": "OPTIMIZE_SIZE"}
        except OSError:
            pass  # a cache that cannot be written is only slower
    return properties


def _place(core: Any, settings: Settings) -> str:
    return "GPU" if settings.accelerator == "auto" and "GPU" in core.available_devices else "CPU"


def _unreadable(file: Path, error: RuntimeError) -> StudioError:
    text = str(error)
    if "unsupported" in text.lower() or "not supported" in text.lower():
        return Unsupported(f"OpenVINO lacks an operator of {file.name}: {first_line(error)}.", "Use ONNX Runtime.")
    return IntegrityError(f"{file.name} cannot be read by OpenVINO: {first_line(error)}.", "Convert the model again.")


def _failed(file: Path, error: Exception) -> StudioError:
    if is_out_of_memory(error):
        return OutOfMemory(f"{file.name} does not fit into memory.", "Close other models or use a smaller one.")
    return Unsupported(f"{file.name} stopped on OpenVINO: {_reason(error)}.", "Use ONNX Runtime for this model.")


def _reason(error: Exception) -> str:
    """OpenVINO puts the file and line of its own source first and the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:200].rstrip(".").replace(os.sep + os.sep, os.sep)


def _port(item: Any) -> Port:
    shape = tuple(None if side.is_dynamic else side.get_length() for side in item.get_partial_shape())
    dtype = item.get_element_type().to_dtype().name
    # A tensor may have several names; that of the graph's own output is the result's.
    own = str(item.get_node().get_friendly_name()).partition("/sink_port")[0]
    return Port(own if own in item.get_names() else item.get_any_name(), shape, dtype)
