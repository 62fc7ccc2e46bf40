"""The networks a model is made of, and what goes into and comes out of each. Values only; nothing heavy is imported.

diffusion   text_encoder, unet, decoder, encoder
sam         encoder, decoder
yolo        network
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from studio.errors import Unsupported


@dataclass(frozen=True)
class Part:
    """One network.

    Attributes:
        title: what the user reads.
        inputs, outputs: names of its ports, in order.
        free: which axes of a port may have any length: {"sample": {0: "batch", 2: "height"}}.
        tolerance: how far a converted copy in floats may be off, root mean square of the error over that of the answer.
        tolerance16: the same for a copy that computes in bf16, which has three digits.
        tolerance8: the same for a copy that computes in 8 bits.
        is_small: too small for 8 bits to gain anything, and too near the result to spare the digits.
    """

    title: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    free: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    tolerance: float = 0.01
    tolerance16: float = 0.08
    tolerance8: float = 0.35
    is_small: bool = False


_GRID = {0: "batch", 2: "height", 3: "width"}

PARTS: dict[str, dict[str, Part]] = {
    "diffusion": {
        "text_encoder": Part(
            "text encoder", ("tokens",), ("text",), {"tokens": {0: "batch"}, "text": {0: "batch"}}, is_small=True
        ),
        "unet": Part(
            "UNet",
            ("sample", "timestep", "text"),
            ("output",),
            {"sample": _GRID, "timestep": {0: "batch"}, "text": {0: "batch"}, "output": _GRID},
        ),
        "decoder": Part("decoder", ("latents",), ("pixels",), {"latents": _GRID, "pixels": _GRID}),
        "encoder": Part("encoder", ("pixels",), ("mean", "deviation"), {"pixels": _GRID, "mean": _GRID}, is_small=True),
    },
    "sam": {
        "encoder": Part("picture encoder", ("pixels",), ("features",)),
        "decoder": Part(
            "mask decoder",
            ("features", "points", "labels"),
            ("logits", "scores"),
            {
                "points": {0: "prompts", 1: "clicks"},
                "labels": {0: "prompts", 1: "clicks"},
                "logits": {0: "prompts"},
                "scores": {0: "prompts"},
            },
            is_small=True,
        ),
    },
    "yolo": {"network": Part("network", ("images",), ())},
}


def parts_of(engine: str) -> dict[str, Part]:
    """The parts of an engine's models. Raises Unsupported for engines without networks."""
    if engine not in PARTS:
        raise Unsupported("This model has no network that could be compressed.", "Choose another model.")
    return PARTS[engine]
