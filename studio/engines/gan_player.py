"""A loaded GAN: what the operations of its engine are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from studio.engines.base import Result
from studio.errors import InvalidTask
from studio.nets.stylegan2 import StyleGenerator, truncate
from studio.train.gan import Gan
from studio.train.sheets import grid

Pixels = NDArray[np.uint8]


@dataclass
class Player:
    """A loaded model, and the copy of it that step mode trains.

    Attributes:
        trainee: the model with its rules; its pictures are those that travelled with it.
        names: of the classes.
        stepped: what step mode has made of it; None before its first step and after a reset.
        pictures: RGB uint8 (H, W, 3) by field name of the task, "image" and "other".
    """

    trainee: Gan
    names: tuple[str, ...]
    stepped: Gan | None = None
    steps: int = 0
    pictures: dict[str, Pixels] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.trainee.kind

    @property
    def style(self) -> StyleGenerator | None:
        """The generator, where it has styles."""
        net = self.trainee.average
        return net if isinstance(net, StyleGenerator) else None

    def noise(self, seeds: list[int]) -> Tensor:
        """(N, Z), one row a seed: the same seed gives the same row in every operation."""
        size = self.trainee.options.noise
        return torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def condition(self, seeds: list[int], label: int | None = None, codes: list[float] | None = None) -> Tensor | None:
        """Of made pictures: a class, InfoGAN's codes, or None; what is not given is drawn from the seed."""
        drawn = [self.trainee.draw(1, torch.Generator().manual_seed(seed))[1] for seed in seeds]
        if not drawn or drawn[0] is None:
            return None
        rows = torch.cat([row for row in drawn if row is not None])
        kinds = self.categories
        if label is not None:
            if label >= kinds:
                raise InvalidTask(f"There is no class {label}; this model has {kinds}.", f"Choose 0 to {kinds - 1}.")
            rows[:, :kinds] = torch.eye(kinds)[label]
        if codes is not None:
            if kinds + len(codes) != rows.shape[1]:
                raise InvalidTask(f"This model has {rows.shape[1] - kinds} continuous codes.", "Give as many numbers.")
            rows[:, kinds:] = torch.tensor(codes)
        return rows

    @property
    def categories(self) -> int:
        """Classes of a conditional GAN, categories of an InfoGAN, else 0."""
        return int(getattr(self.trainee.options, "categories", len(self.names) if self.kind == "cgan" else 0))

    def make(self, noise: Tensor, condition: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """Pictures (N, 3, S, S) in -1..1. StyleGAN2's w is pulled towards its mean, other models' noise towards 0."""
        with torch.inference_mode():
            if self.style is not None:
                return self.paint(self.style.mapping(noise), truncation)
            return self.trainee.full(self.trainee.pictures(noise * truncation, condition))

    def paint(self, w: Tensor, truncation: float = 1.0) -> Tensor:
        """Styles (N, W) or (N, layers, W) to pictures."""
        assert self.style is not None
        with torch.inference_mode():
            w = truncate(w, self.style.mapping.mean, truncation)
            return self.style.synthesis(w if w.ndim == 3 else self.style.styles(w)).clamp(-1, 1)


def probability(player: Player, pictures: Tensor, condition: Tensor | None) -> list[float]:
    """D's answer per picture: a probability that it is real, or a critic's score."""
    trainee = player.trainee
    trainee.discriminator.eval()
    with torch.inference_mode():
        found = trainee.judge(trainee.resize(pictures), condition).scores
    found = found.reshape(len(found), -1).mean(1)
    return rounded(found if trainee.loss.critic else found.sigmoid())


def sheet(pictures: Tensor, columns: int, **data: Any) -> Result:
    """Pictures (N, 3, S, S) as one sheet with what a page needs to cut it up."""
    rows = -(-len(pictures) // columns)
    return Result(
        images=(grid(pictures, columns),),
        data={"columns": columns, "rows": rows, "side": int(pictures.shape[-1]), "count": len(pictures), **data},
    )


def floats(picture: Pixels, size: int) -> Tensor:
    """RGB uint8 (H, W, 3) to the middle square, float (1, 3, size, size) in -1..1."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(picture[top : top + side, left : left + side])
    scaled = np.asarray(square.resize((size, size), Image.Resampling.BOX if side >= size else Image.Resampling.BICUBIC))
    return torch.from_numpy(scaled.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def vector(values: list[float], length: int, name: str) -> Tensor:
    if len(values) != length:
        raise InvalidTask(f"{name} has {length} numbers in this model, not {len(values)}.", "Give as many.")
    return torch.tensor(values)


def rounded(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
