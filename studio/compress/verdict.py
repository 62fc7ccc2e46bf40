"""What the measurements say: the Pareto front, a plain sentence for each variant, and the one to use. Pure.

A variant is worth using when what it loses is tolerable (see `quality.MEASURES`); of those the fastest is advised, and
among equals the one that takes least of disk, memory and waiting (`upkeep`). A time is an interval, wide where it was
measured on a busy machine; what the intervals of two variants leave open is not claimed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.compress import precisions, quality
from studio.errors import InvalidTask, StudioError, Unsupported

EQUAL = 0.05  # relative difference of two times or sizes that nobody would choose by
BUSY = 0.35  # share of all cores that others may use; above it a difference of two variants is no longer theirs
ROUGH = 0.5  # width of a time's interval on a busy machine, of the time itself
START_MB = 100.0  # a second of waiting at the start weighs as much as so much memory
NOTABLE = 1.1  # ratio of two peaks of memory that is worth a word
NOTABLE_S = 1.0  # seconds more at the start that are
RUNTIME_TITLES = {"torch": "torch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Row:
    """One variant as `app.py bench --json` prints it. Numbers that were not measured are NaN.

    Attributes:
        bytes: of its files.
        resident_mb, peak_mb: memory of its process after loading, and at most.
        load_s, first_ms, median_ms, spread_ms: time to load, first run, middle run, and between quartiles.
        load: share of the cores that others used meanwhile.
        quality: measure -> value, see `quality.MEASURES`.
        verdict: the sentence.
        error: why it could not be measured; the numbers are NaN then.
    """

    card: str
    runtime: str
    precision: str
    bytes: float = math.nan
    resident_mb: float = math.nan
    peak_mb: float = math.nan
    load_s: float = math.nan
    first_ms: float = math.nan
    median_ms: float = math.nan
    spread_ms: float = math.nan
    load: float = math.nan
    quality: Mapping[str, float] = field(default_factory=dict)
    verdict: str = ""
    error: str = ""

    @property
    def key(self) -> str:
        """ "openvino-int8": names the variant among those of a card."""
        return f"{self.runtime}-{self.precision}"

    @property
    def title(self) -> str:
        packed = f" ({precisions.PACKED})" if precisions.is_packed(self.runtime, self.precision) else ""
        return f"{_title(self.precision)} on {RUNTIME_TITLES.get(self.runtime, self.runtime)}{packed}"

    @property
    def is_rough(self) -> bool:
        """Whether its times are those of a busy machine."""
        return self.load > BUSY or self.spread_ms > ROUGH * self.median_ms

    @property
    def interval_ms(self) -> tuple[float, float]:
        """Between which times the true one lies."""
        spread = self.spread_ms if math.isfinite(self.spread_ms) else 0.0
        half = max(spread, (ROUGH if self.is_rough else EQUAL) * self.median_ms) / 2
        return max(1e-6, self.median_ms - half), self.median_ms + half

    @property
    def start_s(self) -> float:
        """Seconds from nothing to the first answer."""
        return self.load_s + self.first_ms / 1000

    @property
    def is_measured(self) -> bool:
        return not self.error and math.isfinite(self.median_ms) and math.isfinite(self.bytes)


_NUMBERS = ("bytes", "resident_mb", "peak_mb", "load_s", "first_ms", "median_ms", "spread_ms", "load")
_TEXTS = ("card", "runtime", "precision", "verdict", "error")


def row(data: Mapping[str, Any]) -> Row:
    """A row from its JSON object; more keys are allowed and left out. Raises InvalidTask where one is missing."""
    try:
        numbers = {name: _number(data.get(name)) for name in _NUMBERS}
        texts = {name: str(data.get(name) or "") for name in _TEXTS}
        values = {str(name): _number(value) for name, value in (data.get("quality") or {}).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidTask("This is no measurement of a variant.", "Measure it again.") from error
    if not (texts["card"] and texts["runtime"] and texts["precision"]):
        raise InvalidTask("A measurement without card, runtime or precision.", "Measure it again.")
    return Row(**texts, **numbers, quality=values)  # type: ignore[arg-type]


def reference(rows: Sequence[Row]) -> Row | None:
    """What the others are compared with: fp32 on torch, else the first fp32, else the first that was measured."""
    measured = [one for one in rows if one.is_measured]
    plain = [one for one in measured if one.precision == "fp32"]
    torch = [one for one in plain if one.runtime == "torch"]
    return next(iter((*torch, *plain, *measured)), None)


# ── the front ────────────────────────────────────────────────────────────────


def front(rows: Sequence[Row]) -> set[str]:
    """Keys of the rows that no other beats in size, time and quality at once."""
    measured = [one for one in rows if one.is_measured]
    return {one.key for one in measured if not any(_beats(other, one) for other in measured)}


def _beats(first: Row, second: Row) -> bool:
    """Nowhere worse and somewhere really better."""
    pairs = list(zip(_costs(first), _costs(second), strict=True))
    slack = (EQUAL * second.bytes / 10, _noise(first, second), _alike(second))
    nowhere_worse = all(a <= b + s for (a, b), s in zip(pairs, slack, strict=True))
    return nowhere_worse and any(a < b - s for (a, b), s in zip(pairs, slack, strict=True))


def _costs(one: Row) -> tuple[float, float, float]:
    name = quality.leading(one.quality)
    worth = one.quality.get(name, 0.0)
    lost = -worth if name and quality.MEASURES[name].higher_is_better else worth
    return one.bytes, one.median_ms, lost if math.isfinite(lost) else math.inf


def _alike(one: Row) -> float:
    """How much quality nobody would choose by: a quarter of what may be lost."""
    name = quality.leading(one.quality)
    tolerable = quality.MEASURES[name].tolerable if name else 0.0
    return EQUAL if tolerable is None else tolerable / 4


def _noise(first: Row, second: Row) -> float:
    """Milliseconds within which two medians are the same."""
    widths = [high - low for low, high in (one.interval_ms for one in (first, second))]
    return max(EQUAL * min(first.median_ms, second.median_ms), max(widths) / 2)


# ── loss ─────────────────────────────────────────────────────────────────────


def losses(one: Row, base: Row) -> dict[str, float]:
    """Measure -> how much worse than the reference, for all that say something about this row."""
    found = {}
    for name, value in one.quality.items():
        measure = quality.MEASURES.get(name)
        if measure is None:
            continue
        best = measure.best if measure.best is not None else base.quality.get(name, math.nan)
        if math.isfinite(best):
            found[name] = measure.lost(best, value) if math.isfinite(value) else math.inf
    return found


def excess(one: Row, base: Row) -> str:
    """The measure by which too much is lost; "" where all is tolerable. A variant that is right as often as fp32, but
    on other pictures, is not the same network any more: so every measure counts, not one alone."""
    lost = losses(one, base)
    ordered = [name for name in (*quality.LEADING, *lost) if name in lost]
    limits = {name: quality.MEASURES[name].tolerable for name in ordered}
    return next((name for name in ordered if _is_over(lost[name], limits[name])), "")


def _is_over(lost: float, tolerable: float | None) -> bool:
    return not math.isfinite(lost) if tolerable is None else not lost <= tolerable


def is_tolerable(one: Row, base: Row) -> bool:
    """Whether what is lost is too little to advise against. What was never measured cannot be advised either, but the
    reference itself can."""
    return one.key == base.key or (bool(losses(one, base)) and not excess(one, base))


# ── choosing ─────────────────────────────────────────────────────────────────


def choose(rows: Sequence[Row], budget_mb: float | None = None, budget_ms: float | None = None) -> Row:
    """The row to use: the fastest that loses little and fits; among equals the one with the least upkeep.

    Args:
        budget_mb: peak memory, MB.
        budget_ms: median latency.

    Raises: Unsupported where nothing was measured or nothing fits; says what comes closest.
    """
    base = reference(rows)
    if base is None:
        raise Unsupported("No variant of this model could be measured.", "Look at what each of them says.")
    good = [one for one in rows if one.is_measured and is_tolerable(one, base)]
    fitting = [one for one in good if _fits(one, budget_mb, budget_ms)]
    if not fitting:
        nearest = min(good, key=lambda one: (one.peak_mb if budget_mb is not None else one.median_ms, one.bytes))
        raise Unsupported(
            f"No variant of good quality fits {_budget(budget_mb, budget_ms)}.",
            f"The nearest is {nearest.title}: {nearest.peak_mb:.0f} MB, {nearest.median_ms:.0f} ms.",
        )
    fastest = min(fitting, key=lambda one: one.median_ms)
    equals = [one for one in fitting if one.median_ms - fastest.median_ms <= _noise(one, fastest)]
    return min(equals, key=lambda one: (upkeep(one), one.median_ms))


def upkeep(one: Row) -> float:
    """What a variant takes besides its time, in MB: disk, memory at most, and the waiting at the start."""
    parts = (one.bytes / 2**20, one.peak_mb, START_MB * one.start_s)
    return sum(part for part in parts if math.isfinite(part))


def _fits(one: Row, budget_mb: float | None, budget_ms: float | None) -> bool:
    memory = budget_mb is None or one.peak_mb <= budget_mb
    return memory and (budget_ms is None or one.median_ms <= budget_ms)


def _budget(budget_mb: float | None, budget_ms: float | None) -> str:
    parts = [
        f"{budget_mb:g} MB" if budget_mb is not None else "",
        f"{budget_ms:g} ms" if budget_ms is not None else "",
    ]
    return " and ".join(part for part in parts if part)


# ── saying ───────────────────────────────────────────────────────────────────


def verdicts(rows: Sequence[Row], features: Collection[str] = ()) -> dict[str, str]:
    """A sentence for each row, by key.

    Args:
        features: what the processor has, of "vnni" and "amx"; explains why int8 is slow.
    """
    base = reference(rows)
    if base is None:
        return {one.key: one.error or "Not measured." for one in rows}
    best = choose(rows)
    return {one.key: _sentence(one, base, best, features) for one in rows}


def _sentence(one: Row, base: Row, best: Row, features: Collection[str]) -> str:
    if not one.is_measured:
        return f"{one.title}: {one.error or 'not measured yet.'}"
    if one.key == base.key:
        return f"{one.title}: the reference" + (", and the one to keep." if best.key == base.key else ".")
    parts = [_speed(one, base), _size(one, base), *_memory(one, base), *_start(one, base), *_lost(one, base)]
    return f"{one.title}: {', '.join(part for part in parts if part)}: {_advice(one, base, best, features)}."


def _advice(one: Row, base: Row, best: Row, features: Collection[str]) -> str:
    if not is_tolerable(one, base):
        return "too much is lost" if losses(one, base) else "its quality was not measured"
    if one.key == best.key:
        is_rough = one.is_rough or base.is_rough
        return "the best by rough times: measure again when the machine is quiet" if is_rough else "use it"
    slower = one.median_ms - base.median_ms > _noise(one, base)
    if slower and one.precision == "int8" and "vnni" not in features and "amx" not in features:
        return f"no VNNI here; keep {_title(best.precision)}"
    if slower and one.bytes < base.bytes:
        takes_less = one.peak_mb < base.peak_mb * NOTABLE
        return f"smaller, not faster: for when {'memory' if takes_less else 'the disk'} is short"
    if slower:
        return f"keep {best.title}"
    return f"{best.title} is better" if best.key != base.key else f"no gain; keep {best.title}"


def _speed(one: Row, base: Row) -> str:
    """ "2.0× faster" only where the whole interval says so, "as fast" only where it holds no loss."""
    rough = " (rough times)" if one.is_rough or base.is_rough else ""
    return _compared(one, base) + rough


def _compared(one: Row, base: Row) -> str:
    (low, high), (least, most) = one.interval_ms, base.interval_ms
    worst, best, ratio = least / high, most / low, base.median_ms / one.median_ms
    if worst > 1:
        return f"{_times(ratio)} faster"
    if best < 1:
        return f"{_times(1 / ratio)} slower"
    if worst >= 1 - 2 * EQUAL:
        return "as fast"
    return f"between {_times(worst)} and {_times(best)} as fast"


def _memory(one: Row, base: Row) -> list[str]:
    ratio = one.peak_mb / base.peak_mb
    return [f"{_times(ratio)} the memory"] if ratio > NOTABLE or ratio < 1 / NOTABLE else []


def _start(one: Row, base: Row) -> list[str]:
    if not abs(one.start_s - base.start_s) > NOTABLE_S:
        return []
    return [f"starts in {one.start_s:.1f} s instead of {base.start_s:.1f} s"]


def _size(one: Row, base: Row) -> str:
    ratio = base.bytes / one.bytes if one.bytes else math.inf
    if abs(ratio - 1) <= EQUAL:
        return "as large"
    return f"{_times(ratio)} smaller" if ratio > 1 else f"{_times(1 / ratio)} larger"


def _lost(one: Row, base: Row) -> list[str]:
    lost = losses(one, base)
    name = excess(one, base) or quality.leading(lost)
    if not name:
        return []
    measure, amount = quality.MEASURES[name], lost[name]
    if not math.isfinite(amount):
        return ["produces NaN"]
    if measure.best is not None:  # told as it is: 38.2 dB PSNR to fp32
        value = one.quality[name]
        told = f"{value:.1f} {measure.unit}" if measure.unit else f"{value:.3f}"
        return [f"{told} {measure.title} {'with' if name == 'agreement' else 'to'} fp32"]
    scaled, unit = (amount * 100, "points") if measure.points else (amount, measure.unit)
    if abs(scaled) < 0.05:
        return [f"no {measure.title} lost"]
    return [f"{abs(scaled):.1f} {unit} of {measure.title} {'lost' if scaled > 0 else 'gained'}"]


def _times(ratio: float) -> str:
    return f"{ratio:.1f}×" if ratio < 10 else f"{ratio:.0f}×"


def _title(precision: str) -> str:
    try:
        return precisions.find(precision).title
    except StudioError:
        return precision


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
