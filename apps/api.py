"""The HTTP API under /api/v1, derived from the same Tasks as the forms and the command line. No Gradio.

    POST /api/v1/assets                raw picture bytes            -> {"id", "width", "height"}
    POST /api/v1/{generate|detect|segment}?card=ID   task fields    -> 202, the job
    GET  /api/v1/jobs/{id}             state, place in line, progress, result
    POST /api/v1/jobs/{id}/cancel
    GET  /api/v1/artifacts/{id}        what was made, from what, with which settings
    GET  /api/v1/artifacts/{id}/{format}   the result as a file (zip where there are several)
    GET  /api/v1/models, /api/v1/tasks     cards with their state; JSON schemas of the tasks

A StudioError answers {"message", "hint"} with a fitting code; a full queue is 429. Requests that come while the studio
starts are answered when it is ready, or with 503 and Retry-After if that takes more than a minute.
GET /openapi.json describes all of it.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from studio.errors import InvalidTask
from studio.exports import FORMATS
from studio.jobs import Snapshot
from studio.studio import Studio
from studio.tasks import TASKS

OWNER = "local"
_SHOWN = (
    "id", "state", "card", "place", "step", "total", "phase", "seconds", "remaining", "error", "message", "hint",
    "artifact",
)  # fmt: skip
_MEDIA = {".png": "image/png", ".json": "application/json", ".xml": "application/xml", ".zip": "application/zip"}


def router(studio: Studio) -> APIRouter:
    """All routes. Meant for `--mode local`, where there is one owner."""
    api = APIRouter(prefix="/api/v1")

    @api.get("/tasks")
    def tasks() -> dict[str, Any]:
        return {kind: task.model_json_schema() for kind, task in TASKS.items()}

    @api.get("/models")
    def models(task: str | None = None) -> list[dict[str, Any]]:
        return [
            {**card.model_dump(mode="json"), "state": dataclasses.asdict(studio.store.state(card))}
            for card in studio.cards(task)
        ]

    @api.post("/assets", openapi_extra=_body({"type": "string", "format": "binary"}, "application/octet-stream"))
    async def add_asset(request: Request, name: str = "") -> dict[str, Any]:
        data = await request.body()
        asset = await run_in_threadpool(studio.library.add_image, data, name[:80])
        return {"id": asset.id, "width": asset.width, "height": asset.height}

    def submitter(kind: str) -> Callable[..., dict[str, Any]]:
        def submit(fields: dict[str, Any], card: str | None = None) -> dict[str, Any]:
            ready = studio.cards(kind, ready=True)
            card_id = card if card is not None else ready[0].id if ready else ""
            return _job(studio.submit(card_id, fields, owner=OWNER))

        return submit

    for kind, task in TASKS.items():
        schema = _body(task.model_json_schema(), "application/json")
        api.post(f"/{kind}", status_code=202, name=kind, openapi_extra=schema)(submitter(kind))

    @api.post("/{kind}", include_in_schema=False)
    def unknown(kind: str) -> None:
        raise InvalidTask(f"There is no task called {kind!r}.", f"Choose one of: {', '.join(TASKS)}.")

    @api.get("/jobs/{id}")
    def job(id: str) -> dict[str, Any]:
        return _job(studio.jobs.get(id))

    @api.post("/jobs/{id}/cancel")
    def cancel(id: str) -> dict[str, Any]:
        studio.jobs.cancel(id)
        return _job(studio.jobs.get(id))

    @api.get("/artifacts/{id}")
    def artifact(id: str) -> dict[str, Any]:
        found = studio.library.get(id)
        return {
            "id": found.id,
            "created": found.created,
            "task": found.task.to_json(),
            "card": found.card,
            "fingerprint": found.fingerprint,
            "data": found.data,
            "outputs": [asset.id for asset in found.outputs],
            "parents": [asset.id for asset in found.parents],
            "formats": list(FORMATS[found.task.kind]),
        }

    @api.get("/artifacts/{id}/{format}")
    def file(id: str, format: str) -> Response:
        files = studio.export(id, format)
        if len(files) == 1:
            return Response(files[0].data, media_type=_MEDIA[files[0].suffix])
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for k, (suffix, data) in enumerate(files, start=1):
                archive.writestr(f"{k}{suffix}", data)
        return Response(buffer.getvalue(), media_type=_MEDIA[".zip"])

    return api


def _body(schema: dict[str, Any], media: str) -> dict[str, Any]:
    """What OpenAPI says of a body that the studio checks itself."""
    return {"requestBody": {"required": True, "content": {media: {"schema": schema}}}}


def _job(shot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON, without the preview's pixels."""
    facts = {name: getattr(shot, name) for name in _SHOWN}
    return {**facts, "task": shot.task.to_json()}
