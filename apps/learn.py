"""The wire of the labs: runs to follow, samples over time, a trained model to ask, pictures to learn from.

Runs are listed, opened and changed by their owner; where all share one library, by everybody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from apps.catalogue import inbox
from apps.lab import label
from apps.turns import Bulkhead, Owner, own_run, seen_by
from apps.uploads import announced, receive
from studio.errors import Cancelled, InvalidTask, NotFound, QueueFull
from studio.ops import pictures
from studio.studio import Studio
from studio.tasks import MAX_SEED
from studio.train import adopt, gan_warnings, recipes, record
from studio.train.runs import Run

Json = dict[str, Any]
LEARN = Path(__file__).resolve().parent.parent / "assets" / "learn"
UPLOADS_KEPT = 20
ZIPS_OF_A_STRANGER = 3
LOOK_S = 60.0  # that looking through a stranger's zip may take
LOOK_PIXELS = 4 * 10**9
MOST_MINUTES = 14_400.0
MOST_STEPS = 10_000_000
Seed = Annotated[int, Query(ge=0, le=MAX_SEED)]
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_NEVER = {"Cache-Control": "no-store"}
WARNINGS: dict[str, Callable[[Any], list[Any]]] = {"gan": gan_warnings.warnings}
"""Family -> what reads its curves for trouble."""


class Budget(BaseModel):
    """How long a run may go on, in all: minutes or steps."""

    model_config = ConfigDict(extra="ignore")

    minutes: float | None = Field(None, gt=0, le=MOST_MINUTES, allow_inf_nan=False)
    steps: int | None = Field(None, gt=0, le=MOST_STEPS)


class Adoption(BaseModel):
    """What a run's model is called among the others, and whether the pictures inside go along."""

    model_config = ConfigDict(extra="ignore")

    title: str = Field("", max_length=200)
    pictures: bool | None = None


class Question(BaseModel):
    """What a model is asked: see `studio.tasks.Explore`."""

    model_config = ConfigDict(extra="ignore")

    op: str = Field("", max_length=80)
    args: dict[str, Any] | None = None
    image: str | None = None
    other: str | None = None
    third: str | None = None


def add_routes(face: APIRouter, studio: Studio) -> None:
    """Adds them to the page's own routes, under /face."""
    shared, limits = studio.can("share"), studio.limits
    questions = Bulkhead("questions to a model", places=4, waiting=8, each=12 if shared else 3)
    arrivals = Bulkhead("archives", places=8, waiting=0, each=1)
    reading = Bulkhead("archives", places=1, waiting=8, each=1)
    looks = Bulkhead("looks at pictures", places=2, waiting=8, each=4)

    @face.get("/learn.json")
    def learn() -> Json:
        return texts()

    @face.get("/runs")
    def runs(owner: Owner, family: str | None = None) -> Json:
        return {
            "runs": [brief(run) for run in visible(studio, family, owner)],
            "mlflow": record.command(studio.config.home) if shared else "",
            "can": _can(studio),
        }

    @face.get("/run/{id}")
    def run(id: str, owner: Owner, since: int = -1) -> Json:
        found = own_run(studio, id, owner)
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
    def sample(id: str, name: str, step: int, owner: Owner) -> Response:
        path = studio.runs.sample(own_run(studio, id, owner).id, name, step)
        return FileResponse(path, media_type="image/png", headers=_FOREVER)

    @face.post("/run/{id}/pause")
    def pause(id: str, owner: Owner) -> Json:
        return brief(studio.trainings.pause(own_run(studio, id, owner).id))

    @face.post("/run/{id}/continue")
    def proceed(id: str, owner: Owner, budget: Budget | None = None) -> Json:
        own_run(studio, id, owner)
        given = budget if budget is not None else Budget()  # type: ignore[call-arg]
        return brief(studio.trainings.proceed(id, minutes=given.minutes, steps=given.steps))

    @face.post("/run/{id}/delete")
    def delete(id: str, owner: Owner) -> Json:
        studio.runs.delete(own_run(studio, id, owner).id)
        return {"id": id}

    @face.post("/run/{id}/adopt")
    def adopt_(id: str, owner: Owner, adoption: Adoption | None = None) -> Json:
        own_run(studio, id, owner)
        given = adoption if adoption is not None else Adoption()  # type: ignore[call-arg]
        return {"card": studio.trainings.adopt(id, given.title[:80], pictures=given.pictures).id}

    @face.get("/lab/{family}")
    def lab(family: str, owner: Owner) -> Json:
        """What a lab can open: its cards that are here, and its runs that have a model."""
        cards = [card for card in studio.cards("explore", ready=True) if card.engine == family]
        opened = [run for run in visible(studio, family, owner) if _stamp(studio, run.id)]
        return {
            "cards": [{"id": card.id, "title": card.title} for card in cards],
            "runs": [{"id": run.id, "title": run.title, "created": run.created, "step": run.step} for run in opened],
        }

    @face.get("/explore/{id}")
    def subject(id: str, owner: Owner) -> Json:
        return about(studio, id, seen_by(studio, owner))

    @face.post("/explore/{id}")
    async def explore(request: Request, id: str, question: Question, owner: Owner) -> Json:
        def asked(is_cancelled: Callable[[], bool]) -> Json:
            began = time.monotonic()
            result = studio.explore(
                id,
                question.op,
                question.args,
                image=question.image,
                other=question.other,
                third=question.third,
                owner=seen_by(studio, owner),
                is_cancelled=is_cancelled,
            )
            images = [
                "data:image/png;base64," + base64.b64encode(pictures.encode_png(image)).decode()
                for image in result.images
            ]
            return {"images": images, "data": dict(result.data), "ms": round(1000 * (time.monotonic() - began), 1)}

        return await questions.run(request, asked)

    @face.get("/augment", dependencies=[Depends(looks.turn)])
    def preview(names: str, data: str = "stickers", size: int = 32, seed: Seed = 0) -> Response:
        from studio.train import augment, sources

        if data.partition(":")[0] not in ("stickers", "digits", "upload"):
            studio.require("share")
        found = sources.read(data, size if size in (16, 32, 64) else 32, home=studio.config.home, limit=8)
        if not len(found.pictures):
            raise NotFound("There is no picture that can be read.", "Choose other pictures.")
        chosen = tuple(name for name in names.split(",") if name)
        return Response(
            pictures.encode_png(augment.preview(found.pictures[:: max(1, len(found.pictures) // 4)][:4], chosen, seed)),
            media_type="image/png",
            headers=_NEVER,
        )

    @face.post("/pictures")
    async def take(request: Request, owner: Owner) -> Json:
        """A zip of pictures, or a folder as one, streamed to disk and looked through once for what is broken."""
        size = announced(request)
        require_share(studio, size)
        folder = inbox(studio)
        try:
            path = folder / "pictures.zip"
            async with arrivals.place(owner):
                await receive(request.stream(), path, size, limits.floor)
            return await reading.run(request, lambda is_cancelled: _kept(studio, path, owner, is_cancelled))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def visible(studio: Studio, family: str | None, owner: str) -> Sequence[Run]:
    """An owner's runs, newest first; where all share one library, all."""
    return studio.runs.list(family=family, owner=seen_by(studio, owner))


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


def about(studio: Studio, id_: str, owner: str | None = None) -> Json:
    """What a lab needs to know of a card's or a run's model. Raises NotFound, with an `owner` also for another's."""
    card = studio.explored(id_, owner)
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


def _can(studio: Studio) -> Json:
    return {name: studio.can(name) for name in ("import", "delete", "share")}


def _place(studio: Studio, id_: str) -> int:
    job = next((one for one in studio.jobs.active() if getattr(one.task, "run", None) == id_), None)
    return job.place if job is not None else 0


def _stamp(studio: Studio, id_: str) -> str:
    """Says which model of the run is there, empty for none."""
    try:
        return f"{(studio.runs.model(id_) / 'config.json').stat().st_mtime_ns:x}"
    except (NotFound, OSError):
        return ""


def _kept(studio: Studio, path: Path, owner: str, is_cancelled: Callable[[], bool]) -> Json:
    """Keeps an uploaded zip under a new id, and says what is in it. The oldest of an owner's many go."""
    from studio.train import data, sources

    shared = studio.can("share")
    patience = Patience(is_cancelled, None if shared else LOOK_S)
    found = sources.archive(path, 16, most_pixels=None if shared else LOOK_PIXELS, check=patience)
    if not len(found.pictures):
        raise InvalidTask("There is no picture in it that can be read.", "Choose one with PNG or JPEG files.")
    id_ = f"{_tag(owner)}{secrets.token_hex(12)}"
    place = sources.upload_path(studio.config.home, id_)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, place)
    forget_zips(studio, owner, UPLOADS_KEPT if shared else ZIPS_OF_A_STRANGER)
    return {
        "source": f"upload:{id_}",
        "pictures": len(found.pictures),
        "classes": len(found.names),
        "fewest": data.FEWEST,
        "unread": len(found.broken),
        "broken": list(found.broken[:20]),
    }


def require_share(studio: Studio, size: int) -> None:
    """Raises QueueFull where all zips together would be more than the mode keeps."""
    from studio.train import sources

    most = studio.limits.bytes
    held = sum(file.stat().st_size for file in sources.upload_path(studio.config.home, "x").parent.glob("*.zip"))
    if held + size > most:
        raise QueueFull("The studio holds as many pictures as it may.", "Try again later; old ones go by and by.")


def forget_zips(studio: Studio, owner: str, kept: int = 0) -> None:
    """Deletes an owner's zips but the newest `kept` and those that a run still needs."""
    from studio.train import sources

    folder = sources.upload_path(studio.config.home, "x").parent
    held = {run.data for run in studio.runs.list()}
    old = sorted(folder.glob(f"{_tag(owner)}*.zip"), key=lambda file: file.stat().st_mtime, reverse=True)[kept:]
    for file in old:
        if f"upload:{file.stem}" not in held:
            file.unlink(missing_ok=True)


def _tag(owner: str) -> str:
    """Begins the names of an owner's zips; says nothing of the owner."""
    return hashlib.sha256(owner.encode()).hexdigest()[:12]


class Patience:
    """Called between pictures; raises Cancelled, and InvalidTask once `seconds` are over."""

    def __init__(self, is_cancelled: Callable[[], bool], seconds: float | None) -> None:
        self._is_cancelled = is_cancelled
        self._until = None if seconds is None else time.monotonic() + seconds

    def __call__(self) -> None:
        if self._is_cancelled():
            raise Cancelled
        if self._until is not None and time.monotonic() > self._until:
            raise InvalidTask("Looking through the pictures takes too long.", "Choose fewer or smaller ones.")


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
