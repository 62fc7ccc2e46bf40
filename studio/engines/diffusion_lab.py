"""Looks into a small diffusion model: how noise comes and goes, and what samplers and guidance make of it.

Answers `Explore` tasks. Pictures in are cut to a square; sprites out hold many pictures of one size in rows and
columns. Operations and their arguments:

    about       {}                                       what the model is
    schedule    {points}                                 curves of the noise schedules
    noised      {t, schedule, seed, side, picture, label}   a picture at level t, and what the model sees in it
    strip       {count, schedule, seed, side, picture}   the same picture at `count` levels from none to all noise
    sample      {method, steps, seed, label(s), guidance, classifier, eta, count, frames}   pictures and their film
    compare     {rows, seed, label, guidance, count}     several samplers from the same noise
    guidance    {scales, labels, by, seed, steps}        a grid of labels and guidance scales
    invert      {steps, label, picture}                  a picture to noise and back by DDIM (Euler for flows)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from studio.cards import Card
from studio.device import Device
from studio.engines.arguments import Arguments
from studio.engines.base import Report, Result
from studio.errors import IntegrityError, InvalidTask
from studio.nets.denoiser import Config, Denoiser
from studio.ops import films, fitting, noise, reverse
from studio.tasks import Explore, Task

Pixels = NDArray[np.uint8]

METHODS = ("ddim", "ddpm", "flow")
MOST_PICTURES = 16
MOST_FRAMES = 60
MOST_SEED = 2**32 - 1
SIDES = (16, 512)


class DiffusionLabEngine:
    """Explore tasks on one trained small diffusion model."""

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        """Loads config.json and model.safetensors. Raises IntegrityError where they are damaged or do not fit."""
        torch.set_num_threads(max(1, device.cores))
        self._title = card.title
        try:
            self.config = Config.read(json.loads((folder / "config.json").read_text(encoding="utf-8")))
            weights = load_file(str(folder / "model.safetensors"))
            self._pictures = weights.pop("pictures", torch.zeros(0, 1, 1, 3, dtype=torch.uint8)).numpy()
            self._picture_labels = weights.pop("picture_labels", torch.zeros(0, dtype=torch.long)).numpy()
            self.net = Denoiser(self.config)
            self.net.load_state_dict({name: value.float() for name, value in weights.items()})
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise IntegrityError(
                f"{card.title} cannot be loaded: {' '.join(str(error).split())[:200]}", "Train or import it again."
            ) from error
        self.net.eval().requires_grad_(False)
        self.schedule = self.config.noise_schedule()
        self._is_flow = self.config.process == "flow"

    def run(self, task: Task, report: Report) -> Result:
        """Raises InvalidTask for what is no operation or has wrong arguments, Cancelled through `report`."""
        if not isinstance(task, Explore) or task.op not in OPS:
            asked = task.op if isinstance(task, Explore) else task.kind
            raise InvalidTask(f"{self._title} cannot {asked!r}.", f"It can: {', '.join(OPS)}.")
        begin = time.perf_counter()
        found = OPS[task.op](self, task, Arguments(task.args), report)
        return Result(found.images, data={**found.data, "seconds": {task.op: round(time.perf_counter() - begin, 3)}})

    def close(self) -> None:
        """Lets go of the weights."""
        del self.net

    # ── what is asked ────────────────────────────────────────────────────────

    def picture(self, task: Explore, args: Arguments, report: Report, side: int) -> NDArray[np.float32]:
        """The user's picture, or one that came with the model: (3, side, side) in -1..1."""
        if task.image is not None:
            found = report.asset(task.image)
        elif len(self._pictures):
            found = self._pictures[args.whole("picture", 0, len(self._pictures) - 1, 0)]
        else:
            raise InvalidTask("There is no picture yet.", "Choose, drop or paste one.")
        fitted = fitting.cover(np.ascontiguousarray(found), side, side)
        return (fitted.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)

    def walk(
        self,
        method: str,
        predict: reverse.Predict,
        x: reverse.Pictures,
        steps: int,
        rng: np.random.Generator,
        eta: float,
    ) -> Iterator[reverse.Moment]:
        """The sampler's steps. Raises InvalidTask where method and model do not go together."""
        if (method == "flow") != self._is_flow:
            kind = "flow: it is sampled along its velocity" if self._is_flow else "denoiser without a velocity field"
            raise InvalidTask(f"{self._title} is a {kind}.", f"Choose {'flow' if self._is_flow else 'ddim or ddpm'}.")
        return {
            "flow": lambda: reverse.flow(predict, x, steps),
            "ddim": lambda: reverse.ddim(predict, x, self.schedule, steps, rng, eta),
            "ddpm": lambda: reverse.ddpm(predict, x, self.schedule, steps, rng),
        }[method]()

    def predictor(self, labels: list[int | None], guidance: float, classifier: float) -> reverse.Predict:
        if classifier and self.net.classifier is None:
            raise InvalidTask(f"{self._title} has no noisy classifier.", "Train one with it, or leave its scale at 0.")
        return self.net.predictor(labels, guidance=guidance, classifier_scale=classifier)

    @property
    def own_method(self) -> str:
        return "flow" if self._is_flow else "ddim"

    def mix(self, name: str, t: int) -> tuple[float, float]:
        """Shares of picture and noise (standard deviations) at level t of a schedule; "flow" is a schedule here."""
        if name == "flow":
            return 1 - (t + 1) / noise.STEPS, (t + 1) / noise.STEPS
        kept = noise.SCHEDULES[name]().at(t)
        return kept**0.5, (1 - kept) ** 0.5

    # ── operations ───────────────────────────────────────────────────────────

    def about(self, task: Explore, args: Arguments, report: Report) -> Result:
        """Images: the pictures that came with it, in one row."""
        data = {
            **self.config.write(),
            "own_schedule": "flow" if self._is_flow else self.config.schedule,
            "methods": ["flow"] if self._is_flow else ["ddim", "ddpm"],
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "pictures": len(self._pictures),
            "picture_labels": [self.config.names[k] for k in self._picture_labels],
        }
        return Result((np.concatenate(list(self._pictures), axis=1),) if len(self._pictures) else (), data=data)

    def curves(self, task: Explore, args: Arguments, report: Report) -> Result:
        """data.curves by schedule: "signal" and "noise" (standard deviations), "kept" (alpha-bar) and "beta"."""
        at = np.linspace(0, noise.STEPS - 1, args.whole("points", 2, noise.STEPS, 101)).round().astype(int)
        curves: dict[str, dict[str, list[float]]] = {}
        for name, make in noise.SCHEDULES.items():
            kept, betas = make().kept[at], make().betas[at]
            curves[name] = _rounded(signal=kept**0.5, noise=(1 - kept) ** 0.5, kept=kept, beta=betas)
        u = (at + 1) / noise.STEPS
        curves["flow"] = _rounded(signal=1 - u, noise=u)
        own = "flow" if self._is_flow else self.config.schedule
        return Result(data={"t": at.tolist(), "curves": curves, "own": own, "levels": noise.STEPS})

    def noised(self, task: Explore, args: Arguments, report: Report) -> Result:
        """Images: the picture at level t as large as asked; the same at the model's size; what the model sees in that.

        Noise is drawn at each size by itself: as much of it per pixel, so that it looks finer at the larger size.
        """
        own = "flow" if self._is_flow else self.config.schedule
        name = args.choice("schedule", (*noise.SCHEDULES, "flow"), own)
        t, seed = args.whole("t", 0, noise.STEPS - 1, 250), args.whole("seed", 0, MOST_SEED, 0)
        label, side = args.label(self.config.names), args.whole("side", *SIDES, 256)
        signal, sigma = self.mix(name, t)
        shown = []
        for size in (side, self.config.size):
            clean = self.picture(task, args, report, size)
            x, _ = reverse.start((1, *clean.shape), seed)
            shown.append(signal * clean[None] + sigma * x)
        images = [films.sprite(one[None]) for one in shown]
        if name == own:
            level = (t + 1) / noise.STEPS if self._is_flow else t
            guess = self.predictor([label], 1.0, 0.0)(shown[1].astype(np.float32), level)
            images.append(films.sprite(guess.clean[None]))
        snr = 20 * np.log10(signal / sigma) if signal > 0 else None
        facts = {"t": t, "schedule": name, "signal": round(signal, 5), "noise": round(sigma, 5)}
        return Result(tuple(images), data={**facts, "snr_db": None if snr is None else round(float(snr), 2)})

    def strip(self, task: Explore, args: Arguments, report: Report) -> Result:
        """One sprite: the picture at `count` levels, from the clean one to the last."""
        name = args.choice("schedule", (*noise.SCHEDULES, "flow"), "flow" if self._is_flow else self.config.schedule)
        clean = self.picture(task, args, report, args.whole("side", *SIDES, 96))
        levels = np.linspace(-1, noise.STEPS - 1, args.whole("count", 2, 24, 9)).round().astype(int)
        x, _ = reverse.start((1, *clean.shape), args.whole("seed", 0, MOST_SEED, 0))
        mixes = [(1.0, 0.0) if t < 0 else self.mix(name, int(t)) for t in levels]
        row = np.stack([signal * clean + sigma * x[0] for signal, sigma in mixes])
        return Result((films.sprite(row[None]),), data={"levels": levels.tolist(), "schedule": name})

    def sample(self, task: Explore, args: Arguments, report: Report) -> Result:
        """Images: the pictures in one row; with `frames` the film of x_t and that of the predicted x_0, one row each
        picture, one column each frame. data.path: each picture's way in a plane, from (0, 0) to (1, 0).
        """
        count = args.whole("count", 1, MOST_PICTURES, 4)
        one = args.label(self.config.names)
        labels = args.labels(self.config.names, [one] * count, MOST_PICTURES)
        method = args.choice("method", METHODS, self.own_method)
        steps, frames = args.whole("steps", 1, noise.STEPS, 25), args.whole("frames", 0, MOST_FRAMES, 0)
        guidance, classifier = args.number("guidance", 0, 20, 1.0), args.number("classifier", 0, 50, 0.0)
        eta = args.number("eta", 0, 1, 0.0)
        predict = self.predictor(labels, guidance, classifier)
        x, rng = self._start(len(labels), args)
        film = films.Film(x, frames, steps)
        for k, moment in enumerate(self.walk(method, predict, x, steps, rng, eta)):
            report.progress(k + 1, steps, "step")
            film.add(moment)
        data = {
            "method": method,
            "steps": steps,
            "labels": [None if label is None else self.config.names[label] for label in labels],
            **film.facts(),
        }
        return Result(film.sprites(), data=data)

    def compare(self, task: Explore, args: Arguments, report: Report) -> Result:
        """One sprite, a row for each [method, steps], from the same noise. "away" is the root mean square distance to
        the row of the same method with the most steps, in parts of the range of a pixel.
        """
        usual = [["flow", n] for n in (1, 5, 10, 50)] if self._is_flow else [["ddim", n] for n in (5, 10, 50)]
        rows = [_row(row) for row in args.several("rows", usual, 8)]
        count = args.whole("count", 1, MOST_PICTURES, 6)
        labels = args.labels(self.config.names, [args.label(self.config.names)] * count, MOST_PICTURES)
        predict = self.predictor(labels, args.number("guidance", 0, 20, 1.0), 0.0)
        total, done = sum(steps for _, steps in rows), 0
        made: list[reverse.Pictures] = []
        facts: list[dict[str, Any]] = []
        for method, steps in rows:
            x, rng = self._start(len(labels), args)
            begin = time.perf_counter()
            for moment in self.walk(method, predict, x, steps, rng, 0.0):
                done += 1
                report.progress(done, total, "step")
                last = moment.x
            made.append(np.clip(last, -1, 1))
            facts.append({"method": method, "steps": steps, "seconds": round(time.perf_counter() - begin, 3)})
        for fact, pictures in zip(facts, made, strict=True):
            same = [k for k, other in enumerate(facts) if other["method"] == fact["method"]]
            finest = max(same, key=lambda k: rows[k][1])
            fact["away"] = round(float(np.sqrt(np.square(pictures - made[finest]).mean())) / 2, 4)
        return Result((films.sprite(np.stack(made)),), data={"rows": facts, "count": len(labels)})

    def guidance(self, task: Explore, args: Arguments, report: Report) -> Result:
        """One sprite: rows are labels, columns scales, all from the same noise, by "free" or "classifier" guidance.

        data.sure: per scale, how likely the noisy classifier finds the wanted labels in the results, 0..1.
        """
        names = self.config.names
        labels = args.labels(names, list(range(min(5, len(names)))), MOST_PICTURES)
        by = args.choice("by", ("free", "classifier"), "free")
        scales = args.numbers("scales", 0, 50, (0, 1, 2, 4, 8), 8)
        steps = args.whole("steps", 1, 100, 15)
        noise_of, rng = self._start(1, args)
        x = np.repeat(noise_of, len(labels), axis=0)
        columns, sure, done = [], [], 0
        for scale in scales:
            free, classifier = (scale, 0.0) if by == "free" else (0.0, scale)
            last = x
            for moment in self.walk(self.own_method, self.predictor(labels, free, classifier), x, steps, rng, 0.0):
                done += 1
                report.progress(done, steps * len(scales), "step")
                last = moment.x
            columns.append(np.clip(last, -1, 1))
            sure.append(self._sure(last, labels))
        sheet = np.stack(columns, axis=1)  # (labels, scales, 3, S, S)
        data = {"labels": [None if one is None else names[one] for one in labels], "scales": scales, "by": by}
        return Result((films.sprite(sheet),), data={**data, "sure": sure if self.net.classifier is not None else None})

    def invert(self, task: Explore, args: Arguments, report: Report) -> Result:
        """Images: the picture at the model's size, its noise, and what that noise becomes again; data.psnr in dB."""
        steps, label = args.whole("steps", 2, 200, 50), args.label(self.config.names)
        clean = self.picture(task, args, report, self.config.size)[None]
        predict = self.predictor([label], 1.0, 0.0)
        up = (
            reverse.invert_flow(predict, clean, steps)
            if self._is_flow
            else reverse.invert(predict, clean, self.schedule, steps)
        )
        x = self._followed(up, report, 0, 2 * steps)
        down = self.walk(self.own_method, predict, x, steps, np.random.default_rng(0), 0.0)
        back = np.clip(self._followed(down, report, steps, 2 * steps), -1, 1)
        error = float(np.square((back - clean) / 2).mean())
        shown = tuple(films.sprite(one[None]) for one in (clean, x, back))
        data = {
            "psnr": round(-10 * np.log10(max(error, 1e-10)), 2),
            "steps": steps,
            "noise_std": round(float(x.std()), 3),
        }
        return Result(shown, data=data)

    # ── parts ────────────────────────────────────────────────────────────────

    def _start(self, count: int, args: Arguments) -> tuple[reverse.Pictures, np.random.Generator]:
        side = self.config.size
        return reverse.start((count, 3, side, side), args.whole("seed", 0, MOST_SEED, 0))

    def _followed(self, walk: Iterator[reverse.Moment], report: Report, done: int, total: int) -> reverse.Pictures:
        """The last pictures of a walk."""
        last = None
        for k, moment in enumerate(walk):
            report.progress(done + k + 1, total, "step")
            last = moment.x
        assert last is not None
        return last

    def _sure(self, x: reverse.Pictures, labels: list[int | None]) -> float | None:
        asked = [(k, label) for k, label in enumerate(labels) if label is not None]
        if self.net.classifier is None or not asked:
            return None
        rows = torch.from_numpy(np.ascontiguousarray(x[[k for k, _ in asked]])).clamp(-1, 1)
        with torch.no_grad():
            odds = self.net.classifier(rows, torch.full((len(rows),), 1 / noise.STEPS)).softmax(1)
        return round(float(odds[range(len(asked)), [label for _, label in asked]].mean()), 4)


OPS: Mapping[str, Callable[[DiffusionLabEngine, Explore, Arguments, Report], Result]] = {
    "about": DiffusionLabEngine.about,
    "schedule": DiffusionLabEngine.curves,
    "noised": DiffusionLabEngine.noised,
    "strip": DiffusionLabEngine.strip,
    "sample": DiffusionLabEngine.sample,
    "compare": DiffusionLabEngine.compare,
    "guidance": DiffusionLabEngine.guidance,
    "invert": DiffusionLabEngine.invert,
}


def _row(value: Any) -> tuple[str, int]:
    """["ddim", 10] -> ("ddim", 10)."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InvalidTask('Each row is a method and its steps, as ["ddim", 10].', "Correct the value and try again.")
    args = Arguments({"method": value[0], "steps": value[1]})
    return args.choice("method", METHODS, "ddim"), args.whole("steps", 1, noise.STEPS, 10)


def _rounded(**columns: NDArray[np.float64]) -> dict[str, list[float]]:
    return {name: [round(float(value), 6) for value in column] for name, column in columns.items()}
