"""The page's private wire: pictures in and out, jobs to look at and cancel, the status line. JSON and bytes, no Gradio.

Ids are capabilities: an asset is named by the hash of its pixels, a job by 122 random bits; who knows one may see it.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image

from apps import catalogue, compress, files, generate, learn
from studio.errors import InvalidImage, NotFound, QueueFull, StudioError
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
_CODES: dict[type[StudioError], int] = {NotFound: 404, QueueFull: 429, InvalidImage: 422}


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

    @face.post("/upload")
    async def upload(request: Request, kind: str = "image", name: str = "") -> dict[str, Any]:
        data = await request.body()
        return await run_in_threadpool(_take, studio, data, kind, name)

    @face.get("/job/{id}")
    def job(id: str) -> dict[str, Any]:
        shot = studio.jobs.get(id)
        version = f"{id_of(shot.preview):x}-{shot.step}" if shot.preview is not None else ""
        shared = getattr(shot.task, "count", 0)  # pictures, which share the steps
        return {**{name: getattr(shot, name) for name in SEEN}, "count": shared, "preview": version}

    @face.get("/job/{id}/preview/{version}.webp")
    def preview(id: str, version: str) -> Response:
        shot = studio.jobs.get(id)
        if shot.preview is None:  # the job ended between the look and this
            return Response(status_code=204)
        buffer = io.BytesIO()
        Image.fromarray(shot.preview).save(buffer, "WEBP", quality=80, method=0)
        return Response(buffer.getvalue(), media_type="image/webp", headers=_NEVER)

    @face.post("/job/{id}/cancel")
    def cancel(id: str) -> dict[str, Any]:
        studio.jobs.get(id)
        studio.jobs.cancel(id)
        return {"id": id}

    @face.get("/status")
    def status() -> dict[str, Any]:
        now = studio.status()
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
        return {}

    files.add_routes(face, studio)
    catalogue.add_routes(face, studio)
    compress.add_routes(face, studio)
    learn.add_routes(face, studio)
    return face


def say(error: StudioError) -> JSONResponse:
    """A StudioError as an answer: its two sentences and a fitting code."""
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), 400)
    return JSONResponse({"message": error.message, "hint": error.hint}, code, _NEVER)


def _take(studio: Studio, data: bytes, kind: str, name: str) -> dict[str, Any]:
    if kind == "text":
        return {"text": pictures.read_text(data)}
    label = "".join(c for c in name if c.isprintable())[:80]
    add = {"image": studio.library.add_image, "mask": studio.library.add_mask}.get(kind)
    if add is None:
        raise NotFound("There is nothing of that kind to upload.", "Choose a picture.")
    found: Asset = add(data, label)
    return {"id": found.id, "kind": found.kind, "width": found.width, "height": found.height, "name": label}


def _file_name(name: str) -> str:
    """Letters, digits and dashes of any wish for a file name, ASCII, at most 60."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60] or "picture"


def _missing() -> Response:
    return JSONResponse({"message": "There is no such file.", "hint": ""}, 404, _NEVER)
