"""What a course trains: the contract between the training core (`studio.train.course`) and the labs' networks.

A trainee owns its networks, its optimizers and what it knows of the data; the course owns time: steps, pauses,
checkpoints, validation, samples, the record of the run. A trainee never reads a clock, a file or a global generator.

    trainee = Vae(options, data, seed)
    metrics = trainee.step(0, generator)      # one update of everything that learns
    trainee.validate()                        # {"elbo": ..., "psnr": ...} on held-out pictures
    trainee.samples()                         # {"samples": uint8 grid, "reconstructions": ...}
    trainee.export(folder)                    # model.safetensors, config.json, facts.json
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Stateful(Protocol):
    """A network, an optimizer, an average of weights: what a checkpoint holds."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Trainee(Protocol):
    """Constructed as `Trainee(options, data, seed)`; the same three give bit-equal weights after the same steps."""

    watched: str
    """The validation metric that early stopping and "best" go by; lower is better where `watched_falls`."""
    watched_falls: bool

    def parts(self) -> Mapping[str, Stateful]:
        """Everything a checkpoint must hold to continue bit-equal: networks, optimizers, averages, by name."""

    def step(self, step: int, generator: torch.Generator) -> Mapping[str, float]:
        """One update of all that learns; all randomness from `generator`, which is seeded by (seed, step).

        Returns what is worth a curve: losses apart, gradient norms, D(real) ... Values may be NaN; the course stops on
        them.
        """

    def set_rate(self, scale: float) -> None:
        """Multiplies every optimizer's own peak learning rate with `scale` (the schedule's value, 0..1)."""

    def validate(self) -> Mapping[str, float]:
        """Metrics on held-out pictures, with the averaged weights; no randomness that is not fixed."""

    def samples(self) -> Mapping[str, Pixels]:
        """Pictures of where it stands, each uint8 RGB (H, W, 3), from fixed noise and fixed pictures.

        A lab shows them over time, so a name means the same thing at every step: "samples", "reconstructions".
        """

    def export(self, folder: Path) -> Mapping[str, Any]:
        """Writes model.safetensors and config.json, from which the lab's engine loads it; returns its facts."""
