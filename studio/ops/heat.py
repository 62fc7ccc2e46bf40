"""Where a picture differs from its reconstruction: an error map, smoothed, and its colours. Pure numpy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SMOOTH = 0.04
"""Deviation of the smoothing, as a share of the picture's side."""


def error_map(picture: NDArray[np.uint8], made: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean squared difference of the channels (range 0..1), smoothed; both RGB (H, W, 3), the map (H, W)."""
    off = (picture.astype(np.float32) - made.astype(np.float32)) / 255
    squares = np.square(off).mean(axis=2)
    return np.asarray(cv2.GaussianBlur(squares, (0, 0), max(0.6, SMOOTH * picture.shape[0])), np.float32)


def overlay(picture: NDArray[np.uint8], errors: NDArray[np.float32], top: float) -> NDArray[np.uint8]:
    """The picture in grey with the errors over it, from clear through yellow to red at `top` and above."""
    share = np.clip(errors / max(top, 1e-9), 0, 1)[..., None]  # (H, W, 1)
    grey = np.repeat(picture.mean(axis=2, keepdims=True) * 0.55 + 60, 3, axis=2)
    hot = np.concatenate([np.full_like(share, 235), 205 * (1 - share), 40 * (1 - share)], axis=2)
    weight = np.clip(share * 1.6, 0, 0.92)
    return np.clip(grey * (1 - weight) + hot * weight, 0, 255).astype(np.uint8)
