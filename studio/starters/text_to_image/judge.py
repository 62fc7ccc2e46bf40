"""An independent judge of the starter's pictures: it knows the stickers, and nothing of the model that drew them.

It draws what the prompt asks for, and the same with every other thing, a little larger, smaller and shifted, and takes
the drawing nearest to the picture (mean squared error at SIDE px). A picture that no drawing comes close to shows
nothing: it counts as wrong even where the right thing is the nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from studio.starters import scenes, words
from studio.starters.atlas import Atlas
from studio.starters.composer import Composer
from studio.starters.scenes import Batch, Ground, Scene, Sprite

SIDE = 40
CLOSE = 0.4
"""A drawing is close when it leaves less than this share of the squared difference between picture and bare ground."""
SINGLE_SIZES = (0.70, 0.75, 0.80)
SHIFTS = (-0.02, 0.0, 0.02)
Region = tuple[float, float, float, float]  # left, top, right, bottom, 0..1
WHOLE: Region = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Verdict:
    """What stands in one place of a picture: all things, the nearest first, and whether the nearest is close."""

    ranking: tuple[str, ...]
    close: bool

    def first(self, name: str) -> bool:
        return self.close and self.ranking[0] == name

    def among(self, name: str, count: int = 5) -> bool:
        return self.close and name in self.ranking[:count]


class Judge:
    """Args: an atlas of what is painted."""

    def __init__(self, atlas: Atlas) -> None:
        self._composer, self._names = Composer(atlas, (), torch.device("cpu")), atlas.names
        self._views: dict[tuple[tuple[Sprite, ...], int], tuple[torch.Tensor, torch.Tensor]] = {}

    def place(
        self,
        picture: NDArray[np.uint8],
        ground: Ground,
        spots: Sequence[Sprite],
        region: Region = WHOLE,
        tint: int = -1,
    ) -> Verdict:
        """What stands at the spots (their thing is ignored) inside the region of an RGB picture (H, W, 3)."""
        key = (tuple(spots), tint)
        if key not in self._views:
            self._views[key] = self._drawn(spots, tint)
        colours, under = self._views[key]  # (things, views, 3, SIDE, SIDE), (things, views, 1, SIDE, SIDE)
        bare, seen = self._scene(ground), _small(picture)
        left, top, right, bottom = (round(edge * SIDE) for edge in region)
        inside = (..., slice(top, bottom), slice(left, right))
        away = torch.stack(
            [
                (c[inside].float() + u[inside].float() * bare[inside] - seen[inside]).square().mean(dim=(1, 2, 3)).min()
                for c, u in zip(colours, under, strict=True)
            ]
        )
        order = torch.argsort(away)
        empty = float((bare[inside] - seen[inside]).square().mean())
        names = tuple(self._names[i] for i in order.tolist())
        return Verdict(names, bool(away[order[0]] < CLOSE * empty))

    def _drawn(self, spots: Sequence[Sprite], tint: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Every thing in every view, in 0..1: what it adds to a ground, and what of the ground is left."""
        colours, under = [], []
        for thing in range(len(self._names)):
            views = [
                Sprite(thing, spot.x + dx, spot.y + dy, spot.size, tint)
                for spot in spots for dx in SHIFTS for dy in SHIFTS
            ]  # fmt: skip
            black, white = (
                self._composer.paint(Batch.of([Scene((view,), shade, "") for view in views]), SIDE)
                for shade in (Ground(*((0, 0, 0),) * 3), Ground(*((255, 255, 255),) * 3))
            )
            colours.append(black.half())
            under.append((white - black).mean(1, keepdim=True).half())
        return torch.stack(colours), torch.stack(under)

    def _scene(self, ground: Ground) -> torch.Tensor:
        return self._composer.paint(Batch.of([Scene((), ground, "")]), SIDE)[0]

    def single(self, picture: NDArray[np.uint8], ground: Ground | None = None, tint: int = -1) -> Verdict:
        """The one thing in the middle; on the picture's own plain ground where none is given."""
        spots = [Sprite(0, 0.5, 0.5, size) for size in SINGLE_SIZES]
        return self.place(picture, ground or border(picture), spots, tint=tint)

    def count(self, picture: NDArray[np.uint8], thing: int, ground: Ground | None = None) -> int:
        """How many of that thing there are, 1..4: the nearest of the layouts."""
        under = ground or border(picture)
        layouts = {
            1: [(0.5, 0.5, 0.75)],
            **{n: [(x, y, 0.41) for x, y in places] for n, places in scenes.PLACES.items()},
        }
        drawn = [Scene(tuple(Sprite(thing, *spot) for spot in spots), under, "") for spots in layouts.values()]
        return list(layouts)[int(np.argmin(self._away(picture, drawn)))]

    def _away(self, picture: NDArray[np.uint8], drawn: Sequence[Scene]) -> NDArray[np.float32]:
        made = self._composer.paint(Batch.of(drawn), SIDE)
        return (made - _small(picture)).square().mean(dim=(1, 2, 3)).numpy()


def _small(picture: NDArray[np.uint8]) -> torch.Tensor:
    """float32 (3, SIDE, SIDE) in 0..1."""
    small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
    return torch.from_numpy(small).permute(2, 0, 1)


def border(picture: NDArray[np.uint8]) -> Ground:
    """The plain ground of the median colour of the outermost pixels."""
    rim = np.ones(picture.shape[:2], bool)
    width = max(2, len(picture) // 40)
    rim[width:-width, width:-width] = False
    median = tuple(int(v) for v in np.median(picture[rim], axis=0))
    return Ground(median, median, median)  # type: ignore[arg-type]


def colour(picture: NDArray[np.uint8]) -> str:
    """The nearest of `words.COLOURS` to the picture's border."""
    median = np.array(border(picture).top)
    names = list(words.COLOURS)
    return names[int(np.argmin([np.square(median - np.array(words.COLOURS[name])).sum() for name in names]))]
