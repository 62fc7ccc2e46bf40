"""Segment Anything: clicks or a box to masks, or everything in the picture.

The picture is encoded once (seconds with the large encoders), its embedding kept in memory and on disk; each click
after that only runs the small decoder.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.cards import Card
from studio.compress.networks import Place
from studio.device import Device
from studio.engines.base import Report, Result
from studio.engines.embeddings import Embedding, EmbeddingCache
from studio.engines.sam_nets import GraphSam, Prompt, SamNet
from studio.errors import IntegrityError, InvalidTask, Unsupported
from studio.ops import masks as ops
from studio.ops.refine import cut_out, is_degenerate
from studio.tasks import Segment, Task

RECENT = 4  # embeddings in memory, about 4 MB each
CHOICES = 3  # masks to choose from after a click
BATCH = 16  # grid points decoded at once: 130 MB with the published decoders, and soon enough cancelled
MAX_SEGMENTS = 256
MAX_SEGMENT_BYTES = 512 * 2**20  # all masks of 'everything', one byte a pixel

# What 'everything' lets through, as in segment_anything; a card's options may say otherwise.
FILTER: Mapping[str, float] = {"min_score": 0.88, "min_stability": 0.95, "max_overlap": 0.7}


Floats = NDArray[np.float32]


class Candidates(NamedTuple):
    """Low-resolution masks on their way: logits (N, h, w), predicted IoU (N,)."""

    logits: NDArray[np.float16]
    scores: NDArray[np.float32]


class SamEngine:
    """A network of `studio.nets.sam`: `config.json` beside `model.safetensors`, or one .safetensors file whose
    published layout the card's option "architecture" names; or its converted graphs (see `studio.engines.sam_nets`).
    """

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        self._card = card
        self._filter = {name: float(card.options.get(name, value)) for name, value in FILTER.items()}
        self._refines = bool(card.options.get("refine", False))
        self._shown: tuple[str, NDArray[np.uint8]] | None = None  # the picture of the last refined click
        self._net = _network(card, folder, device)
        self._recent: OrderedDict[str, Embedding] = OrderedDict()
        self._size = self._net.size

    def run(self, task: Task, report: Report) -> Result:
        """Masks of a Segment task: three to choose from for clicks and boxes, best predicted IoU first and those
        that show nothing last; with `everything` (which makes clicks and box unnecessary and unread) all segments,
        largest first.

        Raises InvalidTask for prompts that mark nothing or lie outside the picture.
        """
        if not isinstance(task, Segment):
            raise Unsupported(f"{self._card.title} cuts things out; it cannot {task.kind}.", "Choose another model.")
        _check_prompt(task)
        started = time.perf_counter()
        embedding, is_cached = self._embedding(task.image, report)
        encoded = time.perf_counter()
        find = self._everything if task.everything else self._one_thing
        masks, scores = find(embedding, task, report)
        seconds = {"embedding": encoded - started, "decode": time.perf_counter() - encoded}
        data = {
            "width": embedding.width,
            "height": embedding.height,
            "scores": [round(float(score), 4) for score in scores],
            "areas": [ops.area(mask) for mask in masks],
            "boxes": ops.boxes(masks).tolist(),
            "embedding_cached": is_cached,
            "notes": self._net.notes,
            "seconds": {phase: round(spent, 4) for phase, spent in seconds.items()},
        }
        return Result(masks=tuple(masks), data=data)

    def close(self) -> None:
        self._recent.clear()
        self._shown = None
        self._net.close()

    # ── the slow half ────────────────────────────────────────────────────────

    def _embedding(self, asset: str, report: Report) -> tuple[Embedding, bool]:
        """The picture's embedding, and whether it was there already."""
        key = hashlib.sha256(f"{self._net.digest} {asset}".encode()).hexdigest()
        cache = EmbeddingCache(report.cache / "embeddings")
        found = self._recent.get(key) or cache.read(key, self._net.channels)
        is_cached = found is not None
        if found is None:
            report.progress(0, 2, "encoding picture")
            found = self._encode(report.asset(asset))
            cache.write(key, found)
        self._recent[key] = found
        self._recent.move_to_end(key)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return found, is_cached

    def _encode(self, image: NDArray[np.uint8]) -> Embedding:
        """uint8 (H, W, 3) -> features float16 (C, h, w)."""
        height, width = image.shape[:2]
        inner_height, inner_width = _inner_size(height, width, self._size)
        scaled = Image.fromarray(image).resize((inner_width, inner_height), Image.Resampling.BILINEAR)
        pixels = np.asarray(scaled, np.float32).transpose(2, 0, 1)  # (3, h, w), 0..255
        features = self._net.encode(pixels)
        if not np.isfinite(features).all():
            raise IntegrityError(
                f"{self._card.title} produced NaN for this picture.", "Its weights are damaged: get them again."
            )
        limit = np.finfo(np.float16).max
        return Embedding(features.clip(-limit, limit).astype(np.float16), height, width)

    # ── the quick half ───────────────────────────────────────────────────────

    def _one_thing(
        self, embedding: Embedding, task: Segment, report: Report
    ) -> tuple[list[ops.Mask], NDArray[np.float32]]:
        prompt = _prompt(task, embedding.height, embedding.width)
        report.progress(1, 2, "decoding")
        # One click may mean a part or the whole: three tokens answer. More than that is clear,
        # and then the published weights answer best with the single-mask token, which is the first.
        first = 1 if prompt.is_one_click else 0
        logits, scores = (found[0, first:] for found in self._decode(embedding, prompt))
        best = np.argsort(-scores, kind="stable")[:CHOICES]
        full = [self._full_size(logits[i], embedding) for i in best.tolist()]
        masks = [values > self._net.threshold for values in full]
        if self._refines:  # the card's network draws coarsely, and says so
            picture = self._picture(task, report)
            with ThreadPoolExecutor(len(full)) as pool:  # OpenCV lets other threads run meanwhile
                masks = list(pool.map(lambda values: self._refined(picture, values, task), full))
        order = sorted(range(len(masks)), key=lambda k: is_degenerate(masks[k]))  # stable: within each, best first
        report.progress(2, 2, "decoding")
        return [masks[k] for k in order], scores[best][order]

    def _picture(self, task: Segment, report: Report) -> NDArray[np.uint8]:
        """The picture that is cut, kept for the next click."""
        if self._shown is None or self._shown[0] != task.image:
            self._shown = task.image, report.asset(task.image)
        return self._shown[1]

    def _refined(self, picture: NDArray[np.uint8], logits: Floats, task: Segment) -> ops.Mask:
        """The mask of full-size logits (H, W), made to follow the picture's edges."""
        clicks = np.array(task.points, np.float32).reshape(-1, 3)
        return cut_out(
            picture,
            logits - self._net.threshold,
            box=task.box,
            clicks=clicks[:, :2],
            labels=clicks[:, 2].astype(np.int64),
        )

    def _everything(
        self, embedding: Embedding, task: Segment, report: Report
    ) -> tuple[list[ops.Mask], NDArray[np.float32]]:
        points = _grid(task.points_per_side, embedding.height, embedding.width)  # (N, 1, 2)
        batches = [points[i : i + BATCH] for i in range(0, len(points), BATCH)]
        total = len(batches) + 1
        parts: list[Candidates] = []
        for step, batch in enumerate(batches):
            report.progress(step, total, "decoding")
            logits, scores = self._decode(embedding, Prompt(batch, np.ones(batch.shape[:2], np.int64)))
            logits, scores = logits[:, 1:].reshape(-1, *logits.shape[2:]), scores[:, 1:].ravel()
            parts.append(self._worth_keeping(logits, scores, embedding, task))
            parts = [self._without_doubles(parts, embedding)]
        limit = min(MAX_SEGMENTS, max(1, MAX_SEGMENT_BYTES // (embedding.height * embedding.width)))
        found = Candidates(parts[0].logits[:limit], parts[0].scores[:limit])
        pairs = []
        for mask, score in zip(self._segments(found, embedding, task, report), found.scores, strict=True):
            report.progress(len(batches), total, "drawing masks")
            mask = ops.remove_specks(ops.fill_holes(mask, task.min_area), task.min_area)
            if mask.any():
                pairs.append((mask, score))
        pairs.sort(key=lambda pair: -ops.area(pair[0]))
        report.progress(total, total, "drawing masks")
        return [mask for mask, _ in pairs], np.array([score for _, score in pairs], np.float32)

    def _segments(self, found: Candidates, embedding: Embedding, task: Segment, report: Report) -> Iterator[ops.Mask]:
        """The masks of these candidates in the picture's size, refined where the network draws coarsely."""
        if not self._refines:
            yield from (self._full_size(logit, embedding) > self._net.threshold for logit in found.logits)
            return
        picture, everywhere = self._picture(task, report), task.model_copy(update={"points": (), "box": None})
        with ThreadPoolExecutor(CHOICES) as pool:
            yield from pool.map(
                lambda logit: self._refined(picture, self._full_size(logit, embedding), everywhere), found.logits
            )

    def _worth_keeping(self, logits: Floats, scores: Floats, embedding: Embedding, task: Segment) -> Candidates:
        """Those that are sure of themselves, stable and large enough. Logits come as (N, h, w), scores as (N,)."""
        is_sure = scores > self._filter["min_score"]
        values, sure_scores = logits[is_sure], scores[is_sure]
        visible, threshold = self._visible(values, embedding), self._net.threshold
        pixels = embedding.height * embedding.width / visible[0].size if len(visible) else 0.0  # per value
        areas = np.count_nonzero(visible > threshold, axis=(1, 2)) * pixels
        is_stable = ops.stability(visible, threshold) >= self._filter["min_stability"]
        stays = is_stable & (areas >= task.min_area / 2)  # the exact area is measured at full size
        return Candidates(values[stays].clip(-60000, 60000).astype(np.float16), sure_scores[stays])

    def _without_doubles(self, parts: list[Candidates], embedding: Embedding) -> Candidates:
        """Of masks that nearly coincide only the best, best first."""
        logits, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        visible = self._visible(logits, embedding) > self._net.threshold
        kept = ops.nms(visible, scores, self._filter["max_overlap"])
        return Candidates(logits[kept], scores[kept])

    def _visible(self, logits: NDArray[Any], embedding: Embedding) -> NDArray[Any]:
        """The part of logits (N, h, w) that shows the picture; the rest is padding to a square."""
        inner = np.array(_inner_size(embedding.height, embedding.width, self._size))
        rows, columns = np.ceil(inner * logits.shape[-1] / self._size).astype(int)
        return logits[:, :rows, :columns]

    def _decode(self, embedding: Embedding, prompt: Prompt) -> tuple[Floats, Floats]:
        """Logits (B, 4, h, w) and predicted IoU (B, 4) for B prompts; the first is the single-mask token's."""
        height, width = _inner_size(embedding.height, embedding.width, self._size)
        return self._net.decode(embedding.features, prompt.scaled(width / embedding.width, height / embedding.height))

    def _full_size(self, logits: NDArray[Any], embedding: Embedding) -> Floats:
        """Low-resolution logits (h, w) -> in the picture's size, (H, W)."""
        rows, columns = _inner_size(embedding.height, embedding.width, self._size)
        square = cv2.resize(logits.astype(np.float32), (self._size, self._size), interpolation=cv2.INTER_LINEAR)
        size = embedding.width, embedding.height
        return np.asarray(cv2.resize(square[:rows, :columns], size, interpolation=cv2.INTER_LINEAR), np.float32)


def _network(card: Card, folder: Path, device: Device) -> SamNet:
    """On torch, or where the card says so on converted graphs. Raises what loading raises."""
    place = Place.of(card)
    if place is not None and place.runtime != "torch":
        return GraphSam(folder, place, device)
    from studio.engines.sam_torch import TorchSam  # so that graphs run without torch

    return TorchSam(card, folder, device)


def _prompt(task: Segment, height: int, width: int) -> Prompt:
    """The task's clicks and box as the decoder wants them. Raises InvalidTask for what lies outside the picture."""
    size = f"the picture is {width} × {height} px"
    for x, y, _ in task.points:
        if not (0 <= x < width and 0 <= y < height):
            raise InvalidTask(f"The click at {x:g}, {y:g} lies outside: {size}.", "Click inside the picture.")
    prompt = Prompt()
    if task.points:
        clicks = np.array(task.points, np.float32)  # (K, 3)
        prompt = Prompt(clicks[None, :, :2], clicks[None, :, 2].astype(np.int64))
    if task.box is None:
        return prompt
    clipped = np.clip(np.array(task.box, np.float32), 0, [width, height, width, height])
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        raise InvalidTask(f"The box lies outside: {size}.", "Draw the box over the picture.")
    return prompt._replace(boxes=clipped[None].astype(np.float32))


def _check_prompt(task: Segment) -> None:
    marks = [label for _, _, label in task.points]
    if task.everything or task.box is not None or 1 in marks:
        return
    if marks:
        raise InvalidTask("All clicks say what is not part of the thing.", "Add a click on the thing, or draw a box.")
    raise InvalidTask("Nothing is marked.", "Click on the thing, draw a box, or choose everything.")


def _grid(side: int, height: int, width: int) -> NDArray[np.float32]:
    """side x side clicks in the middles of equal cells, row by row: float32 (side², 1, 2), x y in pixels."""
    steps = (np.arange(side, dtype=np.float32) + 0.5) / side
    y, x = np.meshgrid(steps * height, steps * width, indexing="ij")
    return np.stack([x, y], axis=-1).reshape(-1, 1, 2).astype(np.float32)


def _inner_size(height: int, width: int, side: int) -> tuple[int, int]:
    """The picture's height and width when its longer side is `side` px, as segment_anything rounds them."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
