"""What the measurements say: the Pareto front, a plain sentence for each variant, and the one to use. Pure.

A variant is worth using when what it loses is tolerable (see `quality.MEASURES`); of those the fastest is advised, and
among equals the smallest. Differences within the measured spread are no differences.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.compress import precisions, quality
from studio.errors import InvalidTask, StudioError, Unsupported

EQUAL = 0.05  # relative difference of two times or sizes that nobody would choose by
RUNTIME_TITLES = {"torch": "torch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Row:
    """One variant as `app.py bench --json` prints it. Numbers that were not measured are NaN.

    Attributes:
        bytes: of its files.
        resident_mb, peak_mb: memory of its process after loading, and at most.
        load_s, first_ms, median_ms, spread_ms: time to load, first run, middle run, and between quartiles.
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
    def is_measured(self) -> bool:
        return not self.error and math.isfinite(self.median_ms) and math.isfinite(self.bytes)


_NUMBERS = ("bytes", "resident_mb", "peak_mb", "load_s", "first_ms", "median_ms", "spread_ms")
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
    return quality.MEASURES[name].tolerable / 4 if name else 0.0


def _noise(first: Row, second: Row) -> float:
    """Milliseconds within which two medians are the same."""
    spreads = [one.spread_ms for one in (first, second) if math.isfinite(one.spread_ms)]
    return max([EQUAL * min(first.median_ms, second.median_ms), *(spread / 2 for spread in spreads)])


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
    return next((name for name in ordered if not lost[name] <= quality.MEASURES[name].tolerable), "")


def is_tolerable(one: Row, base: Row) -> bool:
    """Whether what is lost is too little to advise against. What was never measured cannot be advised either, but the
    reference itself can."""
    return one.key == base.key or (bool(losses(one, base)) and not excess(one, base))


# ── choosing ─────────────────────────────────────────────────────────────────


def choose(rows: Sequence[Row], budget_mb: float | None = None, budget_ms: float | None = None) -> Row:
    """The row to use: the fastest that loses little and fits; among equals the smallest.

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
    return min(equals, key=lambda one: (one.bytes, one.peak_mb, one.median_ms))


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
    parts = [_speed(one, base), _size(one, base), *_lost(one, base)]
    return f"{one.title}: {', '.join(part for part in parts if part)}: {_advice(one, base, best, features)}."


def _advice(one: Row, base: Row, best: Row, features: Collection[str]) -> str:
    if not is_tolerable(one, base):
        return "too much is lost" if losses(one, base) else "its quality was not measured"
    if one.key == best.key:
        return "use it"
    slower = one.median_ms - base.median_ms > _noise(one, base)
    if slower and one.precision == "int8" and "vnni" not in features and "amx" not in features:
        return f"no VNNI here; keep {_title(best.precision)}"
    if slower:
        return "smaller, not faster: for when memory is short" if one.bytes < base.bytes else f"keep {best.title}"
    return f"{best.title} is better" if best.key != base.key else f"no gain; keep {best.title}"


def _speed(one: Row, base: Row) -> str:
    if abs(one.median_ms - base.median_ms) <= _noise(one, base):
        return "as fast"
    ratio = base.median_ms / one.median_ms
    return f"{_times(ratio)} faster" if ratio > 1 else f"{_times(1 / ratio)} slower"


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
        return ["computes no numbers"]
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
