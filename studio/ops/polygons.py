"""Masks as polygons and back. A ring is float32 (K, 2), x y in pixels, not closed, on the lines *between* pixels:
the ring around one pixel at (3, 5) is (3, 5) (4, 5) (4, 6) (3, 6), so without simplification nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from studio.ops.masks import components

Ring = NDArray[np.float32]

STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])  # right, down, left, up on the screen: each next one turns right


def from_mask(mask: NDArray[np.bool_], tolerance: float = 0.0) -> list[list[Ring]]:
    """The connected parts (4 neighbours) of a mask, largest first, each as [outer ring, hole, hole, ...].

    Args:
        mask: bool (H, W).
        tolerance: rings may leave the true outline by this many pixels (Douglas and Peucker); 0 keeps every corner.

    Returns:
        Outer rings run clockwise on the screen, holes the other way round. Rings that shrink to a line are left out.
    """
    if not mask.any():
        return []
    rings = sorted(_trace(mask), key=lambda item: signed_area(item[1]), reverse=True)
    found: dict[int, list[Ring]] = {}
    for label, ring in rings:  # the outer ring of a part has the largest area and comes before its holes
        found.setdefault(label, []).append(ring)
    parts = found.values()
    simple = [[simplify(ring, tolerance) for ring in part] for part in parts]
    return [[ring for ring in part if len(ring) > 2] for part in simple if len(part[0]) > 2]


def to_mask(parts: Sequence[Sequence[Ring]], height: int, width: int) -> NDArray[np.bool_]:
    """Fills polygons: the pixels whose centres lie inside by the even-odd rule, bool (H, W)."""
    flips = np.zeros((height, width + 1), bool)
    for ring in (ring for part in parts for ring in part):
        for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            low, high = min(y1, y2), max(y1, y2)
            rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5))))
            if len(rows):
                x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
                flips[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= True
    return np.asarray(np.logical_xor.accumulate(flips, axis=1)[:, :width])


def signed_area(ring: Ring) -> float:
    """Pixels within the ring; positive where it runs clockwise on the screen (y down)."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Fewer corners, none further than `tolerance` pixels from the line that replaces it."""
    if tolerance <= 0 or len(ring) < 4:
        return ring
    far = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())  # two corners that surely stay
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, len(ring)]] = True
    spans = [(0, far), (far, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        offsets = _offsets(closed[first + 1 : last], closed[first], closed[last])
        worst = int(offsets.argmax())
        if offsets[worst] > tolerance:
            keep[first + 1 + worst] = True
            spans += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return ring[keep[:-1]]


def _offsets(points: NDArray[np.float32], start: NDArray[np.float32], end: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance in pixels of each point (K, 2) from the stretch between start and end, (K,)."""
    line = end - start
    along = np.clip((points - start) @ line / max(float(line @ line), 1e-12), 0, 1)
    return np.asarray(np.linalg.norm(points - start - along[:, None] * line, axis=1))


def _trace(mask: NDArray[np.bool_]) -> list[tuple[int, Ring]]:
    """All outlines with the mask on their right hand, as (label of the part, corners)."""
    ids, x, y, heading = _sides(mask)
    following = _following(ids, x, y, heading, mask.shape)
    labels = components(mask, 4)[0]
    # The pixel to the right of a side that starts at (x, y), by heading.
    owners = labels[y - np.array([0, 0, 1, 1])[heading], x - np.array([0, 1, 1, 0])[heading]]
    rings, is_free = [], np.ones(len(ids), bool)
    successors = following.tolist()
    for first in range(len(ids)):
        if not is_free[first]:
            continue
        walk, side = [first], successors[first]
        while side != first:
            walk.append(side)
            side = successors[side]
        is_free[walk] = False
        turns = np.array(walk)[heading[walk] != np.roll(heading[walk], 1)]
        rings.append((int(owners[first]), np.stack([x[turns], y[turns]], axis=1).astype(np.float32)))
    return rings


def _sides(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """The sides of pixels between mask and no mask, each (E,): id, x and y of its start, heading (index of STEPS)."""
    height, width = mask.shape
    around = np.pad(mask, 1)
    starts = np.zeros((4, height + 1, width + 1), bool)
    starts[0, :-1, :-1] = mask & ~around[:-2, 1:-1]  # upper sides lead right
    starts[1, :-1, 1:] = mask & ~around[1:-1, 2:]  # right sides lead down
    starts[2, 1:, 1:] = mask & ~around[2:, 1:-1]  # lower sides lead left
    starts[3, 1:, :-1] = mask & ~around[1:-1, :-2]  # left sides lead up
    ids = np.flatnonzero(starts)
    heading, y, x = np.unravel_index(ids, starts.shape)
    return ids, x, y, heading


def _following(
    ids: NDArray[np.int64],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    heading: NDArray[np.int64],
    shape: tuple[int, ...],
) -> NDArray[np.int64]:
    """For each side the index of the next one on its ring, (E,); where pixels meet by a corner it turns right."""
    step = STEPS[heading]
    size = (4, shape[0] + 1, shape[1] + 1)
    found = np.full(len(ids), -1)
    for turn in (3, 0, 1):  # left, straight, right: the last that exists wins
        wanted = np.ravel_multi_index(((heading + turn) % 4, y + step[:, 1], x + step[:, 0]), size)
        at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        found = np.where(ids[at] == wanted, at, found)
    return found
