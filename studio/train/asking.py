"""Asking a Sam: clicks and boxes drawn from true masks, a click that corrects an answer, and the network's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Masks = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Question:
    """Prompts for the P regions of one picture, in pixels of the network's input."""

    points: Tensor | None = None
    """float (P, K, 2) x y."""
    labels: Tensor | None = None
    """float (P, K): 1 inside, 0 outside."""
    boxes: Tensor | None = None
    """float (P, 4) xyxy."""
    logits: Tensor | None = None
    """The mask to be corrected, float (P, 1, S / 2, S / 2)."""


def clicks(masks: Masks, count: int, rng: np.random.Generator, *, central: float = 0.5) -> Floats:
    """`count` points x y in each mask (P, S, S) -> (P, count, 2), pixel centres at integers; some deep inside."""
    points = np.zeros((len(masks), count, 2), np.float32)
    for i, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        weights = None
        if rng.random() < central:
            depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
            weights = depth[rows, columns].astype(np.float64) ** 2
            weights /= weights.sum()
        picks = rng.choice(len(rows), count, p=weights)
        points[i] = np.stack([columns[picks], rows[picks]], 1)
    return points


def around(masks: Masks, rng: np.random.Generator, *, jitter: float = 0.1) -> Floats:
    """Boxes xyxy (P, 4) around masks (P, S, S), each side moved by `jitter` of the box, 20 px at most."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        extent = np.array([box[2] - box[0], box[3] - box[1]] * 2)
        boxes[i] = np.clip(box + np.clip(rng.normal(0, jitter, 4) * extent, -20, 20), 0, mask.shape[-1])
    return boxes


def ask(kind: str, masks: Masks, rng: np.random.Generator) -> Question:
    """The first question of this kind about masks (P, S, S)."""
    if kind == "box":
        return Question(boxes=torch.from_numpy(around(masks, rng)))
    if kind == "click":
        points = clicks(masks, 1, rng)
        return Question(points=torch.from_numpy(points), labels=torch.ones(points.shape[:2]))
    inside = clicks(masks, int(rng.integers(1, 4)), rng)
    near = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0 for m in masks])
    outside = clicks(near & ~masks, int(rng.integers(0, 3)), rng, central=0.2)
    points = np.concatenate([inside, outside], 1)
    labels = np.concatenate([np.ones(inside.shape[:2]), np.zeros(outside.shape[:2])], 1).astype(np.float32)
    return Question(points=torch.from_numpy(points), labels=torch.from_numpy(labels))


def correct(question: Question, logits: Tensor, masks: Masks, rng: np.random.Generator) -> Question:
    """The same question with the answer's `logits` (P, 1, S/2, S/2) and one click where that answer is wrong."""
    size = masks.shape[-1]
    answer = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)[:, 0].numpy() > 0
    wrong = masks ^ answer
    wrong[~wrong.any((1, 2))] = masks[~wrong.any((1, 2))]
    points = clicks(wrong, 1, rng)
    columns, rows = points[:, 0, 0].astype(int), points[:, 0, 1].astype(int)
    labels = torch.from_numpy(masks[np.arange(len(masks)), rows, columns].astype(np.float32))[:, None]
    click = torch.from_numpy(points)
    if question.points is not None and question.labels is not None:
        click, labels = torch.cat([question.points, click], 1), torch.cat([question.labels, labels], 1)
    return Question(click, labels, question.boxes, logits)


def answer(sam: Any, embedding: Tensor, position: Tensor, question: Question) -> tuple[Tensor, Tensor]:
    """Logits (P, 4, S/2, S/2) of all four masks and their predicted IoUs (P, 4); `embedding` is (1, C, S/8, S/8)."""
    points = (question.points, question.labels) if question.points is not None else None
    sparse, dense = sam.prompt_encoder(points=points, boxes=question.boxes, masks=question.logits)
    return sam.mask_decoder.predict_masks(embedding, position, sparse, dense)


def innermost(mask: Masks) -> Floats:
    """The pixel (2,) x y of a mask (H, W) that is farthest from its border, as Sam's authors click in their tests."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([column, row], np.float32)


def overlap(logits: Tensor, truth: Tensor) -> Tensor:
    """IoU of logits > 0 (P, M, h, w) with truth > 0.5 (P, 1, h, w) -> (P, M)."""
    found, real = logits > 0, truth > 0.5
    return (found & real).sum((2, 3)) / (found | real).sum((2, 3)).clamp(min=1)


def sized(sam: Any, size: int) -> None:
    """Makes `sam` take pictures of `size` px (a multiple of 16): no weight depends on it."""
    grid = size // (sam.image_encoder.img_size // sam.prompt_encoder.image_embedding_size[0])
    sam.image_encoder.img_size = size
    sam.prompt_encoder.image_embedding_size = (grid, grid)
    sam.prompt_encoder.input_image_size = (size, size)
    sam.prompt_encoder.mask_input_size = (4 * grid, 4 * grid)


def normalised(sam: Any, pictures: Tensor, frames: Sequence[tuple[int, int]]) -> Tensor:
    """uint8 (B, S, S, 3) -> what Sam's encoder sees, (B, 3, S, S): padding is 0 after normalisation."""
    x = (pictures.permute(0, 3, 1, 2).float() - sam.pixel_mean) / sam.pixel_std
    for i, (height, width) in enumerate(frames):
        x[i, :, height:] = 0
        x[i, :, :, width:] = 0
    return x
