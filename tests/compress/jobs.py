"""Conversions to be tried: a network of one picture and four pictures to calibrate on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from studio.compress import quantize


def convolutional(name: str, network: Path, folder: Path) -> quantize.Job:
    """A job for a network of one input "images" (1, 3, 64, 64), written into `folder`/out."""
    out = folder / "out"
    out.mkdir()
    rng = np.random.default_rng(1)
    feeds = [{"images": rng.random((1, 3, 64, 64), np.float32)} for _ in range(4)]
    return quantize.Job(name, network, out, feeds)
