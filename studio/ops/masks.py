"""Masks: bool (H, W), or (N, H, W) for several. Everything returns new arrays and leaves its arguments alone."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Masks = NDArray[np.bool_] | Sequence[NDArray[np.bool_]]
Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),  # the first eight stay apart for colour-blind eyes (Okabe and Ito)
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (150, 110, 230),
)
GOLDEN = 0.6180339887  # steps of the golden ratio around the colour wheel never meet


def area(mask: Mask) -> int:
    """Pixels that are set."""
    return int(np.count_nonzero(mask))


def box(mask: Mask) -> NDArray[np.float32]:
    """The smallest box around the mask, float32 (4,) x1 y1 x2 y2, x2 and y2 exclusive; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def boxes(masks: Masks) -> NDArray[np.float32]:
    """The box of each mask, float32 (N, 4)."""
    return np.array([box(mask) for mask in masks], np.float32).reshape(-1, 4)


def union(masks: Masks) -> Mask:
    """What is in any of them. Needs at least one mask."""
    return np.asarray(np.any(np.asarray(masks), axis=0))


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union, 0..1; two empty masks are alike: 1."""
    joined = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / joined) if joined else 1.0


def grow(mask: Mask, radius: float) -> Mask:
    """Everything within `radius` pixels of the mask (round, Euclidean)."""
    return _distance(~mask) <= radius if mask.any() else mask.copy()


def shrink(mask: Mask, radius: float) -> Mask:
    """What lies further than `radius` pixels inside. The picture's border is no edge: what touches it is not eaten."""
    return _distance(mask) > radius if not mask.all() else mask.copy()


def feather(mask: Mask, width: float) -> NDArray[np.float32]:
    """The mask as alpha, float32 (H, W) 0..1, that rises over `width` pixels across the edge, 0.5 on it.

    `width` 0 gives exactly 0 and 1.
    """
    if width <= 0 or mask.all() or not mask.any():
        return mask.astype(np.float32)
    signed = np.where(mask, _distance(mask) - 0.5, 0.5 - _distance(~mask))  # px from the edge, positive inside
    return np.clip(0.5 + signed / width, 0, 1).astype(np.float32)


def fill_holes(mask: Mask, max_area: float = np.inf) -> Mask:
    """Fills the holes of at most `max_area` pixels. Background that reaches the border is never a hole."""
    labels, stats = components(~mask, 4)
    height, width = mask.shape
    x, y, w, h, size = stats.T
    is_hole = (x > 0) & (y > 0) & (x + w < width) & (y + h < height) & (size <= max_area)
    is_hole[0] = False  # label 0 is the mask itself
    return mask | is_hole[labels]


def remove_specks(mask: Mask, min_area: int) -> Mask:
    """Removes connected parts (8 neighbours) of fewer than `min_area` pixels."""
    labels, stats = components(mask, 8)
    stays = stats[:, 4] >= min_area
    stays[0] = False
    return np.asarray(stays[labels])


def stability(logits: NDArray[np.floating], threshold: float = 0.0, offset: float = 1.0) -> NDArray[np.float32]:
    """How little masks change with the threshold: IoU of logits > threshold + offset and > threshold - offset.

    Args:
        logits: (N, H, W).

    Returns:
        float32 (N,), 0..1; 0 where even the generous mask is empty.
    """
    strict = np.count_nonzero(logits > threshold + offset, axis=(1, 2))
    generous = np.count_nonzero(logits > threshold - offset, axis=(1, 2))
    return (strict / np.maximum(generous, 1)).astype(np.float32)


def nms(masks: Mask, scores: NDArray[np.floating], max_iou: float) -> NDArray[np.int64]:
    """Greedy non-maximum suppression by the IoU of the masks themselves, which boxes cannot tell apart.

    Args:
        masks: bool (N, H, W).
        scores: (N,); ties go to the earlier mask.
        max_iou: a mask that overlaps a better one by more than this is dropped.

    Returns:
        Indices of the kept masks, best first.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    words = _words(masks)  # (N, ceil(H W / 64))
    areas = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        shared = np.bitwise_count(words[rest] & words[best]).sum(axis=1, dtype=np.int64)
        joined = areas[rest] + areas[best] - shared
        order = rest[shared <= max_iou * np.maximum(joined, 1)]
    return np.array(kept, np.int64)


def cut_out(image: NDArray[np.uint8], mask: Mask, *, feather_px: float = 0.0, crop: bool = False) -> NDArray[np.uint8]:
    """The masked part on nothing: RGBA uint8 (H, W, 4), or of the mask's box when cropped.

    Without feather alpha is exactly 0 or 255. Colours under alpha 0 are cleared, so that a cut-out hides what it cut.
    """
    alpha = np.rint(feather(mask, feather_px) * 255).astype(np.uint8)
    made = np.dstack([np.where(alpha[..., None] > 0, image, 0).astype(np.uint8), alpha])
    if not crop or not alpha.any():
        return made
    left, top, right, bottom = box(alpha > 0).astype(int)
    return made[top:bottom, left:right].copy()


def colour(index: int) -> Colour:
    """The colour of the index-th mask, RGB 0..255; the same everywhere in the studio."""
    if index < len(PALETTE):
        return PALETTE[index]
    red, green, blue = colorsys.hsv_to_rgb((index * GOLDEN) % 1, 0.75, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(
    image: NDArray[np.uint8],
    masks: Masks,
    *,
    palette: Sequence[Colour] | None = None,
    opacity: float = 0.45,
    edge_px: int | None = None,
) -> NDArray[np.uint8]:
    """The picture with tinted masks and a crisp edge inside each, first mask on top.

    Args:
        image: uint8 (H, W, 3) RGB.
        palette: colours to repeat; the studio's own when not given.
        opacity: of the tint, 0..1.
        edge_px: width of the edge; about 1 per 400 pixels of the picture when not given, 0 for none.
    """
    made = image.copy()
    width = edge_px if edge_px is not None else max(1, round(max(image.shape[:2]) / 400))
    for index in reversed(range(len(masks))):
        mask = masks[index]
        left, top, right, bottom = box(mask).astype(int)
        part, mask = made[top:bottom, left:right], mask[top:bottom, left:right]  # a view: small masks cost little
        tint = np.array(palette[index % len(palette)] if palette else colour(index), np.float32)
        tinted = np.rint(np.arange(256)[:, None] * (1 - opacity) + tint * opacity).astype(np.uint8)  # value -> value
        for channel in range(3):
            np.copyto(part[..., channel], tinted[:, channel][part[..., channel]], where=mask)
        part[_edge(mask, width)] = tint.astype(np.uint8)
    return made


def _edge(mask: Mask, width: int) -> Mask:
    """The outermost `width` pixels inside the mask, (H, W)."""
    import cv2

    if width <= 0 or not mask.any():
        return np.zeros_like(mask)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    inner = cv2.erode(mask.astype(np.uint8), brush, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(mask & (inner == 0))


def _distance(mask: Mask) -> NDArray[np.float32]:
    """Per pixel the distance in pixels to the nearest pixel that is not set, 0 there; float32 (H, W)."""
    import cv2

    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def components(mask: Mask, connectivity: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Parts connected by 4 or 8 neighbours: labels (H, W), 0 where not set; per label x, y, width, height, area."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    return np.asarray(labels, np.int32), np.asarray(stats, np.int32)


def _words(masks: Mask) -> NDArray[np.uint64]:
    """64 pixels to a word, so that an intersection is one `and`: bool (N, H, W) -> uint64 (N, ceil(H W / 64))."""
    flat = np.packbits(masks.reshape(len(masks), int(np.prod(masks.shape[1:]))), axis=1)  # (N, ceil(H W / 8))
    return np.pad(flat, ((0, 0), (0, -flat.shape[1] % 8))).view(np.uint64)
