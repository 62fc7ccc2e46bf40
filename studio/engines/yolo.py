"""Detectors in ONNX files, run by ONNX Runtime: YOLO v5 to 26, YOLOX, RT-DETR, D-FINE, SSD-like face detectors.

What the network needs is data. Each key may stand in the card's `options`, or in a `facts.json` beside the weights;
what neither gives is read from the ONNX file.

    file       name of the .onnx file, where the folder holds several
    names      class names in order
    imgsz      side of the input in px, or [height, width]; fixed inputs speak for themselves
    letterbox  true: keep the aspect ratio and pad with grey 114 (default, but for RT-DETR); false: stretch
    padding    "corner": the picture stands at the top left (YOLOX); else in the middle
    resize     [height, width]: short for that imgsz and letterbox = false
    stride     dynamic inputs are cut to a multiple of it (32); 0 keeps the full square
    mean, std  per channel or one number, in 0..255; the network sees (pixel - mean) / std (0 and 255)
    bgr        true where the network was trained on BGR
    layout     how the outputs are written, where the shapes do not tell (see yolo_layouts)
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from studio.cards import Card
from studio.compress.networks import Networks, Place
from studio.device import Device
from studio.engines.base import Report, Result
from studio.engines.yolo_layouts import Candidates, Head, Outputs, choose, name_of
from studio.errors import CardError, IntegrityError, InvalidTask, Unsupported
from studio.ops import boxes as ops
from studio.ops.detections import detect_data, unknown_classes
from studio.runtimes.base import Session, Settings, runtime
from studio.tasks import Detect, Task

GREY = 114  # the padding YOLO weights were trained with
DTYPES = ("float32", "float16", "uint8")
METADATA = "metadata.json"  # beside a converted network: what its ONNX file said of itself
SHAPES = 3  # letterboxed sizes that a network is kept compiled for: photographs lie, stand or are square
STRETCHED = ("RTDETRDecoder",)  # heads that ultralytics feeds with stretched pictures


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the input tensor (1, 3, height, width).

    Attributes:
        size: (height, width) of the input in px; the largest one where the input is dynamic.
        letterbox: keep the aspect ratio.
        stride: for dynamic inputs the multiple that sides are cut to; 0 always uses the full size.
        mean, std: three numbers each in 0..255; the network sees (pixel - mean) / std.
        bgr: channel order of the network.
        corner: a letterboxed picture stands at the top left, not in the middle.
    """

    size: tuple[int, int]
    letterbox: bool = True
    stride: int = 0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    bgr: bool = False
    corner: bool = False

    def fit(self, height: int, width: int) -> ops.Fit:
        if not self.letterbox:
            return ops.stretch((height, width), self.size)
        return ops.letterbox((height, width), self.size, self.stride, corner=self.corner)

    def tensor(self, image: NDArray[np.uint8], fit: ops.Fit) -> NDArray[np.float32]:
        """RGB uint8 (H, W, 3) -> float32 (1, 3, h, w) as the network was trained on."""
        height, width = fit.inner
        small = image if image.shape[:2] == fit.inner else cv2.resize(image, (width, height))
        if fit.inner != fit.target:
            canvas = np.full((*fit.target, 3), GREY, np.uint8)
            canvas[fit.top : fit.top + height, fit.left : fit.left + width] = small
            small = canvas
        if len(set(self.std)) == 1:  # one pass in C++; three times faster than numpy
            return cv2.dnn.blobFromImage(small, 1 / self.std[0], mean=self.mean, swapRB=self.bgr)
        blob = cv2.dnn.blobFromImage(small, 1.0, mean=self.mean, swapRB=self.bgr)
        return blob / np.array(self.std, np.float32)[:, None, None]


class Reading(NamedTuple):
    """How a detector's outputs are read.

    Attributes:
        layout: key of LAYOUTS.
        classes: how many it tells apart; None where the shapes do not tell.
        names: how many of them have names, 0 where nobody gave any.
        table: rows and columns of the first output with three axes.
    """

    layout: str
    classes: int | None
    names: int
    table: tuple[int, int]


class Yolo:
    """A detector. Answers `Detect`; boxes are clipped to the picture, best first."""

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        """Raises IntegrityError for a broken file, CardError for wrong options, Unsupported for an unknown network."""
        self._session, meta = _session(card, folder, device)
        options = {**_facts(folder / "facts.json"), **card.options}
        self._input = self._session.inputs[0]
        self._preprocess = _preprocess(card, options, list(self._input.shape), meta)
        names = _names(options, meta)
        outputs = self._forward(self._warm_up())
        self._kind = meta.get("head", "")
        self._known = len(names) if names is not None else None
        head = self._head(outputs, self._preprocess.size)
        self._layout = choose(head, options.get("layout"))
        count = self._layout.classes(head)
        self.reading = Reading(name_of(self._layout), count, self._known or 0, head.main)
        self._names = names if names is not None else [f"class {number}" for number in range(count or 0)]
        if count is not None and count != len(self._names):
            raise CardError(
                f"{card.id}: the network tells {count} classes apart, but {len(self._names)} names are given.",
                "Correct `names` in the card's options.",
            )

    def run(self, task: Task, report: Report) -> Result:
        """Raises InvalidTask for another kind of task and for classes that the model does not know."""
        if not isinstance(task, Detect):
            raise InvalidTask(f"A detector cannot {task.kind}.", "Choose a model for that task.")
        unknown_classes(task.classes, self._names)
        image = report.asset(task.image)
        height, width = image.shape[:2]
        clock = [time.perf_counter()]
        report.progress(0, 1, "looking")
        fit = self._preprocess.fit(height, width)
        tensor = self._preprocess.tensor(image, fit)
        clock.append(time.perf_counter())
        outputs = self._forward(tensor)
        clock.append(time.perf_counter())
        head = self._head(outputs, fit.target)
        found = self._select(self._layout.decode(outputs, head, task.confidence), task)
        boxes = ops.clip(fit.to_source(found.boxes), height, width)
        clock.append(time.perf_counter())
        report.progress(1, 1, "looking")
        seconds = dict(zip(("prepare", "network", "boxes"), np.diff(clock).tolist(), strict=True))
        labels = [self._name(number) for number in found.labels.tolist()]
        return Result(data=detect_data((height, width), boxes, found.scores, labels, self._names, seconds))

    def close(self) -> None:
        self._session.close()

    def _select(self, found: Candidates, task: Detect) -> Candidates:
        """Only the wanted classes, without repeats, best first, at most as many as asked for."""
        if task.classes:
            wanted = [number for number, name in enumerate(self._names) if name in task.classes]
            found = _take(found, np.flatnonzero(np.isin(found.labels, wanted)))
        found = _take(found, np.flatnonzero(np.isfinite(found.boxes).all(axis=1)))
        found = _take(found, np.flatnonzero(ops.area(found.boxes) > 0))
        if self._layout.nms:
            return _take(found, ops.nms(*found, iou=task.iou, limit=task.max_detections))
        return _take(found, np.argsort(-found.scores, kind="stable")[: task.max_detections])

    def _name(self, number: int) -> str:
        return self._names[number] if 0 <= number < len(self._names) else f"class {number}"

    def _head(self, outputs: Outputs, size: tuple[int, int]) -> Head:
        shapes = {name: value.shape for name, value in outputs.items()}
        return Head(shapes, size, self._known, self._kind)

    def _warm_up(self) -> NDArray[np.float32]:
        """A grey input: the first run is slow, and dynamic outputs have their shapes only then."""
        height, width = self._preprocess.size
        return self._preprocess.tensor(np.full((height, width, 3), GREY, np.uint8), self._preprocess.fit(height, width))

    def _forward(self, tensor: NDArray[np.float32]) -> Outputs:
        feed: dict[str, NDArray[Any]] = {self._input.name: tensor.astype(self._input.dtype, copy=False)}
        for extra in self._session.inputs[1:]:  # RT-DETR's postprocessor wants (width, height)
            feed[extra.name] = np.array([tensor.shape[:1:-1]], np.int64)
        return self._session.run(feed)


def _take(found: Candidates, indices: NDArray[np.intp]) -> Candidates:
    return Candidates(found.boxes[indices], found.scores[indices], found.labels[indices])


def _onnx_file(card: Card, folder: Path) -> Path:
    if "file" in card.options:
        file = folder / str(card.options["file"])
        if not file.is_file():
            raise IntegrityError(f"{card.id}: {file.name} is missing.", "Download the model again.")
        return file
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise IntegrityError(
            f"{card.id}: there is no .onnx file in {folder.name}.", "Download or convert the model again."
        )
    if len(files) > 1:
        raise CardError(f"{card.id}: the folder holds {len(files)} .onnx files.", "Name one as `file` in the options.")
    return files[0]


def _session(card: Card, folder: Path, device: Device) -> tuple[Session, Mapping[str, str]]:
    """The network and what its file says of itself, as the card wants it run.

    Raises IntegrityError where the file is not a whole network, Unsupported where the runtime cannot run it.
    """
    settings = Settings(max(1, device.cores), accelerator=device.accelerator, repeats=SHAPES)
    place = Place.of(card)
    if place is None or place.folder is None:
        file = _onnx_file(card, folder)
        session = runtime("onnxruntime" if place is None else place.runtime).load(file, settings)
        meta, name = session.metadata, file.name
    else:
        session = Networks("yolo", folder, place, settings).open("network")
        meta, name = _facts(place.folder / METADATA), "The converted network"
    inputs = session.inputs
    is_picture = bool(inputs) and inputs[0].dtype in DTYPES and len(inputs[0].shape) == 4
    if not is_picture or inputs[0].shape[1] not in (3, None):
        found = ", ".join(f"{item.name} {item.dtype} {list(item.shape)}" for item in inputs)
        raise Unsupported(
            f"{name} does not take a picture of (1, 3, height, width): {found}.", "It is not a detection model."
        )
    return session, meta


def _facts(file: Path) -> dict[str, Any]:
    """`facts.json` beside the weights, as training wrote it; empty where there is none. Raises IntegrityError."""
    if not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(f"{file.name} beside the model is not JSON.", "Download the model again.") from error
    return facts if isinstance(facts, dict) else {}


def _names(options: Mapping[str, Any], meta: Mapping[str, str]) -> list[str] | None:
    """Class names from the card, else from the file; None where nobody gives any."""
    found = options.get("names")
    if found is None and "names" in meta:
        found = _literal(meta["names"])
    if isinstance(found, Mapping):
        try:
            numbered = {int(number): name for number, name in found.items()}
        except (TypeError, ValueError):
            return None
        found = [numbered.get(number, f"class {number}") for number in range(max(numbered, default=-1) + 1)]
    return [str(name) for name in found] if isinstance(found, (list, tuple)) and found else None


def _literal(text: str) -> Any:
    """A Python or JSON literal, as ultralytics and others write metadata; None where it is neither. Runs nothing."""
    for parse in (ast.literal_eval, json.loads):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _preprocess(card: Card, options: Mapping[str, Any], shape: list[Any], meta: Mapping[str, str]) -> Preprocess:
    """Raises CardError for values that are not of the documented form."""
    is_fixed = all(isinstance(side, int) and side > 0 for side in shape[2:])
    wanted = options.get("imgsz", options.get("resize", _literal(meta.get("imgsz", ""))))
    try:
        size = (int(shape[2]), int(shape[3])) if is_fixed else _pair(wanted if wanted is not None else 640)
        result = Preprocess(
            size=size,
            letterbox=bool(options.get("letterbox", "resize" not in options and meta.get("head") not in STRETCHED)),
            stride=0 if is_fixed else int(options.get("stride", 32)),
            mean=_triple(options.get("mean", 0.0)),
            std=_triple(options.get("std", 255.0)),
            bgr=bool(options.get("bgr", False)),
            corner=options.get("padding") == "corner",
        )
    except (TypeError, ValueError) as error:
        raise CardError(f"{card.id}: options imgsz, mean, std or stride: {error}.", "Correct the card.") from error
    if min(result.size) < 1 or max(result.size) > 4096 or min(result.std) <= 0 or result.stride < 0:
        raise CardError(f"{card.id}: imgsz must be 1 to 4096, std above 0, stride 0 or more.", "Correct the card.")
    return result


def _pair(value: Any) -> tuple[int, int]:
    height, width = value if isinstance(value, (list, tuple)) else (value, value)
    return int(height), int(width)


def _triple(value: Any) -> tuple[float, float, float]:
    red, green, blue = value if isinstance(value, (list, tuple)) else (value, value, value)
    return float(red), float(green), float(blue)
