"""The trainee of progressive growing (Karras et al. 2018).

How far both networks have grown follows from the step, or from the used share of the budget where the steps of a stage
are not given. The checkpoint holds it too, because averaged pictures are made between steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.gan import BASE, Verdict, levels
from studio.nets.progressive import GrowingDiscriminator, GrowingGenerator, stage
from studio.train.gan import Batch, Gan
from studio.train.gan_losses import real_penalty
from studio.train.options_gan import GrowingOptions
from studio.train.trainee import Stateful


class Growth:
    """How far the networks have grown: 0 is 4 x 4, 1.25 is 8 x 8 with a quarter of 16 x 16."""

    def __init__(self) -> None:
        self.detail = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"detail": self.detail}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.detail = float(state["detail"])


def detail_at(step: float, stage_steps: float, last: int) -> float:
    """How far to have grown: `stage_steps` at 4 x 4, then fading and staying in turns, up to `last`.

    From the first step of its fading on a stage has an alpha above 0.
    """
    if step < stage_steps:
        return 0.0
    index, within = divmod(step - stage_steps, 2 * stage_steps)
    return float(min(last, index + min(1.0, (within + 1) / stage_steps)))


def detail_of(progress: float, last: int) -> float:
    """The same by the used share of the budget, 0..1; the finest stage gets the last third alone.

    4 x 4 takes one part of the first two thirds, every other stage fades for one part and stays for one.
    """
    part = progress * 1.5 * 2 * last  # the last stage's staying is the last third
    index, within = divmod(part - 1, 2)
    return 0.0 if part < 1 else float(min(last, index + min(1.0, within + 1e-3)))


class GrowingGan(Gan):
    """The non-saturating loss with R1; the paper had WGAN-GP, which takes several times as long on a processor."""

    kind = "progressive-gan"
    options: GrowingOptions

    def networks(self) -> tuple[nn.Module, nn.Module]:
        o = self.options
        self.growth, self.last = Growth(), levels(o.size)
        return (
            GrowingGenerator(size=o.size, noise=o.noise, width=o.width),
            GrowingDiscriminator(size=o.size, width=o.width),
        )

    def set_progress(self, progress: float) -> None:
        """The used share of the budget, 0..1."""
        if self.options.stage_steps == 0:
            self.growth.detail = detail_of(progress, self.last)

    def begin(self, step: int) -> None:
        super().begin(step)
        if self.options.stage_steps:
            self.growth.detail = detail_at(step, self.options.stage_steps, self.last)

    def make(
        self, net: nn.Module, noise: Tensor, condition: Tensor | None, generator: torch.Generator | None = None
    ) -> Tensor:
        return net(noise, self.growth.detail)

    def judge(self, pictures: Tensor, condition: Tensor | None) -> Verdict:
        return self.discriminator(pictures, self.growth.detail)

    def resize(self, pictures: Tensor) -> Tensor:
        """Real pictures at the current side, as coarse as what is faded in."""
        index, alpha = stage(self.growth.detail)
        shrunk = F.adaptive_avg_pool2d(pictures, BASE << index)
        if alpha == 1:
            return shrunk
        coarse = F.interpolate(F.avg_pool2d(shrunk, 2), scale_factor=2, mode="nearest")
        return coarse.lerp(shrunk, alpha)

    def d_extra(
        self, step: int, batch: Batch, fake: Tensor, verdicts: tuple[Verdict, Verdict], generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        o = self.options
        if o.r1 == 0 or step % o.r1_every:
            return None, {"detail": self.growth.detail}
        penalty = real_penalty(lambda x: self.judge(x, None), batch.real)
        return penalty * (o.r1 / 2 * o.r1_every), {"r1": float(penalty.detach()), "detail": self.growth.detail}

    def parts(self) -> Mapping[str, Stateful]:
        return {**super().parts(), "growth": self.growth}

    def more_config(self) -> dict[str, Any]:
        return {"detail": self.growth.detail}

    def restore(self, config: Mapping[str, Any]) -> None:
        self.growth.detail = float(config.get("detail", self.last))
