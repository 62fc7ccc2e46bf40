"""Random changes to training pictures, by name. Numpy and OpenCV only, so that the page can preview them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from studio.errors import InvalidTask

Pixels = NDArray[np.uint8]
"""RGB (S, S, 3)."""


def augmented(pictures: Pixels, names: tuple[str, ...], rng: np.random.Generator) -> Pixels:
    """Each picture of (B, S, S, 3) changed by every named augmentation in the table's order. Raises InvalidTask."""
    unknown = set(names) - {*CHANGES, "mixup"}
    if unknown:
        raise InvalidTask(
            f"There is no augmentation called {sorted(unknown)[0]!r}.",
            f"Choose from: {', '.join((*CHANGES, 'mixup'))}.",
        )
    if not names:
        return pictures
    changes = [change for name, change in CHANGES.items() if name in names]
    result = np.stack([_chain(picture, changes, rng) for picture in pictures])
    return _mixup(result, rng) if "mixup" in names else result


def preview(pictures: Pixels, names: tuple[str, ...], seed: int = 0, columns: int = 8) -> Pixels:
    """A grid: each row one of the pictures (B, S, S, 3) as it is, then `columns - 1` times as a training may see it."""
    rng = np.random.default_rng(seed)
    seen = [pictures, *(augmented(pictures, names, rng) for _ in range(columns - 1))]
    return np.concatenate([np.concatenate([column[row] for column in seen], axis=1) for row in range(len(pictures))])


def _chain(
    picture: Pixels, changes: list[Callable[[Pixels, np.random.Generator], Pixels]], rng: np.random.Generator
) -> Pixels:
    for change in changes:
        picture = change(picture, rng)
    return picture


def _flip(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Left becomes right, half of the time."""
    return picture[:, ::-1] if rng.random() < 0.5 else picture


def _rotate(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """By up to 15 degrees; the edge is continued outwards."""
    side = picture.shape[0]
    centre = ((side - 1) / 2, (side - 1) / 2)
    return _warp(picture, cv2.getRotationMatrix2D(centre, float(rng.uniform(-15, 15)), 1.0))


def _shift(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """By up to an eighth of the side."""
    x, y = rng.uniform(-0.125, 0.125, 2) * picture.shape[0]
    return _warp(picture, np.array([[1, 0, x], [0, 1, y]], dtype=np.float64))


def _scale(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """To between 80 and 120 percent about the middle."""
    side = picture.shape[0]
    return _warp(picture, cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), 0.0, float(rng.uniform(0.8, 1.2))))


def _crop(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A window of 75 to 100 percent of the side, enlarged to the whole."""
    side = picture.shape[0]
    window = int(rng.integers(max(1, round(0.75 * side)), side + 1))
    y, x = rng.integers(0, side - window + 1, 2)
    part = np.ascontiguousarray(picture[y : y + window, x : x + window])
    return np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _colour(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation by up to a fifth each."""
    bright, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    value = picture.astype(np.float32) * bright
    value = (value - value.mean()) * contrast + value.mean()
    grey = value.mean(axis=2, keepdims=True)
    return np.clip(grey + (value - grey) * saturation, 0, 255).round().astype(np.uint8)


def _cutout(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A square of a quarter to a half of the side is greyed out (DeVries and Taylor 2017)."""
    side = picture.shape[0]
    window = int(rng.integers(side // 4, side // 2 + 1))
    y, x = rng.integers(0, side - window + 1, 2)
    result = picture.copy()
    result[y : y + window, x : x + window] = 127
    return result


def _mixup(pictures: Pixels, rng: np.random.Generator) -> Pixels:
    """Each laid over another of the batch with a weight of at most a half (Zhang et al. 2018); its label stays."""
    weight = np.minimum(lam := rng.beta(0.4, 0.4, len(pictures)), 1 - lam)[:, None, None, None]
    other = pictures[rng.permutation(len(pictures))]
    return (pictures * (1 - weight) + other * weight).round().astype(np.uint8)


def _warp(picture: Pixels, matrix: NDArray[np.float64]) -> Pixels:
    side = picture.shape[0]
    moved = cv2.warpAffine(np.ascontiguousarray(picture), matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


CHANGES: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "crop": _crop,
    "flip": _flip,
    "rotate": _rotate,
    "shift": _shift,
    "scale": _scale,
    "colour": _colour,
    "cutout": _cutout,
}
