"""A small U-Net with what it takes to use it: its process, its labels and, where there is one, its classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.nets.small_unet import NoisyClassifier, SmallUNet
from studio.ops import noise
from studio.ops.reverse import Guess, Pictures, Predict

Process = Literal["ddpm", "improved-ddpm", "flow"]
CHANNELS: Mapping[str, int] = {"ddpm": 3, "improved-ddpm": 6, "flow": 3}
LEAST_SIGNAL = 1e-3
"""A flow begins without any signal, which the size of classifier guidance is divided by."""
SPREAD = 0.6
"""Standard deviation of pictures in -1..1, about; only how fast it learns depends on it."""


@dataclass(frozen=True)
class Config:
    """What config.json says.

    Attributes:
        process: what the network predicts: the noise (ddpm), noise and variance (improved-ddpm) or velocity (flow).
        size: side of its pictures in px.
        names: its labels.
        width: channels of the network at 16x16.
        schedule: name in `noise.SCHEDULES`; of no meaning for a flow.
        levels: noise levels; of no meaning for a flow.
        classifier: whether a noisy classifier comes with it.
    """

    process: Process
    size: int
    names: tuple[str, ...]
    width: int = 48
    schedule: str = "linear"
    levels: int = noise.STEPS
    classifier: bool = False

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Config:
        """Raises ValueError, TypeError or KeyError where `data` is not what `write` made."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        config = cls(**{**known, "names": tuple(str(name) for name in data["names"])})
        if config.process not in CHANNELS or config.schedule not in noise.SCHEDULES or not config.names:
            raise ValueError(f"unknown process {config.process!r} or schedule {config.schedule!r}, or no names")
        return config

    def write(self) -> dict[str, Any]:
        return {**asdict(self), "names": list(self.names)}

    def noise_schedule(self) -> noise.Schedule:
        return noise.SCHEDULES[self.schedule](self.levels)


class Denoiser(nn.Module):
    """Networks and process. Label len(config.names) means "no label given"."""

    kept: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        classes = len(config.names)
        self.unet = SmallUNet(config.size, config.width, classes, CHANNELS[config.process])
        self.classifier = NoisyClassifier(config.size, classes=classes) if config.classifier else None
        self.register_buffer("kept", torch.from_numpy(config.noise_schedule().kept).float(), persistent=False)
        self.to(memory_format=torch.channels_last)  # a good half faster on a CPU

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """The prediction (N, 3, S, S): noise or velocity; three more channels, -1..1 or so, where variance is learned.

        `time` is that of `time_of`. The U-Net sees its input at unit variance and only predicts what does not follow
        from the noisy picture by a multiplication (the preconditioning of Karras et al. 2022, Table 1, for the
        processes here).
        """
        signal, sigma = self._mix(time)
        total = signal**2 * SPREAD**2 + sigma**2
        wanted = sigma if self.config.process != "flow" else sigma - signal * SPREAD**2  # covariance with x
        rest = signal * SPREAD if self.config.process != "flow" else torch.full_like(signal, SPREAD)
        out = self.unet(x * total.rsqrt(), time, labels)
        predicted = wanted / total * x + rest * total.rsqrt() * out[:, :3]
        return predicted if out.shape[1] == 3 else torch.cat([predicted, out[:, 3:]], dim=1)

    def _mix(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """How much picture and how much noise there is at these times: (N, 1, 1, 1) each."""
        column = time[:, None, None, None]
        if self.config.process == "flow":
            return 1 - column, column
        level = (column * self.config.levels).round().long() - 1
        kept = self.kept[level.clamp(0, self.config.levels - 1)]
        return kept.sqrt(), (1 - kept).sqrt()

    def time_of(self, t: float) -> float:
        """What the networks are told of a level t of the schedule, or of a flow's time: 0..1, 1 is all noise."""
        return t if self.config.process == "flow" else (t + 1) / self.config.levels

    def predictor(
        self, labels: Sequence[int | None], *, guidance: float = 1.0, classifier_scale: float = 0.0
    ) -> Predict:
        """The function a sampler asks, for one batch with these labels (None: none given).

        Args:
            guidance: 0 ignores the labels, 1 follows them as learned, more exaggerates (`noise.guided`).
            classifier_scale: how far the noisy classifier's gradient is followed; 0 where there is no label.

        Raises ValueError where the classifier is asked for and there is none.
        """
        if classifier_scale and self.classifier is None:
            raise ValueError("this model has no noisy classifier")
        none = len(self.config.names)
        given = torch.tensor([none if label is None else label for label in labels])
        schedule = None if self.config.process == "flow" else self.config.noise_schedule()
        place = next(self.parameters()).device

        def predict(x: Pictures, t: float) -> Guess:
            noisy = torch.from_numpy(x).to(place)
            kept = 0.0 if schedule is None else schedule.at(int(t))
            signal, sigma = (1 - t, t) if schedule is None else (kept**0.5, (1 - kept) ** 0.5)
            with torch.no_grad():
                out = self._ask(noisy, self.time_of(t), given.to(place), guidance)
            clean = noisy - t * out if schedule is None else (noisy - sigma * out[:, :3]) / signal
            if classifier_scale:
                slope = self._slope(noisy, self.time_of(t), given.to(place))
                clean = clean + classifier_scale * sigma**2 / max(signal, LEAST_SIGNAL) * slope
            fraction = (out[:, 3:] + 1) / 2 if out.shape[1] > 3 else None  # (N, 3, S, S)
            return Guess(_array(clean.clamp(-1, 1)), None if fraction is None else _array(fraction))

        return predict

    def _ask(self, x: Tensor, time: float, labels: Tensor, guidance: float) -> Tensor:
        """The network's answer, guided; two questions only where the answer needs both."""
        times, none = torch.full((len(x),), time, device=x.device), torch.full_like(labels, len(self.config.names))
        if guidance == 1:
            return self(x, times, labels)
        if guidance == 0:
            return self(x, times, none)
        both = self(x.repeat(2, 1, 1, 1), times.repeat(2), torch.cat([labels, none]))
        conditional, unconditional = both.chunk(2)
        mixed = unconditional[:, :3] + guidance * (conditional[:, :3] - unconditional[:, :3])
        return torch.cat([mixed, conditional[:, 3:]], dim=1)

    def _slope(self, x: Tensor, time: float, labels: Tensor) -> Tensor:
        """Gradient of log p(label given x) with respect to x, 0 where there is no label."""
        assert self.classifier is not None
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            scores = F.log_softmax(self.classifier(x, torch.full((len(x),), time, device=x.device)), dim=1)
            known = labels < len(self.config.names)
            wanted = scores.gather(1, labels.clamp(max=len(self.config.names) - 1)[:, None])[:, 0]
            return torch.autograd.grad((wanted * known).sum(), x)[0]


def _array(x: Tensor) -> Pictures:
    return np.ascontiguousarray(x.float().cpu().numpy())
