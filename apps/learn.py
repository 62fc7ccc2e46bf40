"""The wire of the labs: runs to follow, samples over time, a trained model to ask, pictures to learn from.

A run's id is a capability, like a job's: who knows one may see it. Only where all share one library are runs listed.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response

from apps.catalogue import inbox, receive
from apps.lab import label
from studio.cards import Card
from studio.errors import InvalidTask, NotFound
from studio.ops import pictures
from studio.studio import Studio
from studio.train import adopt, gan_warnings, recipes, record
from studio.train.runs import Run

Json = dict[str, Any]
LEARN = Path(__file__).resolve().parent.parent / "assets" / "learn"
UPLOADS_KEPT = 20
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_NEVER = {"Cache-Control": "no-store"}
WARNINGS: dict[str, Callable[[Any], list[Any]]] = {"gan": gan_warnings.warnings}
"""Family -> what reads its curves for trouble."""


def add_routes(face: APIRouter, studio: Studio) -> None:
    """Adds them to the page's own routes, under /face."""

    @face.get("/learn.json")
    def learn() -> Json:
        return texts()

    @face.get("/runs")
    def runs(family: str | None = None, ids: str = "") -> Json:
        if studio.can("share"):
            found = studio.runs.list(family=family)
        else:
            found = [
                run for id_ in ids.split(",")[:40] if (run := _known(studio, id_)) and family in (None, run.family)
            ]
        return {
            "runs": [brief(run) for run in found],
            "mlflow": record.command(studio.config.home),
            "can": _can(studio),
        }

    @face.get("/run/{id}")
    def run(id: str, since: int = -1) -> Json:
        found = studio.runs.get(id)
        return {
            **found.model_dump(mode="json", exclude={"worker", "owner"}),
            "place": _place(studio, id) if found.state == "waiting" else 0,
            "remaining": remaining(found),
            "curves": studio.runs.curves(id, since),
            "warnings": concerns(studio, found),
            "samples": studio.runs.samples(id),
            "model": _stamp(studio, id),
            "adopted": next((c.id for c in studio.store.cards().values() if c.options.get("run") == id), ""),
            "inside": inside(studio, found),
            "settings": settings(found),
            "can": _can(studio),
        }

    @face.get("/run/{id}/sample/{name}/{step}.png")
    def sample(id: str, name: str, step: int) -> Response:
        return FileResponse(studio.runs.sample(id, name, step), media_type="image/png", headers=_FOREVER)

    trainings = studio.trainings
    acts: dict[str, Callable[[str, Json], Json]] = {
        "pause": lambda id_, _: brief(trainings.pause(id_)),
        "continue": lambda id_, body: brief(
            trainings.proceed(id_, minutes=body.get("minutes"), steps=body.get("steps"))
        ),
        "delete": lambda id_, _: _delete(studio, id_),
        "adopt": lambda id_, body: {"card": _adopt(studio, id_, body).id},
    }

    @face.post("/run/{id}/{act}")
    def change(id: str, act: str, body: Json | None = None) -> Json:
        if act not in acts:
            raise NotFound("There is no such action for a run.", "")
        return acts[act](id, body if body is not None else {})

    @face.get("/lab/{family}")
    def lab(family: str, ids: str = "") -> Json:
        """What a lab can open: its cards that are here, and its runs that have a model."""
        cards = [card for card in studio.cards("explore", ready=True) if card.engine == family]
        opened = [run for run in visible(studio, family, ids) if _stamp(studio, run.id)]
        return {
            "cards": [{"id": card.id, "title": card.title} for card in cards],
            "runs": [{"id": run.id, "title": run.title, "created": run.created, "step": run.step} for run in opened],
        }

    @face.get("/explore/{id}")
    def subject(id: str) -> Json:
        return about(studio, id)

    @face.post("/explore/{id}")
    def explore(id: str, body: Json) -> Json:
        began = time.monotonic()
        named: Json = {name: body.get(name) for name in ("image", "other", "third")}
        result = studio.explore(id, str(body.get("op", "")), body.get("args") or {}, **named)
        images = [
            "data:image/png;base64," + base64.b64encode(pictures.encode_png(image)).decode() for image in result.images
        ]
        return {"images": images, "data": dict(result.data), "ms": round(1000 * (time.monotonic() - began), 1)}

    @face.get("/augment")
    def preview(names: str, data: str = "stickers", size: int = 32, seed: int = 0) -> Response:
        from studio.train import augment, sources

        if data.partition(":")[0] not in ("stickers", "digits", "upload"):
            studio.require("share")
        found = sources.read(data, size if size in (16, 32, 64) else 32, home=studio.config.home, limit=8)
        chosen = tuple(name for name in names.split(",") if name)
        return Response(
            pictures.encode_png(augment.preview(found.pictures[:: max(1, len(found.pictures) // 4)][:4], chosen, seed)),
            media_type="image/png",
            headers=_NEVER,
        )

    @face.post("/pictures")
    async def take(request: Request) -> Json:
        """A zip of pictures, or a folder as one, streamed to disk and looked through once for what is broken."""
        folder = inbox(studio)
        try:
            path = folder / "pictures.zip"
            await receive(request.stream(), path, int(request.headers.get("content-length", "0")))
            return await run_in_threadpool(_kept, studio, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def visible(studio: Studio, family: str | None, ids: str) -> Sequence[Run]:
    """All runs where all share one library; else those whose ids (with commas between) the browser knows."""
    if studio.can("share"):
        return studio.runs.list(family=family)
    known = [run for id_ in ids.split(",")[:40] if (run := _known(studio, id_)) is not None]
    return [run for run in known if family in (None, run.family)]


def texts() -> Json:
    """All explanations, by name; from `assets/learn/*.toml`."""
    found: Json = {}
    for file in sorted(LEARN.glob("*.toml")):
        found.update(tomllib.loads(file.read_text(encoding="utf-8")))
    return found


def brief(run: Run) -> Json:
    """A run for a list."""
    names = ("id", "recipe", "family", "title", "state", "step", "total", "created", "data", "options", "seed", "phase")
    more = ("message", "hint", "metrics", "best", "watched", "seconds", "steps", "minutes", "pictures")
    facts = run.model_dump(mode="json", include={*names, *more}) | {"settings": settings(run)}
    facts["pictures"] = {key: value for key, value in facts["pictures"].items() if key != "names"}
    return facts


def settings(run: Run) -> list[list[str]]:
    """The settings of a run as its form words them, name and value."""
    recipe = recipes.RECIPES.get(run.recipe)
    fields = recipe.options.model_fields if recipe is not None else {}
    return [[label(key, fields[key]) if key in fields else key, _plain(value)] for key, value in run.options.items()]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def remaining(run: Run) -> float | None:
    """Seconds still to go, None while unknown."""
    if run.state != "running" or run.step == 0:
        return None
    if run.steps is None and run.minutes is not None:
        return max(0.0, 60 * run.minutes - run.seconds)
    return run.seconds / run.step * max(0, run.total - run.step)


def about(studio: Studio, id_: str) -> Json:
    """What a lab needs to know of a card's or a run's model."""
    card = studio.explored(id_)
    known = id_ in studio.store.cards()
    folder = studio.store.path(card) if known else studio.runs.model(id_)
    return {
        "id": id_,
        "title": card.title,
        "kind": "card" if known else "run",
        "recipe": card.options.get("recipe", "") if known else studio.runs.get(id_).recipe,
        "inside": adopt.inside(folder, card.engine),
        "facts": _json(folder / "facts.json"),
        "config": _json(folder / "config.json"),
    }


def concerns(studio: Studio, run: Run) -> list[Json]:
    """What the curves of a run tell, in plain words."""
    if run.family not in WARNINGS or run.state in ("waiting", "failed"):
        return []
    return [one._asdict() for one in WARNINGS[run.family](studio.runs.curves(run.id))]


def inside(studio: Studio, run: Run) -> Json:
    """How many pictures of its data a run's model holds, and whether they are the user's own."""
    try:
        count = adopt.inside(studio.runs.model(run.id), run.family)
    except NotFound:
        count = 0
    return {"pictures": count, "own": not adopt.is_shipped(run.data)}


def _adopt(studio: Studio, id_: str, body: Json) -> Card:
    pictures = body.get("pictures")
    title = str(body.get("title", ""))[:80]
    return studio.trainings.adopt(id_, title, pictures=pictures if isinstance(pictures, bool) else None)


def _can(studio: Studio) -> Json:
    return {name: studio.can(name) for name in ("import", "delete", "share")}


def _known(studio: Studio, id_: str) -> Run | None:
    try:
        return studio.runs.get(id_)
    except NotFound:
        return None


def _place(studio: Studio, id_: str) -> int:
    job = next((one for one in studio.jobs.active() if getattr(one.task, "run", None) == id_), None)
    return job.place if job is not None else 0


def _stamp(studio: Studio, id_: str) -> str:
    """Says which model of the run is there, empty for none."""
    try:
        return f"{(studio.runs.model(id_) / 'config.json').stat().st_mtime_ns:x}"
    except (NotFound, OSError):
        return ""


def _delete(studio: Studio, id_: str) -> Json:
    studio.runs.delete(id_)
    return {"id": id_}


def _kept(studio: Studio, path: Path) -> Json:
    """Keeps an uploaded zip under a new id, and says what is in it. The oldest of many go."""
    from studio.train import data, sources

    found = sources.archive(path, 16)
    if not len(found.pictures):
        raise InvalidTask("There is no picture in it that can be read.", "Choose one with PNG or JPEG files.")
    id_ = secrets.token_hex(12)
    place = sources.upload_path(studio.config.home, id_)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, place)
    held = {run.data for run in studio.runs.list()}
    old = sorted(place.parent.glob("*.zip"), key=lambda file: file.stat().st_mtime, reverse=True)[UPLOADS_KEPT:]
    for file in old:
        if f"upload:{file.stem}" not in held:
            file.unlink(missing_ok=True)
    return {
        "source": f"upload:{id_}",
        "pictures": len(found.pictures),
        "classes": len(found.names),
        "fewest": data.FEWEST,
        "unread": len(found.broken),
        "broken": list(found.broken[:20]),
    }


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
