"""One conversion, in a child process of its own:

    python -m studio.compress.conversion SPEC.json

SPEC holds "card", "folder", "out" (a staged folder), "name" ("openvino-int8"), "engine" (the fast path's engine) and
"pictures". Each line of stdout is a JSON object {"step", "total", "phase"}; the last one holds "parts". The staged
folder gets the parts' files; the parent gives it its place. On failure the last line of stderr is the error as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from studio.cards import Card
from studio.compress import export, layers, precisions, quantize, samples
from studio.compress.networks import Place, assembled
from studio.compress.parts import Part, parts_of
from studio.compress.quality import output_error
from studio.compress.variants import FACTS, VERSION, PartFile, folder_bytes, split_name
from studio.device import probe
from studio.engines.base import ENGINES
from studio.errors import OutOfMemory, StudioError, Unsupported
from studio.intake.child import fail
from studio.runtimes import recorder
from studio.runtimes.base import Settings, runtime
from studio.tasks import make_task
from studio.worker import prepare_environment

METADATA = "metadata.json"
CHECKS = 3  # calls that a converted part is checked on
RECORDED = 32  # calls that calibrate a part; more take longer and change nothing that can be measured
SAMPLES: Mapping[str, int] = {"generate": 3, "segment": 12, "detect": 24}


@dataclass(frozen=True)
class Spec:
    """What is to be converted; paths absolute."""

    card: Card
    folder: Path
    out: Path
    name: str
    engine: str
    pictures: tuple[Path, ...] = ()

    @classmethod
    def read(cls, file: Path) -> Spec:
        data = json.loads(file.read_text(encoding="utf-8"))
        return cls(
            Card.model_validate(data["card"]),
            Path(data["folder"]),
            Path(data["out"]),
            str(data["name"]),
            str(data["engine"]),
            tuple(Path(name) for name in data["pictures"]),
        )


class Calls:
    """A Report that only hands out pictures."""

    def __init__(self, assets: Mapping[str, NDArray[np.uint8]], cache: Path) -> None:
        self._assets = assets
        self.cache = cache

    def progress(self, step: int, total: int, phase: str = "") -> None:
        """Nobody watches."""

    def preview(self, image: NDArray[np.uint8]) -> None:
        """Nobody watches."""

    def asset(self, id: str) -> NDArray[np.uint8]:
        return self._assets[id]


def convert(spec: Spec, say: Callable[[int, int, str], None]) -> dict[str, PartFile]:
    """Writes every part of the model into `spec.out`.

    Raises Unsupported, IntegrityError, OutOfMemory, InvalidImage; nothing is listed where it raises.
    """
    target, precision = split_name(spec.name)
    known = parts_of(spec.card.engine)
    total = len(known) + 2
    with tempfile.TemporaryDirectory(dir=spec.out.parent, prefix=".work-") as name:
        work = Path(name)
        say(0, total, "reading the model")
        sources = export.full_precision(spec.card, spec.folder, work, lambda phase: say(0, total, phase))
        _check_memory(spec.card, sources)
        say(1, total, "running it on samples")
        _record(spec, sources, work)
        made: dict[str, PartFile] = {}
        for number, (part, about) in enumerate(known.items()):
            if part not in sources:
                continue
            doing = f"{about.title} to {precision}"
            say(2 + number, total, doing)

            def tick(done: int, of: int, at: int = 2 + number, doing: str = doing) -> None:
                say(at, total, f"{doing}, {done} of {of}")

            feeds = recorder.calls(work, sources[part].stem)[:RECORDED]
            done = _part(quantize.Job(part, sources[part], spec.out, feeds, tick), target, precision, about)
            made[part] = quantize.squeezed(spec.out, done)
    say(total, total, "done")
    return made


def _part(job: quantize.Job, target: str, precision: str, about: Part) -> PartFile:
    """Converts one part and checks it against fp32; what this runtime cannot do is done in a gentler way, and said."""
    wanted = precision
    computes8 = precisions.find(precision).family == "activations"  # and a small part has nothing to gain by that
    if computes8 and (about.is_small or not job.feeds):
        wanted = quantize.GENTLER[target, precision]
    try:
        return _checked(job, quantize.way(target, wanted)(job), about, wanted)
    except Unsupported as failure:
        gentler = quantize.gentler(target, wanted)
        if not gentler:
            raise
        made = _checked(job, quantize.way(target, gentler)(job), about, gentler)
        return replace(made, note=f"The {about.title} stays in {gentler}: {failure.message}")


def _checked(job: quantize.Job, made: PartFile, about: Part, precision: str) -> PartFile:
    """The part with its errors: of what it computes, and of each layer's weights. Raises as `_check`."""
    error = _check(job, made, about, precision)
    return replace(made, error=error, layers=made.layers or layers.errors(job.source, job.out, made))


def _check(job: quantize.Job, made: PartFile, about: Part, precision: str) -> float:
    """The error of a converted part on recorded calls. Raises Unsupported for NaN and for more than is tolerated."""
    if not job.feeds:
        return 0.0
    step = max(1, len(job.feeds) // CHECKS)
    feeds = job.feeds[::step][:CHECKS]
    settings = Settings(max(1, probe().cores))  # fp32, as its name says
    reference = runtime("onnxruntime").load(job.source, settings)
    wanted = [reference.run(feed) for feed in feeds]
    reference.close()
    file = job.out / made.file
    settings = replace(settings, precision=precisions.arithmetic(made.runtime, made.precision))
    session = runtime(made.runtime).load(file, settings, _loader(job.out, made))
    got = [session.run(feed) for feed in feeds]
    session.close()
    worst = 0.0
    for name in wanted[0]:
        first, second = (np.concatenate([answer[name].ravel() for answer in answers]) for answers in (wanted, got))
        if not np.isfinite(second).all():
            raise Unsupported(f"The {about.title} produced NaN in {precision}.", "Choose more bits.")
        worst = max(worst, output_error(first, second))
    limits = {"fp32": about.tolerance, "fp16": about.tolerance, "bf16": about.tolerance16, "int8": about.tolerance8}
    if worst > limits.get(precision, float("inf")):
        raise Unsupported(
            f"The {about.title} in {precision} is {worst:.0%} off, {limits[precision]:.0%} are tolerated.",
            "Calibrate it on pictures like yours, or choose more bits.",
        )
    return worst


def _loader(folder: Path, made: PartFile) -> Callable[[], bytes] | None:
    if not made.weights:
        return None
    return lambda: assembled(folder / made.file, folder / made.weights)


def _record(spec: Spec, sources: Mapping[str, Path], work: Path) -> None:
    """Runs the model on samples through its own engine, with runtimes that write down what each part is asked."""
    parts = {part: vars(PartFile(file.name, "recorder", "fp32")) for part, file in sources.items()}
    for file in sources.values():
        if not (work / file.name).is_file():
            (work / file.name).symlink_to(file.resolve())
    facts = {"version": VERSION, "runtime": "recorder", "precision": "fp32", "parts": parts}
    (work / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    if spec.card.engine == "yolo":
        meta = dict(runtime("onnxruntime").load(sources["network"], Settings()).metadata)
        for folder in (work, spec.out):
            (folder / METADATA).write_text(json.dumps(meta), encoding="utf-8")
    place = Place("recorder", "fp32", work, work)
    card = spec.card.model_copy(update={"options": {**spec.card.options, "fast": place.to_option()}})
    module, _, kind = ENGINES[spec.engine].target.partition(":")
    engine = getattr(importlib.import_module(module), kind)(card, spec.folder, probe("cpu"))
    chosen = _samples(spec)
    for sample in chosen:
        engine.run(sample.task, Calls(sample.assets, work / "cache"))
    engine.close()


def _samples(spec: Spec) -> Sequence[samples.Sample]:
    kind = spec.card.tasks[0]
    made = samples.for_card(spec.card, spec.folder, SAMPLES[kind], spec.pictures)
    if kind != "generate":
        return made
    start = samples.examples(1)[0]
    known = spec.card.defaults
    side: dict[str, Any] = {name: known[name] for name in ("width", "height") if name in known}
    fields: dict[str, Any] = {"prompt": "", "seed": 1, "image": "1" * 64, "steps": 2, "strength": 0.5}
    image = make_task("generate", {**fields, **side})
    return [*made, samples.Sample(image, {"1" * 64: start})]  # so that the encoder is asked something too


def _check_memory(card: Card, sources: Mapping[str, Path]) -> None:
    """Quantizing holds the weights several times. Raises OutOfMemory before the machine begins to swap."""
    largest = max(file.stat().st_size + _beside(file) for file in sources.values())
    need, free = 3 * largest + 2**29, psutil.virtual_memory().available
    if need > free:
        raise OutOfMemory(
            f"Converting {card.title} needs about {need >> 20} MB; {free >> 20} MB are free.",
            "Close other models and programs, or convert it on a larger machine.",
        )


def _beside(file: Path) -> int:
    weights = file.with_name(f"{file.name}.weights")
    return weights.stat().st_size if weights.is_file() else 0


def main(argv: list[str]) -> int:
    prepare_environment()

    def say(step: int, total: int, phase: str) -> None:
        sys.stdout.write(json.dumps({"step": step, "total": total, "phase": phase}) + "\n")
        sys.stdout.flush()

    try:
        spec = Spec.read(Path(argv[0]))
        parts = convert(spec, say)
    except StudioError as error:
        return fail(error)
    rows: dict[str, Any] = {name: vars(part) for name, part in parts.items()}
    sys.stdout.write(json.dumps({"parts": rows, "bytes": folder_bytes(spec.out)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
