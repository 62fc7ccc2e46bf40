"""What the recipes of this package share: a budget in seconds, the rate that falls with it, when to look and save."""

from __future__ import annotations

import argparse
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Budget:
    """Seconds of a whole training; with `steps` it ends after so many steps instead, to try a recipe out."""

    seconds: float
    steps: int | None = None
    warmup: int = 200
    """Steps until the peak rate."""
    _began: float = field(default_factory=time.monotonic)
    _due: dict[str, float] = field(default_factory=dict)

    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def progress(self, step: int) -> float:
        """The part that is used, 0..1."""
        return min(1.0, step / self.steps if self.steps else self.elapsed() / self.seconds)

    def rate(self, step: int) -> float:
        """What the peak rate is multiplied with: it warms up, then falls as a cosine to zero."""
        return min(1.0, (step + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * self.progress(step)))

    def due(self, what: str, every: float) -> bool:
        """True once in `every` seconds for each `what`; the first time after so many seconds."""
        now = self.elapsed()
        if now < self._due.setdefault(what, every):
            return False
        self._due[what] = now + every
        return True


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The command line that all recipes have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--steps", type=int, default=None, help="end after so many steps instead, to try it out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def prepare(device: str, seed: int) -> torch.device:
    """Seeds chance and lets a GPU multiply in TF32 and take at most 8 GB."""
    torch.manual_seed(seed)
    place = torch.device(device)
    if place.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        total = torch.cuda.get_device_properties(place).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, 8e9 / total), place)
    return place


def tell(text: str) -> None:
    """One line of a recipe's log."""
    print(text, flush=True)  # noqa: T201 - a command's answer


def save(what: Any, path: Path) -> None:
    """Tensors on the CPU, whole or not at all; where one is no longer finite, what was saved before stays."""
    if not _is_finite(what):
        tell(f"{path.name}: a weight is not finite; the last file stays")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(what, part)
    os.replace(part, path)


def _is_finite(what: Any) -> bool:
    if isinstance(what, torch.Tensor):
        return not what.is_floating_point() or bool(what.isfinite().all())
    return all(map(_is_finite, what.values())) if isinstance(what, dict) else True


def half(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies on the CPU, floats in half precision."""
    return {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().clone()
        for name, value in weights.items()
    }
