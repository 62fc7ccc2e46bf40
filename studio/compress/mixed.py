"""Bits by layer or by block for a part of a model: which layers its output suffers by is measured on calibration
inputs, and what fits the bytes of a uniform width is solved (see `allocate`).

The weights are inputs of the measured network, so that it is loaded once, however often they change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from studio.compress import allocate, graphs, precisions
from studio.compress.packed import uniform
from studio.compress.precisions import Precision
from studio.compress.schemes import Scheme
from studio.errors import Unsupported

Weights = Mapping[str, NDArray[np.float32]]
Feeds = Sequence[Mapping[str, NDArray[Any]]]
UNITS: Mapping[str, Callable[[allocate.Weights], dict[str, list[str]]]] = {
    "adaptive": allocate.layers,
    "hierarchical": allocate.blocks,
}
ASKED = 3  # calibration inputs that errors are measured on; more change nothing in the order of the layers
SILENT = 1e-6  # variance of an output's channel below which its errors count no more
MINUTES = 20  # a measurement that would take longer is refused
WAYS = len(allocate.TRIED) + 1  # runs for each layer or block, roughly


def plan(
    source: Path, weights: Weights, feeds: Feeds, precision: Precision, tick: allocate.Tick | None = None
) -> dict[str, Scheme]:
    """How each array is stored: the widths that err least in the bytes of the uniform precision of the same number.

    Args:
        source: the part's ONNX file in full precision.
        weights: its arrays by name.
        feeds: what it was asked on calibration inputs.
        tick: called with layers or blocks measured, of how many.
    Raises Unsupported where measuring would take too long.
    """
    kind, _, number = precision.id.partition("-")
    like = precisions.uniform(int(number))
    assert like.matrix is not None
    units = UNITS[kind](weights)
    if not feeds or not units:  # nothing was asked of this part, or it has nothing to choose
        return uniform(weights, like)
    asked = Asked(source, weights, feeds[:: max(1, len(feeds) // ASKED)][:ASKED])
    _refuse_hours(asked, len(units))
    table = allocate.sensitivity(weights, units, asked.loss, allocate.candidates(), tick)
    chosen = allocate.settle(weights, units, asked.loss, table, allocate.uniform_bytes(weights, like.matrix))
    return allocate.plan(chosen, units, weights)


class Asked:
    """A network with its weights as inputs, and its answers to the calibration inputs with its own weights."""

    def __init__(self, source: Path, weights: Weights, feeds: Feeds) -> None:
        import onnxruntime as ort

        model = graphs.read(source)
        kept = [item for item in model.graph.initializer if item.name not in weights]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        for name, array in weights.items():
            value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape)
            model.graph.input.append(value)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._weights = dict(weights)
        self._feeds = feeds
        self._wanted = [self._session.run(None, {**self._weights, **feed}) for feed in feeds]

    def loss(self, changed: Weights) -> float:
        """The squared error with some arrays replaced, each channel over its own variance, so that pixels and
        probabilities in one output count alike."""
        total = 0.0
        for feed, wanted in zip(self._feeds, self._wanted, strict=True):
            got = self._session.run(None, {**self._weights, **changed, **feed})
            total += sum(_error(one, other) for one, other in zip(wanted, got, strict=True))
        return total / len(self._feeds)


def _error(wanted: NDArray[Any], got: NDArray[Any]) -> float:
    if not np.isfinite(got).all():
        return float("inf")
    axes = tuple(axis for axis in range(wanted.ndim) if axis != 1)
    scale = wanted.var(axis=axes, keepdims=True) if wanted.ndim > 1 else wanted.var()
    return float((np.square(got.astype(np.float64) - wanted) / np.maximum(scale, SILENT)).mean())


def _refuse_hours(asked: Asked, units: int) -> None:
    started = time.perf_counter()
    asked.loss({})
    minutes = (time.perf_counter() - started) * units * WAYS / 60
    if minutes > MINUTES:
        raise Unsupported(
            f"Measuring which layers matter would take about {minutes:.0f} minutes.",
            "Choose one width for all layers, or a smaller model.",
        )
