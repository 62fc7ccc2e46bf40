"""What each variant of a model costs on this machine: a fresh process each, runs in turn, medians and their spread.

Light: only children load networks. The first name is measured as all others; which one the others are compared with is
`verdict.reference`'s choice.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from studio.cards import Card
from studio.compress import quality, samples, verdict
from studio.config import ROOT
from studio.errors import StudioError, Unsupported
from studio.intake.child import said
from studio.ops.metrics import Found

BUSY = 0.35  # share of all cores that others may use; above it a difference of two variants is no longer theirs
RUNS = 7
OnStep = Callable[[int, int, str], None]  # step, total, phase; may raise to cancel


@dataclass(frozen=True)
class Subject:
    """One variant to measure: the card whose options say what to run, its engine, and the bytes of its files."""

    name: str
    card: Card
    engine: str
    folder: Path
    bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """A bench object, and the pictures the variant made."""

    row: dict[str, Any]
    pictures: tuple[NDArray[np.uint8], ...] = ()


def load_of(seconds: float = 1.0) -> tuple[float, list[str]]:
    """The share of all cores that is in use, 0..1, and the names of the busiest programs, watched for `seconds`."""
    processes = []
    for process in psutil.process_iter():
        try:
            process.cpu_percent(None)
            processes.append(process)
        except psutil.Error:
            continue
    share = psutil.cpu_percent(seconds) / 100
    used: dict[str, float] = {}
    for process in processes:
        try:
            used[process.name()] = used.get(process.name(), 0.0) + process.cpu_percent(None)
        except psutil.Error:
            continue
    busiest = sorted(used, key=lambda name: -used[name])[:3]
    return share, [f"{name} {used[name]:.0f} %" for name in busiest if used[name] > 5]


def refuse_busy() -> None:
    """Raises Unsupported where the machine is too busy to tell variants apart, and names what keeps it busy."""
    share, names = load_of()
    if share > BUSY:
        raise Unsupported(
            f"The machine is too busy to measure: {share:.0%} of its cores are in use ({', '.join(names)}).",
            "Wait or close that, or measure anyway (--anyway) and trust the ratios only.",
        )


def measure(
    subjects: Sequence[Subject],
    cores: int,
    *,
    runs: int = RUNS,
    compared: int = samples.COMPARED,
    own: Sequence[Path] = (),
    on_step: OnStep | None = None,
) -> Iterator[Measured]:
    """Measures variants of one model; each comes as soon as all its numbers are known.

    Args:
        cores: threads each may use.
        runs: timed runs of each, in turn with those of the others.
        compared: samples its quality is judged on.
        own: the user's pictures instead of scenes.
        on_step: told how far it is; may raise, which ends the children.
    """
    total = len(subjects) * (runs + 2)
    step = on_step if on_step is not None else _silent
    done = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        children: dict[str, _Child] = {}
        failed: dict[str, StudioError] = {}
        for subject in subjects:
            step(done, total, f"loading {subject.name}")
            try:
                children[subject.name] = stack.enter_context(
                    _Child(subject, folder / subject.name, cores, compared, own)
                )
            except StudioError as error:
                failed[subject.name] = error
            done += 1
        for number in range(runs):
            for name, child in children.items():
                step(done, total, f"run {number + 1} of {runs}, {name}")
                child.run()
                done += 1
        for name, child in children.items():
            step(done, total, f"comparing {name}")
            child.end()
            done += 1
        answers = {name: _answers(folder / name) for name in children}
        yield from _rows(subjects, children, failed, answers, own, compared)


def _rows(
    subjects: Sequence[Subject],
    children: Mapping[str, _Child],
    failed: Mapping[str, StudioError],
    answers: Mapping[str, list[dict[str, NDArray[Any]]]],
    own: Sequence[Path],
    compared: int,
) -> Iterator[Measured]:
    rows: dict[str, dict[str, Any]] = {}
    for subject in subjects:
        runtime, _, precision = subject.name.partition("-")
        facts = {"card": subject.card.id, "runtime": runtime, "precision": precision, "bytes": subject.bytes}
        if subject.name in failed:
            error = failed[subject.name]
            rows[subject.name] = {**facts, "error": f"{error.message} {error.hint}".strip(), "notes": []}
        else:
            rows[subject.name] = {**facts, **children[subject.name].numbers(), "notes": list(subject.notes)}
    base = verdict.reference([verdict.row(row) for row in rows.values()])
    for subject in subjects:
        row, made = rows[subject.name], answers.get(subject.name, [])
        if made and base is not None:
            try:
                row["quality"] = _quality(subject, answers[base.key], made, own, compared)
            except StudioError as error:
                row["notes"].append(error.message)
        pictures = tuple(answer["image0"] for answer in made if "image0" in answer)
        yield Measured(row, pictures)


class _Child:
    """A variant in a process of its own, loaded and run once when this is entered."""

    def __init__(self, subject: Subject, out: Path, cores: int, compared: int, own: Sequence[Path]) -> None:
        self._subject = subject
        out.mkdir(parents=True)
        spec = {
            "card": subject.card.model_dump(mode="json"),
            "folder": str(subject.folder),
            "engine": subject.engine,
            "samples": compared,
            "own": [str(file.resolve()) for file in own],
            "out": str(out),
            "cores": cores,
        }
        file = out / "spec.json"
        file.write_text(json.dumps(spec), encoding="utf-8")
        self._errors = (out / "errors").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "studio.compress.measuring", str(file)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        )
        self._times: list[float] = []
        self._numbers: dict[str, float] = {}

    def __enter__(self) -> _Child:
        try:
            self._numbers |= self._read()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def run(self) -> None:
        """One timed run."""
        self._write("run")
        self._times.append(self._read()["ms"])

    def end(self) -> None:
        """The runs that its quality is judged on; then it ends."""
        self._write("end")
        self._numbers |= self._read()
        self._process.wait()

    def numbers(self) -> dict[str, float]:
        """What was measured: MB, seconds to load, milliseconds a run (median, and between quartiles)."""
        times = sorted(self._times)
        low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
        median = statistics.median(times)
        found = {**self._numbers, "median_ms": median, "spread_ms": high - low, "per_second": 1000 / median}
        return {name: round(value, 3) for name, value in found.items()}

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise self._died()

    def _died(self) -> StudioError:
        self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace")
        died = Unsupported(f"The process that ran {self._subject.name} ended; most often memory ran out.", "")
        return said(text, died)


def _answers(folder: Path) -> list[dict[str, NDArray[Any]]]:
    found = []
    for file in sorted(folder.glob("[0-9]*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            found.append({name: arrays[name] for name in arrays.files})
    return found


def _quality(
    subject: Subject,
    base: list[dict[str, NDArray[Any]]],
    made: list[dict[str, NDArray[Any]]],
    own: Sequence[Path],
    compared: int,
) -> dict[str, float]:
    """How far the variant's answers are from those of fp32, and from the truth where the samples know it."""
    found: dict[str, float] = {}
    if "boxes" in made[0]:
        chosen = samples.for_card(subject.card, subject.folder, compared, own, first=1000)
        truths = [sample.truth for sample in chosen if sample.truth is not None]
        first, second = ([_found(answer) for answer in answers] for answers in (base, made))
        found = quality.boxes(first, second, truths if len(truths) == len(made) else ())
    elif any("mask" in answer for answer in made):
        pairs = [(a, b) for a, b in zip(base, made, strict=True) if "mask" in a and "mask" in b]
        found = quality.masks([a["mask"] for a, _ in pairs], [b["mask"] for _, b in pairs])
    elif "image0" in made[0]:
        found = quality.pictures([a["image0"] for a in base], [b["image0"] for b in made])
    return {name: round(float(value), 5) for name, value in found.items()}


def _found(answer: Mapping[str, NDArray[Any]]) -> Found:
    return Found(answer["boxes"], answer["labels"].tolist(), answer["scores"])


def _silent(step: int, total: int, phase: str) -> None:
    """Nobody watches."""
