"""The starter detector: YOLO11n (Jocher & Qiu, 2024) trained from scratch on scattered scenes of the starter world.

The network and its loss (task-aligned assignment, CIoU, distribution focal loss) are ultralytics' own classes; the
scenes, the loop, the measure and the exported file are ours. As the network's code is AGPL-3.0, so are the weights.

    metrics = train(Path("models/starter-detector"), minutes=50, seed=0)
    evaluate(Path("models/starter-detector"))        # of the exported file, by ONNX Runtime, on scenes never trained on
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio import files
from studio.ops.boxes import nms, xywh_to_xyxy
from studio.train.loop import Plan, Report, fit
from studio.train.photographs import photographs
from studio.train.world import DETECTOR_CLASSES, EXTRAS, THINGS, Scene, scatter, scene

FIRST_TRAINING_SCENE = 1_000_000
FIRST_EVALUATION_SCENE = 500_000
"""Training seeds count up from the former, evaluation seeds from the latter: no scene is in both."""

Batch = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """The numbers that made the shipped weights."""

    stages: tuple[tuple[int, tuple[int, ...]], ...] = (
        (0, (160, 192, 224, 256)),
        (300, (128,)),
        (1200, (160, 192)),
    )
    """From which step on each batch has which of these picture sizes, by chance: names are learnt cheaply, small."""
    batch: int = 16
    rate: float = 3e-3
    muon_rate: float | None = 0.02
    weight_decay: float = 0.01
    ema: float = 0.99
    labelled: int = 4
    """How many times more often than in the world itself a thing with a class is drawn."""
    count: tuple[int, int] = (3, 10)
    """The fewest and the most things in a scene."""
    class_gain: float = 1.5
    """Of the class loss; three times ultralytics', because names are harder here than places."""
    mirrored_after: int = 32
    """Half of a batch is drawn afresh; its mirror images are the other half of the batch this many steps later."""


RECIPE = Recipe()


def network(classes: int = len(DETECTOR_CLASSES), *, class_gain: float | None = None) -> Any:
    """YOLO11n for RGB float (B, 3, H, W) in 0..1, H and W multiples of 32, with random weights."""
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_OFFLINE"] = "true"
    from studio.nets.torchvision_guard import install

    install()
    open_image = Image.open
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import DEFAULT_CFG_DICT, IterableSimpleNamespace

    Image.open = open_image  # ultralytics' own wants a package that is not here where a file is no picture
    model = DetectionModel("yolo11n.yaml", nc=classes, verbose=False)
    gains = {} if class_gain is None else {"cls": class_gain}
    model.args = IterableSimpleNamespace(**{**DEFAULT_CFG_DICT, **gains})  # box 7.5, class 0.5, dfl 1.5
    model.names = dict(enumerate(DETECTOR_CLASSES[:classes]))
    return model


def training_scene(seed: int, size_px: int, recipe: Recipe) -> Scene:
    """A scattered scene, more crowded than the world's own and with more of the things that have a class."""
    everything = (*THINGS, *EXTRAS)
    known = tuple(t for t in everything if t.detector is not None)
    things = everything + known * (recipe.labelled - 1)
    return scatter(np.random.default_rng([seed, 1]), size_px, things, photographs(), recipe.count)


def targets(truth: Scene) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Classes (N,) and boxes (N, 4) as x y width height in 0..1 of the picture, of the things that have a class."""
    known = [i for i, name in enumerate(truth.classes) if name is not None]
    classes = np.array([DETECTOR_CLASSES.index(str(truth.classes[i])) for i in known], np.float32)
    height, width = truth.picture.shape[:2]
    x0, y0, x1, y1 = (truth.boxes[known] / np.array([width, height, width, height], np.float32)).T
    return classes, np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1).astype(np.float32)


def batch_of(scenes: Sequence[Scene]) -> Batch:
    """Scenes of one size as ultralytics' loss wants them: "img" uint8 (B, 3, H, W), "batch_idx" (M,), "cls" (M, 1),
    "bboxes" (M, 4) as x y width height in 0..1."""
    import torch

    truths = [targets(s) for s in scenes]
    pictures = torch.from_numpy(np.stack([s.picture for s in scenes]))  # (B, H, W, 3): channels last in memory
    owners = [np.full(len(classes), i, np.float32) for i, (classes, _) in enumerate(truths)]
    return {
        "img": pictures.permute(0, 3, 1, 2),
        "batch_idx": torch.from_numpy(np.concatenate(owners)),
        "cls": torch.from_numpy(np.concatenate([c for c, _ in truths]))[:, None],
        "bboxes": torch.from_numpy(np.concatenate([b for _, b in truths])),
    }


def mirrored(truth: Scene) -> Scene:
    """The scene seen in a mirror that stands beside it."""
    width = truth.picture.shape[1]
    boxes = truth.boxes.copy()
    boxes[:, [0, 2]] = width - truth.boxes[:, [2, 0]]
    return replace(truth, picture=truth.picture[:, ::-1], boxes=boxes, masks=truth.masks[:, :, ::-1])


class Batches:
    """The batches of steps 0, 1, 2, ... drawn ahead by one worker process, from any step on."""

    def __init__(self, recipe: Recipe, *, seed: int, workers: int) -> None:
        self.recipe = recipe
        self.seed = seed
        self.workers = workers
        self._drawn: dict[int, list[Scene]] = {}
        self._ahead: Iterator[Batch] | None = None

    def draw(self, step: int) -> Batch:
        """The batch of this step, the same whenever it is asked for."""
        size_px = self._size(step)
        earlier = step - self.recipe.mirrored_after
        if earlier < 0 or self._size(earlier) != size_px:
            return batch_of(self._fresh(step, self.recipe.batch))
        half = self.recipe.batch // 2
        return batch_of([*self._fresh(step, half), *(mirrored(s) for s in self._fresh(earlier, half))])

    def _fresh(self, step: int, count: int) -> list[Scene]:
        kept = self._drawn.get(step, [])
        first = FIRST_TRAINING_SCENE + (self.seed * 1_000_000 + step) * self.recipe.batch
        kept += [training_scene(first + i, self._size(step), self.recipe) for i in range(len(kept), count)]
        self._drawn[step] = kept
        self._drawn.pop(step - self.recipe.mirrored_after - 8, None)
        return kept[:count]

    def _size(self, step: int) -> int:
        sizes_px = [sizes for first, sizes in self.recipe.stages if step >= first][-1]
        return int(np.random.default_rng([self.seed, step]).choice(sizes_px))

    def at(self, step: int) -> Batch:
        """Like `draw`, but steps are asked for in order and their successors are already being drawn."""
        if self.workers == 0:
            return self.draw(step)
        if self._ahead is None:
            from torch.utils.data import DataLoader

            steps = range(step, step + 10_000_000)
            self._ahead = iter(DataLoader(_Steps(self.draw, steps), batch_size=None, num_workers=self.workers))
        return next(self._ahead)


class _Steps:
    """A map-style dataset over the steps of a run."""

    def __init__(self, draw: Callable[[int], Batch], steps: range) -> None:
        self.draw = draw
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Batch:
        return self.draw(self.steps[index])


def train(
    folder: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    resume: bool = True,
    report: Report | None = None,
    recipe: Recipe = RECIPE,
    workers: int = 1,
) -> dict[str, float]:
    """Trains for `steps` or `minutes`, keeping a checkpoint in `folder`, and exports the result there.

    Returns the last training metrics. Raises Unsupported without an emoji font.
    """
    import torch

    torch.manual_seed(seed)
    net = network(class_gain=recipe.class_gain).to(memory_format=torch.channels_last)
    batches = Batches(recipe, seed=seed, workers=workers)

    def loss(step: int, generator: torch.Generator) -> tuple[torch.Tensor, Mapping[str, Any]]:
        batch = batches.at(step)
        parts, metrics = net({**batch, "img": batch["img"].float().div_(255)})
        return parts.sum() / recipe.batch, metrics

    plan = Plan(
        steps=steps,
        minutes=minutes,
        rate=recipe.rate,
        muon_rate=recipe.muon_rate,
        weight_decay=recipe.weight_decay,
        clip=10.0,
        ema=recipe.ema,
    )
    metrics = fit(net, loss, plan, checkpoint=folder / "checkpoint.pt", seed=seed, resume=resume, report=report)
    export(net, folder)
    return metrics


def export(net: Any, folder: Path, *, size_px: int = 192) -> Path:
    """Writes `folder`/model.onnx: "images" RGB float (1, 3, H, W) in 0..1, H and W multiples of 32, to
    "output0" (1, 4 + classes, N): centre x, centre y, width, height in pixels, then a score 0..1 per class; no NMS.

    Its metadata holds `names`, `imgsz`, `stride`, `task` and `license`.
    """
    import copy

    import onnx
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    net = copy.deepcopy(net).to(memory_format=torch.contiguous_format).eval().float()
    net.fuse(verbose=False)
    head = net.model[-1]
    head.export, head.dynamic, head.format, head.max_det = True, True, "onnx", 300
    with files.whole(folder / "model.onnx") as part:
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                net,
                (torch.zeros(1, 3, size_px, size_px),),
                str(part),
                input_names=["images"],
                output_names=["output0"],
                dynamic_axes={"images": {2: "height", 3: "width"}, "output0": {2: "anchors"}},
                opset_version=17,
                dynamo=False,
            )
        model = onnx.load(str(part))
        with contextlib.suppress(ImportError):
            import onnxslim

            model = onnxslim.slim(model)
        facts = {
            "names": json.dumps(dict(enumerate(net.names.values())), ensure_ascii=False),
            "imgsz": json.dumps([size_px, size_px]),
            "stride": "32",
            "task": "detect",
            "license": "AGPL-3.0",
        }
        for key, value in facts.items():
            model.metadata_props.add(key=key, value=value)
        onnx.save(model, str(part))
    return folder / "model.onnx"


def evaluate(
    folder: Path,
    *,
    scenes: int = 500,
    size_px: int = 192,
    first: int = FIRST_EVALUATION_SCENE,
    threads: int = 1,
) -> dict[str, Any]:
    """Average precision (COCO's own code) of `folder`/model.onnx on scenes that no training sees.

    Things are drawn as often as the world draws them, on its own backgrounds. Returns "map50", "map50_95" (0..1),
    "map50_small" (things below 32x32 px), "ms" per picture, "per_class" map50 and what was measured.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    truths, found, seconds = [], [], 0.0
    for number in range(scenes):
        truth = scene(first + number, mode="scatter", size=size_px, photos=photographs())
        image = np.ascontiguousarray(truth.picture.transpose(2, 0, 1)[None]).astype(np.float32) / 255
        started = time.perf_counter()
        raw = session.run(None, {"images": image})[0]
        seconds += time.perf_counter() - started
        boxes, scores, labels = decode(raw[0])
        for box, label in zip(truth.boxes, truth.classes, strict=True):
            if label is not None:
                truths.append((number, DETECTOR_CLASSES.index(label), box))
        found += [(number, int(c), box, float(s)) for c, box, s in zip(labels, boxes, scores, strict=True)]
    return {
        **average_precision(truths, found, pictures=scenes),
        "scenes": scenes,
        "size_px": size_px,
        "things": len(truths),
        "ms": 1000 * seconds / scenes,
        "threads": threads,
    }


def decode(
    raw: NDArray[np.float32], *, confidence: float = 0.001, iou: float = 0.7
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]]:
    """The network's output (4 + classes, N) -> boxes xyxy px, scores and classes of what stays after suppression."""
    scores, labels = raw[4:].max(0), raw[4:].argmax(0)
    sure = scores > confidence
    boxes, scores, labels = xywh_to_xyxy(raw[:4].T[sure]), scores[sure], labels[sure]
    keep = nms(boxes, scores, labels, iou)
    return boxes[keep], scores[keep], labels[keep]


def average_precision(
    truths: Sequence[tuple[int, int, NDArray[np.float32]]],
    found: Sequence[tuple[int, int, NDArray[np.float32], float]],
    *,
    pictures: int,
) -> dict[str, Any]:
    """pycocotools' figures for (picture, class, xyxy box) truths and (picture, class, xyxy box, score) findings."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(picture: int, label: int, box: NDArray[np.float32]) -> dict[str, Any]:
        x0, y0, x1, y1 = (float(v) for v in box)
        wide, high = x1 - x0, y1 - y0
        return {"image_id": picture, "category_id": label, "bbox": [x0, y0, wide, high], "area": wide * high}

    labels = sorted({label for _, label, _ in truths})
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(pictures)],
            "categories": [{"id": i} for i in labels],
            "annotations": [{"id": i + 1, "iscrowd": 0, **entry(*t)} for i, t in enumerate(truths)],
        }
        reference.createIndex()
        findings = [{**entry(*f[:3]), "score": f[3]} for f in found if f[1] in set(labels)]
        if not findings:
            return {"map50": 0.0, "map50_95": 0.0, "map50_small": 0.0, "per_class": {}}
        judge = COCOeval(reference, reference.loadRes(findings), "bbox")
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]  # (IoU, recall, class, area, detections); -1 where there is no truth

    def mean(part: NDArray[np.float64]) -> float:
        return float(part[part > -1].mean()) if (part > -1).any() else math.nan

    return {
        "map50": mean(precision[0, :, :, 0, -1]),
        "map50_95": mean(precision[:, :, :, 0, -1]),
        "map50_small": mean(precision[0, :, :, 1, -1]),
        "per_class": {DETECTOR_CLASSES[c]: round(mean(precision[0, :, i, 0, -1]), 3) for i, c in enumerate(labels)},
    }
