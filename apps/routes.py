"""The page's private wire: pictures in and out, jobs to look at and cancel, the status line. JSON and bytes, no Gradio.

An asset's id is a capability, the hash of its pixels. Jobs, results and runs are answered to their owner.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from PIL import Image
from starlette.requests import ClientDisconnect

from apps import catalogue, compress, files, generate, learn
from apps.turns import Bulkhead, Latest, Owner, own_job
from apps.visitors import GONE
from studio.errors import DiskFull, InvalidImage, NotFound, QueueFull, StudioError, TooSlow
from studio.jobs import id_of
from studio.library import Asset
from studio.ops import pictures
from studio.ops.words import count
from studio.studio import Studio

FACE = Path(__file__).resolve().parent.parent / "assets" / "face"
FONTS = FACE.parent / "fonts"
SCRIPTS = (
    "core.js", "entered.js", "overlay.js", "brush.js", "stage.js", "run.js", "slot.js", "hints.js", "shelf.js",
    "frame.js",
    "finds.js", "marks.js", "models.js", "chart.js", "lab.js", "zip.js", "pictures.js", "runs.js",
    "vae.js", "vae_walk.js", "vae_judge.js",
    "difflab.js", "difflab-views.js", "gan.js",
    "compress.js", "compress-views.js", "compress-theory.js",
)  # fmt: skip
STYLES = ("theme.css", "work.css", "lab.css", "vae.css", "difflab.css", "gan.css", "compress.css")
SEEN = ("id", "state", "place", "step", "total", "phase", "seconds", "remaining", "message", "hint", "artifact")
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_NEVER = {"Cache-Control": "no-store"}
_CODES: dict[type[StudioError], int] = {NotFound: 404, QueueFull: 429, InvalidImage: 422, TooSlow: 504, DiskFull: 507}
RETRY_S = 2


def router(studio: Studio) -> APIRouter:
    """All routes, under /face."""
    face = APIRouter(prefix="/face", include_in_schema=False)

    @face.get("/studio.js")
    def script() -> Response:
        text = "\n".join((FACE / name).read_text(encoding="utf-8") for name in SCRIPTS)
        return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    @face.get("/theme.css")
    def style() -> Response:
        text = "\n".join((FACE / name).read_text(encoding="utf-8") for name in STYLES)
        return Response(text, media_type="text/css", headers={"Cache-Control": "no-cache"})

    @face.get("/fonts/{name}")
    def font(name: str) -> Response:
        if not re.fullmatch(r"Inter-[A-Za-z]+\.woff2", name) or not (FONTS / name).is_file():
            return _missing()
        return FileResponse(FONTS / name, media_type="font/woff2", headers=_FOREVER)

    @face.get("/asset/{id}.{ending}")
    def asset(id: str, ending: str, name: str = "") -> Response:
        if not re.fullmatch(r"[0-9a-f]{64}", id) or ending not in ("png", "webp"):
            return _missing()
        found = studio.library.asset(id)
        headers = dict(_FOREVER)
        if name:
            headers["Content-Disposition"] = f'attachment; filename="{_file_name(name)}.{ending}"'
        media = {"png": "image/png", "webp": "image/webp"}[ending]
        return FileResponse(found.path if ending == "png" else found.thumb, media_type=media, headers=headers)

    reading = Bulkhead("pictures", places=16, waiting=240, each=8)  # each is held in memory, once it is its turn
    decoding = Bulkhead("pictures", places=2, waiting=30, each=8)

    @face.post("/upload")
    async def upload(request: Request, owner: Owner, kind: str = "image", name: str = "") -> dict[str, Any]:
        async with reading.place(owner):
            data = await request.body()
            async with decoding.place(owner):
                return await run_in_threadpool(_take, studio, owner, data, kind, name)

    @face.get("/job/{id}")
    def job(id: str, owner: Owner) -> dict[str, Any]:
        shot = own_job(studio, id, owner)
        version = f"{id_of(shot.preview):x}-{shot.step}" if shot.preview is not None else ""
        shared = getattr(shot.task, "count", 0)  # pictures, which share the steps
        return {**{name: getattr(shot, name) for name in SEEN}, "count": shared, "preview": version}

    @face.get("/job/{id}/preview/{version}.webp")
    def preview(id: str, version: str, owner: Owner) -> Response:
        shot = own_job(studio, id, owner)
        if shot.preview is None:  # the job ended between the look and this
            return Response(status_code=204)
        buffer = io.BytesIO()
        Image.fromarray(shot.preview).save(buffer, "WEBP", quality=80, method=0)
        return Response(buffer.getvalue(), media_type="image/webp", headers=_NEVER)

    @face.post("/job/{id}/cancel")
    def cancel(id: str, owner: Owner) -> dict[str, Any]:
        own_job(studio, id, owner)
        studio.jobs.cancel(id)
        return {"id": id}

    latest = Latest(studio.status)

    @face.get("/status")
    def status() -> dict[str, Any]:
        now = latest()
        return {
            "device": f"{count(now.device.cores, 'core')}, {now.device.memory / 2**30:.0f} GB",
            "about": now.device.name,
            "memory": now.memory,
            "budget": now.budget,
            "loaded": now.loaded,
            "running": now.running,
            "waiting": now.waiting,
            "offline": now.offline,
            "can_unload": studio.can("share"),
        }

    @face.get("/advice/{card}")
    def advice(card: str, prompt: str = "") -> dict[str, Any]:
        return generate.advice(studio, card, prompt[:2000])

    @face.post("/unload")
    def unload() -> dict[str, Any]:
        studio.require("share")
        studio.pool.unload_all()
        latest.forget()
        return {}

    @face.post("/leave")
    def leave(owner: Owner) -> Response:
        """Ends a visit; the next request is another visitor's."""
        end_visit(studio, owner)
        return Response("{}", media_type="application/json", headers={"Set-Cookie": GONE})

    files.add_routes(face, studio)
    catalogue.add_routes(face, studio)
    compress.add_routes(face, studio)
    learn.add_routes(face, studio)
    return face


def end_visit(studio: Studio, owner: str) -> None:
    """Removes what a visitor made and brought; where all share one library, nothing."""
    if owner and not studio.can("share"):
        studio.leave(owner)
        learn.forget_zips(studio, owner)


def add_handlers(app: FastAPI) -> None:
    """Every error as two sentences. What a request held is never repeated: not all of it is text that can be sent."""
    app.add_exception_handler(StudioError, lambda request, error: say(error))  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, lambda request, error: invalid(error))  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, lambda request, error: Response(status_code=400))


def say(error: StudioError) -> Response:
    """A StudioError as an answer: its two sentences and a fitting code."""
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), 400)
    return _problem(code, error.message, error.hint, {"Retry-After": str(RETRY_S)} if code == 429 else {})


def invalid(error: RequestValidationError) -> Response:
    """Which part of a request is wrong, and why."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return _problem(422, f"The request cannot be used: {place[:80]}: {first['msg'][:160]}.")


def _problem(code: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps({"message": message, "hint": hint})  # ASCII, whatever is in it
    return Response(body, code, {**_NEVER, **(headers or {})}, "application/json")


def _take(studio: Studio, owner: str, data: bytes, kind: str, name: str) -> dict[str, Any]:
    if kind == "text":
        return {"text": pictures.read_text(data)}
    label = "".join(c for c in name if c.isprintable())[:80]
    add = {"image": studio.library.add_image, "mask": studio.library.add_mask}.get(kind)
    if add is None:
        raise NotFound("There is nothing of that kind to upload.", "Choose a picture.")
    found: Asset = add(data, label, owner=owner)
    return {"id": found.id, "kind": found.kind, "width": found.width, "height": found.height, "name": label}


def _file_name(name: str) -> str:
    """Letters, digits and dashes of any wish for a file name, ASCII, at most 60."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60] or "picture"


def _missing() -> Response:
    return _problem(404, "There is no such file.")
