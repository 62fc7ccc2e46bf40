"""The small training loop every recipe uses: a loss in, trained weights out, resumable at any step.

Every step draws its randomness from a generator seeded by (seed, step), so a run that was interrupted and resumed is
bit-equal to one that was not (given a budget in steps; a budget in minutes depends on the machine's speed).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio import files

Loss = Callable[[int, torch.Generator], tuple[Tensor, Mapping[str, Any]]]
"""(step, this step's randomness) -> the loss to descend and what else to report."""

Report = Callable[[int, int, Mapping[str, float]], None]
"""(step, total, metrics). With a budget in minutes the total is an estimate."""


NEWTON_SCHULZ_STEPS = 4


@dataclass(frozen=True)
class Plan:
    """How long and how fast. One of `steps` and `minutes` is given; the rate warms up, then falls as a cosine to 0."""

    steps: int | None = None
    minutes: float | None = None
    rate: float = 1e-3
    """Peak learning rate of AdamW."""
    muon_rate: float | None = None
    """Peak learning rate of Muon for the weights with two and more axes; None leaves them to AdamW."""
    weight_decay: float = 0.0
    warmup: int = 200
    """Steps until the peak."""
    clip: float = 1.0
    """Gradients are scaled down to this norm."""
    ema: float = 0.999
    """Decay of the averaged weights, which are the result."""
    keep_s: float = 120.0
    """Seconds between checkpoints."""
    report_every: int = 20

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("a plan has either steps or minutes")

    def progress(self, step: int, seconds: float) -> float:
        """The part of the budget that is used, 0..1."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))

    def scale(self, step: int, progress: float) -> float:
        """What the peak rates are multiplied with, 0..1."""
        return min(1.0, (step + 1) / max(1, self.warmup)) * 0.5 * (1 + math.cos(math.pi * progress))


def step_generator(seed: int, step: int) -> torch.Generator:
    """The randomness of one step, the same however the run came there."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed * 1_000_003 + step)


class Average:
    """Exponential moving average of a network's weights, faster in the first steps."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in net.state_dict().items()}

    def update(self, net: nn.Module, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        now = net.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.weights[n] for n in floats], [now[n].detach() for n in floats], weight)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.weights)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copies into the weights it holds, so that whoever shares them sees it. Raises KeyError for other names."""
        for name, value in self.weights.items():
            value.copy_(state[name])

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        """Within the block `net` holds the averaged weights."""
        own = {name: value.detach().clone() for name, value in net.state_dict().items()}
        net.load_state_dict(self.weights)
        try:
            yield
        finally:
            net.load_state_dict(own)


class Muon(torch.optim.Optimizer):
    """AdamW, but weights with two and more axes (not embeddings) step along their orthogonalised momentum.

    Matrices of one shape are orthogonalised together. The step is scaled by sqrt(max(1, rows / columns)).
    """

    def __init__(self, net: nn.Module, *, rate: float, muon_rate: float | None, weight_decay: float) -> None:
        embeddings = {id(p) for m in net.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for p in net.parameters():
            if p.requires_grad:
                is_matrix = muon_rate is not None and p.ndim >= 2 and id(p) not in embeddings and min(p.shape[:2]) >= 16
                (matrices if is_matrix else others).append(p)
        groups: list[dict[str, Any]] = [{"params": others, "peak": rate, "muon": False}]
        if muon_rate is not None and matrices:
            groups.append({"params": matrices, "peak": muon_rate, "muon": True})
        super().__init__(groups, {"lr": 0.0, "decay": weight_decay})
        self.map: Callable[..., Iterator[Any]] = map  # `fit` puts its lanes here

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                (self._orthogonal if group["muon"] else self._adam)(params, group)

    def _adam(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p] = {"first": torch.zeros_like(p), "second": torch.zeros_like(p), "step": 0}
            self.state[p]["step"] += 1
        grads, states = [p.grad for p in params], [self.state[p] for p in params]
        step = states[0]["step"]
        first, second = [s["first"] for s in states], [s["second"] for s in states]
        torch._foreach_lerp_(first, grads, 0.1)
        torch._foreach_mul_(second, 0.99)
        torch._foreach_addcmul_(second, grads, grads, 0.01)
        scale = torch._foreach_sqrt(second)
        torch._foreach_div_(scale, math.sqrt(1 - 0.99**step))
        torch._foreach_add_(scale, 1e-8)
        if group["decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["decay"])
        torch._foreach_addcdiv_(params, first, scale, -group["lr"] / (1 - 0.9**step))

    def _orthogonal(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p] = {"momentum": torch.zeros_like(p)}
        grads, momenta = [p.grad for p in params], [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(momenta, grads, 0.05)
        looked_ahead = torch._foreach_lerp(grads, momenta, 0.95)
        shapes: dict[tuple[int, int], list[int]] = {}
        for i, p in enumerate(params):
            shapes.setdefault((p.shape[0], p[0].numel()), []).append(i)

        @torch.no_grad()
        def turn(shape: tuple[int, int]) -> None:
            rows, columns = shape
            stack = torch.stack([looked_ahead[i].reshape(shape) for i in shapes[shape]])  # (K, rows, columns)
            steps = orthogonalise(stack) * math.sqrt(max(1.0, rows / columns))
            for i, update in zip(shapes[shape], steps, strict=True):
                if group["decay"]:
                    params[i].mul_(1 - group["lr"] * group["decay"])
                params[i].add_(update.reshape(params[i].shape), alpha=-group["lr"])

        largest_first = sorted(shapes, key=lambda shape: -len(shapes[shape]) * min(shape) ** 2 * max(shape))
        list(self.map(turn, largest_first))


def orthogonalise(stack: Tensor) -> Tensor:
    """The nearest matrices with all singular values about 1, by Newton-Schulz steps: (K, rows, columns).

    All steps are polynomials of one Gram matrix, so they are taken on that, and the long matrix is touched twice.
    """
    x = stack / (stack.norm(dim=(1, 2), keepdim=True) + 1e-7)
    turned = x.shape[1] > x.shape[2]
    x = x.mT if turned else x
    gram, product = x @ x.mT, None
    for step in range(NEWTON_SCHULZ_STEPS):
        factor = -4.7750 * gram + 2.0315 * gram @ gram
        factor.diagonal(dim1=1, dim2=2).add_(3.4445)
        product = factor if product is None else factor @ product
        if step + 1 < NEWTON_SCHULZ_STEPS:
            gram = factor @ gram @ factor
    assert product is not None
    x = product @ x
    return x.mT if turned else x


def fit(
    net: nn.Module,
    loss: Loss,
    plan: Plan,
    *,
    checkpoint: Path,
    seed: int = 0,
    resume: bool = True,
    report: Report | None = None,
    lanes: int = 1,
) -> dict[str, float]:
    """Trains `net` in place and leaves the averaged weights in it.

    With several `lanes` each step takes that many batches side by side, each in a thread with one core, and averages
    their gradients: faster than one batch on many cores where others use the machine too.

    `checkpoint` is written every `plan.keep_s` seconds and at the end, atomically; with `resume` it is taken up where
    it exists. Returns the last metrics with "steps" and "minutes". An exception of `report` ends the run cleanly: the
    checkpoint holds the last finished step.
    """
    optimizer = Muon(net, rate=plan.rate, muon_rate=plan.muon_rate, weight_decay=plan.weight_decay)
    average = Average(net, plan.ema)
    step, before = _load(checkpoint, net, optimizer, average) if resume and checkpoint.is_file() else (0, 0.0)
    started = saved = time.monotonic()
    means: dict[str, float] = {}
    net.train()
    with ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        if lanes > 1:
            optimizer.map = pool.map
        try:
            while (progress := plan.progress(step, before + time.monotonic() - started)) < 1:
                found = _gradients(net, loss, step, seed, lanes, optimizer.map)
                norm = nn.utils.clip_grad_norm_(net.parameters(), plan.clip)
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * plan.scale(step, progress)
                if bool(norm.isfinite()):
                    optimizer.step()
                average.update(net, step)
                step += 1
                for name, number in found.items():
                    means[name] = 0.98 * means.get(name, number) + 0.02 * number
                if report is not None and step % plan.report_every == 0:
                    report(step, plan.steps if plan.steps is not None else int(step / max(progress, 1e-6)), dict(means))
                if time.monotonic() - saved > plan.keep_s:
                    _save(checkpoint, net, optimizer, average, step, before + time.monotonic() - started)
                    saved = time.monotonic()
        finally:
            seconds = before + time.monotonic() - started
            _save(checkpoint, net, optimizer, average, step, seconds)
    net.load_state_dict(average.weights)
    net.eval()
    return {**means, "steps": float(step), "minutes": seconds / 60}


def _gradients(
    net: nn.Module, loss: Loss, step: int, seed: int, lanes: int, run: Callable[..., Iterator[Any]]
) -> dict[str, float]:
    """Leaves the gradients averaged over the lanes in `net`; returns the averaged loss and metrics."""
    params = [p for p in net.parameters() if p.requires_grad]

    def lane(index: int) -> tuple[dict[str, float], tuple[Tensor | None, ...]]:
        generator = step_generator(seed * lanes + index, step)
        value, metrics = loss(step, generator)
        grads = torch.autograd.grad(value, params, allow_unused=True)
        named = {"loss": value, **metrics}
        return {name: float(torch.as_tensor(number).detach()) for name, number in named.items()}, grads

    found = list(run(lane, range(lanes)))
    for p, *grads in zip(params, *(grads for _, grads in found), strict=True):
        p.grad = None if grads[0] is None else sum(grads[1:], start=grads[0]) / lanes
    return {name: sum(metrics[name] for metrics, _ in found) / lanes for name in found[0][0]}


def _save(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, average: Average, step: int, seconds: float
) -> None:
    state = {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.weights,
        "step": step,
        "seconds": seconds,
    }
    with files.whole(path) as part:
        torch.save(state, part)


def _load(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> tuple[int, float]:
    state = torch.load(path, weights_only=True)
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    average.weights = state["average"]
    return int(state["step"]), float(state["seconds"])
