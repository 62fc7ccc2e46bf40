"""What an operation of the VAE lab looks at: the model, and the pictures that a task names."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from studio.engines.arguments import Arguments
from studio.engines.base import Report
from studio.engines.vae_model import SPACES, Axes, Model, Pixels, Space
from studio.errors import InvalidTask
from studio.tasks import Explore

FIELDS = ("image", "other", "third")
FARTHEST = 100.0
"""Deviations from the middle that may be asked for."""


class Seen(NamedTuple):
    """A picture as the network sees it, (S, S, 3), with its label (for a conditional network) and code (1, L)."""

    picture: Pixels
    label: int | None
    code: Tensor


class Pictures:
    """`model` and access to what the task names. Every method raises InvalidTask for what does not exist."""

    def __init__(self, model: Model, task: Explore, report: Report) -> None:
        self.model, self._task, self._report = model, task, report

    def named(self, args: Arguments, name: str, field: str, default: int = 0) -> Seen:
        """The picture named by argument `name`; where that is not given, the task's `field`, else the held-out one
        with number `default`.
        """
        given = self._task.args.get(name)
        if given is None:
            given = field if getattr(self._task, field) is not None else default
        return self._own(given) if isinstance(given, str) else self._point(name, given)

    def _own(self, field: str) -> Seen:
        id_ = getattr(self._task, field) if field in FIELDS else None
        if id_ is None:
            raise InvalidTask("There is no picture yet.", "Choose, drop or paste one, or pick one of the model's own.")
        picture = self.model.fit(self._report.asset(id_))
        label = self.model.best_label(picture)
        return Seen(picture, label, self.model.encode(picture[None], self.model.told(label, 1)))

    def _point(self, name: str, given: Any) -> Seen:
        most = len(self.model.points) - 1
        index = Arguments({name: given}).whole(name, 0, most, 0)
        label = int(self.model.labels[index]) if self.model.is_conditional else None
        return Seen(self.model.points[index], label, self.model.codes[index : index + 1])

    # ── places in code space ─────────────────────────────────────────────────

    def space(self, args: Arguments) -> tuple[Space, Axes]:
        """The axes asked for; the model's natural ones by default."""
        asked = args.choice("space", SPACES, self.model.space)
        name = next(one for one in SPACES if one == asked)
        if name == "latents" and not self.model.net.latents:
            raise InvalidTask("The code of this model is a grid; its numbers mean nothing alone.", "Use directions.")
        return name, self.model.axes(name)

    def place(self, args: Arguments, axes: Axes) -> tuple[Tensor, int | None]:
        """The code (1, L) that `base`, `axes` and `values` name, and the label it is decoded with.

        Without `base` it starts in the middle of the codes. `values` are deviations, one for each of `axes`, or one for
        every axis where `axes` is not given.
        """
        label = args.label(self.model.names) if self.model.is_conditional else None
        code = axes.origin[None].clone()
        if self._task.args.get("base") is not None:
            base = self.named(args, "base", "image")
            code, label = base.code.clone(), label if label is not None else base.label
        count = len(axes.steps)
        which = args.wholes("axes", 0, count - 1, range(count), count)
        if self._task.args.get("values") is None:
            return code, label
        values = args.numbers("values", -FARTHEST, FARTHEST, (), count)
        if len(values) != len(which):
            raise InvalidTask(
                f"values has {len(values)} numbers for {len(which)} axes.",
                f"Give one for each; there are {count} axes.",
            )
        now = self.model.coordinates(code[0], axes)
        move = torch.tensor(values) - now[which]
        return code + move @ axes.steps[which], label
