"""Latents in numpy: what they look like, and what a network believes of them; no torch.

Latents are float32 (1, C, h, w) as a UNet sees them; pictures float32 (H, W, 3), about -1..1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Published least-squares fits for the two VAEs that nearly everybody uses (4 channels, by scaling factor).
PUBLISHED: dict[float, tuple[list[list[float]], list[float]]] = {
    0.18215: (
        [[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]],
        [0.0, 0.0, 0.0],
    ),
    0.13025: (
        [[0.3651, 0.4232, 0.4341], [-0.2533, -0.0042, 0.1068], [0.1076, 0.1111, -0.0362], [-0.3165, -0.2492, -0.2188]],
        [0.1084, -0.0175, -0.0011],
    ),
}


class LatentMap(NamedTuple):
    """rgb = latent @ weight + bias. weight (C, 3), bias (3,)."""

    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        """Latents (1, C, h, w) -> RGB (h, w, 3), not clipped."""
        return x[0].transpose(1, 2, 0) @ self.weight + self.bias


def published(scaling_factor: float, channels: int) -> LatentMap | None:
    """The known map of a VAE, or None."""
    known = PUBLISHED.get(round(scaling_factor, 5)) if channels == 4 else None
    return None if known is None else LatentMap(np.array(known[0], np.float32), np.array(known[1], np.float32))


def fit(decode: Callable[[Floats], Floats], channels: int) -> LatentMap:
    """Least squares over what `decode` makes of patchy random latents: (N, C, h, w) -> pictures (N, 3, H, W)."""
    patches = np.random.default_rng(0).standard_normal((4, channels, 4, 4), np.float32)
    known = patches.repeat(4, axis=2).repeat(4, axis=3)  # (4, C, 16, 16)
    rgb = decode(known)
    factor = rgb.shape[2] // known.shape[2]
    small = rgb.reshape(len(rgb), 3, known.shape[2], factor, known.shape[3], factor).mean(axis=(3, 5))
    rows = known.transpose(0, 2, 3, 1).reshape(-1, channels)  # (4 * 256, C)
    rows = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
    solution, *_ = np.linalg.lstsq(rows, small.transpose(0, 2, 3, 1).reshape(-1, 3), rcond=None)
    return LatentMap(solution[:-1].astype(np.float32), solution[-1].astype(np.float32))


def denoised(noisy: Any, output: Any, signal: float, prediction: str) -> Any:
    """What the network believes the finished latents are; arrays or tensors alike.

    Args:
        noisy: the network's input, of unit variance.
        output: its output of the same shape, guidance applied.
        signal: cumulative alpha at this time step, 0..1.
        prediction: "epsilon", "v_prediction" or "sample".
    """
    a, s = max(signal, 1e-4) ** 0.5, (1 - signal) ** 0.5
    estimates: dict[str, Callable[[], Any]] = {
        "epsilon": lambda: (noisy - s * output) / a,
        "v_prediction": lambda: a * noisy - s * output,
        "sample": lambda: output,
    }
    return estimates.get(prediction, lambda: noisy)()


def cover(mask: NDArray[np.bool_], height: int, width: int) -> Floats:
    """A mask (H, W) at the size of latents, (1, 1, height, width): 1 where any of its pixels is set."""
    rows = np.maximum.reduceat(mask, np.arange(height) * mask.shape[0] // height, axis=0)
    cells = np.maximum.reduceat(rows, np.arange(width) * mask.shape[1] // width, axis=1)
    return cells[None, None].astype(np.float32)


def pixels(rgb: Floats) -> NDArray[np.uint8]:
    """(H, W, 3), -1..1 -> uint8."""
    return np.rint(np.nan_to_num(rgb).clip(-1, 1) * 127.5 + 127.5).astype(np.uint8)
