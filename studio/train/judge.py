"""An independent judge of portraits: it knows the stickers, and nothing of the model that painted the picture.

The background is the median colour of the border. Each thing's sticker is drawn on that colour at a few sizes and
places; the thing whose drawing is nearest to the picture (mean squared error at 32x32 pixels) is the first answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.train import world

SIDE = 32
SIZES = (0.70, 0.75, 0.80)
SHIFTS = (-1 / 16, -1 / 32, 0.0, 1 / 32, 1 / 16)


@dataclass(frozen=True)
class Templates:
    """Every thing as the judge expects it: alpha-weighted colours and how much of the background still shows."""

    names: tuple[str, ...]
    colours: NDArray[np.float32]
    """Premultiplied RGB 0..255, (things, views, SIDE, SIDE, 3)."""
    under: NDArray[np.float32]
    """Share of the background, 0..1, (things, views, SIDE, SIDE, 1)."""


def templates(things: Sequence[world.Thing] = world.THINGS) -> Templates:
    """Draws every thing in every view. Raises Unsupported without an emoji font."""
    canvas = 4 * SIDE
    black, white = np.zeros((canvas, canvas, 3), np.uint8), np.full((canvas, canvas, 3), 255, np.uint8)
    colours, under = [], []
    for thing in things:
        for size in SIZES:
            image = world.sticker(thing.emoji, round(canvas * size))
            for dx in SHIFTS:
                for dy in SHIFTS:
                    on_black, on_white = (_small(_drawn(ground, image, dx, dy)) for ground in (black, white))
                    colours.append(on_black)
                    under.append((on_white - on_black).mean(-1, keepdims=True) / 255)
    views = len(SIZES) * len(SHIFTS) ** 2
    shape = (len(things), views, SIDE, SIDE)
    return Templates(
        names=tuple(thing.name for thing in things),
        colours=np.stack(colours).reshape(*shape, 3).astype(np.float32),
        under=np.stack(under).reshape(*shape, 1).astype(np.float32),
    )


def background(picture: NDArray[np.uint8]) -> tuple[str, NDArray[np.float32]]:
    """The nearest named colour and the median RGB of the outermost 4 pixels of (H, W, 3)."""
    rim = np.ones(picture.shape[:2], bool)
    rim[4:-4, 4:-4] = False
    median = np.median(picture[rim], axis=0).astype(np.float32)
    names = list(world.COLOURS)
    away = [float(np.square(median - np.array(world.COLOURS[name])).sum()) for name in names]
    return names[int(np.argmin(away))], median


def ranking(picture: NDArray[np.uint8], known: Templates) -> list[str]:
    """All things, the likeliest first, for one RGB uint8 (H, W, 3)."""
    _, ground = background(picture)
    seen = _small(Image.fromarray(picture))
    flat = (seen - ground).reshape(-1)
    # |t - s|^2 with t = colours + under * ground, both relative to the ground: colours - (1 - under) * ground
    wanted = known.colours - (1 - known.under) * ground
    away = np.square(wanted.reshape(*wanted.shape[:2], -1) - flat).mean(-1).min(1)  # (things,)
    return [known.names[i] for i in np.argsort(away)]


def _drawn(ground: NDArray[np.uint8], image: Image.Image, dx: float, dy: float) -> Image.Image:
    canvas = Image.fromarray(ground)
    side = canvas.width
    place = (round((0.5 + dx) * side - image.width / 2), round((0.5 + dy) * side - image.height / 2))
    canvas.paste(image, place, image)
    return canvas


def _small(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
