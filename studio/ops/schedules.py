"""Noise schedules of diffusion models and the times at which a sampler looks, from a `scheduler_config.json`, in numpy.

A schedule says how much of the picture is left at each of the training's time steps: `signal[t]`, the cumulative alpha,
from nearly 1 down to nearly 0 (Ho et al., 2020). The arithmetic is that of diffusers' schedulers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.errors import Unsupported

Numbers = NDArray[np.floating[Any]]  # float64
PREDICTIONS = ("epsilon", "v_prediction", "sample")
TINY_SIGNAL = 2.0**-24  # what samplers that divide by it use where nothing of the picture is left


@dataclass(frozen=True)
class Schedule:
    """Attributes:
    signal: cumulative alpha at each training step, (T,) in 0..1.
    prediction: what the network answers: "epsilon", "v_prediction" or "sample".
    spacing: "linspace", "leading" or "trailing" (Lin et al., 2023, table 2).
    offset: added to "leading" times.
    final_signal: cumulative alpha after the last step.
    clip: limit of the estimated picture, None for none.
    config: the whole configuration, for what one sampler alone reads.
    """

    signal: Numbers
    prediction: str
    spacing: str
    offset: int
    final_signal: float
    clip: float | None
    config: Mapping[str, Any]

    @property
    def steps(self) -> int:
        return len(self.signal)

    @property
    def sigmas(self) -> Numbers:
        """Noise over signal at each training step, (T,)."""
        signal = self.signal.copy()
        if self.config.get("rescale_betas_zero_snr"):
            signal[-1] = TINY_SIGNAL
        return np.sqrt((1 - signal) / signal)


def read(config: Mapping[str, Any], prediction: str | None = None) -> Schedule:
    """The schedule that a scheduler's configuration describes.

    Args:
        prediction: overrides the configuration's kind of prediction.
    Raises Unsupported for schedules that are not known.
    """
    kind = str(prediction if prediction is not None else config.get("prediction_type", "epsilon"))
    if kind not in PREDICTIONS:
        raise Unsupported(f"The prediction {kind!r} of this model is not known.", f"Known: {', '.join(PREDICTIONS)}.")
    if config.get("thresholding"):
        raise Unsupported("This model's sampler limits pictures by dynamic thresholding.", "Run it on torch.")
    betas = _betas(config)
    signal = np.cumprod((1 - betas).astype(np.float32)).astype(np.float64)
    return Schedule(
        signal=signal,
        prediction=kind,
        spacing=str(config.get("timestep_spacing", "leading")),
        offset=int(config.get("steps_offset", 0)),
        final_signal=1.0 if config.get("set_alpha_to_one", True) else float(signal[0]),
        clip=float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample", False) else None,
        config=config,
    )


def times(schedule: Schedule, count: int) -> Numbers:
    """The `count` training steps at which the network is asked, latest first, as DDIM and Euler place them.

    Raises Unsupported for an unknown spacing or more steps than the training had.
    """
    if count > schedule.steps:
        raise Unsupported(f"This model has {schedule.steps} steps; {count} were asked for.", "Ask for fewer steps.")
    if schedule.spacing not in _SPACINGS:
        raise Unsupported(f"The spacing {schedule.spacing!r} is not known.", f"Known: {', '.join(_SPACINGS)}.")
    return _SPACINGS[schedule.spacing](schedule, count)


def karras(low: float, high: float, count: int, rho: float = 7.0) -> Numbers:
    """`count` noise levels from `high` to `low` (Karras et al., 2022, equation 5)."""
    ramp = np.linspace(0, 1, count)
    levels: Numbers = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return levels


def time_of(sigma: Numbers, sigmas: Numbers) -> Numbers:
    """The (fractional) training step at which the noise is `sigma`, by linear interpolation of the logarithm."""
    found: Numbers = np.interp(np.log(np.maximum(sigma, 1e-10)), np.log(sigmas), np.arange(len(sigmas)))
    return found


def _linspace(schedule: Schedule, count: int) -> Numbers:
    return np.linspace(0, schedule.steps - 1, count)[::-1].copy()


def _leading(schedule: Schedule, count: int) -> Numbers:
    return (np.arange(count) * (schedule.steps // count))[::-1] + float(schedule.offset)


def _trailing(schedule: Schedule, count: int) -> Numbers:
    places: Numbers = np.arange(schedule.steps, 0, -schedule.steps / count, dtype=np.float64).round() - 1.0
    return places


_SPACINGS: dict[str, Callable[[Schedule, int], Numbers]] = {
    "linspace": _linspace,
    "leading": _leading,
    "trailing": _trailing,
}


def _betas(config: Mapping[str, Any]) -> Numbers:
    """Added noise a step, (T,). Raises Unsupported."""
    count = int(config.get("num_train_timesteps", 1000))
    start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    kind = str(config.get("beta_schedule", "linear"))
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], np.float64)
    elif kind == "linear":
        betas = np.linspace(start, end, count)
    elif kind == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, count) ** 2
    elif kind == "squaredcos_cap_v2":  # Nichol and Dhariwal, 2021
        bar = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    else:
        raise Unsupported(f"The noise schedule {kind!r} is not known.", "Run this model on torch.")
    return _zero_snr(betas) if config.get("rescale_betas_zero_snr") else betas


def _zero_snr(betas: Numbers) -> Numbers:
    """The schedule shifted and scaled until nothing is left of the picture at its end (Lin et al., 2023)."""
    root = np.sqrt(np.cumprod(1 - betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    bar = root**2
    betas_: Numbers = 1 - np.concatenate([bar[:1], bar[1:] / np.maximum(bar[:-1], 1e-30)])
    return betas_
