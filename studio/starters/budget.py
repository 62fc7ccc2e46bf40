"""Training within a budget of wall-clock time: a loss in, averaged weights out, kept every minute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from studio.train.loop import Average, Muon

Loss = Callable[[float, float], tuple[Tensor, Mapping[str, Tensor], int]]
"""(progress 0..1, share of the usual batch 0..1) -> the loss, what else to report, how many pictures it saw."""


@dataclass(frozen=True)
class Budget:
    """How long and how fast; the rate warms up, then falls as a cosine to 0 at the end of the time.

    Attributes:
        until: `time.time()` at which training ends.
        steps: most steps; for trying things.
        keep_s: seconds between two times the averaged weights are kept and measured.
    """

    until: float
    rate: float = 1e-3
    muon_rate: float | None = None
    weight_decay: float = 0.01
    warmup: int = 50
    clip: float = 1.0
    ema: float = 0.998
    steps: int | None = None
    keep_s: float = 60.0


class Journal:
    """Lines with the seconds since it began, on paper and on screen."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        line = f"{time.monotonic() - self._began:6.1f} s  {text}"
        print(line, flush=True)  # noqa: T201 - a training's log
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def descend(
    net: nn.Module, loss: Loss, budget: Budget, journal: Journal, keep: Callable[[], None], measure: Callable[[], str]
) -> int:
    """Trains `net` in place until the budget is spent and leaves the averaged weights in it. Returns the steps taken.

    `keep` and `measure` are called every `keep_s` seconds and at the end, while `net` holds the averaged weights.
    A batch that does not fit into memory is halved from then on.
    """
    optimizer = Muon(net, rate=budget.rate, muon_rate=budget.muon_rate, weight_decay=budget.weight_decay)
    average = Average(net, budget.ema)
    params = [p for p in net.parameters() if p.requires_grad]
    began = noted = kept = time.time()
    step, seen, noted_seen, share, skipped = 0, 0, 0, 1.0, 0
    net.train()
    while (now := time.time()) < budget.until and (budget.steps is None or step < budget.steps):
        progress = (now - began) / max(1e-6, budget.until - began)
        if budget.steps is not None:
            progress = max(progress, step / budget.steps)
        try:
            value, metrics, pictures = loss(progress, share)
            net.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError:
            net.zero_grad(set_to_none=True)
            value, metrics = None, {}  # type: ignore[assignment]
            share /= 2
            journal(f"out of memory: batches are {share:.3g} of their size from here on")
            if share < 1 / 64:
                raise
            torch.cuda.empty_cache()
            continue
        norm = nn.utils.clip_grad_norm_(params, budget.clip)
        scale = min(1.0, (step + 1) / max(1, budget.warmup)) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * scale
        if bool(norm.isfinite()):
            optimizer.step()
        else:
            skipped += 1
        average.update(net, step)
        step, seen = step + 1, seen + pictures
        if time.time() - noted > 10 or step == 1:
            numbers = {"loss": value.detach(), **metrics}
            words = "  ".join(f"{name} {float(number):.3f}" for name, number in numbers.items())
            speed = (seen - noted_seen) / (time.time() - noted)
            journal(f"step {step}  {100 * progress:.0f} %  {speed:.0f} pictures/s  {words}  skipped {skipped}")
            noted, noted_seen = time.time(), seen
        if time.time() - kept > budget.keep_s:
            with average.applied(net):
                net.eval()
                keep()
                journal(f"step {step}  {measure()}")
            net.train()
            kept = time.time()
    net.load_state_dict(average.weights)
    net.eval()
    keep()
    journal(f"done: {step} steps, {seen} pictures  {measure()}")
    if torch.cuda.is_available():
        journal(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    return step
