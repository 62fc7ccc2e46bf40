"""Samplers in numpy: from noise to picture, one call of the network at a time. Each equals its namesake in diffusers.

    solver = make("Euler", schedule, steps=20)
    x = noise * solver.scale
    for i in range(solver.first, len(solver.times)):
        output = network(solver.enter(x, i), solver.times[i])
        x = solver.leave(output, i, x, draw)

Latents are float32 (1, C, h, w). `draw(shape)` gives fresh normal noise to the samplers that add some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from studio.errors import Unsupported
from studio.ops import schedules
from studio.ops.schedules import Numbers, Schedule

Latents = NDArray[np.floating[Any]]  # float32 where the network sees them
Draw = Callable[[tuple[int, ...]], Latents]


class Solver(Protocol):
    """`times` are the training steps of the evaluations, latest first; `scale` the deviation of the first noise."""

    times: Numbers
    scale: float

    def enter(self, x: Latents, i: int) -> Latents:
        """What the network sees at evaluation i: unit variance."""

    def leave(self, output: Latents, i: int, x: Latents, draw: Draw) -> Latents:
        """The latents after evaluation i, from the network's answer to them."""

    def noised(self, start: Latents, noise: Latents, i: int) -> Latents:
        """Finished latents brought to the noise level before evaluation i."""


class Ddim:
    """Song et al., 2021: deterministic steps along the signal schedule."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        self.times = schedules.times(schedule, steps).round()
        self.scale = 1.0
        self._schedule = schedule
        self._stride = schedule.steps // steps

    def enter(self, x: Latents, i: int) -> Latents:
        return x

    def leave(self, output: Latents, i: int, x: Latents, draw: Draw) -> Latents:
        now, later = self._signal(int(self.times[i])), self._signal(int(self.times[i]) - self._stride)
        picture, noise = split(self._schedule.prediction, output, x, now**0.5, (1 - now) ** 0.5)
        if self._schedule.clip is not None:
            picture = picture.clip(-self._schedule.clip, self._schedule.clip)
        return later**0.5 * picture + (1 - later) ** 0.5 * noise

    def noised(self, start: Latents, noise: Latents, i: int) -> Latents:
        signal = self._signal(int(self.times[i]))
        return signal**0.5 * start + (1 - signal) ** 0.5 * noise

    def _signal(self, time: int) -> float:
        return float(self._schedule.signal[time]) if time >= 0 else self._schedule.final_signal


class Plms(Ddim):
    """Liu et al., 2022 (PNDM without its Runge-Kutta start): a linear multistep over the last four answers."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        super().__init__(schedule, steps)
        times = self.times[::-1]
        self.times = np.concatenate([times[:-1], times[-2:-1], times[-1:]])[::-1].copy()  # the second is asked twice
        self._answers: list[Latents] = []
        self._kept: Latents | None = None
        self._asked = 0
        if schedule.prediction == "sample":
            raise Unsupported("PNDM does not work with models that predict the picture.", "Choose DDIM.")

    def leave(self, output: Latents, i: int, x: Latents, draw: Draw) -> Latents:
        time, later = int(self.times[i]), int(self.times[i]) - self._stride
        if self._asked != 1:
            self._answers = [*self._answers[-3:], output]
        else:
            time, later = time + self._stride, time
        known = self._answers
        if self._asked == 0:
            mean, self._kept = output, x
        elif self._asked == 1 and self._kept is not None:
            mean, x, self._kept = (output + known[-1]) / 2, self._kept, None
        else:
            mean = np.add.reduce([w * a for w, a in zip(_ADAMS[len(known)], known[::-1], strict=True)])
        self._asked += 1
        return self._move(mean, x, self._signal(time), self._signal(later))

    def _move(self, output: Latents, x: Latents, now: float, later: float) -> Latents:
        """Equation 9 of the paper."""
        if self._schedule.prediction == "v_prediction":
            output = now**0.5 * output + (1 - now) ** 0.5 * x
        bottom = now * (1 - later) ** 0.5 + (now * (1 - now) * later) ** 0.5
        return (later / now) ** 0.5 * x - (later - now) / bottom * output


_ADAMS: Mapping[int, tuple[float, ...]] = {  # Adams-Bashforth, newest answer first
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


class Euler:
    """Karras et al., 2022, algorithm 2 without churn: straight steps in sigma, noise over signal.

    Args:
        ancestral: go further down and add fresh noise back (k-diffusion's "Euler a").
    """

    def __init__(self, schedule: Schedule, steps: int, ancestral: bool = False) -> None:
        self._ancestral = ancestral
        self._prediction = schedule.prediction
        if ancestral and schedule.prediction == "sample":
            raise Unsupported("Euler a does not work with models that predict the picture.", "Choose Euler.")
        self.times: Numbers = schedules.times(schedule, steps)
        known = schedule.sigmas
        sigmas: Numbers = np.interp(self.times, np.arange(len(known)), known)
        if not ancestral and schedule.config.get("use_karras_sigmas"):
            sigmas = schedules.karras(sigmas[-1], sigmas[0], steps)
            self.times = schedules.time_of(sigmas, known)
        self.sigmas = np.append(sigmas, 0.0)
        top = float(self.sigmas.max())
        self.scale = top if schedule.spacing in ("linspace", "trailing") else (top**2 + 1) ** 0.5

    def enter(self, x: Latents, i: int) -> Latents:
        return x / float(self.sigmas[i] ** 2 + 1) ** 0.5

    def leave(self, output: Latents, i: int, x: Latents, draw: Draw) -> Latents:
        now, later = float(self.sigmas[i]), float(self.sigmas[i + 1])
        power = now**2 + 1
        pictures: dict[str, Callable[[], Latents]] = {
            "epsilon": lambda: x - now * output,
            "v_prediction": lambda: x / power - now / power**0.5 * output,
            "sample": lambda: output,
        }
        slope = (x - pictures[self._prediction]()) / now
        if not self._ancestral:
            return x + (later - now) * slope
        up = min(later, (later**2 * (now**2 - later**2) / now**2) ** 0.5)
        down = (later**2 - up**2) ** 0.5
        return x + (down - now) * slope + up * draw(x.shape)

    def noised(self, start: Latents, noise: Latents, i: int) -> Latents:
        return start + float(self.sigmas[i]) * noise


class DpmPlusPlus:
    """DPM-Solver++ (Lu et al., 2022) of second order, multistep, midpoint."""

    def __init__(self, schedule: Schedule, steps: int, is_karras: bool = False) -> None:
        if schedule.config.get("algorithm_type", "dpmsolver++") != "dpmsolver++":
            raise Unsupported("This variant of DPM-Solver is not known.", "Run this model on torch.")
        self._prediction = schedule.prediction
        self.scale = 1.0
        known = schedule.sigmas
        if is_karras:
            sigmas = schedules.karras(known[0], known[-1], steps)
            self.times = schedules.time_of(sigmas, known).round()
        else:
            self.times = self._places(schedule, steps)
            sigmas = np.interp(self.times, np.arange(len(known)), known)
        self.sigmas = np.append(sigmas, 0.0)
        self._before: Latents | None = None

    @staticmethod
    def _places(schedule: Schedule, steps: int) -> Numbers:
        if schedule.spacing == "trailing":
            return schedules.times(schedule, steps)
        if schedule.spacing == "leading":
            stride = schedule.steps // (steps + 1)
            return (np.arange(steps + 1) * stride)[::-1][:-1] + float(schedule.offset)
        return np.linspace(0, schedule.steps - 1, steps + 1).round()[::-1][:-1].copy()

    def enter(self, x: Latents, i: int) -> Latents:
        return x

    def leave(self, output: Latents, i: int, x: Latents, draw: Draw) -> Latents:
        alpha, sigma = self._pair(i)
        alpha_to, sigma_to = self._pair(i + 1)
        picture, _ = split(self._prediction, output, x, alpha, sigma)
        before, self._before = self._before, picture
        if sigma_to == 0:  # the noise ends at zero, where only the first order is defined
            return picture
        h = np.log(alpha_to / sigma_to) - np.log(alpha / sigma)
        weight = float(alpha_to * np.expm1(-h))
        moved = sigma_to / sigma * x - weight * picture
        if before is None:
            return moved
        alpha_from, sigma_from = self._pair(i - 1)
        ratio = float((np.log(alpha / sigma) - np.log(alpha_from / sigma_from)) / h)
        return moved - 0.5 * weight / ratio * (picture - before)

    def noised(self, start: Latents, noise: Latents, i: int) -> Latents:
        alpha, sigma = self._pair(i)
        return alpha * start + sigma * noise

    def _pair(self, i: int) -> tuple[float, float]:
        """Signal and noise before evaluation i, of unit power together."""
        alpha = 1 / float(self.sigmas[i] ** 2 + 1) ** 0.5
        return alpha, float(self.sigmas[i]) * alpha


class Lcm:
    """Latent consistency (Luo et al., 2023): jump to the picture, add noise back, jump again."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        original = int(schedule.config.get("original_inference_steps", 50))
        if steps > original:
            raise Unsupported(f"LCM takes at most {original} steps.", "Ask for fewer; four are usual.")
        places = (np.arange(1, original + 1) * (schedule.steps // original) - 1)[::-1]
        chosen = np.floor(np.linspace(0, original, steps, endpoint=False)).astype(np.int64)
        self.times: Numbers = places[chosen].astype(np.float64)
        self.scale = 1.0
        self._schedule = schedule
        self._stretch = float(schedule.config.get("timestep_scaling", 10.0))

    def enter(self, x: Latents, i: int) -> Latents:
        return x

    def leave(self, output: Latents, i: int, x: Latents, draw: Draw) -> Latents:
        signal = float(self._schedule.signal[int(self.times[i])])
        picture, _ = split(self._schedule.prediction, output, x, signal**0.5, (1 - signal) ** 0.5)
        if self._schedule.clip is not None:
            picture = picture.clip(-self._schedule.clip, self._schedule.clip)
        time = float(self.times[i]) * self._stretch
        clean = time / (time**2 + 0.25) ** 0.5 * picture + 0.25 / (time**2 + 0.25) * x
        return clean if i == len(self.times) - 1 else self.noised(clean, draw(x.shape), i + 1)

    def noised(self, start: Latents, noise: Latents, i: int) -> Latents:
        signal = float(self._schedule.signal[int(self.times[i])])
        return signal**0.5 * start + (1 - signal) ** 0.5 * noise


def split(prediction: str, output: Latents, x: Latents, alpha: float, sigma: float) -> tuple[Latents, Latents]:
    """The picture and the noise that the network sees in x = alpha * picture + sigma * noise."""
    if prediction == "epsilon":
        return (x - sigma * output) / alpha, output
    if prediction == "v_prediction":  # Salimans and Ho, 2022
        return alpha * x - sigma * output, alpha * output + sigma * x
    return output, (x - alpha * output) / sigma


def _dpm(schedule: Schedule, steps: int) -> Solver:
    return DpmPlusPlus(schedule, steps, bool(schedule.config.get("use_karras_sigmas", False)))


# The studio's names (tasks.SCHEDULERS), and those of the diffusers classes a checkpoint may name as its own.
SOLVERS: dict[str, Callable[[Schedule, int], Solver]] = {
    "DDIM": Ddim,
    "PNDM": Plms,
    "Euler": Euler,
    "Euler a": lambda schedule, steps: Euler(schedule, steps, ancestral=True),
    "DPM++ 2M": lambda schedule, steps: DpmPlusPlus(schedule, steps),
    "DPM++ 2M Karras": lambda schedule, steps: DpmPlusPlus(schedule, steps, is_karras=True),
    "LCM": Lcm,
}
OWN: dict[str, Callable[[Schedule, int], Solver]] = {
    "DDIMScheduler": Ddim,
    "PNDMScheduler": Plms,
    "EulerDiscreteScheduler": Euler,
    "EulerAncestralDiscreteScheduler": SOLVERS["Euler a"],
    "DPMSolverMultistepScheduler": _dpm,
    "LCMScheduler": Lcm,
}


def knows(name: str, config: Mapping[str, Any]) -> bool:
    """Whether `make` can: `name` is one of tasks.SCHEDULERS, `config` the checkpoint's scheduler_config.json."""
    return str(config.get("_class_name")) in OWN and (name == "default" or name in SOLVERS)


def make(name: str, config: Mapping[str, Any], steps: int, prediction: str | None = None) -> Solver:
    """The solver of that name on the checkpoint's own schedule. Raises Unsupported."""
    if not knows(name, config):
        raise Unsupported(
            f"The sampler {name} is not on the fast path.", f"Choose one of: default, {', '.join(SOLVERS)}."
        )
    own = {**config, "use_karras_sigmas": False} if name == "Euler" else config
    schedule = schedules.read(own, prediction)
    if name == "PNDM" and not config.get("skip_prk_steps", True) and config.get("_class_name") == "PNDMScheduler":
        raise Unsupported("PNDM with its Runge-Kutta start is not on the fast path.", "Choose DDIM.")
    return (OWN[str(config["_class_name"])] if name == "default" else SOLVERS[name])(schedule, steps)
