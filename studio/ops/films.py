"""What is shown of the way from noise to pictures: sprites of many small pictures, and each picture's path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.ops.reverse import Moment, Pictures

Pixels = NDArray[np.uint8]


def sprite(pictures: NDArray[np.floating]) -> Pixels:
    """(rows, columns, 3, S, S) in -1..1 as one RGB picture (rows S, columns S, 3)."""
    rows, columns, _, side, _ = pictures.shape
    bytes_ = (np.clip(pictures, -1, 1) * 127.5 + 127.5).round().astype(np.uint8)
    return bytes_.transpose(0, 3, 1, 4, 2).reshape(rows * side, columns * side, 3)


def sheet(pictures: Pixels | Sequence[Pixels], columns: int) -> Pixels:
    """Pictures (N, S, S, 3) uint8 row by row as one; the last row is filled with white."""
    shown = np.asarray(pictures)
    missing = -len(shown) % columns
    if missing:
        shown = np.concatenate([shown, np.full((missing, *shown.shape[1:]), 255, np.uint8)])
    count, height, width, _ = shown.shape
    tiled = shown.reshape(count // columns, columns, height, width, 3).swapaxes(1, 2)
    return np.ascontiguousarray(tiled.reshape(count // columns * height, columns * width, 3))


def path(way: NDArray[np.floating]) -> tuple[NDArray[np.floating], float]:
    """A picture's way (moments, D) seen in a plane, and how straight it is.

    The plane holds the line from start to end and the direction in which the way leaves it most. Returns the points
    (moments, 2), scaled so that the way leads from (0, 0) to (1, 0), and the distance of start and end as a part of the
    way's length: 1 is a straight line.
    """
    flat = way.reshape(len(way), -1).astype(np.float64)
    line = flat[-1] - flat[0]
    far = float(np.linalg.norm(line))
    length = float(np.linalg.norm(np.diff(flat, axis=0), axis=1).sum())
    if far == 0 or length == 0:
        return np.zeros((len(flat), 2)), 1.0
    along = (flat - flat[0]) @ line / far**2
    rest = flat - flat[0] - along[:, None] * line
    _, sizes, directions = np.linalg.svd(rest, full_matrices=False)
    aside = rest @ directions[0] / far if sizes[0] > 1e-9 * far else np.zeros(len(flat))
    return np.stack([along, aside], axis=1), far / length


class Film:
    """Collects a sampler's moments: the last for the pictures, about `frames` of them, evenly, for the film."""

    def __init__(self, start: Pictures, frames: int, steps: int) -> None:
        count = min(frames, steps)
        self._wanted = set(np.linspace(0, steps - 1, count).round().astype(int).tolist()) if count else set()
        self._seen = 0
        self._x: list[Pictures] = [start]
        self._clean: list[Pictures] = []
        self._t: list[float] = []
        self._last = start

    def add(self, moment: Moment) -> None:
        """The next step of the walk."""
        if self._seen in self._wanted:
            self._x.append(moment.x)
            self._clean.append(moment.clean)
            self._t.append(moment.t)
        self._seen += 1
        self._last = moment.x

    def sprites(self) -> tuple[Pixels, ...]:
        """The pictures in one row; then x_t, beginning with pure noise, and predicted x_0: a row each picture."""
        result = (sprite(self._last[None]),)
        if not self._t:
            return result
        return (*result, sprite(np.stack(self._x, axis=1)), sprite(np.stack(self._clean, axis=1)))

    def facts(self) -> dict[str, Any]:
        """ "levels": where each frame of the film came from; "paths" and "straightness" of each picture."""
        if not self._t:
            return {"levels": []}
        ways = [path(np.stack([x[k] for x in self._x])) for k in range(len(self._last))]
        return {
            "levels": [round(float(t), 4) for t in self._t],
            "paths": [np.round(points, 4).tolist() for points, _ in ways],
            "straightness": [round(straight, 4) for _, straight in ways],
        }
