"""ONNX Runtime that writes down what a network is asked: what 8-bit arithmetic is calibrated on, and checked with.

Each call of `<part>.onnx` becomes `calls/<part>-<number>.npz` in the cache folder, the first `LIMIT` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.runtimes.base import Arrays, Session, Settings
from studio.runtimes.onnx_runtime import OnnxRuntime

CALLS = "calls"
LIMIT = 48


class RecordingSession:
    """A session that keeps its questions."""

    def __init__(self, inner: Session, folder: Path, part: str) -> None:
        self._inner = inner
        self._folder = folder
        self._part = part
        self._count = 0
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.metadata: Mapping[str, str] = inner.metadata

    def run(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        if self._count < LIMIT:
            arrays: dict[str, Any] = {name: np.asarray(value) for name, value in feed.items()}
            np.savez(self._folder / f"{self._part}-{self._count:04}.npz", **arrays)
        self._count += 1
        return self._inner.run(feed)

    def rest(self) -> None:
        self._inner.rest()

    def close(self) -> None:
        self._inner.close()


class RecorderRuntime:
    name = "recorder"
    suffixes = (".onnx",)

    def load(self, file: Path, settings: Settings, data: Callable[[], bytes] | None = None) -> Session:
        """As ONNX Runtime loads it. Raises ValueError without a cache folder to write to."""
        if settings.cache is None:
            raise ValueError("a recorder needs a folder")
        folder = settings.cache / CALLS
        folder.mkdir(parents=True, exist_ok=True)
        session = OnnxRuntime().load(file, replace(settings, cache=None), data)
        return RecordingSession(session, folder, file.stem)


def calls(cache: Path, part: str) -> list[dict[str, NDArray[Any]]]:
    """What that part was asked, in order."""
    found = []
    for file in sorted((cache / CALLS).glob(f"{part}-*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            found.append({name: arrays[name] for name in arrays.files})
    return found
