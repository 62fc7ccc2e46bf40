"""Optimizers and learning-rate schedules by their torch names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from studio.errors import InvalidTask

POINTS = 1000
"""Steps at which a schedule is sampled; between them it is constant."""
LOWEST = 0.01
"""Share of the peak rate at which LinearLR and ExponentialLR end."""

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "SGD": torch.optim.SGD,
    "RMSprop": torch.optim.RMSprop,
}
_EXTRA: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}}

SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]] = {
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, factor=1.0),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=LOWEST, total_iters=POINTS),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=POINTS),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=POINTS, cycle_momentum=False),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, gamma=LOWEST ** (1 / POINTS)),
}


def optimizer(
    name: str,
    params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    rate: float,
    betas: tuple[float, float] | None = None,
) -> torch.optim.Optimizer:
    """The named optimizer; `betas` where it has some. Every group keeps its own rate as "peak"."""
    extra = dict(_EXTRA.get(name, {}))
    if betas is not None and name.startswith("Adam"):
        extra["betas"] = betas
    made = OPTIMIZERS[name](params, lr=rate, **extra)  # type: ignore[call-arg]
    for group in made.param_groups:
        group["peak"] = group["lr"]
    return made


def set_rate(made: torch.optim.Optimizer, scale: float) -> None:
    """Every group's rate becomes its peak times `scale`."""
    for group in made.param_groups:
        group["lr"] = group.setdefault("peak", group["lr"]) * scale


def schedule(name: str) -> Callable[[float], float]:
    """From the used share of the budget (0..1) to the scale of the rate (0..1). Raises InvalidTask.

    A budget in minutes knows no number of steps, so the scheduler is run over POINTS steps and read by share.
    """
    if name not in SCHEDULES:
        raise InvalidTask(f"There is no schedule {name!r}.", f"Choose one of: {', '.join(SCHEDULES)}.")
    dummy = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = SCHEDULES[name](dummy)
    scales = []
    for _ in range(POINTS):
        scales.append(float(dummy.param_groups[0]["lr"]))
        dummy.step()
        scheduler.step()
    return lambda progress: scales[min(POINTS - 1, int(progress * POINTS))]
