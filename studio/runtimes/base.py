"""What runs a network: one call for torch, ONNX Runtime and OpenVINO, and the table that finds one by name.

    session = runtime("openvino").load(folder / "unet.onnx", Settings(threads=2))
    answer = session.run({"sample": x, "timestep": t, "text": c})["output"]

Only worker processes and the children of a measurement load one; this module itself imports none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from studio.errors import Unsupported

Arrays = Mapping[str, NDArray[Any]]


class Port(NamedTuple):
    """An input or output. `shape` has None where a side is free; `dtype` is numpy's name ("float32")."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Settings:
    """How a network is to be run.

    Attributes:
        threads: processor threads, at least 1.
        cache: folder for compiled networks, which are then loaded in a fraction of the time; None keeps none.
        shapes: fixed input shapes by name; a runtime that gains from them compiles for these only.
        accelerator: "auto" takes a GPU where this runtime finds one, "cpu" never does.
        key: tells networks apart that come from one file with several weights, for the cache.
        precision: what floats are computed in, "fp32" or "bf16"; a runtime left to itself takes what is quickest here.
        repeats: input shapes that come twice in a row for which a network with free sides is compiled besides, at
            most so many at once, by a runtime that gains from it (OpenVINO does, ONNX Runtime does not); 0 for none.
    """

    threads: int = 1
    cache: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None
    accelerator: str = "cpu"
    key: str = ""
    precision: str = "fp32"
    repeats: int = 0


class Session(Protocol):
    """A loaded network."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: Mapping[str, str]

    def run(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs by name. Raises Unsupported for inputs that do not fit, OutOfMemory."""

    def rest(self) -> None:
        """Lets go of what runs need in between, where the runtime can; the next run gets it anew."""

    def close(self) -> None:
        """Lets go of the weights."""


class Runtime(Protocol):
    name: str
    suffixes: tuple[str, ...]

    def load(self, file: Path, settings: Settings, data: Callable[[], bytes] | None = None) -> Session:
        """A network from its file, or from what `data` gives where the file is only its graph.

        Raises IntegrityError for a broken file, Unsupported for an operator or a precision that this runtime lacks
        here, OutOfMemory.
        """


RUNTIMES: dict[str, str] = {
    "torch": "studio.runtimes.torch_runtime:TorchRuntime",
    "onnxruntime": "studio.runtimes.onnx_runtime:OnnxRuntime",
    "openvino": "studio.runtimes.openvino_runtime:OpenvinoRuntime",
    "recorder": "studio.runtimes.recorder:RecorderRuntime",  # ONNX Runtime that keeps what it was asked
}
TITLES: dict[str, str] = {
    "torch": "torch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "recorder": "ONNX Runtime",
}


def runtime(name: str) -> Runtime:
    """The runtime of that name, its library imported. Raises Unsupported where it is unknown or not installed."""
    if name not in RUNTIMES:
        raise Unsupported(f"There is no runtime {name!r}.", f"Choose one of: {', '.join(RUNTIMES)}.")
    module, _, kind = RUNTIMES[name].partition(":")
    try:
        found: Runtime = getattr(importlib.import_module(module), kind)()
    except ImportError as error:
        raise Unsupported(f"{TITLES[name]} is not installed here.", "Install requirements.txt again.") from error
    return found


def first_line(error: BaseException) -> str:
    """A library's error in one line of at most 200 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's error means that memory ended."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "bad_alloc" in text or "out of memory" in text or "allocat" in text
