"""Variants of the studio's models: what is offered, converted, measured, and which one runs.

The facade over conversion, measurement and the remembered choice; light, as everything that the page's process imports.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.cards import Card
from studio.compress import convert, measure, plan, precisions, verdict
from studio.compress.comparisons import Comparisons
from studio.compress.measure import OnStep
from studio.compress.networks import GRAPHS, Place
from studio.compress.parts import PARTS
from studio.compress.plan import Plan
from studio.compress.subjects import Subject
from studio.compress.variants import Variants, folder_bytes, key_of, split_name
from studio.compress.verdicts import Choice, Verdicts
from studio.device import Device
from studio.errors import Cancelled, InvalidTask, StudioError, Unsupported
from studio.ops import solvers
from studio.tasks import Generate, Task

# How models run as they come, and what torch can make of the same files without a conversion.
AS_IT_IS: dict[str, tuple[str, ...]] = {"diffusion": ("torch-bf16",), "sam": ("torch-bf16",)}
OWN: dict[str, str] = {"diffusion": "torch-fp32", "sam": "torch-fp32", "yolo": "onnxruntime-fp32"}
COMPILED = "compiled"


class Bench:
    """Args:
    home: the studio's home; variants, choices and measurements are kept there.
    cache: for compiled networks.
    device: the machine.
    """

    def __init__(self, home: Path, cache: Path, device: Device) -> None:
        self.variants = Variants(home)
        self.verdicts = Verdicts(home, device)
        self.comparisons = Comparisons(home)
        self._cache = cache / COMPILED
        self._device = device

    def offered(self, card: Card) -> list[str]:
        """Names of the variants a model can be run in, its own first; [] where nothing can be converted."""
        if card.engine not in convert.FAST:
            return []
        found = dict.fromkeys([OWN[card.engine], *AS_IT_IS.get(card.engine, ()), *convert.OFFERED])
        return [name for name in found if self._computes(name)]

    def _computes(self, name: str) -> bool:
        """Whether the processor has the arithmetic that a runtime would be told to use."""
        return self._device.computes(precisions.arithmetic(*split_name(name)))

    def usual(self, card: Card) -> list[str]:
        """What is measured where nobody says what, as far as this processor can."""
        return [name for name in (*AS_IT_IS.get(card.engine, ()), *USUAL) if self._computes(name)]

    # ── running ──────────────────────────────────────────────────────────────

    def applied(self, card: Card, folder: Path, fingerprint: str, task: Task | None = None) -> Card:
        """The card as it is to be leased: told to run the chosen variant, or the graphs it ships with; itself where
        there is neither, or where the fast path cannot do the task."""
        if card.engine not in convert.FAST or "fast" in card.options or not _is_doable(card, folder, task):
            return card
        choice = self.verdicts.get(card.id, fingerprint)
        if choice is not None:
            name = f"{choice.runtime}-{choice.precision}"
            return card if name == OWN[card.engine] else self._told(card, fingerprint, name) or card
        if card.engine != "yolo" and self._ships_graphs(card, folder):
            return _with(card, Place("onnxruntime", "fp32", None, self._cache))
        return card

    def _told(self, card: Card, fingerprint: str, name: str) -> Card | None:
        runtime, precision = split_name(name)
        if runtime == "torch":
            return _as_it_is(card, precision) if self._computes(name) else None
        variant = self.variants.get(card.id, key_of(card, fingerprint), name)
        if variant is None:
            return None
        return _with(card, Place(variant.runtime, variant.precision, variant.folder, self._cache))

    def _ships_graphs(self, card: Card, folder: Path) -> bool:
        has_all = all((folder / GRAPHS / f"{part}.onnx").is_file() for part in PARTS[card.engine])
        return has_all and not card.options.get("lora")

    def choose(self, card: Card, fingerprint: str, name: str) -> None:
        """Makes a measured variant the model's default on this device. Raises InvalidTask where it was not measured."""
        data = self.comparisons.read(card.id) or {"rows": []}
        row = next((one for one in data["rows"] if f"{one['runtime']}-{one['precision']}" == name), None)
        if row is None or row.get("error"):
            raise InvalidTask(f"{name} was not measured for {card.title}.", "Compare first.")
        numbers = {key: value for key, value in row.items() if isinstance(value, (int, float, dict))}
        sentence = self._sentences(map(verdict.row, data["rows"]))[name]
        self.verdicts.put(card.id, Choice(row["runtime"], row["precision"], fingerprint, sentence, numbers))

    # ── planning ─────────────────────────────────────────────────────────────

    def planned(self, card: Card, folder: Path, fingerprint: str, budget: int, side: int | None = None) -> Plan:
        """How to run a model within `budget` bytes, see `plan.plan`. Of what was measured here the best comes first,
        and what loses too much or could not be run is left out; the plan says what is known of its quality.

        Raises OutOfMemory, Unsupported.
        """
        rows = self._rows(card, fingerprint)
        best = verdict.choose(rows).key if verdict.reference(rows) is not None else ""
        made = plan.plan(plan.anatomy(card, folder), budget, side, self._device.features, _lost(rows), best)
        name = f"{made.runtime}-{made.precision}"
        known = {row.key: row for row in rows if row.is_measured}
        return replace(made, quality=self._sentences(rows)[name] if name in known else plan.unmeasured(made.precision))

    def follow(self, card: Card, folder: Path, fingerprint: str, wanted: Plan, on_step: OnStep | None = None) -> Plan:
        """Makes what a plan says the model's default on this device, and returns it; converts the model where that is
        not there yet. What may lose quality is compared first; where too much is lost the next best plan is followed.

        Raises as a conversion and a comparison do, OutOfMemory where no plan is left, and what `on_step` raises.
        """
        name = f"{wanted.runtime}-{wanted.precision}"
        if wanted.quality and wanted.quality == plan.unmeasured(wanted.precision):
            self.compare(card, folder, fingerprint, [name], runs=1, anyway=True, on_step=on_step)
            again = self.planned(card, folder, fingerprint, wanted.budget, wanted.side)
            return self.follow(card, folder, fingerprint, again, on_step)
        if self._is_converted(card, name):
            convert.make(card, folder, fingerprint, name, self.variants, on_step)
        numbers = {"peak_mb": wanted.peak >> 20, "budget_mb": wanted.budget >> 20}
        self.verdicts.put(card.id, Choice(wanted.runtime, wanted.precision, fingerprint, str(wanted), numbers))
        return wanted

    def _is_converted(self, card: Card, name: str) -> bool:
        return name != OWN[card.engine] and name not in AS_IT_IS.get(card.engine, ())

    def _rows(self, card: Card, fingerprint: str) -> list[verdict.Row]:
        """What was measured of these weights."""
        data = self.comparisons.read(card.id)
        return [verdict.row(one) for one in data["rows"]] if data and data["fingerprint"] == fingerprint else []

    def _sentences(self, rows: Iterable[verdict.Row]) -> dict[str, str]:
        return verdict.verdicts(list(rows), self._device.features)

    # ── measuring ────────────────────────────────────────────────────────────

    def compare(
        self,
        card: Card,
        folder: Path,
        fingerprint: str,
        names: Sequence[str] = (),
        *,
        runs: int = measure.RUNS,
        anyway: bool = False,
        own: Sequence[Path] = (),
        on_step: OnStep | None = None,
    ) -> list[dict[str, Any]]:
        """Converts what is not there, measures all, keeps and returns the bench objects with their verdicts.

        `comparisons` has a row as soon as a variant is converted, which fills while it is measured.

        Args:
            names: variants; without any those that are usual. The model as it comes is always among them.
            anyway: measure on a busy machine too.
        Raises Unsupported (busy, or nothing to convert), InvalidTask, and what `on_step` raises.
        """
        if card.engine not in convert.FAST:
            raise Unsupported(f"{card.title} has no network that could be compressed.", "Choose another model.")
        wanted = list(dict.fromkeys([OWN[card.engine], *(names or self.usual(card))]))
        for name in wanted:
            split_name(name)
            if not self._computes(name):
                raise Unsupported(f"This processor has no arithmetic for {name}.", f"Choose {OWN[card.engine]}.")
        if not anyway:
            measure.refuse_busy()
        load = measure.load_of()[0] if anyway else 0.0
        wanted.sort(key=lambda name: not name.endswith("-fp32"))  # the first is what the others are compared with
        step = on_step if on_step is not None else lambda *_: None
        self.comparisons.begin(card.id, fingerprint, self._machine())
        subjects, rows = [], {}
        for number, name in enumerate(wanted):
            try:
                made = self._subject(card, folder, fingerprint, name, own, _at(step, number, len(wanted), name))
            except Cancelled:
                raise
            except StudioError as error:
                rows[name] = _failure(card, name, error)
                self.comparisons.put(card.id, rows[name])
                continue
            subjects.append(made)
            row = {**made.head, "notes": list(made.notes), "runs": 0, "of": runs}
            self.comparisons.put(card.id, row, layers=made.layers)
        for found in measure.measure(subjects, self._device.cores, runs=runs, own=own, load=load, on_step=on_step):
            self.comparisons.put(card.id, found.row, pictures=found.pictures)
            rows[f"{found.row['runtime']}-{found.row['precision']}"] = found.row
        sentences = self._sentences(map(verdict.row, rows.values()))
        return [{**rows[name], "verdict": sentences[name]} for name in wanted]

    def _machine(self) -> dict[str, Any]:
        share, busiest = measure.load_of(0.3)
        about = {"name": self._device.name, "cores": self._device.cores, "memory": self._device.memory}
        return {**about, "features": sorted(self._device.features), "load": round(share, 2), "busy": busiest}

    def _subject(
        self, card: Card, folder: Path, fingerprint: str, name: str, own: Sequence[Path], on_step: OnStep
    ) -> Subject:
        _, precision = split_name(name)
        if not self._is_converted(card, name):
            told = card if name == OWN[card.engine] else _as_it_is(card, precision)
            return Subject(name, told, card.engine, folder, _own_bytes(card, folder))
        variant = convert.make(card, folder, fingerprint, name, self.variants, on_step, own)
        place = Place(variant.runtime, variant.precision, variant.folder, self._cache)
        told = card.model_copy(update={"options": {**card.options, "fast": place.to_option()}})
        return Subject(name, told, convert.FAST[card.engine], folder, variant.bytes, variant.notes, variant.layers)


USUAL = ("onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-bf16", "openvino-int8")


def _lost(rows: Sequence[verdict.Row]) -> set[str]:
    """Names of the variants that could not be run, or lose too much."""
    base = verdict.reference(rows)
    failed = {row.key for row in rows if row.error}
    if base is None:
        return failed
    return failed | {row.key for row in rows if row.is_measured and not verdict.is_tolerable(row, base)}


def _as_it_is(card: Card, precision: str) -> Card:
    """The card told to compute its own files on torch in that precision."""
    return card.model_copy(update={"options": {**card.options, "fast": Place("torch", precision).to_option()}})


def _with(card: Card, place: Place) -> Card:
    options = {**card.options, "fast": place.to_option()}
    return card.model_copy(update={"engine": convert.FAST[card.engine], "options": options})


def _is_doable(card: Card, folder: Path, task: Task | None) -> bool:
    """Whether the fast path knows the task's sampler; other tasks of a painter look into torch itself."""
    if task is None or card.engine != "diffusion":
        return True
    if not isinstance(task, Generate):
        return False
    try:
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and solvers.knows(task.scheduler, config)


def _own_bytes(card: Card, folder: Path) -> int:
    suffix = ".onnx" if card.engine == "yolo" else ".safetensors"
    files = [file for file in folder.rglob(f"*{suffix}") if file.parent.name != GRAPHS]
    return sum(file.stat().st_size for file in files) or folder_bytes(folder)


def _at(step: Callable[[int, int, str], None], number: int, total: int, name: str) -> OnStep:
    return lambda done, of, phase: step(number, total, f"{name}: {phase}")


def _failure(card: Card, name: str, error: StudioError) -> dict[str, Any]:
    runtime, precision = split_name(name)
    text = f"{error.message} {error.hint}".strip()
    return {"card": card.id, "runtime": runtime, "precision": precision, "error": text, "notes": []}
