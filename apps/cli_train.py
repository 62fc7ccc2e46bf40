"""`python app.py train`: every recipe without the page. A lab's recipe makes a run, as its tab would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from studio.config import Config
from studio.errors import Cancelled, InvalidTask, NotFound
from studio.tasks import MAX_SEED, Train
from studio.train import adopt, recipes
from studio.train.runs import AT_WORK, Run, Runs

_LAST = "last"  # --resume without a value
_EVERY_S = 2.0


@click.command()
@click.argument("recipe")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for a copy of the model.")
@click.option("--minutes", type=float, help="Time budget of the whole run.")
@click.option("--steps", type=int, help="Step budget, instead of minutes.")
@click.option("--data", help="stickers[:GROUP], digits, library, or the path of a folder or zip of pictures.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One of the recipe's settings; repeatable.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
@click.option("--patience", type=int, default=0, help="Stop after N evaluations without improvement (0 = never).")
@click.option(
    "--resume", is_flag=False, flag_value=_LAST, help="Continue this run (the recipe's last without a value)."
)
@click.option("--evaluate", type=click.Path(path_type=Path), help="Only measure the starter model in this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def train(config: Config, recipe: str, as_json: bool, evaluate: Path | None, **asked: Any) -> None:
    """Train a recipe; `train list` names them, `train settings:NAME` their settings, `train runs` what was trained."""
    kind, _, name = recipe.partition(":")
    listings = {"list": _list, "runs": lambda: _runs(config), "settings": lambda: _settings(name)}
    if kind in listings:
        rows, text = listings[kind]()
    elif evaluate is not None:
        rows, text = _told(recipes.evaluate(recipe, evaluate))
    elif recipes.find(recipe).family == "starter":
        rows, text = _told(_starter(config, recipe, asked))
    else:
        rows, text = _told(_lab(config, recipe, asked))
    click.echo(json.dumps(rows, default=str) if as_json else text)


# ── listings ─────────────────────────────────────────────────────────────────


def _list() -> tuple[Any, str]:
    rows = [
        {"name": name, "minutes": r.minutes, "family": r.family, "data": r.data, "summary": r.summary}
        for name, r in recipes.RECIPES.items()
    ]
    return rows, "\n".join(f"{r['name']:16} {r['minutes']:>5g} min  {r['summary']}" for r in rows)


def _runs(config: Config) -> tuple[Any, str]:
    found = Runs(config.home).list()
    lines = [f"{run.id:40} {run.state:12} {run.step:>8} steps {run.seconds / 60:6.1f} min" for run in found]
    return [run.model_dump(mode="json") for run in found], "\n".join(lines) if found else "nothing was trained yet"


def _settings(name: str) -> tuple[Any, str]:
    recipe = recipes.find(name)
    preset = recipe.options.made(recipe.preset).model_dump(mode="json")
    fields = {key: info.description for key, info in recipe.options.model_fields.items()}
    return preset, "\n".join(f"{key:14} {preset[key]!s:18} {text}" for key, text in fields.items())


def _told(metrics: Mapping[str, Any]) -> tuple[Any, str]:
    return metrics, "\n".join(f"{key}: {value}" for key, value in metrics.items())


# ── trainings ────────────────────────────────────────────────────────────────


def _starter(config: Config, recipe: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """One of the long recipes of the shipped models, into a folder of its own."""

    def report(step: int, total: int, metrics: Mapping[str, float]) -> None:
        click.echo(f"{step}/{total} " + " ".join(f"{key} {value:.4g}" for key, value in metrics.items()), err=True)

    folder = asked["out"] if asked["out"] is not None else config.home / "runs" / recipe
    metrics = recipes.train(
        recipe,
        folder,
        minutes=asked["minutes"],
        steps=asked["steps"],
        seed=asked["seed"],
        resume=asked["resume"] is not None,
        report=report,
    )
    return {**metrics, "folder": str(folder)}


def _lab(config: Config, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Makes or continues a run in this process. Ctrl-C stops it with a checkpoint."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from studio.train import session

    runs = Runs(config.home)
    task = _asked(runs, name, asked)
    report = Terminal(runs, task.run)
    before = signal.signal(signal.SIGINT, lambda *_: report.stop())
    try:
        metrics = session.train(config.home, task, report)
    except Cancelled as error:
        raise Cancelled(f"Stopped at step {runs.get(task.run).step}.", f"Continue with --resume {task.run}.") from error
    finally:
        signal.signal(signal.SIGINT, before)
    folder = runs.model(task.run)
    if asked["out"] is not None:
        shutil.copytree(folder, asked["out"], dirs_exist_ok=True)
    held = adopt.inside(folder, runs.get(task.run).family)  # who hands the model on hands these on, too
    return {**metrics, "folder": str(folder), "pictures_inside": held}


def _asked(runs: Runs, name: str, asked: Mapping[str, Any]) -> Train:
    """The task of a new run, or of one that goes on with what was asked anew. Raises InvalidTask, NotFound."""
    recipe = recipes.find(name)
    settings = dict(_setting(recipe.options.model_fields, text) for text in asked["settings"])
    budget = {"steps": asked["steps"], "minutes": asked["minutes"]}
    if asked["resume"] is not None:
        run = _resumed(runs, name, asked["resume"])
        fixed = sorted(settings.keys() & recipe.options.kept)
        if fixed:
            raise InvalidTask(f"{fixed[0]} cannot change within a run.", "Start a new run for it.")
        if any(value is not None for value in budget.values()):
            run = runs.update(run.id, **budget)
        if settings:
            changed = recipe.options.made(run.options, settings)
            run = runs.update(run.id, options=changed.model_dump(mode="json"))
        return adopt.task_of(run)
    options = recipe.options.made(recipe.preset, settings)
    given = any(value is not None for value in budget.values())
    source = asked["data"] if asked["data"] is not None else recipe.data
    path = Path(source).expanduser()
    task = Train(
        recipe=name,
        run="new",
        **(budget if given else {"minutes": recipe.minutes}),
        data=str(path.resolve()) if path.exists() else source,
        options=options.model_dump(mode="json"),
        seed=asked["seed"],
        patience=asked["patience"],
    )
    run = runs.create(**adopt.record(task, recipe, "local"))
    return task.model_copy(update={"run": run.id})


def _resumed(runs: Runs, name: str, wanted: str) -> Run:
    """The run of that id, or the last one of the recipe. Raises NotFound, InvalidTask."""
    if wanted == _LAST:
        own = [run for run in runs.list() if run.recipe == name and run.state not in AT_WORK]
        if not own:
            raise NotFound(f"There is no run of {name} to continue.", "See `python app.py train runs`.")
        return own[0]
    run = runs.get(wanted)
    if run.recipe != name:
        raise InvalidTask(f"{wanted} is a run of {run.recipe}.", f"Use `train {run.recipe} --resume {wanted}`.")
    return run


def _setting(fields: Mapping[str, Any], text: str) -> tuple[str, Any]:
    """ "beta=4" as name and value; a list is written with commas. Raises InvalidTask."""
    key, separator, value = text.partition("=")
    if not separator or key not in fields:
        raise InvalidTask(f"{text!r} is not a setting.", f"Write KEY=VALUE with one of: {', '.join(fields)}.")
    if str(fields[key].annotation).startswith("tuple"):
        return key, tuple(part for part in value.split(",") if part)
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


class Terminal:
    """The Report of a training in a terminal: a line now and then, on stderr."""

    cache = Path()

    def __init__(self, runs: Runs, id_: str) -> None:
        self._runs, self._id = runs, id_
        self._shown = 0.0
        self._stopped = False

    def stop(self) -> None:
        """Ends the training at its next step; asked twice, at once."""
        if self._stopped:
            sys.exit(130)
        self._stopped = True

    def progress(self, step: int, total: int, phase: str = "") -> None:
        if self._stopped:
            raise Cancelled
        if time.monotonic() - self._shown > _EVERY_S:
            self._shown = time.monotonic()
            metrics = self._runs.get(self._id).metrics
            shown = " ".join(f"{key} {value:.4g}" for key, value in metrics.items() if value is not None)
            click.echo(f"{phase} {step}/{total} {shown}", err=True)

    def preview(self, image: Any) -> None:
        """Samples are in the run's folder; a terminal shows none."""

    def asset(self, id: str) -> Any:
        raise NotFound("A training reads no assets.", "")
