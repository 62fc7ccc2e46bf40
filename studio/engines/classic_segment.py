"""Masks without weights. Each method takes an RGB uint8 (H, W, 3) picture, the hints in its pixels, and the report."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from studio.engines.base import Report
from studio.errors import InvalidTask
from studio.ops.masks import fill_holes

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
MOST = 256  # masks; a full-size one each would fill the memory, and nobody picks from more
ROUNDS = 5  # of GrabCut; it has settled by then


class Segments(NamedTuple):
    """Masks (H, W), and how many more there were than MOST."""

    masks: list[Mask]
    left_out: int = 0


@dataclass(frozen=True)
class Hints:
    """What the user pointed at, in pixels of the picture that is worked on.

    Attributes:
        marks: clicks as x, y, 1 (on the thing) or 0 (not), inside the picture.
        box: x1 y1 x2 y2, clipped to the picture, at least one pixel large.
        everything: all segments instead of one thing.
        brush: width of a click's mark in px, at least 3.
        min_area: smallest segment in px.
        scale: Felzenszwalb's; larger makes larger segments.
    """

    marks: tuple[tuple[int, int, int], ...] = ()
    box: tuple[int, int, int, int] | None = None
    everything: bool = False
    brush: int = 9
    min_area: int = 64
    scale: float = 100.0

    def on(self) -> list[tuple[int, int]]:
        return [(x, y) for x, y, label in self.marks if label == 1]

    def off(self) -> list[tuple[int, int]]:
        return [(x, y) for x, y, label in self.marks if label == 0]


def grabcut(image: Picture, hints: Hints, report: Report) -> Segments:
    """One mask from a box, from clicks, or from both: colour models of thing and background, cut where they part.

    Outside a box is background. Clicks are marks of `brush` width that the cut may not change. Without a box only what
    hangs together with a positive click stays. Raises InvalidTask.
    """
    if hints.everything:
        raise InvalidTask("GrabCut cuts out one thing, not everything.", "Draw a box or click, or choose Felzenszwalb.")
    if hints.box is None and not hints.on():
        raise InvalidTask("GrabCut needs a box or a click on the thing.", "Draw a box around it or click on it.")
    trimap = _trimap(image.shape[:2], hints)
    if not np.isin(trimap, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        raise InvalidTask("The box leaves no background.", "Draw it smaller, or click on what is background (label 0).")
    models = np.zeros((1, 65)), np.zeros((1, 65))
    picture = np.ascontiguousarray(image[..., ::-1])
    mode = cv2.GC_INIT_WITH_MASK
    for step in range(ROUNDS):
        report.progress(step, ROUNDS, "cutting out")
        try:
            cv2.grabCut(picture, trimap, None, *models, 1, mode)
        except cv2.error as error:  # fewer pixels than colours to model
            raise InvalidTask("There is too little to go by.", "Draw a larger box or use a wider brush.") from error
        mode = cv2.GC_EVAL
    report.progress(ROUNDS, ROUNDS, "cutting out")
    mask = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    return Segments([_touching(mask, hints.on()) if hints.box is None else mask])


def felzenszwalb(image: Picture, hints: Hints, report: Report) -> Segments:
    """Graph-based segments (Felzenszwalb and Huttenlocher 2004).

    Everything: all of them. Clicks: those under positive clicks together, without those under negative clicks.
    A box alone: those that lie in it by more than half. Raises InvalidTask.
    """
    _need_hint(hints)
    # scikit-image loads SciPy, which takes a second; the other methods do without.
    segmentation = importlib.import_module("skimage.segmentation")
    labels = segmentation.felzenszwalb(image, scale=hints.scale, sigma=0.8, min_size=hints.min_area)  # (H, W)
    report.progress(1, 1, "segments")
    if hints.everything:
        return _each(labels, hints.min_area)
    if hints.on():
        wanted = {int(labels[y, x]) for x, y in hints.on()} - {int(labels[y, x]) for x, y in hints.off()}
        if not wanted:
            raise InvalidTask(
                "Positive and negative clicks lie in the same segment.",
                "Lower the scale, which makes segments smaller.",
            )
        return Segments([np.isin(labels, list(wanted))])
    return Segments([_mostly_inside(labels, hints)])


def watershed(image: Picture, hints: Hints, report: Report) -> Segments:
    """Flooding from markers (Meyer 1992).

    Clicks: positive ones flood the thing, negative ones the background; where nobody marked background, the picture's
    border and the outside of the box do. Everything: one marker per blob that Otsu's threshold leaves, by distance.
    Raises InvalidTask.
    """
    _need_hint(hints)
    markers = _blob_markers(image) if hints.everything else _click_markers(image.shape[:2], hints)
    labels = cv2.watershed(np.ascontiguousarray(image[..., ::-1]), markers)
    report.progress(1, 1, "segments")
    if hints.everything:
        labels[labels <= 1] = 0  # 1 is the background, -1 the lines between
        return _each(labels, hints.min_area, skip=0)
    return Segments([fill_holes(labels == 2, max_area=hints.brush**2)])


def contrast(image: Picture, mask: Mask) -> float:
    """How a mask's mean colour differs from that of the ring around it, 0..1: the score of these methods.

    It orders masks by how clearly they stand out. It is not a probability that the mask is right.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0
    ring = 7
    window = (
        slice(max(0, rows[0] - ring), rows[-1] + ring + 1),
        slice(max(0, columns[0] - ring), columns[-1] + ring + 1),
    )
    inside = mask[window].astype(np.uint8)
    around = cv2.dilate(inside, np.ones((2 * ring + 1, 2 * ring + 1), np.uint8)) - inside
    if not around.any():
        return 0.0
    difference = np.subtract(cv2.mean(image[window], inside)[:3], cv2.mean(image[window], around)[:3])
    return float(np.clip(np.linalg.norm(difference) / 255, 0, 1))


def _need_hint(hints: Hints) -> None:
    if not hints.everything and hints.box is None and not hints.on():
        raise InvalidTask("Nothing says what to cut out.", "Click on the thing, draw a box, or ask for everything.")


def _trimap(shape: tuple[int, ...], hints: Hints) -> Picture:
    """(H, W) of GrabCut's four labels."""
    trimap = np.full(shape, cv2.GC_PR_BGD if hints.box is None else cv2.GC_BGD, np.uint8)
    if hints.box is not None:
        x1, y1, x2, y2 = hints.box
        trimap[y1:y2, x1:x2] = cv2.GC_PR_FGD
    for x, y, label in hints.marks:
        cv2.circle(trimap, (x, y), max(2, hints.brush // 2), cv2.GC_FGD if label == 1 else cv2.GC_BGD, cv2.FILLED)
    return trimap


def _touching(mask: Mask, points: list[tuple[int, int]]) -> Mask:
    """The connected parts of the mask that hold one of the points."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    wanted = {int(labels[y, x]) for x, y in points} - {0}
    return np.isin(labels, list(wanted))


def _each(labels: NDArray[np.integer], min_area: int, skip: int = -1) -> Segments:
    """A mask per label of at least `min_area` pixels, the MOST largest."""
    names, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    wanted = [names[i] for i in order if counts[i] >= min_area and names[i] != skip]
    return Segments([labels == name for name in wanted[:MOST]], left_out=max(0, len(wanted) - MOST))


def _mostly_inside(labels: NDArray[np.integer], hints: Hints) -> Mask:
    assert hints.box is not None
    x1, y1, x2, y2 = hints.box
    inside = np.bincount(labels[y1:y2, x1:x2].ravel(), minlength=int(labels.max()) + 1)
    total = np.bincount(labels.ravel())
    return (inside > total / 2)[labels]


def _click_markers(shape: tuple[int, ...], hints: Hints) -> NDArray[np.int32]:
    """(H, W): 2 where the thing is marked, 1 where the background is, 0 unknown."""
    markers = np.zeros(shape, np.int32)
    if hints.box is not None:
        x1, y1, x2, y2 = hints.box
        outside = np.ones(shape, bool)
        outside[y1:y2, x1:x2] = False
        markers[outside] = 1
        if not hints.on():  # the middle of the box, a third of its width and height
            width, height = (x2 - x1) // 3, (y2 - y1) // 3
            markers[y1 + height : max(y2 - height, y1 + height + 1), x1 + width : max(x2 - width, x1 + width + 1)] = 2
    if not (markers == 1).any() and not hints.off():
        markers[[0, 1, -2, -1], :] = 1
        markers[:, [0, 1, -2, -1]] = 1
    for x, y, label in hints.marks:
        cv2.circle(markers, (x, y), max(1, hints.brush // 2), 2 if label == 1 else 1, cv2.FILLED)
    return markers


def _blob_markers(image: Picture) -> NDArray[np.int32]:
    """(H, W): 2, 3, ... in the middle of each blob, 1 on sure background, 0 between.

    Blobs are what Otsu's threshold sets apart from the shade that most of the picture's border has.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0)
    _, bright = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    blobs = bright if border.mean() < 0.5 else 1 - bright
    kernel = np.ones((3, 3), np.uint8)
    blobs = cv2.morphologyEx(blobs, cv2.MORPH_OPEN, kernel, iterations=2)
    distance = cv2.distanceTransform(blobs, cv2.DIST_L2, 5)
    count, parts = cv2.connectedComponents(blobs)
    peak = np.zeros(count, np.float32)
    np.maximum.at(peak, parts.ravel(), distance.ravel())
    middle = (distance > 0.6 * peak[parts]) & (blobs > 0)  # of each part by its own size, so that small ones stay
    _, markers = cv2.connectedComponents(middle.astype(np.uint8))
    markers = np.where(markers > 0, markers + 1, 0)
    markers[cv2.dilate(blobs, kernel, iterations=3) == 0] = 1
    return markers.astype(np.int32)
