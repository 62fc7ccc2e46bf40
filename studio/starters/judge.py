"""What the starter segmenter and detector are worth, asked through the studio's own engines as a user asks them.

    python -m studio.starters.judge segmenter models/starter-segmenter --scenes 80 --bsds BSDS500/val
    python -m studio.starters.judge detector models/starter-detector --scenes 500 --photographs PICTURES [PICTURES ...]

Scenes are `studio.train.world`'s own, of seeds that no training draws. The photographs hold no sticker, so every box in
them is false.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.cards import Card, load_cards
from studio.config import ROOT
from studio.device import probe
from studio.engines.base import ENGINES, Engine
from studio.tasks import Detect, Task, make_task
from studio.train.asking import innermost
from studio.train.detector import FIRST_EVALUATION_SCENE, average_precision
from studio.train.photographs import photographs
from studio.train.world import DETECTOR_CLASSES, scene

Masks = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
SMALL = 0.01
"""Things below this share of the picture are told apart."""


class Desk:
    """A Report with one picture on it."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.picture: Pixels = np.zeros((1, 1, 3), np.uint8)
        self._count = 0

    def lay(self, picture: Pixels) -> str:
        """Shows the picture; returns the name it is asked for by."""
        self.picture, self._count = picture, self._count + 1
        return f"{self._count:064x}"

    def progress(self, step: int, total: int, phase: str = "") -> None:
        """Nobody looks."""

    def preview(self, image: Any) -> None:
        """Nobody looks."""

    def asset(self, id: str) -> Pixels:
        return self.picture


def segmenter(
    folder: Path,
    *,
    scenes: int = 80,
    size_px: int = 256,
    bsds: Path | None = None,
    pictures: int = 25,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Mean IoU on new scenes, and with `bsds` on the first `pictures` photographs of BSDS500 (see `photographed`).

    Of a click on the thing's innermost pixel; of three, each of the next in the middle of the largest mistake; of its
    exact box. The mask is the one the engine puts first, "best" the best of those it offers.
    """
    with tempfile.TemporaryDirectory() as cache:
        engine, desk = _engine("starter-segmenter", folder, options), Desk(Path(cache))
        drawn = (
            scene(FIRST_EVALUATION_SCENE + i, mode="scatter", size=size_px, photos=photographs()) for i in range(scenes)
        )
        found = {"scenes": _asked(engine, desk, ((d.picture, d.masks) for d in drawn))}
        if bsds is not None:
            found["bsds500"] = _asked(engine, desk, photographed(bsds, pictures))
        engine.close()
    return found


def photographed(bsds: Path, pictures: int, smallest: float = 0.01) -> Iterator[tuple[Pixels, Masks]]:
    """Photographs of BSDS500 (Arbelaez et al., 2011) with the first person's connected regions of at least `smallest`.

    `bsds` holds pictures `*.jpg` and segmentations `*.mat` of the same names, anywhere below.
    """
    from scipy.io import loadmat
    from scipy.ndimage import label

    truths = {path.stem: path for path in sorted(bsds.rglob("*.mat"))}
    for path in [path for path in sorted(bsds.rglob("*.jpg")) if path.stem in truths][:pictures]:
        numbers = loadmat(truths[path.stem])["groundTruth"][0][0][0, 0]["Segmentation"]
        parts = [label(numbers == number)[0] for number in np.unique(numbers)]
        masks = [part == k for part in parts for k in range(1, part.max() + 1)]
        yield np.asarray(Image.open(path).convert("RGB")), np.stack([m for m in masks if m.mean() >= smallest])


def _asked(engine: Engine, desk: Desk, cases: Iterable[tuple[Pixels, Masks]]) -> dict[str, float]:
    rows: dict[str, list[float]] = {}
    for picture, masks in cases:
        name = desk.lay(picture)
        for mask in masks:
            points: list[tuple[float, float, int]] = []
            values: dict[str, float] = {}
            wrong = mask
            for number in range(1, 4):
                x, y = (int(c) for c in innermost(wrong))
                points.append((x, y, int(mask[y, x])))
                offered, scores = _cut(engine, desk, make_task("segment", {"image": name, "points": points}))
                values[f"click{'s' * (number > 1)}_{number}"] = _iou(offered[0], mask)
                if number == 1:
                    values["best_of_3"] = max(_iou(one, mask) for one in offered)
                    values["score_error"] = abs(scores[0] - values["click_1"])
                mistakes = [mask & ~offered[0], offered[0] & ~mask]
                wrong = max((_largest(m) for m in mistakes), key=lambda m: int(m.sum()))
                wrong = wrong if wrong.any() else mask
            rows_, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = (int(columns[0]), int(rows_[0]), int(columns[-1]) + 1, int(rows_[-1]) + 1)
            values["box"] = _iou(_cut(engine, desk, make_task("segment", {"image": name, "box": box}))[0][0], mask)
            values["ellipse_in_box"] = _iou(_ellipse(box, mask.shape), mask)
            for key, value in {**values, "share": float(mask.mean())}.items():
                rows.setdefault(key, []).append(value)
    share = np.array(rows.pop("share"))
    figures = {key: round(float(np.mean(value)), 4) for key, value in rows.items()}
    small = share < SMALL
    if small.any():
        for key in ("click_1", "clicks_3", "box"):
            figures[f"{key}_small"] = round(float(np.array(rows[key])[small].mean()), 4)
    return {**figures, "regions": len(share), "regions_small": int(small.sum())}


def _cut(engine: Engine, desk: Desk, task: Task) -> tuple[list[Masks], list[float]]:
    result = engine.run(task, desk)
    return list(result.masks), list(result.data["scores"])


def _largest(mask: Masks) -> Masks:
    """The largest connected part."""
    _, parts, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return parts == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax()) if len(facts) > 1 else mask


def _ellipse(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> Masks:
    y, x = np.ogrid[: shape[0], : shape[1]]
    wide, high = box[2] - box[0], box[3] - box[1]
    u, v = (x + 0.5 - (box[0] + box[2]) / 2) / wide, (y + 0.5 - (box[1] + box[3]) / 2) / high
    return np.asarray(u**2 + v**2 <= 0.25)


def _iou(first: Masks, second: Masks) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def detector(
    folder: Path,
    *,
    scenes: int = 500,
    size_px: int = 192,
    pictures: Iterable[Path] = (),
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """COCO's average precision on new scenes; at the default confidence precision and recall there, and how many boxes
    there are in photographs without a sticker."""
    with tempfile.TemporaryDirectory() as cache:
        engine, desk = _engine("starter-detector", folder, options), Desk(Path(cache))
        truths, found, seconds = [], [], 0.0
        for number in range(scenes):
            truth = scene(FIRST_EVALUATION_SCENE + number, mode="scatter", size=size_px, photos=photographs())
            truths += [(number, DETECTOR_CLASSES.index(label), box)
                       for box, label in zip(truth.boxes, truth.classes, strict=True) if label is not None]  # fmt: skip
            started = time.perf_counter()
            found += [(number, *one) for one in _boxes(engine, desk, truth.picture, confidence=0.001, iou=0.7)]
            seconds += time.perf_counter() - started
        default = float(Detect.model_fields["confidence"].default)
        sure = [f for f in found if f[3] >= default]
        hits = _hits(truths, sure)
        false = {path.name: len(_boxes(engine, desk, np.asarray(Image.open(path).convert("RGB")))) for path in pictures}
        engine.close()
    return {
        **average_precision(truths, found, pictures=scenes),
        "recall": round(hits / max(1, len(truths)), 4),
        "precision": round(hits / max(1, len(sure)), 4),
        "confidence": default,
        "scenes": scenes,
        "size_px": size_px,
        "things": len(truths),
        "ms": round(1000 * seconds / max(1, scenes), 1),
        "false_boxes": sum(false.values()),
        "false_in": sum(count > 0 for count in false.values()),
        "photographs": len(false),
    }


def _boxes(engine: Engine, desk: Desk, picture: Pixels, **asked: Any) -> list[tuple[int, NDArray[np.float32], float]]:
    data = engine.run(Detect(image=desk.lay(picture), **asked), desk).data
    return [
        (DETECTOR_CLASSES.index(label), np.array(box, np.float32), float(score))
        for label, box, score in zip(data["labels"], data["boxes"], data["scores"], strict=True)
    ]


def _hits(truths: list[Any], sure: list[Any], least: float = 0.5) -> int:
    """How many true boxes were found: same class, an IoU of `least`, each counted once."""
    taken: set[int] = set()
    for picture, label, box, _ in sorted(sure, key=lambda f: -f[3]):
        for index, (where, kind, true) in enumerate(truths):
            if where == picture and kind == label and index not in taken and _box_iou(box, true) >= least:
                taken.add(index)
                break
    return len(taken)


def _box_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    both = float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))
    return both / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


def _engine(name: str, folder: Path, options: Mapping[str, Any] | None) -> Engine:
    """The engine of a shipped model's card, with other options and on the weights in `folder`."""
    card: Card = load_cards(ROOT / "models")[name]
    card = card.model_copy(update={"options": {**card.options, **(options or {})}})
    module, _, kind = ENGINES[card.engine].target.partition(":")
    opened: Engine = getattr(importlib.import_module(module), kind)(card, folder, probe("cpu"))
    return opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("segmenter", "detector"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=80)
    parser.add_argument("--bsds", type=Path)
    parser.add_argument("--pictures", type=int, default=25)
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="folders of pictures without stickers")
    parser.add_argument("--options", type=json.loads, default={}, help="of the card, as JSON")
    given = parser.parse_args()
    if given.what == "segmenter":
        figures = segmenter(
            given.folder, scenes=given.scenes, bsds=given.bsds, pictures=given.pictures, options=given.options
        )
    else:
        files = [file for folder in given.photographs for file in sorted(folder.rglob("*.jpg"))]
        figures = detector(given.folder, scenes=given.scenes, pictures=files, options=given.options)
    print(json.dumps(figures, indent=2))  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
