"""Settings and recipes of the VAE lab. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from studio.train.options import Options
from studio.train.recipe import Recipe

Corruption = Literal["Gaussian", "salt-and-pepper", "masking"]
Sparsity = Literal["KL", "L1"]


class CoderOptions(Options):
    """What all networks of the lab share: how wide, and how long the code is."""

    first: ClassVar[tuple[str, ...]] = ("size", "latents")
    kept: ClassVar[frozenset[str]] = frozenset({"size", "width", "latents"})

    batch: int = Field(
        32, ge=2, le=512, title="Batch", description="Pictures per step. More make calmer steps that take longer."
    )
    rate: float = Field(
        2e-3,
        gt=0,
        le=10,
        title="Learning rate",
        description="How far each step moves the weights. Too high and the training diverges, too low and it crawls.",
    )
    ema: float = Field(
        0.99,
        ge=0,
        lt=1,
        title="EMA decay",
        description="Decay of the moving average of the weights, which is what is shown and kept. 0 is off.",
    )
    width: int = Field(
        32,
        ge=8,
        le=96,
        multiple_of=8,
        title="Width of the network",
        description="Channels at the widest resolution. Twice as many see finer shapes and take about three times as "
        "long per step.",
        json_schema_extra={"unit": "channels"},
    )
    latents: int = Field(
        32,
        ge=2,
        le=256,
        title="Latents",
        description="How many numbers a picture is squeezed into. Fewer keep only the coarse, more keep details.",
    )


class DenoisingOptions(CoderOptions):
    """A corrupted picture in, the clean one out."""

    first: ClassVar[tuple[str, ...]] = ("size", "noise", "amount")

    latents: int = Field(128, ge=2, le=256, title="Latents", description="How many numbers a picture is squeezed into.")
    noise: Corruption = Field(
        "Gaussian",
        title="Corruption",
        description="Gaussian adds grain, salt-and-pepper blackens or whitens pixels, masking greys out blocks.",
    )
    amount: float = Field(
        0.4,
        gt=0,
        le=1,
        title="Amount",
        description="Gaussian: deviation of the grain where the full range is 2. The others: share of the picture.",
    )


class SparseOptions(CoderOptions):
    """Many latents of which each picture may use only a few."""

    first: ClassVar[tuple[str, ...]] = ("size", "penalty", "strength")

    latents: int = Field(
        128, ge=2, le=256, title="Latents", description="How many numbers there are; a picture should use few of them."
    )
    penalty: Sparsity = Field(
        "KL",
        title="Sparsity by",
        description="KL keeps the mean activity of each latent near a target; L1 pulls every activity towards zero.",
    )
    strength: float = Field(
        2.0, ge=0, le=100, title="Strength", description="Weight of the sparsity. Higher leaves fewer latents active."
    )
    target: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        title="Target activity",
        description="For KL: the share of pictures for which a latent should be on.",
    )


class VaeOptions(CoderOptions):
    """A distribution over codes: the ELBO with a weight on its KL."""

    first: ClassVar[tuple[str, ...]] = ("size", "latents", "beta")

    beta: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="β",
        description="Weight of the KL. Higher makes codes simpler and more independent, and pictures blurrier.",
    )
    deviation: float = Field(
        0.2,
        gt=0.01,
        le=1,
        title="Decoder's deviation",
        description="How exactly the decoder is expected to hit a pixel, where the full range is 2. Smaller weighs "
        "the reconstruction more.",
    )
    free_bits: float = Field(
        0.0,
        ge=0,
        le=10,
        title="Free nats",
        description="KL each latent may have at no cost, in nats (1 nat = 1.44 bits). A little keeps latents from "
        "collapsing.",
        json_schema_extra={"unit": "nats"},
    )
    warm_up: int = Field(
        200,
        ge=0,
        le=100_000,
        title="KL warm-up",
        description="Steps over which the KL's weight grows from 0. Helps against collapse at the beginning.",
        json_schema_extra={"unit": "steps"},
    )


class VqOptions(CoderOptions):
    """Codewords from a table instead of numbers."""

    first: ClassVar[tuple[str, ...]] = ("size", "words", "word_size")
    kept: ClassVar[frozenset[str]] = frozenset({"size", "width", "words", "word_size"})

    words: int = Field(
        128,
        ge=2,
        le=1024,
        title="Codewords",
        description="Entries of the codebook. Each 4 × 4 pixels become one of them: log₂ of this many bits.",
    )
    word_size: int = Field(16, ge=2, le=64, title="Numbers per codeword", description="How rich a codeword is.")
    decay: float = Field(
        0.97,
        gt=0,
        lt=1,
        title="Codebook averaging",
        description="Share of a codeword that stays at each step; the rest moves to the mean of what chose it.",
    )
    commitment: float = Field(
        0.25, ge=0, le=10, title="Commitment", description="How strongly the encoder is held to the codewords it chose."
    )


class HvaeOptions(VaeOptions):
    """Latents at several scales."""

    width: int = Field(
        40,
        ge=8,
        le=96,
        multiple_of=8,
        title="Width of the network",
        description="Channels at every scale.",
        json_schema_extra={"unit": "channels"},
    )
    latents: int = Field(
        16,
        ge=2,
        le=256,
        title="Latents of the whole",
        description="Numbers at the coarsest level, for the whole picture.",
    )
    channels: int = Field(
        4, ge=1, le=16, title="Latents per place", description="Numbers at each place of the 4 × 4, 8 × 8 ... maps."
    )

    kept: ClassVar[frozenset[str]] = frozenset({"size", "width", "latents", "channels"})


def _recipe(target: str, title: str, summary: str, options: type[Options], **more: Any) -> Recipe:
    return Recipe(f"studio.train.{target}", 4, summary, "vae", title, options, **{"data": "stickers:smileys", **more})


RECIPES_VAE: Mapping[str, Recipe] = {
    "autoencoder": _recipe(
        "coders:Plain", "Autoencoder", "Squeezes pictures into a few numbers and back. Not made for new ones.",
        CoderOptions,
    ),
    "denoising-ae": _recipe(
        "coders:Denoising", "Denoising autoencoder", "Learns to clean pictures: corrupted in, clean out.",
        DenoisingOptions,
    ),
    "sparse-ae": _recipe(
        "coders:Sparse", "Sparse autoencoder", "Many latents, of which each picture switches on only a few.",
        SparseOptions,
    ),
    "vae": _recipe(
        "vae:VaeTrainee", "VAE", "Codes become a smooth cloud, so that any point in it decodes to a picture.",
        VaeOptions,
    ),
    "beta-vae": _recipe(
        "vae:VaeTrainee", "β-VAE", "A heavier KL: fewer latents in use, each with a purer meaning, blurrier pictures.",
        VaeOptions, preset={"beta": 4.0},
    ),
    "cvae": _recipe(
        "vae:ConditionalVae", "Conditional VAE", "Is told what is in the picture, so that you can ask for it.",
        VaeOptions,
    ),
    "cbeta-vae": _recipe(
        "vae:ConditionalVae", "Conditional β-VAE", "Told the class, with a heavier KL: few latents for the rest.",
        VaeOptions, preset={"beta": 4.0},
    ),
    "vq-vae": _recipe(
        "vqvae:VqTrainee", "VQ-VAE", "A picture becomes a grid of codewords; a small prior makes new grids.",
        VqOptions, hidden=("latents",),
    ),
    "hvae": _recipe(
        "hvae:HvaeTrainee", "Hierarchical VAE", "Latents at several scales, from the whole to details, after NVAE.",
        HvaeOptions,
    ),
}  # fmt: skip
