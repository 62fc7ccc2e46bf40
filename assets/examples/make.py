"""Draws the example pictures of this folder again:  python assets/examples/make.py

Needs scikit-image (its bundled photographs), OpenCV (the QR code) and the emoji font (the stickers).
Sources and licences are in LICENSES.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from studio.train import world  # noqa: E402 - the path is set above

SIDE = 640
MAX_BYTES = 150_000
QR_TEXT = "Image studio: this picture was read on your own device."
Colour = tuple[int, int, int]


class Place(NamedTuple):
    """A background, sky above ground, and what stands where: emoji, middle x y and longer side in pixels."""

    sky: tuple[Colour, Colour]  # top, horizon
    ground: tuple[Colour, Colour]  # horizon, bottom
    horizon: int
    things: tuple[tuple[str, int, int, int], ...]


PLACES = {
    "sticker-street": Place(
        ((150, 190, 230), (235, 225, 205)),
        ((150, 150, 158), (105, 108, 118)),
        250,
        (
            ("🏠", 90, 180, 190),
            ("🌳", 250, 190, 170),
            ("🏡", 545, 180, 190),
            ("🚦", 395, 215, 120),
            ("🚌", 300, 310, 190),
            ("🚗", 525, 350, 150),
            ("🚲", 90, 365, 140),
            ("🚶", 195, 385, 120),
            ("🐕", 275, 425, 80),
            ("🏃", 420, 400, 110),
        ),
    ),
    "sticker-picnic": Place(
        ((120, 190, 245), (215, 235, 250)),
        ((150, 200, 110), (105, 165, 85)),
        190,
        (
            ("☀️", 70, 70, 100),
            ("🎈", 330, 100, 110),
            ("🌳", 560, 170, 220),
            ("🍕", 130, 290, 150),
            ("🍎", 265, 330, 90),
            ("🍰", 370, 280, 120),
            ("☕", 480, 350, 100),
            ("🐱", 560, 400, 130),
            ("⚽", 60, 420, 80),
            ("🍌", 210, 420, 100),
            ("🦋", 230, 180, 80),
        ),
    ),
}


def main() -> None:
    for name, picture in {**photographs(), "qr-code": poster(), **stickers()}.items():
        save(name, picture)


def photographs() -> dict[str, NDArray[np.uint8]]:
    return {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "rocket": data.rocket(),
        "coins": cv2.cvtColor(data.coins(), cv2.COLOR_GRAY2RGB),
    }


def stickers() -> dict[str, NDArray[np.uint8]]:
    return {name: place(what) for name, what in PLACES.items()}


def place(what: Place) -> NDArray[np.uint8]:
    """The place with its things, the later ones in front: uint8 (480, 640, 3)."""
    bands = (gradient(*what.sky, what.horizon), gradient(*what.ground, 480 - what.horizon))
    image = Image.fromarray(np.repeat(np.concatenate(bands)[:, None], SIDE, axis=1))
    for emoji, x, y, side in what.things:
        thing = world.sticker(emoji, side)
        image.paste(thing, (x - thing.width // 2, y - thing.height // 2), thing)
    return np.asarray(image)


def gradient(above: Colour, below: Colour, rows: int) -> NDArray[np.uint8]:
    """One colour into the other, uint8 (rows, 3)."""
    return np.rint(np.linspace(above, below, rows)).astype(np.uint8)


def poster() -> NDArray[np.uint8]:
    """A sheet of paper with a QR code on a brick wall, seen from the side: uint8 (480, 640, 3)."""
    wall = cv2.resize(data.brick(), (SIDE, SIDE), interpolation=cv2.INTER_AREA)[:480, :, None]
    wall = np.clip(wall * np.array([1.05, 0.82, 0.72]), 0, 255).astype(np.uint8)
    code = cv2.QRCodeEncoder.create().encode(QR_TEXT)
    code = cv2.resize(code, (300, 300), interpolation=cv2.INTER_NEAREST)
    paper = np.full((440, 380, 3), 245, np.uint8)
    paper[40:340, 40:340] = code[..., None]
    cv2.putText(paper, "scan me", (112, 402), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (40, 40, 40), 2, cv2.LINE_AA)
    corners = np.array([[0, 0], [380, 0], [380, 440], [0, 440]], np.float32)
    places = np.array([[190, 50], [475, 80], [460, 425], [180, 440]], np.float32)
    turn = cv2.getPerspectiveTransform(corners, places)
    alpha = cv2.warpPerspective(np.ones((440, 380), np.float32), turn, (SIDE, 480), flags=cv2.INTER_LINEAR)
    shadow = cv2.GaussianBlur(np.roll(alpha, (8, 10), (0, 1)), (0, 0), 8)[..., None]
    sheet = cv2.warpPerspective(paper, turn, (SIDE, 480), flags=cv2.INTER_AREA)
    scene = wall * (1 - 0.5 * shadow) * (1 - alpha[..., None]) + sheet * alpha[..., None] * 0.96
    return np.rint(np.clip(scene, 0, 255)).astype(np.uint8)


def save(name: str, picture: NDArray[np.uint8]) -> None:
    """As JPEG, longer side at most SIDE px, in the best quality that fits MAX_BYTES; no metadata."""
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = HERE / f"{name}.jpg"
    for quality in (92, 88, 84, 80, 75, 70):
        image.save(file, quality=quality, optimize=True)
        if file.stat().st_size <= MAX_BYTES:
            return
    raise SystemExit(f"{file.name} does not fit {MAX_BYTES} bytes")


if __name__ == "__main__":
    main()
