"""People, faces and codes without weights. RGB uint8 (H, W, 3) in, Hits in pixels of that picture out.

None of these methods knows probabilities. What each reports as its score, 0..1, is said in its docstring; it orders the
finds and lets the confidence slider work, and 0.5 does not mean "right half of the time".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from studio.errors import Unsupported
from studio.ops.boxes import Floats

QR = "QR code"
BARCODES = {
    "EAN_8": "EAN-8",
    "EAN_13": "EAN-13",
    "UPC_A": "UPC-A",
    "UPC_E": "UPC-E",
    "UPC_EAN_EXTENSION": "EAN extension",
}
CODES = (QR, *BARCODES.values(), "barcode")
READ, SEEN = 1.0, 0.5  # scores of a code that was read (its checksum holds) and of one that was only located


class Hits(NamedTuple):
    """Boxes (N, 4) xyxy px, scores (N,) 0..1, labels, and for codes their texts ("" where one could not be read)."""

    boxes: Floats
    scores: Floats
    labels: list[str]
    texts: list[str] | None = None


def people(image: NDArray[np.uint8]) -> Hits:
    """Upright people of at least 100 px, by histograms of gradients and a linear classifier (Dalal and Triggs 2005).

    The score is m / (1 + m) of the distance m to the decision border: 0 on it, 0.5 at one margin.
    """
    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())
    if image.shape[0] < 128 or image.shape[1] < 64:  # smaller than the detector's window
        return _hits([], [], "person")
    found, margins = detector.detectMultiScale(image[..., ::-1].copy(), winStride=(8, 8), padding=(16, 16), scale=1.05)
    margin = np.maximum(np.asarray(margins, np.float32).reshape(-1), 0)
    # The window was trained with a margin around the person; OpenCV's own sample trims it by these shares.
    trimmed = [(x + 0.1 * w, y + 0.07 * h, 0.8 * w, 0.8 * h) for x, y, w, h in found]
    return _hits(trimmed, margin / (1 + margin), "person")


def faces(image: NDArray[np.uint8]) -> Hits:
    """Faces of at least 30 px from the front and from either side, by Haar cascades (Viola and Jones 2001).

    The score is n / (n + 10) of the number n of raw hits that agree on a face: 3, the fewest that count, give 0.23.
    """
    grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    width = grey.shape[1]
    front, front_hits = _cascade("haarcascade_frontalface_default.xml", grey, neighbours=4)
    left, left_hits = _cascade("haarcascade_profileface.xml", grey, neighbours=6)
    right, right_hits = _cascade("haarcascade_profileface.xml", np.ascontiguousarray(grey[:, ::-1]), neighbours=6)
    turned = [(width - x - w, y, w, h) for x, y, w, h in right]  # the cascade knows one side only
    count = np.array([*front_hits, *left_hits, *right_hits], np.float32)
    return _without_nested(_hits([*front, *left, *turned], count / (count + 10), "face"))


def codes(image: NDArray[np.uint8]) -> Hits:
    """QR codes, EAN and UPC barcodes with their texts. The score is 1 for a code that was read, 0.5 for one located."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    rows = [*_qr(grey), *_barcodes(grey)]
    if not rows:
        return _hits([], [], QR)._replace(texts=[])
    boxes = np.array([[*corners.min(axis=0), *corners.max(axis=0)] for corners, _, _ in rows], np.float32)
    scores = np.array([READ if text else SEEN for _, text, _ in rows], np.float32)
    return Hits(boxes, scores, [label for _, _, label in rows], [text for _, text, _ in rows])


Code = tuple[NDArray[np.float32], str, str]  # corners (4, 2), text, label


def _qr(grey: NDArray[np.uint8]) -> list[Code]:
    try:
        found, texts, corners, _ = cv2.QRCodeDetector().detectAndDecodeMulti(grey)
    except (cv2.error, UnicodeDecodeError):  # OpenCV raises on some codes that it finds but cannot decode
        found, corners = cv2.QRCodeDetector().detectMulti(grey)
        texts = [""] * len(corners) if found else []
    if not found:
        return []
    return [(quad, text, QR) for quad, text in zip(np.asarray(corners, np.float32), texts, strict=True)]


def _barcodes(grey: NDArray[np.uint8]) -> list[Code]:
    try:
        found, texts, kinds, corners = cv2.barcode.BarcodeDetector().detectAndDecodeWithType(grey)
    except (cv2.error, UnicodeDecodeError):
        return []
    if not found or corners is None:
        return []
    rows = zip(np.asarray(corners, np.float32), texts, kinds, strict=True)
    return [(quad, text, BARCODES.get(kind, "barcode")) for quad, text, kind in rows if text]


def _cascade(name: str, grey: NDArray[np.uint8], neighbours: int) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    """Boxes as x y w h, and how many raw hits each stands for. Raises Unsupported where OpenCV has no such data."""
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / name))
    if cascade.empty():
        raise Unsupported(f"This build of OpenCV has no {name}.", "Install opencv-python 4.x.")
    found, hits = cascade.detectMultiScale2(grey, scaleFactor=1.1, minNeighbors=neighbours, minSize=(30, 30))
    return [tuple(box) for box in found], [int(number) for number in np.asarray(hits).reshape(-1)]


def _hits(boxes: Sequence[tuple[float, ...]], scores: NDArray[np.float32] | list[float], label: str) -> Hits:
    """x y w h -> Hits."""
    table = np.array(boxes, np.float32).reshape(-1, 4)
    corners = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:]], axis=1)
    return Hits(corners, np.asarray(scores, np.float32).reshape(-1), [label] * len(table))


def _without_nested(hits: Hits) -> Hits:
    """Front and profile find the same face with boxes of different size: of two whose centres lie inside each other,
    only the better stays."""
    order = np.argsort(-hits.scores, kind="stable")
    kept: list[int] = []
    centres = (hits.boxes[:, :2] + hits.boxes[:, 2:]) / 2
    for i in order:
        if not any(_holds(hits.boxes[j], centres[i]) or _holds(hits.boxes[i], centres[j]) for j in kept):
            kept.append(int(i))
    return Hits(hits.boxes[kept], hits.scores[kept], [hits.labels[i] for i in kept])


def _holds(box: Floats, point: Floats) -> bool:
    return bool((box[:2] <= point).all() and (point <= box[2:]).all())
