"""What the segmenter learns from: pictures full of regions, drawn so that colour alone seldom gives a region away.

`regions(seed)` is one of: a scattered scene of the starter world; "dead leaves" (Lee, Mumford & Huang, 2001), shapes
filled with textures that lie over one another as things in photographs do; or a piece of a bundled photograph whose
regions are graph-based superpixels (Felzenszwalb & Huttenlocher, 2004) at three scales.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from studio.train.photographs import PHOTOGRAPHS, photographs
from studio.train.world import scene

Pixels = NDArray[np.uint8]
SMALLEST = 0.0012
"""Regions below this share of the picture are not asked for."""


@dataclass(frozen=True)
class Regions:
    """A picture RGB uint8 (S, S, 3), black beyond `height` and `width`, and the masks bool (N, S, S) in it, N >= 1."""

    picture: Pixels
    masks: NDArray[np.bool_]
    height: int
    width: int


def regions(seed: int, *, size: int = 256, kinds: Mapping[str, float] | None = None) -> Regions:
    """The picture of this seed. `kinds` are the chances of "scatter", "leaves" and "photo", None for the recipe's.

    Raises Unsupported where "scatter" is drawn without an emoji font.
    """
    chances = kinds if kinds is not None else CHANCES
    rng = np.random.default_rng([seed, 77])
    weights = np.array(list(chances.values()), float)
    for _ in range(20):
        picture, masks = _KINDS[list(chances)[rng.choice(len(chances), p=weights / weights.sum())]](rng, size)
        height, width = _frame(rng, size)
        picture, masks = picture[:height, :width], masks[:, :height, :width]
        masks = masks[masks.sum((1, 2)) >= SMALLEST * size * size]
        if len(masks):
            picture = np.pad(_developed(rng, picture), ((0, size - height), (0, size - width), (0, 0)))
            masks = np.pad(masks, ((0, 0), (0, size - height), (0, size - width)))
            return Regions(picture, masks, height, width)
    raise ValueError("these kinds of pictures hold no regions")


def _scatter(rng: np.random.Generator, size: int) -> tuple[Pixels, NDArray[np.bool_]]:
    drawn = scene(int(rng.integers(2**31)), mode="scatter", size=size, photos=photographs())
    return drawn.picture, drawn.masks


def _leaves(rng: np.random.Generator, size: int) -> tuple[Pixels, NDArray[np.bool_]]:
    count = int(rng.integers(2, 20))
    canvas = _texture(rng, size, size)
    owner = np.zeros((size, size), np.uint8)
    for number in range(1, count + 1):
        shape = _shape(rng, size)
        left, top, width, height = cv2.boundingRect(shape)
        if not width or not height:
            continue
        if rng.random() < 0.25:
            _shadow(rng, canvas, shape)
        window = np.s_[top : top + height, left : left + width]
        cover = shape[window]  # uint8 (h, w)
        alpha = (cover.astype(np.float32) / 255)[..., None]
        fill = _texture(rng, height, width)
        canvas[window] = (canvas[window] * (1 - alpha) + fill * alpha).astype(np.uint8)
        owner[window][cover > 127] = number
    return canvas, np.stack([owner == number for number in np.unique(owner)])


def _shadow(rng: np.random.Generator, canvas: Pixels, shape: Pixels) -> None:
    """Darkens the canvas in place where the shape, moved a little and blurred, lies."""
    move = np.array([[1, 0, rng.uniform(-6, 6)], [0, 1, rng.uniform(-6, 6)]], np.float32)
    soft = cv2.boxFilter(cv2.warpAffine(shape, move, shape.shape[::-1]), -1, (9, 9))
    kept = 255 - (soft * rng.uniform(0.1, 0.5)).astype(np.uint8)
    canvas[:] = cv2.multiply(canvas, cv2.merge([kept, kept, kept]), scale=1 / 255)


def _photo(rng: np.random.Generator, size: int) -> tuple[Pixels, NDArray[np.bool_]]:
    shots = photographs(PHOTOGRAPHS, longest=320)
    if not shots:
        return _leaves(rng, size)
    number = int(rng.integers(len(shots)))
    photo, labels = shots[number], _superpixels(number)
    side = int(min(photo.shape[:2]) * rng.uniform(0.35, 1))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in photo.shape[:2])
    window = np.s_[top : top + side, left : left + side]
    level = labels[int(rng.integers(len(labels)))]
    picture = cv2.resize(photo[window], (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
    cut = cv2.resize(level[window].astype(np.uint16), (size, size), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        picture, cut = picture[:, ::-1], cut[:, ::-1]
    numbers, counts = np.unique(cut, return_counts=True)
    large = numbers[np.argsort(-counts)[:24]]
    return np.ascontiguousarray(picture), np.stack([cut == number for number in large])


CHANCES: Mapping[str, float] = {"scatter": 0.65, "leaves": 0.22, "photo": 0.13}
_KINDS: Mapping[str, Callable[[np.random.Generator, int], tuple[Pixels, NDArray[np.bool_]]]] = {
    "scatter": _scatter,
    "leaves": _leaves,
    "photo": _photo,
}


@lru_cache(maxsize=len(PHOTOGRAPHS))
def _superpixels(number: int) -> list[NDArray[np.integer]]:
    """The regions of a photograph, int (H, W), at three scales from fine to coarse."""
    from skimage.segmentation import felzenszwalb

    photo = photographs(PHOTOGRAPHS, longest=320)[number]
    return [felzenszwalb(photo, scale=scale, sigma=0.8, min_size=150) for scale in (150, 400, 900)]


def _frame(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Height and width of the picture proper: half of the time square, else one side shorter."""
    if rng.random() < 0.5:
        return size, size
    short = int(size * rng.uniform(0.55, 1))
    return (short, size) if rng.random() < 0.5 else (size, short)


def _developed(rng: np.random.Generator, picture: Pixels) -> Pixels:
    """Exposure, contrast, colour cast, sometimes gray, soft or noisy."""
    contrast, light, cast = rng.uniform(0.6, 1.25), rng.uniform(-30, 30), rng.uniform(0.85, 1.15, 3)
    levels = (np.arange(256) - 128) * contrast + 128 + light
    curves = np.clip(levels[:, None] * cast, 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    x = cv2.LUT(np.ascontiguousarray(picture), curves)
    if rng.random() < 0.08:
        x = cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.15:
        x = cv2.GaussianBlur(x, (5, 5), rng.uniform(0.4, 1.2))
    if rng.random() < 0.25:
        noise = rng.normal(0, rng.uniform(2, 10), x.shape[:2]).astype(np.int16)
        x = np.clip(x + noise[..., None], 0, 255).astype(np.uint8)
    return x


def _shape(rng: np.random.Generator, size: int) -> Pixels:
    """One shape, uint8 (S, S), 255 inside with smooth edges: an ellipse, a polygon, a blob or a band."""
    out = np.zeros((size, size), np.uint8)
    centre = rng.uniform(0, size, 2)
    radius = size * 0.05 * 9 ** rng.random()
    kind = rng.random()
    if kind < 0.2:
        axes = (max(2, int(radius * rng.uniform(0.4, 1))), max(2, int(radius)))
        cv2.ellipse(out, tuple(int(c) for c in centre), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
        return out
    if kind > 0.92:
        line = rng.uniform(-0.2 * size, 1.2 * size, (int(rng.integers(2, 5)), 2))
        cv2.polylines(out, [line.astype(np.int32)], False, 255, int(rng.integers(4, 24)), cv2.LINE_AA)
        return out
    if kind < 0.5:
        corners = int(rng.integers(3, 9))
        angles, reach = np.sort(rng.uniform(0, 2 * np.pi, corners)), radius * rng.uniform(0.5, 1.1, corners)
    else:
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        reach = np.full(48, radius)
        for wave in range(2, 7):
            reach *= 1 + rng.uniform(0, 0.5) / wave * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    points = reach[:, None] * np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.4, 1)], 1)
    turn = rng.uniform(0, np.pi)
    points = centre + points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    cv2.fillPoly(out, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return out


def _texture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """RGB uint8: a flat colour, a gradient, soft noise, stripes or a piece of a photograph (half recoloured)."""
    a, b = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    kind = rng.random()
    if kind < 0.45 and (shots := photographs()):
        photo = shots[int(rng.integers(len(shots)))]
        side = int(min(photo.shape[:2]) * rng.uniform(0.2, 1))
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in photo.shape[:2])
        piece = cv2.resize(photo[top : top + side, left : left + side], (width, height), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            return piece
        weight = cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    elif kind < 0.65:
        cells = int(2 ** rng.uniform(1, 6))
        coarse = rng.random((cells, cells), dtype=np.float32)
        weight = rng.uniform(0.15, 0.8) * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    elif kind < 0.85:
        y, x = np.ogrid[:height, :width]
        turn, longest = rng.uniform(0, 2 * np.pi), max(height, width)
        along = (np.cos(turn) * x + np.sin(turn) * y).astype(np.float32)
        waves = 0.5 + 0.5 * np.sin(along * (2 * np.pi / rng.uniform(4, 4 + longest / 3)))
        weight = rng.uniform(0.15, 0.8) * (along / longest if kind < 0.75 else waves)
    else:
        weight = np.zeros((height, width), np.float32)
    return np.clip(a + (b - a) * weight[..., None], 0, 255).astype(np.uint8)
