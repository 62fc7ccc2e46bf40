"""The command line. `run` has a sub-command for each Task, its flags derived from the Task's fields.

Every verb prints JSON with `--json` and exits non-zero with a readable message on failure.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from apps import bench_cli
from apps.cli_train import train
from studio.airgap import Airgap
from studio.config import GB, Config
from studio.device import probe
from studio.errors import InvalidImage, InvalidTask, StudioError
from studio.exports import format_for
from studio.intake.detectors import parse_names
from studio.jobs import Snapshot
from studio.ops.pictures import MAX_BYTES
from studio.studio import Studio
from studio.tasks import TASKS, Task

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_SINGULAR = {"points": "point", "classes": "class"}


class Group(click.Group):
    """A group whose StudioErrors become one message on stderr (or JSON) and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StudioError as error:
            if "--json" in sys.argv:
                click.echo(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
            else:
                click.echo(str(error), err=True)
            ctx.exit(1)


@click.group(cls=Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mode", type=click.Choice(["local", "space", "kiosk"]), help="Who uses it. Default: local.")
@click.option("--offline", is_flag=True, default=None, help="Never open a connection to another machine.")
@click.option("--host", help="Address the page is served on. Default: 127.0.0.1.")
@click.option("--port", type=int, help="Port of the page. Default: 7860.")
@click.option("--home", type=click.Path(path_type=Path), help="Where pictures, jobs and imported models live.")
@click.option("--memory-mb", type=int, help="RAM budget for models.")
@click.option("--verbose", is_flag=True, help="Log what happens inside.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool, **flags: Any) -> None:
    """An image studio that runs on this machine. Without a command it opens in the browser."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    ctx.obj = Config(**{name: value for name, value in flags.items() if value is not None})
    if ctx.invoked_subcommand is None:
        ctx.invoke(serve)


@cli.command()
@click.pass_obj
def serve(config: Config) -> None:
    """The studio in the browser (the default)."""
    from apps.serve import launch

    with _studio(config, runs_jobs=False) as studio:  # jobs start with the page
        launch(studio, config, say=click.echo)


@cli.group()
def run() -> None:
    """Run one task and write the result to a file."""


@cli.group()
def models() -> None:
    """Models on this device and models to fetch."""


@contextmanager
def _studio(config: Config, *, runs_jobs: bool = True) -> Iterator[Studio]:
    with Airgap() if config.offline else nullcontext():
        studio = Studio(config, probe(config.accelerator))
        # A terminated app closes like an interrupted one: its workers end and its job is marked.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            if runs_jobs:
                studio.start()
            yield studio
        finally:
            studio.close()


def _say(as_json: bool, data: Any, text: str) -> None:
    click.echo(json.dumps(data, default=str) if as_json else text)


# ── run ──────────────────────────────────────────────────────────────────────


def _flag(name: str, task: type[Task]) -> click.Option:
    """The option for one field. Values stay text: the Task itself checks and converts them."""
    field = task.model_fields[name]
    flag = "--" + _SINGULAR.get(name, name).replace("_", "-")
    if field.annotation is bool:
        return click.Option([flag, name], is_flag=True, default=None, help=field.description)
    required = field.is_required()
    notes = [*_bounds(task.model_json_schema()["properties"][name])]
    if not required and field.default not in (None, (), ""):
        notes.append(f"default {field.default}")
    return click.Option(
        [flag, name],
        multiple=name in _SINGULAR,
        required=required,
        metavar="FILE" if name in task.asset_fields else None,
        help=(field.description or "") + (f" [{'; '.join(notes)}]" if notes else ""),
    )


_LIMITS = {  # key of JSON Schema -> words
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "multipleOf": "a multiple of {}",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} times",
}


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    """What a field takes, in words: its choices, or its limits."""
    parts = {key: value for part in (schema, *schema.get("anyOf", ())) for key, value in part.items()}
    if "enum" in parts:
        yield ", ".join(map(str, parts["enum"]))
    if parts.get("type") == "array" and parts.get("minItems") == parts.get("maxItems"):
        return  # a box has four numbers, which its description says
    yield from (words.format(parts[key]) for key, words in _LIMITS.items() if key in parts)


def _command(kind: str, task: type[Task]) -> click.Command:
    options: list[click.Parameter] = [
        *(_flag(name, task) for name in task.model_fields),
        click.Option(["--card"], help="Model to use (default: the first that is here; see `models list`)."),
        click.Option(["--out"], type=click.Path(path_type=Path), help="File to write; several get -1, -2, ..."),
        click.Option(["--format", "format_"], help="What to write (default: by the ending of --out)."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object."),
    ]
    return click.Command(kind, params=options, callback=click.pass_obj(partial(_run, kind)), help=task.__doc__)


def _run(
    kind: str, config: Config, card: str | None, out: Path | None, format_: str | None, as_json: bool, **flags: Any
) -> None:
    with _studio(config) as studio:
        fields = {name: value for name, value in flags.items() if value not in (None, ())}
        for name in TASKS[kind].asset_fields:
            if name in fields:
                fields[name] = _asset(studio, name, Path(fields[name]))
        fields.update({name: parse(fields[name]) for name, parse in _PARSERS.items() if name in fields})
        card_id = card if card is not None else _default_card(studio, kind)
        job = _follow(studio, studio.submit(card_id, fields), show=not as_json and sys.stderr.isatty())
        files = _write(studio, job, out, format_)
        artifact = studio.library.get(job.artifact)
        facts = {"card": job.card, "artifact": artifact.id, "seconds": round(job.seconds, 2), "files": files}
        _say(as_json, {**facts, "task": job.task.to_json(), "data": artifact.data}, _summary(facts, artifact.data))


def _read_small(file: Path) -> bytes:
    """The bytes of a plain file, one more at most than a picture may have. Raises OSError, InvalidImage."""
    if file.exists() and not file.is_file():  # a device never ends, a pipe may never begin
        raise InvalidImage(f"{file} is a folder or a device.", "Give the path of a plain file.")
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


def _asset(studio: Studio, name: str, file: Path) -> str:
    try:
        data = _read_small(file)
    except OSError as error:
        raise InvalidImage(f"{file} cannot be read: {error.strerror}.", "Give the path of a picture.") from error
    return (studio.library.add_mask if name == "mask" else studio.library.add_image)(data, file.name).id


def _numbers(text: str, counts: tuple[int, ...], example: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts:
        raise InvalidTask(f"{text!r} is not {example}.", "Give numbers with commas between, in pixels.")
    return values


def _points(texts: tuple[str, ...]) -> list[list[float]]:
    """ "x,y" is on the thing; "x,y,0" is not."""
    return [
        [*values, 1] if len(values) == 2 else values
        for values in (_numbers(t, (2, 3), "x,y or x,y,label") for t in texts)
    ]


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "points": _points,
    "box": lambda text: _numbers(text, (4,), "x1,y1,x2,y2"),
}


def _default_card(studio: Studio, kind: str) -> str:
    ready = studio.cards(kind, ready=True)
    if not ready:
        raise StudioError(f"No model for {kind} is on this device.", "See `python app.py models list`.")
    return ready[0].id


def _follow(studio: Studio, job: Snapshot, *, show: bool) -> Snapshot:
    """Waits to the end, cancelling on Ctrl-C. Raises what the job failed with."""
    try:
        for now in studio.jobs.watch(job.id):
            if show:
                click.echo(f"\r{now.phase} {now.step}/{now.total} {now.seconds:.1f} s   ", nl=False, err=True)
    except KeyboardInterrupt:
        studio.jobs.cancel(job.id)
    if show:
        click.echo("", err=True)
    last = studio.jobs.get(job.id)
    if last.state != "done":
        raise StudioError(last.message or "Cancelled.", last.hint)
    return last


def _write(studio: Studio, job: Snapshot, out: Path | None, format_: str | None) -> list[str]:
    if out is None:
        return []
    files = studio.export(job.artifact, format_ if format_ is not None else format_for(job.task.kind, out.suffix))
    written = []
    for k, (suffix, data) in enumerate(files, start=1):
        path = out if len(files) == 1 else out.with_name(f"{out.stem}-{k}{suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise StudioError(
                f"{path} cannot be written: {error.strerror}.", "The result is in the library."
            ) from error
        written.append(str(path))
    return written


def _summary(facts: dict[str, Any], data: Any) -> str:
    found = ""
    if "labels" in data:
        found = f"{len(data['labels'])} found: " + ", ".join(
            f"{label} {score:.2f}" for label, score in zip(data["labels"], data["scores"], strict=True)
        )
    elif "areas" in data:
        found = f"{len(data['areas'])} masks"
    notes = list(data.get("notes", ()))
    wrote = f"wrote {', '.join(facts['files'])}" if facts["files"] else f"kept in the library as {facts['artifact']}"
    return "\n".join(filter(None, [found, *notes, f"{wrote} ({facts['card']}, {facts['seconds']:.1f} s)"]))


for _kind, _task in TASKS.items():
    run.add_command(_command(_kind, _task))


# ── models ───────────────────────────────────────────────────────────────────


@models.command("list")
@click.option("--task", type=click.Choice(list(TASKS)), help="Only models for this task.")
@JSON
@click.pass_obj
def list_models(config: Config, task: str | None, as_json: bool) -> None:
    """All models, ready ones first."""
    with _studio(config, runs_jobs=False) as studio:
        found = [(card, studio.store.state(card)) for card in studio.cards(task)]
        found.sort(key=lambda pair: pair[1].status != "ready")
        rows = [
            {
                "id": card.id, "title": card.title, "tasks": card.tasks, "licence": card.licence, "bytes": card.size,
                "status": state.status, "reason": state.reason,
            }
            for card, state in found
        ]  # fmt: skip
        lines = [
            f"{state.status:8} {c.id:28} {'/'.join(c.tasks):9} {_size(c.size):>8}  {c.licence}"
            + (f"\n{'':8} {state.reason}" if state.reason else "")
            for c, state in found
        ]
        _say(as_json, rows, "\n".join(lines))


@models.command()
@click.argument("id")
@JSON
@click.pass_obj
def show(config: Config, id: str, as_json: bool) -> None:
    """Everything about one model; the names it knows under `things` or `classes`."""
    with _studio(config, runs_jobs=False) as studio:
        facts = studio.facts(id)
        _say(as_json, facts, "\n".join(f"{key}: {value}" for key, value in facts.items()))


@models.command()
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
@click.pass_obj
def pull(config: Config, id: str, yes: bool, as_json: bool) -> None:
    """Fetch a model from the Hugging Face hub into the shared cache."""
    with _studio(config, runs_jobs=False) as studio:
        studio.require("download")
        card = studio.card(id)
        plan = studio.store.plan(card)
        if not yes and not as_json:
            click.confirm(f"{card.title}: {_size(plan.bytes)}, licence {card.licence}. Fetch it?", abort=True)

        def progress(done: int, total: int, seconds: float | None) -> None:
            if sys.stderr.isatty():
                left = "" if seconds is None else f", {seconds:.0f} s left"
                click.echo(f"\r{_size(done)} of {_size(total)}{left}    ", nl=False, err=True)

        studio.store.pull(card, progress)
        _say(as_json, {"id": id, "path": studio.store.path(card)}, f"{card.title} is ready.")


_CLASSES = click.option(
    "--classes",
    metavar="NAMES",
    help="Class names of a detector: coco, a file with one a line, or with commas between.",
)


def _names(text: str | None) -> list[str]:
    """What --classes says. Raises InvalidTask."""
    if text is None:
        return []
    try:
        return parse_names(_read_small(Path(text)).decode("utf-8", "replace") if Path(text).is_file() else text)
    except OSError as error:
        raise InvalidTask(
            f"{text} cannot be read: {error.strerror}.", "Give a text file with one name a line."
        ) from error


@models.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@_CLASSES
@JSON
@click.pass_obj
def import_model(config: Config, path: Path, classes: str | None, as_json: bool) -> None:
    """Take in your own file or folder (.safetensors, .onnx, .gguf, diffusers folder, .pt converted safely)."""
    with _studio(config, runs_jobs=False) as studio:
        studio.require("import")
        card = studio.store.add(path, names=_names(classes))
        reason = studio.store.state(card).reason
        text = f"{card.title} is in the studio as {card.id}. {card.summary} {reason}".strip()
        _say(as_json, {**card.model_dump(mode="json"), "reason": reason}, text)


@models.command()
@click.argument("id")
@_CLASSES
@JSON
@click.pass_obj
def names(config: Config, id: str, classes: str | None, as_json: bool) -> None:
    """Say what the classes of an imported detector are called; without --classes show their names."""
    with _studio(config, runs_jobs=False) as studio:
        card = studio.card(id)
        if classes is not None:
            studio.require("import")
            card = studio.store.name_classes(card, _names(classes))
        found = studio.facts(card.id).get("classes") or list(card.options.get("names", ()))
        _say(as_json, {"id": id, "classes": found}, f"{card.summary}\n{', '.join(map(str, found))}".strip())


@models.command()
@click.argument("ids", nargs=-1)
@JSON
@click.pass_obj
def verify(config: Config, ids: tuple[str, ...], as_json: bool) -> None:
    """Hash every file again and compare with what was recorded. Without ids: all models that are here."""
    with _studio(config, runs_jobs=False) as studio:
        chosen = [studio.card(id) for id in ids] or [
            c for c in studio.cards() if studio.store.state(c).status != "absent"
        ]
        found = {card.id: _verdict(studio, card) for card in chosen}
        _say(as_json, found, "\n".join(f"{id_}: {text}" for id_, text in found.items()))
        if any(text != "ok" for text in found.values()):
            raise click.exceptions.Exit(1)


def _verdict(studio: Studio, card: Any) -> str:
    try:
        studio.store.verify(card)
    except StudioError as error:
        return str(error)
    return "ok"


@models.command()
@click.argument("id")
@click.option("--off", is_flag=True, help="Unpin.")
@JSON
@click.pass_obj
def pin(config: Config, id: str, off: bool, as_json: bool) -> None:
    """Keep a model when room is made."""
    with _studio(config, runs_jobs=False) as studio:
        (studio.store.unpin if off else studio.store.pin)(studio.card(id))
        _say(as_json, {"id": id, "pinned": not off}, f"{id} is {'no longer pinned' if off else 'pinned'}.")


@models.command()
@click.argument("id", required=False)
@click.option("--budget-gb", type=float, help="Make room until all downloads fit (least recently used first).")
@JSON
@click.pass_obj
def evict(config: Config, id: str | None, budget_gb: float | None, as_json: bool) -> None:
    """Remove one downloaded or imported model, or as many as the disk budget asks for."""
    with _studio(config, runs_jobs=False) as studio:
        studio.require("delete")
        if id is not None:
            studio.store.remove(studio.card(id))
            _say(as_json, [id], f"{id} is removed.")
            return
        freed = studio.store.evict(None if budget_gb is None else round(budget_gb * GB))
        _say(as_json, freed, f"removed: {', '.join(map(str, freed)) or 'nothing'}")


@models.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The pack to write (.studio.tar).")
@JSON
@click.pass_obj
def pack(config: Config, ids: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Write models with their cards, licences and hashes into one file, to carry to a machine without network."""
    from studio.weights import packs

    with _studio(config, runs_jobs=False) as studio:
        packs.pack(studio.store, [studio.card(id) for id in ids], out)
        _say(as_json, {"file": out, "bytes": out.stat().st_size}, f"wrote {out} ({_size(out.stat().st_size)})")


@models.command()
@click.argument("file", type=click.Path(path_type=Path))
@JSON
@click.pass_obj
def unpack(config: Config, file: Path, as_json: bool) -> None:
    """Take in a model pack, verified before anything is listed."""
    from studio.weights import packs

    with _studio(config, runs_jobs=False) as studio:
        studio.require("import")
        taken = packs.unpack(studio.store, file)
        _say(as_json, [card.id for card in taken], "\n".join(f"{card.title} is in the studio." for card in taken))


@models.command()
@JSON
@click.pass_obj
def seal(config: Config, as_json: bool) -> None:
    """For maintainers: record the hashes of the shipped weights, against which every load is checked."""
    from studio.weights import shipped

    found = shipped.seal(config.models)
    _say(
        as_json, {"files": len(found), "bytes": sum(file.size for file in found.values())}, f"sealed {len(found)} files"
    )


# ── doctor ────────────────────────────────────────────────────────────


@cli.command()
@click.option("--air-gap", is_flag=True, help="Load and run every installed model with the network blocked.")
@JSON
@click.pass_obj
def doctor(config: Config, air_gap: bool, as_json: bool) -> None:
    """What works here, what does not, and why."""
    from studio import doctor as checks

    with _studio(config.model_copy(update={"offline": True}) if air_gap else config) as studio:
        found = list(checks.examine(studio)) + (list(checks.air_gap(studio)) if air_gap else [])
        text = "\n".join(f"{'ok  ' if f.ok else 'FAIL'} {f.name:28} {f.detail}" for f in found)
        _say(as_json, [dataclasses.asdict(f) for f in found], text)
        if not all(f.ok for f in found):
            raise click.exceptions.Exit(1)


cli.add_command(train)
cli.add_command(bench_cli.command(_studio))
cli.add_command(bench_cli.plan_command(_studio))


def _size(size: int | None) -> str:
    """Bytes as people read them: 9.8 MB, 3.4 GB."""
    if size is None:
        return "?"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
