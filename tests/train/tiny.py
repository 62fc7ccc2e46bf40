"""A trainee of a few hundred weights with everything a real one has: a network, Adam, an average, noise, samples."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import nn

from studio.train.data import Data
from studio.train.descent import optimizer, set_rate
from studio.train.loop import Average
from studio.train.options import Options
from studio.train.recipe import Recipe


class TinyOptions(Options):
    first: ClassVar[tuple[str, ...]] = ("size", "hidden")
    kept: ClassVar[frozenset[str]] = frozenset({"size", "hidden"})

    size: int = Field(16, ge=8, le=64, title="Side", description="Side.", json_schema_extra={"unit": "px"})
    batch: int = Field(8, ge=1, le=64, title="Batch", description="Batch.")
    hidden: int = Field(8, ge=1, le=64, title="Hidden", description="Numbers in the middle.")
    noise: bool = Field(True, title="Noise", description="Whether noise is added.")
    nan_at: int = Field(-1, title="NaN at", description="Step whose loss is no number.")


class Tiny:
    watched = "error"
    watched_falls = True

    def __init__(self, options: TinyOptions, data: Data, seed: int) -> None:
        self.options, self.data = options, data
        side = 3 * options.size**2
        init = torch.Generator().manual_seed(seed)
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(side, options.hidden), nn.Tanh(), nn.Linear(options.hidden, side)
        )
        for p in self.net.parameters():
            p.data = 0.02 * torch.randn(p.shape, generator=init)
        self.descent = optimizer(options.optimizer, self.net.parameters(), options.rate)
        self.average = Average(self.net, options.ema)

    def parts(self) -> Mapping[str, Any]:
        return {"net": self.net, "descent": self.descent, "average": self.average}

    def set_rate(self, scale: float) -> None:
        set_rate(self.descent, scale)

    def step(self, step: int, generator: torch.Generator) -> Mapping[str, float]:
        x, _ = self.data.draw(self.options.batch, generator, self.options.augment)
        noise = 0.1 * torch.randn(x.shape, generator=generator) if self.options.noise else 0
        loss = (self.net(x + noise) - x.flatten(1)).square().mean()
        self.descent.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.options.clip or float("inf"))
        self.descent.step()
        self.average.update(self.net, step)
        if step == self.options.nan_at:
            return {"loss": float("nan")}
        return {"loss": float(loss.detach()), "grad_norm": float(norm)}

    def validate(self) -> Mapping[str, float]:
        with torch.no_grad(), self.average.applied(self.net):
            x = self.data.batch(self.data.valid[:16])
            return {"error": float((self.net(x) - x.flatten(1)).square().mean())}

    def samples(self) -> Mapping[str, Any]:
        with torch.no_grad(), self.average.applied(self.net):
            x = self.data.batch(self.data.valid[:8])
            y = self.net(x).reshape(x.shape)
        pictures = ((torch.cat([x, y]) + 1) * 127.5).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        rows = [np.concatenate(list(pictures[k : k + len(x)]), axis=1) for k in (0, len(x))]
        return {"reconstructions": np.concatenate(rows)}

    def export(self, folder: Path) -> Mapping[str, Any]:
        save_file({k: v.contiguous() for k, v in self.average.weights.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"size": self.options.size, "pid": os.getpid()}))
        return {"hidden": self.options.hidden}


RECIPE = Recipe(
    "tests.train.tiny:Tiny",
    0.1,
    "A tiny autoencoder for tests.",
    "vae",
    "Tiny",
    TinyOptions,
    {},
    data="stickers:nature",
)
