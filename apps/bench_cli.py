"""`python app.py bench`: what each precision and runtime of a model costs on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from studio.compress import plan, verdict
from studio.config import Config
from studio.errors import InvalidTask
from studio.studio import Studio

Opened = Callable[..., AbstractContextManager[Studio]]
COLUMNS = ("runtime", "precision", "bytes", "resident_mb", "peak_mb", "load_s", "first_ms", "median_ms", "spread_ms")


def command(opened: Opened) -> click.Command:
    """The verb; `opened` gives a Studio for a Config."""

    @click.command()
    @click.option("--card", "id", help="Model to measure (default: the first that can be compressed).")
    @click.option("--variants", help="Commas between: openvino-int8,onnxruntime-fp32 (default: the usual ones).")
    @click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="Pictures of yours.")
    @click.option("--runs", type=click.IntRange(1, 200), default=7, help="Timed runs of each variant [7].")
    @click.option("--budget-mb", type=float, help="Choose among those whose peak memory fits.")
    @click.option("--budget-ms", type=float, help="Choose among those that are quick enough.")
    @click.option("--use", is_flag=True, help="Make the best one this model's default here.")
    @click.option("--undo", is_flag=True, help="Go back to the default before, and measure nothing.")
    @click.option("--anyway", is_flag=True, help="Measure although the machine is busy.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object per variant.")
    @click.pass_obj
    def bench(
        config: Config,
        id: str | None,
        variants: str | None,
        images: tuple[Path, ...],
        runs: int,
        budget_mb: float | None,
        budget_ms: float | None,
        use: bool,
        undo: bool,
        anyway: bool,
        as_json: bool,
    ) -> None:
        """Size, memory, time and quality of a model per runtime and precision, on this machine."""
        with opened(config, runs_jobs=False) as studio:
            card = studio.card(id) if id is not None else _first(studio)
            if undo:
                choice = studio.bench.verdicts.undo(card.id)
                name = "as it came" if choice is None else f"{choice.runtime}-{choice.precision}"
                click.echo(json.dumps({"card": card.id, "default": name}) if as_json else f"{card.title} runs {name}.")
                return
            names = [name.strip() for name in (variants or "").split(",") if name.strip()]
            show = None if as_json or not sys.stderr.isatty() else _progress
            folder, fingerprint = studio.store.path(card), studio.store.fingerprint(card)
            rows = studio.bench.compare(
                card, folder, fingerprint, names, runs=runs, anyway=anyway, own=images, on_step=show
            )
            measured = [verdict.row(row) for row in rows]
            best = verdict.choose(measured, budget_mb, budget_ms)
            for row, one in zip(rows, measured, strict=True):
                row["chosen"] = one.key == best.key
            if use:
                studio.use(card.id, best.key)
            click.echo("\n".join(json.dumps(row) for row in rows) if as_json else _table(studio, rows))

    return bench


def plan_command(opened: Opened) -> click.Command:
    """The verb that chooses by memory before anything is run."""

    @click.command("plan")
    @click.argument("memory")
    @click.option("--card", "id", required=True, help="The model to run.")
    @click.option("--side", type=click.IntRange(64, 2048), help="Side of the picture in px.")
    @click.option("--use", is_flag=True, help="Convert the model if need be, and make this its default here.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @click.pass_obj
    def command(config: Config, memory: str, id: str, side: int | None, use: bool, as_json: bool) -> None:
        """How to run a model within MEMORY ("4 GB"): runtime, precision, tiling, and the predicted peak."""
        with opened(config, runs_jobs=False) as studio:
            card = studio.card(id)
            folder, fingerprint = studio.store.path(card), studio.store.fingerprint(card)
            found = studio.bench.planned(card, folder, fingerprint, plan.parse(memory), side)
            if use:
                show = None if as_json or not sys.stderr.isatty() else _progress
                found = studio.bench.follow(card, folder, fingerprint, found, show)
            click.echo(json.dumps(found.to_json()) if as_json else str(found))

    return command


def _first(studio: Studio) -> Any:
    found = next((card for card in studio.cards(ready=True) if studio.bench.offered(card)), None)
    if found is None:
        raise InvalidTask("No model that can be compressed is on this device.", "See `python app.py models list`.")
    return found


def _table(studio: Studio, rows: list[dict[str, Any]]) -> str:
    device = studio.device
    machine = f"{device.name}, {device.cores} cores ({', '.join(sorted(device.features)) or 'no VNNI'})"
    lines = [machine, "  ".join(f"{name:>12}" for name in COLUMNS)]
    for row in rows:
        values = [row.get(name) for name in COLUMNS]
        lines.append("  ".join(f"{value if value is not None else '-':>12}" for value in values))
        quality = ", ".join(f"{name} {value}" for name, value in (row.get("quality") or {}).items())
        lines.append(f"{'->' if row['chosen'] else '  '} {row['verdict']} {quality}".rstrip())
    return "\n".join(lines)


def _progress(step: int, total: int, phase: str) -> None:
    click.echo(f"\r{step}/{total} {phase:60.60}", nl=False, err=True)
