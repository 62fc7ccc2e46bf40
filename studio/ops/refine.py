"""A coarse mask made to follow the picture's edges: colour models of thing and surroundings, cut where they part.

A small network knows what is meant, but draws its masks on a grid of a few pixels; GrabCut (Rother, Kolmogorov and
Blake, 2004) knows nothing, but follows colours to the pixel. Started from the network's chances it settles on the
nearest cut.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

ROUNDS = 2
LONGEST = 256
"""The cut is made on a window scaled to at most this many px a side: 60 ms a mask on one core; larger gains little."""
MOST_ENLARGED = 2.0
"""How far a small window is enlarged for a cut in a box: it then follows the edge more finely. A click's small windows
are left as they are; the colours of few pixels carry their mask away."""
SURROUNDINGS = 0.5
"""How far the window reaches beyond the frame, in parts of the frame's longer side: what the background looks like."""
SLACK = 0.5
"""How far beyond a click's mask the cut may go, in parts of the mask's width and height."""
UNLIKELY = -4.0
"""Logits of a network below this are taken for surely background: a chance of 2 %."""
BOXED = -1.0
"""Logits above this are the start of a cut in a box, which says by itself how far the thing reaches."""
CLICK = 2
"""Radius in px of what a click decides for good."""
LOST = 0.1
"""A cut that keeps less than this share of the mask it began with has lost the thing and is not believed."""


def cut_out(
    picture: Picture,
    logits: NDArray[np.float32],
    *,
    box: tuple[float, float, float, float] | None = None,
    clicks: NDArray[np.float32] | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Mask:
    """`to_edges` of a network's answer: logits (H, W), above 0 where it sees the thing."""
    start = logits > (0 if box is None else BOXED)
    return to_edges(picture, start, box=box, clicks=clicks, labels=labels, never=logits < UNLIKELY)


def to_edges(
    picture: Picture,
    mask: Mask,
    *,
    box: tuple[float, float, float, float] | None = None,
    clicks: NDArray[np.float32] | None = None,
    labels: NDArray[np.int64] | None = None,
    never: Mask | None = None,
) -> Mask:
    """The mask bool (H, W) as the edges of `picture` uint8 (H, W, 3) suggest it; as it was where they say nothing.

    In a box it is never empty: where the mask marks nothing, the cut starts from the whole box.

    Args:
        box: xyxy px; nothing outside of it belongs to the thing. Without it the cut may leave the mask by SLACK, and
            only what hangs together with a positive click stays.
        clicks, labels: x y px (K, 2) inside the picture, 1 on the thing and 0 not (K,); they are kept.
        never: bool (H, W), where the thing surely is not, whatever the colours say.
    """
    clicks = np.zeros((0, 2), np.float32) if clicks is None else clicks
    labels = np.ones(len(clicks), np.int64) if labels is None else labels
    on = clicks[labels == 1]
    if box is None:
        start = touching(mask, on)
    else:
        inside = _filled(_rounded(box, mask.shape), mask.shape)
        start = mask & inside
        start = inside if is_degenerate(start) else start  # the box alone says where the thing is
    if not start.any():
        return start
    frame = _grown(start) if box is None else _rounded(box, mask.shape)
    window, scale = _window(frame, mask.shape, 1.0 if box is None else MOST_ENLARGED)
    trimap = _trimap(start, never, frame, window, scale)
    shrunk = (trimap.shape[1], trimap.shape[0])
    for (x, y), label in zip(clicks, labels, strict=True):
        spot = round((float(x) - window[0]) * scale), round((float(y) - window[1]) * scale)
        cv2.circle(trimap, spot, CLICK, int(cv2.GC_FGD if label else cv2.GC_BGD), -1)
    x1, y1, x2, y2 = window
    colours = cv2.resize(np.ascontiguousarray(picture[y1:y2, x1:x2, ::-1]), shrunk, interpolation=cv2.INTER_AREA)
    cv2.setRNGSeed(0)  # its colour models start from a random clustering
    try:
        cv2.grabCut(colours, trimap, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels of one side to model their colours
        return start
    found = ((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)).astype(np.float32)
    cut = np.zeros(mask.shape, bool)
    cut[y1:y2, x1:x2] = cv2.resize(found, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR) > 0.5
    if box is None:
        cut = touching(cut, on)
    return start if is_degenerate(cut) or cut.sum() < LOST * start.sum() else cut


def is_degenerate(mask: Mask) -> bool:
    """Whether a mask shows nothing that could be meant: no pixel, or one of many."""
    return int(mask.sum()) <= min(1, mask.size - 1)


def touching(mask: Mask, clicks: NDArray[np.float32]) -> Mask:
    """The connected parts of the mask under the clicks (K, 2); all of it where no click lies on it."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    columns, rows = clicks.astype(int).T if len(clicks) else (np.zeros(0, int), np.zeros(0, int))
    names = np.unique(parts[rows, columns])
    kept = np.isin(parts, names[names > 0])
    return kept if kept.any() else mask


Frame = tuple[int, int, int, int]


def _rounded(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> Frame:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    x1, y1 = min(max(0, x1), shape[1] - 1), min(max(0, y1), shape[0] - 1)
    return x1, y1, max(x1 + 1, min(shape[1], x2)), max(y1 + 1, min(shape[0], y2))


def _filled(frame: Frame, shape: tuple[int, ...]) -> Mask:
    filled = np.zeros(shape, bool)
    filled[frame[1] : frame[3], frame[0] : frame[2]] = True
    return filled


def _grown(mask: Mask) -> Frame:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x1, y1, x2, y2 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    across, down = SLACK * (x2 - x1) + 2, SLACK * (y2 - y1) + 2
    return _rounded((x1 - across, y1 - down, x2 + across, y2 + down), mask.shape)


def _window(frame: Frame, shape: tuple[int, ...], most: float) -> tuple[Frame, float]:
    """The frame with its surroundings, and the scale at which it is cut, `most` at most."""
    x1, y1, x2, y2 = frame
    margin = max(8, round(SURROUNDINGS * max(x2 - x1, y2 - y1)))
    window = max(0, x1 - margin), max(0, y1 - margin), min(shape[1], x2 + margin), min(shape[0], y2 + margin)
    return window, min(most, LONGEST / max(window[2] - window[0], window[3] - window[1]))


def _trimap(start: Mask, never: Mask | None, frame: Frame, window: Frame, scale: float) -> NDArray[np.uint8]:
    """Surely background outside the frame and where `never` says so, else probably what the mask says."""
    x1, y1, x2, y2 = window
    size = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))

    def shrunk(mask: Mask) -> Mask:
        share = cv2.resize(mask[y1:y2, x1:x2].astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return np.asarray(share > 0.5)

    inner = shrunk(start)
    trimap = np.where(inner, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    if never is not None:
        trimap[shrunk(never) & ~inner] = cv2.GC_BGD
    inside = np.zeros_like(trimap, bool)
    left, top = round((frame[0] - x1) * scale), round((frame[1] - y1) * scale)
    inside[top : round((frame[3] - y1) * scale), left : round((frame[2] - x1) * scale)] = True
    trimap[~inside] = cv2.GC_BGD
    return trimap
