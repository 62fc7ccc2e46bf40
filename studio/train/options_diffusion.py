"""Settings and recipes of the diffusion lab. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from studio.train.options import Options
from studio.train.recipe import Recipe


class DiffusionOptions(Options):
    """Settings of DDPM, improved DDPM and flow matching on small pictures."""

    first: ClassVar[tuple[str, ...]] = ("size", "width", "batch")
    kept: ClassVar[frozenset[str]] = frozenset({"size", "width", "classifier"})

    batch: int = Field(
        32, ge=2, le=256, title="Batch", description="Pictures per step, each at a noise level of its own."
    )
    rate: float = Field(
        2e-3,
        gt=0,
        le=10,
        title="Learning rate",
        description="How far each step moves the weights. Too high and the training diverges, too low and it crawls.",
    )
    ema: float = Field(
        0.995,
        ge=0,
        lt=1,
        title="EMA decay",
        description="Decay of the moving average of the weights. Diffusion models sample much better from the average "
        "than from the last weights. 0 is off.",
    )
    width: int = Field(
        32,
        ge=16,
        le=128,
        multiple_of=16,
        title="Width of the network",
        description="Channels at the widest resolution. Twice as many learn finer shapes and take about three times "
        "as long per step.",
        json_schema_extra={"unit": "channels"},
    )
    label_dropout: float = Field(
        0.15,
        ge=0,
        le=0.9,
        title="Labels left out",
        description="Share of pictures shown without their label, so that the network also learns to paint without "
        "one; classifier-free guidance needs both.",
    )
    classifier: bool = Field(
        True,
        title="Noisy classifier",
        description="Trains a small classifier on the noisy pictures alongside, for classifier guidance. "
        "About a tenth more time.",
    )


RECIPES_DIFFUSION: Mapping[str, Recipe] = {
    "ddpm": Recipe(
        target="studio.train.diffusion_lab:Ddpm",
        minutes=5,
        summary="Denoising diffusion (Ho et al. 2020): learns to tell the noise in a picture, at 1000 noise levels.",
        family="diffusion-lab",
        title="DDPM",
        options=DiffusionOptions,
        data="stickers:nature",
    ),
    "improved-ddpm": Recipe(
        target="studio.train.diffusion_lab:ImprovedDdpm",
        minutes=5,
        summary="Improved DDPM (Nichol, Dhariwal 2021): cosine schedule and a learned variance, good in fewer steps.",
        family="diffusion-lab",
        title="Improved DDPM",
        options=DiffusionOptions,
        data="stickers:nature",
    ),
    "flow": Recipe(
        target="studio.train.diffusion_lab:Flow",
        minutes=5,
        summary="Flow matching (Lipman et al. 2023; Liu et al. 2023): learns the straight way from noise to pictures.",
        family="diffusion-lab",
        title="Flow matching",
        options=DiffusionOptions,
        data="stickers:nature",
    ),
}
