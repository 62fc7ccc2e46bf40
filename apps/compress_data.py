"""What the Compress tab shows and does, without a page: models, measured variants, defaults, exports.

Measuring is a job of the studio (`Studio.compare`); its rows arrive in `studio.compress.comparisons` one by one.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.cards import Card
from studio.compress import claims, precisions, quality, verdict
from studio.compress.verdicts import Choice
from studio.errors import InvalidTask, NotFound
from studio.jobs import Snapshot
from studio.studio import Studio

Json = dict[str, Any]
MEASURED = Path(__file__).resolve().parent.parent / "assets" / "compress" / "measured.json"
ENGINES = ("yolo", "sam", "diffusion")  # whose models have networks that can be compressed
COLUMNS = ("card", "runtime", "precision", "bytes", "resident_mb", "peak_mb", "load_s", "first_ms", "median_ms",
           "spread_ms")  # fmt: skip
ABOUT = ("error", "pictures", "pictured", "layers", "notes", "at", "runs", "of")


class Compression:
    """Behind the tab.

    Args:
        studio: the studio.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.comparisons = studio.bench.comparisons
        self.verdicts = studio.bench.verdicts

    # ── looking ──────────────────────────────────────────────────────────────

    def overview(self) -> Json:
        """Models that can be compared, the machine, and the tables that need no measurement."""
        chosen = self.verdicts.all()
        models = [
            {"id": card.id, "title": card.title, "task": card.tasks[0], "default": _told(chosen.get(card.id))}
            for card in self.studio.cards(ready=True)
            if card.engine in ENGINES
        ]
        return {"models": models, "machine": self.machine(), "can": self.studio.can("share"), **theory()}

    def machine(self) -> Json:
        """Name, cores and what makes few bits quick."""
        device = self.studio.device
        about = {"name": device.name, "cores": device.cores, "memory": device.memory}
        return {**about, "features": sorted(device.features)}

    def comparison(self, id: str) -> Json:
        """What is known of one model's variants: offered ones, measured ones with front and verdict, the default.

        Raises NotFound.
        """
        card = self._card(id)
        data = self.comparisons.read(id) or {"rows": [], "machine": {}, "at": 0}
        rows = [verdict.row(one) for one in data["rows"]]
        said, best = verdict.verdicts(rows, self.studio.device.features), verdict.front(rows)
        base = verdict.reference(rows)
        default = self.verdicts.get(id, self._fingerprint(card))
        shown = []
        for row, stored in zip(rows, data["rows"], strict=True):
            known = {name: stored.get(name) for name in (*COLUMNS, *ABOUT)}
            is_default = default is not None and (default.runtime, default.precision) == (row.runtime, row.precision)
            shown.append({
                **known, "key": row.key, "title": row.title, "quality": stored.get("quality") or {},
                "leading": quality.leading(row.quality), "front": row.key in best, "verdict": said[row.key],
                "tolerable": base is not None and row.is_measured and verdict.is_tolerable(row, base),
                "reference": base is not None and row.key == base.key, "default": is_default,
            })  # fmt: skip
        return {
            "id": id, "title": card.title, "rows": shown, "offered": self.offered(card), "at": data.get("at", 0),
            "machine": data["machine"], "default": _told(default), "best": self._best(rows),
        }  # fmt: skip

    def offered(self, card: Card) -> list[Json]:
        """Variants that can be measured here: key and title. Those measured before stay."""
        known = [row.key for row in self.comparisons.rows(card.id)]
        found = []
        for key in dict.fromkeys([*self.studio.variants(card), *known]):
            runtime, _, precision = key.partition("-")
            found.append({"key": key, "title": verdict.Row(card.id, runtime, precision).title})
        return found

    def picture(self, id: str, name: str) -> Path:
        """Raises NotFound."""
        return self.comparisons.picture(id, name)

    def _best(self, rows: Sequence[verdict.Row]) -> str:
        return verdict.choose(rows).key if verdict.reference(rows) is not None else ""

    def _card(self, id: str) -> Card:
        card = self.studio.card(id)
        if card.engine not in ENGINES:
            raise NotFound(f"{card.title} has no network that could be compressed.", "Choose another model.")
        return card

    def _fingerprint(self, card: Card) -> str:
        return self.studio.store.fingerprint(card) if self.studio.store.state(card).offline else ""

    # ── doing ────────────────────────────────────────────────────────────────

    def compare(self, id: str, variants: Sequence[str], owner: str, *, anyway: bool = False) -> Snapshot:
        """Queues the measurement; `anyway` on a busy machine too.

        Raises InvalidTask, NotFound, NotAllowed, QueueFull.
        """
        card = self._card(id)
        self.studio.require("share")  # a measurement needs the machine for itself
        offered = {one["key"] for one in self.offered(card)}
        chosen = [key for key in dict.fromkeys(variants) if key in offered]
        if not chosen:
            raise InvalidTask("No variant is chosen.", "Choose at least one; fp32 is measured with it.")
        return self.studio.compare(id, chosen, anyway=anyway, owner=owner)

    def use(self, id: str, key: str) -> None:
        """Makes a measured variant the default here. Raises NotFound, NotAllowed, InvalidTask."""
        self.studio.require("share")
        shown = next((one for one in self.comparison(id)["rows"] if one["key"] == key), None)
        if shown is None or shown["median_ms"] is None or shown["error"]:
            raise InvalidTask("This variant was not measured.", "Compare first.")
        self.studio.use(id, key)

    def undo(self, id: str) -> None:
        """Back to the default before. Raises NotFound, NotAllowed."""
        self.studio.require("share")
        self._card(id)
        self.verdicts.undo(id)
        self.studio.pool.unload(id)

    # ── exports ──────────────────────────────────────────────────────────────

    def export(self, id: str, format: str) -> tuple[str, str]:
        """The comparison as a file: text and media type. Raises NotFound."""
        if format not in EXPORTS:
            raise NotFound("There is no such export.", f"Choose one of: {', '.join(EXPORTS)}.")
        make, media = EXPORTS[format]
        return make(self.comparison(id)), media


def _told(choice: Choice | None) -> Json | None:
    if choice is None:
        return None
    title = verdict.Row("", choice.runtime, choice.precision).title
    return {"key": f"{choice.runtime}-{choice.precision}", "title": title, "sentence": choice.sentence, "at": choice.at}


# ── what needs no measurement ────────────────────────────────────────────────


def theory() -> Json:
    """The table of precisions, what measures mean, the usual claims with their errors, and figures of the starter
    models."""
    table = [
        {"id": one.id, "title": one.title, "family": one.family, "bits": one.bits,
         "stored": "; ".join(filter(None, (one.stored, one.in_memory))),
         "sentence": one.sentence, "ideal": ideal(one)}
        for one in precisions.offered()
    ]  # fmt: skip
    names = {id_ for claim in claims.CLAIMS for id_ in claim.measured} | {row["precision"] for row in measured()}
    told = [{**asdict(claim), "share": list(claim.theory)} for claim in claims.CLAIMS]
    return {
        "precisions": table,
        "titles": {name: precisions.find(name).title for name in names},
        "measures": {name: asdict(measure) for name, measure in quality.MEASURES.items()},
        "claims": told,
        "claim_errors": claims.errors(),
        "baseline": claims.BASELINE_BYTES,
        "measured": measured(),
    }


def ideal(one: precisions.Precision) -> float:
    """Bits per weight without scales, zero points and bitmaps: what a precision is named after."""
    if one.gguf:
        return float("".join(c for c in one.gguf.split("_")[0] if c.isdigit()))
    if one.family == "pruned":
        return one.bits - 1 if one.matrix is not None and one.matrix.kind != "rows" else one.bits
    if one.family == "mixed":
        return float(one.id.split("-")[1])
    return float(one.matrix.bits) if one.matrix is not None else one.bits


@lru_cache(maxsize=1)
def measured() -> list[Json]:
    """Bytes and quality of the starter models, as `python -m tests.bench.compress_quality` found them; the same on
    every machine. Empty where the file is not there."""
    try:
        rows: list[Json] = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError):
        return []
    return rows


# ── files ────────────────────────────────────────────────────────────────────


def to_json(data: Json) -> str:
    """All that is known, without the names of pictures."""
    rows = [{k: v for k, v in row.items() if k not in ("pictures", "title", "leading")} for row in data["rows"]]
    kept = {name: data[name] for name in ("id", "title", "machine", "at", "default", "best")}
    return json.dumps({**kept, "rows": rows}, indent=1)


def to_csv(data: Json) -> str:
    """One line per variant; measures get a column each."""
    names = sorted({name for row in data["rows"] for name in row["quality"]})
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*COLUMNS, *names, "front", "default", "verdict"])
    for row in data["rows"]:
        numbers = [row[name] for name in COLUMNS]
        values = [*numbers, *(row["quality"].get(name) for name in names), row["front"], row["default"], row["verdict"]]
        writer.writerow(["" if value is None else _harmless(value) for value in values])
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and re.match(r"[=+\-@\t\r]", value) else value


def to_html(data: Json) -> str:
    """One page that needs nothing else: the table and the verdicts, for printing or sending."""
    say = html.escape
    names = list(dict.fromkeys(name for row in data["rows"] for name in row["quality"]))
    titles = [
        f"{quality.MEASURES[n].title} {quality.MEASURES[n].unit}".strip() if n in quality.MEASURES else n for n in names
    ]
    head = ["", "MB", "Memory MB", "Load s", "First ms", "Median ms", *titles]
    lines = []
    for row in data["rows"]:
        cells = [_mb(row["bytes"]), _figure(row["peak_mb"]), _figure(row["load_s"]), _figure(row["first_ms"]),
                 _figure(row["median_ms"]), *(_figure(row["quality"].get(name)) for name in names)]  # fmt: skip
        marks = " (default)" if row["default"] else ""
        lines.append(
            f"<tr><th>{say(row['title'] + marks)}</th>{''.join(f'<td>{say(cell)}</td>' for cell in cells)}</tr>"
        )
    machine = data["machine"] or {}
    about = ", ".join(str(machine[key]) for key in ("name", "cores") if machine.get(key)) + (
        " cores" if machine else ""
    )
    verdicts = "".join(f"<li>{say(row['verdict'])}</li>" for row in data["rows"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{say(data["title"])}: precisions</title>'
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:40px;max-width:1000px}table{border-collapse:collapse}"
        "td,th{padding:6px 14px;text-align:right;border-top:1px solid #ddd;font-variant-numeric:tabular-nums}"
        "th:first-child{text-align:left}</style>"
        f"<h1>{say(data['title'])}</h1><p>{say(about)}</p><table><tr>{''.join(f'<th>{say(t)}</th>' for t in head)}</tr>"
        f"{''.join(lines)}</table><ul>{verdicts}</ul></html>"
    )


def _mb(value: float | None) -> str:
    return "" if value is None else f"{value / 2**20:.1f}"


def _figure(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


EXPORTS = {
    "json": (to_json, "application/json"),
    "csv": (to_csv, "text/csv; charset=utf-8"),
    "html": (to_html, "text/html; charset=utf-8"),
}
