"""What can be set about a training: frozen classes whose fields carry bounds, a unit and a description. No torch.

Forms, command-line settings and the record of a run are derived from these classes, so a new setting is one field.
A lab subclasses `Options` in its own light file and adds what its networks need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.errors import InvalidTask

Optimizer = Literal["Adam", "AdamW", "SGD", "RMSprop"]
Schedule = Literal["ConstantLR", "LinearLR", "CosineAnnealingLR", "OneCycleLR", "ExponentialLR"]
Augmentation = Literal["flip", "rotate", "shift", "scale", "crop", "colour", "mixup", "cutout"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)


class Options(BaseModel):
    """What every training of the labs has in common.

    `title` of a field is its label, `json_schema_extra={"unit": ...}` its unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    first: ClassVar[tuple[str, ...]] = ("size",)
    """The two or three fields a form shows at once; the rest is under "More settings"."""
    kept: ClassVar[frozenset[str]] = frozenset({"size"})
    """Fields that decide the networks' shapes, so they cannot change when a run is continued."""

    size: Literal[16, 32, 64] = Field(
        32,
        title="Picture side",
        description="Pictures are made this wide and high. Twice the side takes about four times as long.",
        json_schema_extra={"unit": "px"},
    )
    batch: int = Field(
        64, ge=1, le=512, title="Batch", description="Pictures per step. More make calmer steps that take longer."
    )
    rate: float = Field(
        1e-3,
        gt=0,
        le=10,
        title="Learning rate",
        description="How far each step moves the weights. Too high and the training diverges, too low and it crawls.",
    )
    optimizer: Optimizer = Field("AdamW", title="Optimizer", description="The rule that turns gradients into steps.")
    schedule: Schedule = Field(
        "CosineAnnealingLR",
        title="Schedule",
        description="How the learning rate changes from the first step to the last.",
    )
    clip: float = Field(
        1.0, ge=0, le=1000, title="Gradient clipping", description="Gradients are scaled down to this norm. 0 is off."
    )
    ema: float = Field(
        0.99,
        ge=0,
        lt=1,
        title="EMA decay",
        description="Decay of the moving average of the weights, which is what is shown and kept. 0 is off.",
    )
    augment: tuple[Augmentation, ...] = Field(
        (), title="Augmentation", description="Random changes to training pictures, so that few pictures go further."
    )

    @classmethod
    def made(cls, preset: Mapping[str, Any], chosen: Mapping[str, Any] | None = None) -> Options:
        """Checked options: what was chosen over the preset over the defaults. Raises InvalidTask naming the field."""
        values = {**preset, **{name: value for name, value in (chosen or {}).items() if value is not None}}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            parts = []
            for item in error.errors():
                name = ".".join(str(part) for part in item["loc"])
                parts.append(
                    f"{name}: {item['msg'].removeprefix('Value error, ')} (it was {str(item['input'])[:60]!r})"
                )
            raise InvalidTask("; ".join(parts) + ".", "Correct the setting and start again.") from error
