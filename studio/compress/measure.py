"""What each variant of a model costs on this machine: a fresh process each, runs in turn, medians and their spread.

Light: only children load networks. The first variant that loads is what the answers of the others are compared with,
so full precision comes first.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from studio.compress import quality, samples, verdict
from studio.compress.subjects import Answer, Running, Subject
from studio.errors import StudioError, Unsupported
from studio.ops.metrics import Found, Truth, mean_average_precision

RUNS = 7
OTHERS = 32  # things that a painted one must not look like more; all of them would take hundreds of megabytes
SURE = 0.25  # score of boxes that count where they are compared with those of fp32: what Detect shows by itself
OnStep = Callable[[int, int, str], None]  # step, total, phase; may raise to cancel


@dataclass(frozen=True)
class Measured:
    """A bench object as far as it is known, and what belongs to it.

    Attributes:
        pictures: what the variant made of the samples; None where that is not new.
    """

    row: dict[str, Any]
    pictures: tuple[NDArray[np.uint8], ...] | None = None


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
    if share > verdict.BUSY:
        raise Unsupported(
            f"The machine is too busy to measure: {share:.0%} of its cores are in use ({', '.join(names)}).",
            "Close other programs, or measure anyway: times will be rough.",
        )


def measure(
    subjects: Sequence[Subject],
    cores: int,
    *,
    runs: int = RUNS,
    compared: int | None = None,
    own: Sequence[Path] = (),
    load: float = 0.0,
    on_step: OnStep | None = None,
) -> Iterator[Measured]:
    """Measures variants of one model. Each comes as soon as it is loaded, again with its quality, and after every run.

    Args:
        cores: threads each may use.
        runs: timed runs of each, in turn with those of the others.
        compared: samples its quality is judged on; None for as many as tell variants of its kind apart.
        own: the user's pictures instead of scenes.
        load: share of all cores that others use meanwhile, 0..1; kept with every row.
        on_step: told how far it is; may raise, which ends the children.
    """
    total = len(subjects) * (runs + 2)
    step = on_step if on_step is not None else _silent
    count = compared if compared is not None else max((samples.compared(one.card) for one in subjects), default=0)
    done = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        about = {"of": runs, "load": round(load, 2)}
        rows = {subject.name: {**subject.head, "notes": list(subject.notes), **about} for subject in subjects}
        at_work: dict[str, Running] = {}
        base: list[Answer] = []
        asked: Path | None = None
        things = functools.cache(_things)
        for subject in subjects:
            row = rows[subject.name]
            step(done, total, f"loading {subject.name}")
            try:
                running = Running(subject, folder / subject.name, cores, count, own, asked)
                stack.callback(running.close)
                row |= running.numbers
                yield Measured(dict(row))
                step(done + 1, total, f"comparing {subject.name}")
                answers = running.compare()
                base, asked = base or answers, asked or folder / subject.name
                row |= running.numbers | {"quality": _quality(base, answers) | _right(answers, things)}
                at_work[subject.name] = running
                yield Measured(dict(row), tuple(answer["shown"] for answer in answers if "shown" in answer))
            except StudioError as error:
                yield _failed(subject, error)
            done += 2
        for number in range(runs):
            for name, running in list(at_work.items()):
                step(done, total, f"run {number + 1} of {runs}, {name}")
                done += 1
                try:
                    running.run()
                except StudioError as error:
                    del at_work[name]
                    yield _failed(running.subject, error)
                    continue
                yield Measured({**rows[name], **running.numbers})


def _failed(subject: Subject, error: StudioError) -> Measured:
    return Measured({**subject.head, "error": f"{error.message} {error.hint}".strip(), "notes": []})


def _quality(base: Sequence[Answer], made: Sequence[Answer]) -> dict[str, float]:
    """How far the variant's answers are from those of the reference, and from the truth where the samples know it."""
    kind = next((name for name in _JUDGES if any(name in one for one in base)), "")
    found = _JUDGES[kind](base, made) if kind else {}
    return {name: round(float(value), 5) for name, value in found.items()}


def _boxes(base: Sequence[Answer], made: Sequence[Answer]) -> dict[str, float]:
    """Agreement counts what a user sees; average precision wants the unsure boxes too."""
    found = quality.boxes([_found(one, SURE) for one in base], [_found(one, SURE) for one in made])
    truths = [Truth(one["true_boxes"], one["true_labels"].tolist()) for one in made if "true_boxes" in one]
    if len(truths) == len(made):
        found["map50"] = mean_average_precision(truths, [_found(one) for one in made])[0]
    return found


def _masks(base: Sequence[Answer], made: Sequence[Answer]) -> dict[str, float]:
    pairs = [(a, b) for a, b in zip(base, made, strict=True) if "mask" in a and "mask" in b]
    truths = [b["true_mask"] for _, b in pairs if "true_mask" in b]
    first, second = [a["mask"] for a, _ in pairs], [b["mask"] for _, b in pairs]
    return quality.masks(first, second, truths if len(truths) == len(pairs) else ())


def _pictures(base: Sequence[Answer], made: Sequence[Answer]) -> dict[str, float]:
    """Paintings by what a user would see; where the UNet could be asked by itself, by single steps too."""
    first, second = [one["image"] for one in base], [one["image"] for one in made]
    found = quality.pictures(first, second) | quality.paintings(first, second)
    pairs = [(a["steps"], b["steps"]) for a, b in zip(base, made, strict=True) if "steps" in a and "steps" in b]
    stepped = [(x, y) for a, b in pairs for x, y in zip(a, b, strict=True)]
    return found | (quality.steps(*zip(*stepped, strict=True)) if stepped else {})


def _right(answers: Sequence[Answer], things: Callable[[frozenset[str]], Any]) -> dict[str, float]:
    """How often an independent judge sees the thing that was asked for; {} where nothing says which that is."""
    asked = [(one["image"], str(one["thing"])) for one in answers if "thing" in one]
    known = things(frozenset(thing for _, thing in asked)) if asked else None
    if known is None:
        return {}
    from studio.train import judge

    return {"right_thing": float(np.mean([judge.ranking(picture, known)[0] == thing for picture, thing in asked]))}


def _things(wanted: frozenset[str]) -> Any:
    """What the judge compares a picture with: the things asked for and OTHERS more. None where it does not know them,
    or cannot draw them here."""
    from studio.train import judge, world

    of_them = [thing for thing in world.THINGS if thing.name in wanted]
    others = [thing for thing in world.THINGS if thing.name not in wanted]
    if len(of_them) < len(wanted):
        return None
    try:
        return judge.templates([*of_them, *others[:: max(1, len(others) // OTHERS)]])
    except StudioError:
        return None


_JUDGES: Mapping[str, Callable[[Sequence[Answer], Sequence[Answer]], dict[str, float]]] = {
    "boxes": _boxes,
    "mask": _masks,
    "image": _pictures,
}


def _found(answer: Answer, least: float = 0.0) -> Found:
    sure = answer["scores"] >= least
    return Found(answer["boxes"][sure], answer["labels"][sure].tolist(), answer["scores"][sure])


def _silent(step: int, total: int, phase: str) -> None:
    """Nobody watches."""
