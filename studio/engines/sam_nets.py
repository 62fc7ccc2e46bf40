"""A Segment Anything network behind one small contract, on torch or on converted graphs. Only numpy crosses it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from studio.compress.networks import Networks, Place
from studio.device import Device
from studio.runtimes.base import Settings

Floats = NDArray[np.float32]
MEAN = np.array([123.675, 116.28, 103.53], np.float32)[:, None, None]
STD = np.array([58.395, 57.12, 57.375], np.float32)[:, None, None]


class Prompt(NamedTuple):
    """What is shown to the decoder, in pixels of the picture: B prompts of K clicks, or of a box, or of both."""

    points: Floats | None = None  # (B, K, 2), x y
    labels: NDArray[np.int64] | None = None  # (B, K), 1 on the thing, 0 not
    boxes: Floats | None = None  # (B, 4), x1 y1 x2 y2

    @property
    def is_one_click(self) -> bool:
        return self.boxes is None and self.points is not None and self.points.shape[1] == 1

    def scaled(self, x: float, y: float) -> Prompt:
        """The same in pixels of a picture that many times as wide and high."""
        scale = np.array([x, y], np.float32)
        points = None if self.points is None else self.points * scale
        return Prompt(points, self.labels, None if self.boxes is None else self.boxes * np.tile(scale, 2))


class SamNet(Protocol):
    """Attributes:
    size: side of the encoder's square input, px.
    channels: of the features.
    threshold: logits above it are the mask.
    digest: names the network for what was computed with it.
    notes: what does not run as asked.
    """

    size: int
    channels: int
    threshold: float
    digest: str
    notes: list[str]

    def encode(self, pixels: Floats) -> Floats:
        """RGB 0..255 (3, h, w), its longer side `size` -> features (C, s, s)."""

    def decode(self, features: NDArray[np.float16], prompt: Prompt) -> tuple[Floats, Floats]:
        """Features (C, s, s) and B prompts in px of the encoder's picture -> logits (B, 4, h, w), predicted IoU (B, 4);
        the first of each four is the single-mask token's."""

    def close(self) -> None: ...


class GraphSam:
    """Encoder and decoder as graphs on ONNX Runtime or OpenVINO; no torch."""

    def __init__(self, folder: Path, place: Place, device: Device) -> None:
        networks = Networks("sam", folder, place, Settings(max(1, device.cores)))
        self._encoder, self._decoder = networks.open("encoder"), networks.open("decoder")
        self.notes = networks.notes
        self.size = int(self._encoder.inputs[0].shape[-1] or 1024)
        features = next(port for port in self._decoder.inputs if port.name == "features")
        self.channels = int(features.shape[1] or 256)
        self.threshold = 0.0
        files = sorted((place.folder if place.folder is not None else folder).iterdir())
        facts = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files if file.is_file()]
        self.digest = hashlib.sha256(" ".join([place.runtime, place.precision, *facts]).encode()).hexdigest()

    def encode(self, pixels: Floats) -> Floats:
        found: Floats = self._encoder.run({"pixels": normalised(pixels, self.size)})["features"][0]
        return found.astype(np.float32, copy=False)

    def decode(self, features: NDArray[np.float16], prompt: Prompt) -> tuple[Floats, Floats]:
        points, labels = rows(prompt)
        feed: dict[str, NDArray[Any]] = {
            "features": features[None].astype(np.float32),
            "points": points,
            "labels": labels,
        }
        found = self._decoder.run(feed)
        return found["logits"].astype(np.float32, copy=False), found["scores"].astype(np.float32, copy=False)

    def close(self) -> None:
        self._encoder.close()
        self._decoder.close()


def normalised(pixels: Floats, size: int) -> Floats:
    """RGB 0..255 (3, h, w) -> what encoders were trained on, zeros at right and bottom: (1, 3, size, size)."""
    square = np.zeros((1, 3, size, size), np.float32)
    square[0, :, : pixels.shape[1], : pixels.shape[2]] = (pixels - MEAN) / STD
    return square


def rows(prompt: Prompt) -> tuple[Floats, Floats]:
    """Points (B, K, 2) and labels (B, K) with boxes as corners, labels 2 and 3. Clicks without a box end with a point
    of label -1, as the network was trained."""
    parts: list[tuple[Floats, Floats]] = []
    if prompt.points is not None and prompt.labels is not None:
        parts.append((prompt.points, prompt.labels.astype(np.float32)))
        if prompt.boxes is None:
            count = len(prompt.points)
            parts.append((np.zeros((count, 1, 2), np.float32), np.full((count, 1), -1, np.float32)))
    if prompt.boxes is not None:
        corners = prompt.boxes.reshape(-1, 2, 2).astype(np.float32)
        parts.append((corners, np.tile(np.array([2, 3], np.float32), (len(corners), 1))))
    points, labels = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    return points.astype(np.float32), labels
