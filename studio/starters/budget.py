"""Training within a budget of wall-clock time: a loss in, averaged weights out, kept every minute.

A rented GPU is not spent on a network that has collapsed: after the first tenth of its budget a training must do better
than the trivial answer that its recipe names, and from then on its steps must stay finite. Otherwise it ends.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio.errors import StudioError
from studio.train.loop import Average, Muon

Loss = Callable[[float, float], tuple[Tensor, Mapping[str, Tensor], int]]
"""(progress 0..1, share of the usual batch 0..1) -> the loss, what else to report, how many pictures it saw."""
PROOF = 0.1
"""Share of the budget after which a training has to be worth going on with."""
LEAST = 50
"""Steps before that is judged, however short the budget."""
SKIPS = 20
"""Steps without a finite gradient, one after the other, that end a training."""
GIB = 16
"""Of a GPU's memory that a training takes at most."""


class Collapse(StudioError):
    """A training learns nothing."""


@dataclass(frozen=True)
class Budget:
    """How long and how fast; the rate warms up, stays for `flat` of the time, then falls as a cosine to 0.

    Attributes:
        seconds: from now on.
        steps: ends the training after so many steps instead; for trying things.
        keep_s: seconds between two times the averaged weights are kept and measured.
    """

    seconds: float
    rate: float = 1e-3
    muon_rate: float | None = None
    weight_decay: float = 0.01
    warmup: int = 50
    flat: float = 0.0
    clip: float = 1.0
    ema: float = 0.998
    steps: int | None = None
    keep_s: float = 60.0
    began: float = field(default_factory=time.monotonic)

    def progress(self, step: int) -> float:
        """The part that is used, 0..1."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        return min(1.0, (time.monotonic() - self.began) / max(1e-6, self.seconds))

    def scale(self, step: int, progress: float) -> float:
        """What the peak rates are multiplied with, 0..1."""
        fall = max(0.0, (progress - self.flat) / (1 - self.flat))
        return min(1.0, (step + 1) / max(1, self.warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))


class Guard:
    """Ends a training that is no better than the trivial answer.

    `trivial` is the loss of that answer; without one it is the loss of the first steps: a network not trained yet.
    """

    def __init__(self, name: str, trivial: float | None = None) -> None:
        self.name, self.trivial, self.mean = name, trivial, math.nan
        self._first: list[float] = []
        self._steps = self._skips = 0
        self._is_proven = False

    def see(self, loss: float, progress: float) -> None:
        """One step's loss, not finite where the step was skipped. Raises Collapse."""
        if not math.isfinite(loss):
            self._skips += 1
            if self._skips >= SKIPS:
                raise Collapse(
                    f"The training of the {self.name} left the finite numbers {SKIPS} times in a row.",
                    "Lower its rates or raise its warm-up.",
                )
            return
        self._skips = 0
        self._steps += 1
        if len(self._first) < 3:
            self._first.append(loss)
        self.mean = loss if math.isnan(self.mean) else 0.9 * self.mean + 0.1 * loss
        if progress >= PROOF and self._steps > LEAST and not self._is_proven:
            bound = self.trivial if self.trivial is not None else sum(self._first) / 3
            if not self.mean < bound:
                raise Collapse(
                    f"The {self.name} does not learn: after {100 * progress:.0f} % of its time its loss is "
                    f"{self.mean:.4g}, and the trivial answer's is {bound:.4g}.",
                    "Lower its rates, raise its warm-up, or look at what it is given.",
                )
            self._is_proven = True


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
    net: nn.Module,
    loss: Loss,
    budget: Budget,
    journal: Journal,
    keep: Callable[[], None],
    measure: Callable[[], str],
    *,
    guard: Guard | None = None,
) -> int:
    """Trains `net` in place until the budget is spent and leaves the averaged weights in it. Returns the steps taken.

    `keep` and `measure` are called every `keep_s` seconds and at the end, while `net` holds the averaged weights.
    A batch that does not fit into memory is halved from then on. Raises Collapse, as `guard` says.
    """
    optimizer = Muon(net, rate=budget.rate, muon_rate=budget.muon_rate, weight_decay=budget.weight_decay)
    average, guard = Average(net, budget.ema), guard or Guard("network")
    params = [p for p in net.parameters() if p.requires_grad]
    noted = kept = time.monotonic()
    step, seen, noted_seen, share = 0, 0, 0, 1.0
    net.train()
    while (progress := budget.progress(step)) < 1:
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
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * budget.scale(step, progress)
        now, length = torch.stack([value.detach().float(), norm.detach().float()]).tolist()
        if math.isfinite(length):
            optimizer.step()
            average.update(net, step)
        guard.see(now if math.isfinite(length) else math.nan, progress)
        step, seen = step + 1, seen + pictures
        if time.monotonic() - noted > 10 or step == 1:
            words = "  ".join(f"{name} {float(number.detach()):.3f}" for name, number in metrics.items())
            speed = (seen - noted_seen) / max(1e-6, time.monotonic() - noted)
            journal(f"step {step}  {100 * progress:.0f} %  {speed:.0f} pictures/s  loss {guard.mean:.4f}  {words}")
            noted, noted_seen = time.monotonic(), seen
        if time.monotonic() - kept > budget.keep_s:
            with average.applied(net):
                net.eval()
                keep()
                journal(f"step {step}  {measure()}")
            net.train()
            kept = time.monotonic()
    net.load_state_dict(average.weights)
    net.eval()
    keep()
    journal(f"done: {step} steps, {seen} pictures  {measure()}")
    if torch.cuda.is_available():
        journal(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    return step


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The command line that all recipes have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and the log")
    parser.add_argument("--atlas", type=Path, help="what studio.starters.atlas wrote")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--steps", type=int, help="end after so many steps instead, for trying it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--start", type=Path, help="folder of trained weights to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="small batches, for trying it on a processor")
    return parser


def prepare(device: str, seed: int) -> torch.device:
    """Seeds chance; a GPU multiplies in TF32 and gives GIB of its memory."""
    torch.manual_seed(seed)
    place = torch.device(device)
    if place.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        total = torch.cuda.get_device_properties(place).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, GIB * 2**30 / total), place)
    return place


def fast(device: torch.device) -> torch.autocast:
    """bf16 on a GPU, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def save(what: Any, path: Path) -> None:
    """Tensors to a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(what, part)
    os.replace(part, path)


def half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, floats in half precision but for running statistics."""
    return {
        name: (value.half() if value.is_floating_point() and "running" not in name else value).detach().cpu().clone()
        for name, value in weights.items()
    }
