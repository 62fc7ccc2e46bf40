"""Settings and recipes of the GAN lab. Light: the page derives its forms from these; torch is not imported."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.train.options import Optimizer, Options
from studio.train.recipe import Recipe

Norm = Literal["batch", "instance", "layer", "none"]
Change = Literal["colour", "shift", "cutout"]


class GanOptions(Options):
    """Two networks against each other. `rate` is the generator's."""

    first: ClassVar[tuple[str, ...]] = ("size", "loss", "d_rate")
    kept: ClassVar[frozenset[str]] = Options.kept | {"noise", "width"}

    batch: int = Field(32, ge=2, le=512, title="Batch", description="Real and made pictures per update, each.")
    rate: float = Field(
        4e-4, gt=0, le=10, title="Learning rate", description="How far each step moves the generator's weights."
    )
    optimizer: Optimizer = Field("Adam", title="Optimizer", description="The rule that turns gradients into steps.")
    clip: float = Field(
        0.0, ge=0, le=1000, title="Gradient clipping", description="Gradients are scaled down to this norm. 0 is off."
    )
    ema: float = Field(
        0.995,
        ge=0,
        lt=1,
        title="EMA decay",
        description="Decay of the moving average of the generator's weights. Its pictures are calmer and are what is "
        "shown and kept. 0 is off.",
    )
    noise: int = Field(
        64, ge=2, le=512, title="Noise", description="Random numbers the generator makes one picture from."
    )
    width: int = Field(
        32,
        ge=4,
        le=128,
        title="Width",
        description="Channels of the widest pictures inside the networks. Twice as many take up to four times as long.",
    )
    loss: Literal["non-saturating", "minimax", "hinge", "wasserstein"] = Field(
        "non-saturating",
        title="Loss",
        description="What both play for. Minimax is the first paper's formula; its gradient fades while D wins.",
    )
    d_rate: float = Field(
        1.0,
        gt=0,
        le=20,
        title="Discriminator learning rate",
        description="As a multiple of the generator's.",
        json_schema_extra={"unit": "× generator's"},
    )
    d_steps: int = Field(
        1,
        ge=1,
        le=10,
        title="Discriminator updates",
        description="Updates of the discriminator before each of the generator.",
    )
    momentum: float = Field(
        0.5, ge=0, lt=1, title="Momentum", description="Adam's beta 1. GANs chase a moving goal and want little of it."
    )
    smooth: float = Field(
        0.0,
        ge=0,
        le=0.4,
        title="Label smoothing",
        description="Real pictures count as 1 minus this, so that D is never quite sure. For the logistic losses.",
    )
    soften: tuple[Change, ...] = Field(
        ("shift",),
        title="DiffAugment",
        description="Random changes to what D sees, real and made alike, so that it learns nothing by heart.",
    )


class ConvGanOptions(GanOptions):
    """With convolutions."""

    kept: ClassVar[frozenset[str]] = GanOptions.kept | {"norm"}
    norm: Norm = Field(
        "batch",
        title="D's normalisation",
        description="Batch is DCGAN's. A gradient penalty needs layer or instance, which see one picture at a time.",
    )


class WganOptions(ConvGanOptions):
    """A critic instead of a judge."""

    first: ClassVar[tuple[str, ...]] = ("size", "weight_clip", "d_steps")
    loss: Literal["wasserstein"] = Field("wasserstein", title="Loss", description="Critic's score, real minus made.")
    weight_clip: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Weight clipping",
        description="The critic's weights are cut to plus or minus this after each update. 0 is off.",
    )
    penalty: float = Field(
        0.0,
        ge=0,
        le=1000,
        title="Gradient penalty",
        description="Weight of (gradient norm - 1)² between real and made pictures. The paper's is 10. 0 is off.",
    )


class InfoGanOptions(ConvGanOptions):
    """Codes that are read back."""

    first: ClassVar[tuple[str, ...]] = ("size", "categories", "continuous")
    kept: ClassVar[frozenset[str]] = ConvGanOptions.kept | {"categories", "continuous"}
    categories: int = Field(
        10, ge=2, le=64, title="Categories", description="Values of the one categorical code: kinds it may find."
    )
    continuous: int = Field(
        2, ge=0, le=8, title="Continuous codes", description="Sliders from -1 to 1: changes it may find."
    )
    information: float = Field(
        1.0,
        ge=0,
        le=10,
        title="Information",
        description="Weight of reading the codes back. 0 makes it a plain GAN.",
    )


class Pix2PixOptions(GanOptions):
    """Edges to a picture."""

    first: ClassVar[tuple[str, ...]] = ("size", "l1", "d_rate")
    soften: tuple[Change, ...] = Field((), title="DiffAugment", description="Random changes to what D sees.")
    l1: float = Field(
        50.0,
        ge=0,
        le=1000,
        title="L1",
        description="Weight of the plain difference to the true picture. High is faithful and soft, 0 trusts D alone.",
    )
    threshold: float = Field(
        0.35,
        gt=0.01,
        le=1,
        title="Edge strength",
        description="Changes of colour from here on are drawn dark.",
    )


class StyleGanOptions(GanOptions):
    """StyleGAN2, small."""

    first: ClassVar[tuple[str, ...]] = ("size", "mixing", "r1")
    kept: ClassVar[frozenset[str]] = GanOptions.kept | {"style"}
    rate: float = Field(8e-3, gt=0, le=10, title="Learning rate", description="Of both networks; layers are equalised.")
    momentum: float = Field(0.0, ge=0, lt=1, title="Momentum", description="Adam's beta 1.")
    style: int = Field(64, ge=8, le=512, title="Style", description="Numbers in w, the style of a picture.")
    mixing: float = Field(
        0.5,
        ge=0,
        le=1,
        title="Style mixing",
        description="Share of training pictures made from two styles, so that coarse and fine become independent.",
    )
    r1: float = Field(
        1.0,
        ge=0,
        le=100,
        title="R1",
        description="Weight of the squared gradient at real pictures, which calms the discriminator. 0 is off.",
    )
    r1_every: int = Field(
        16, ge=1, le=64, title="R1 every", description="Apply it every N updates, weighted accordingly."
    )
    path: float = Field(
        0.0,
        ge=0,
        le=10,
        title="Path length",
        description="Weight of keeping equal steps in w equal in the picture (the paper's is 2). Slow; 0 is off.",
    )


class GrowingOptions(GanOptions):
    """Progressive growing."""

    first: ClassVar[tuple[str, ...]] = ("size", "stage_steps", "r1")
    rate: float = Field(8e-3, gt=0, le=10, title="Learning rate", description="Of both networks; layers are equalised.")
    momentum: float = Field(0.0, ge=0, lt=1, title="Momentum", description="Adam's beta 1.")
    stage_steps: int = Field(
        0,
        ge=0,
        le=100_000,
        title="Steps per stage",
        description="Each resolution fades in over so many steps, then stays for as many. 0 shares out the budget.",
    )
    r1: float = Field(
        1.0, ge=0, le=100, title="R1", description="Weight of the squared gradient at real pictures. 0 is off."
    )
    r1_every: int = Field(
        8, ge=1, le=64, title="R1 every", description="Apply it every N updates, weighted accordingly."
    )


def _recipe(
    target: str, options: type[GanOptions], title: str, summary: str, data: str = "stickers:smileys", **preset: Any
) -> Recipe:
    return Recipe(
        target=f"studio.train.{target}",
        minutes=5,
        summary=summary,
        family="gan",
        title=title,
        options=options,
        preset=preset,
        data=data,
        first=options.first,
    )


RECIPES_GAN: dict[str, Recipe] = {
    "dcgan": _recipe(
        "gan_kinds:ConvGan", ConvGanOptions, "DCGAN", "Convolutions and batch normalisation: noise to faces in minutes."
    ),
    "gan": _recipe(
        "gan:Gan", GanOptions, "GAN", "The first GAN: two fully connected networks, no convolution."
    ),
    "cgan": _recipe(
        "gan_kinds:ConditionalGan", ConvGanOptions, "Conditional GAN", "You choose the class, noise chooses the rest.",
        data="digits",
    ),
    "wgan": _recipe(
        "gan_kinds:WGan", WganOptions, "WGAN", "A critic that estimates a distance, kept tame by clipping its weights.",
        weight_clip=0.02, d_steps=3, optimizer="RMSprop", rate=3e-4, norm="batch",
    ),
    "wgan-gp": _recipe(
        "gan_kinds:WGan", WganOptions, "WGAN-GP", "The critic's gradient norm is held near 1 by a penalty instead.",
        penalty=10.0, d_steps=3, norm="layer", momentum=0.0,
    ),
    "infogan": _recipe(
        "gan_info:InfoGan", InfoGanOptions, "InfoGAN", "Finds categories and sliders by itself, without any labels.",
        data="digits", noise=16, information=3.0,
    ),
    "pix2pix": _recipe(
        "gan_pix2pix:Pix2Pix", Pix2PixOptions, "pix2pix", "Draw edges, get a sticker: a U-Net against a patch judge.",
        width=24,
    ),
    "stylegan2": _recipe(
        "gan_style:StyleGan", StyleGanOptions, "StyleGAN2, small", "Styles per layer: mix coarse, middle and fine.",
        width=16, batch=16, ema=0.99,
    ),
    "progressive-gan": _recipe(
        "gan_growing:GrowingGan", GrowingOptions, "Progressive growing", "Starts at 4 × 4 and grows while it learns.",
        width=16, batch=16, ema=0.99,
    ),
}  # fmt: skip
