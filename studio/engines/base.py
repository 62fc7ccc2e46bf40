"""How: the contract every engine keeps, and the table that finds one by name.

An engine lives in a worker process. Its constructor loads (or raises a StudioError), `run` works, `close` frees.
It never sees the library, the queue or the page: pictures come through `report.asset`, all that it says goes
through `report`, and what it made is the returned `Result`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from studio.cards import Card
from studio.device import Device
from studio.tasks import Task


@dataclass(frozen=True)
class Result:
    """What a run made. Arrays are handed over to the library, which encodes and stores them.

    Attributes:
        images: uint8 (H, W, 3) RGB, or (H, W, 4) RGBA for cut-outs.
        masks: bool (H, W), same size as the task's image, best first.
        data: JSON facts. Generate: {"seeds": [int], "width": int, "height": int}.
            Detect: {"width", "height", "boxes": [[x1, y1, x2, y2] px], "scores": [float], "labels": [str],
            "model_classes": [str]}; codes carry their text under "texts".
            Segment: {"width", "height", "scores": [float per mask], "areas": [px per mask],
            "boxes": [[x1, y1, x2, y2]]}.
            Every engine adds "seconds": {"phase": float} of what it measured.
    """

    images: tuple[NDArray[np.uint8], ...] = ()
    masks: tuple[NDArray[np.bool_], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


class Report(Protocol):
    """The one stream from a worker to whoever watches. Every call raises Cancelled once the job is cancelled."""

    def progress(self, step: int, total: int, phase: str = "") -> None:
        """`step` of `total` is done; `phase` is shown to the user ("encoding picture", "decoding")."""

    def preview(self, image: NDArray[np.uint8]) -> None:
        """A picture as it forms, uint8 (H, W, 3) RGB, small."""

    def asset(self, id: str) -> NDArray[np.uint8]:
        """The picture a task names, uint8 (H, W, 3) RGB. A mask comes as 0 or 255 in all three channels."""

    @property
    def cache(self) -> Path:
        """A folder for what can be computed again (embeddings); any file in it may vanish at any time."""


class Engine(Protocol):
    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        """Loads the weights in `folder`. Raises a StudioError that names the file when they cannot be loaded."""

    def run(self, task: Task, report: Report) -> Result: ...

    def close(self) -> None: ...


@runtime_checkable
class Painter(Protocol):
    """An engine whose UNet can be asked by itself, so that two of them are compared step by step.

    Attributes:
        on_question: told what the UNet is asked while a picture is painted: {"sample": (B, C, h, w), "timestep": (B,),
            "text": (B, N, D)}, float32.
    """

    on_question: Callable[[Mapping[str, NDArray[np.float32]]], None] | None

    def answer(self, feed: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """What the UNet says to such a question, (B, C, h, w)."""


class EngineSpec(NamedTuple):
    """`target` is "module:Class"; `heavy` engines import torch and start from the pre-warmed fork server."""

    target: str
    heavy: bool


ENGINES: dict[str, EngineSpec] = {
    "diffusion": EngineSpec("studio.engines.diffusion:Diffusion", heavy=True),
    "fast-diffusion": EngineSpec("studio.engines.fast_diffusion:FastDiffusion", heavy=False),
    "yolo": EngineSpec("studio.engines.yolo:Yolo", heavy=False),
    "sam": EngineSpec("studio.engines.sam:SamEngine", heavy=True),
    "fast-sam": EngineSpec("studio.engines.sam:SamEngine", heavy=False),
    "classic": EngineSpec("studio.engines.classic:Classic", heavy=False),
    "trainer": EngineSpec("studio.engines.trainer:Trainer", heavy=True),
    "vae": EngineSpec("studio.engines.vae:VaeEngine", heavy=True),
    "gan": EngineSpec("studio.engines.gan:GanEngine", heavy=True),
    "diffusion-lab": EngineSpec("studio.engines.diffusion_lab:DiffusionLabEngine", heavy=True),
}
