"""Pictures to learn from: zips that are brought in, looked through once and kept for trainings, within a share.

Reading them brings OpenCV along, which the page's process does without at its start; so that is imported where it is
used.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from apps.catalogue import inbox
from apps.turns import Bulkhead, Owner
from apps.uploads import announced, receive
from studio import files
from studio.errors import Cancelled, InvalidTask, NotFound, QueueFull
from studio.ops import pictures
from studio.studio import Studio
from studio.tasks import MAX_SEED

Json = dict[str, Any]
KEPT = 20  # zips, where all share one library
KEPT_EACH = 3  # of one stranger
LOOK_S = 60.0  # that looking through a stranger's zip may take
LOOK_PIXELS = 4 * 10**9
Seed = Annotated[int, Query(ge=0, le=MAX_SEED)]
_NEVER = {"Cache-Control": "no-store"}


def add_routes(face: APIRouter, studio: Studio) -> None:
    """Adds them to the page's own routes, under /face."""
    arrivals = Bulkhead("archives", places=8, waiting=0, each=1)
    reading = Bulkhead("archives", places=1, waiting=8, each=1)
    looks = Bulkhead("looks at pictures", places=2, waiting=8, each=4)

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
        folder = inbox(studio.config.home)  # where they stay, so that they need room once
        try:
            path = folder / "pictures.zip"
            async with arrivals.place(owner):
                await receive(request.stream(), path, size, studio.limits.floor)
            return await reading.run(request, lambda is_cancelled: _kept(studio, path, owner, is_cancelled))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


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
    with files.whole(place) as part:
        os.replace(path, part)
    forget(studio, owner, KEPT if shared else KEPT_EACH)
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
    held = sum(file.stat().st_size for file in sources.uploads(studio.config.home).glob("*.zip"))
    if held + size > most:
        raise QueueFull("The studio holds as many pictures as it may.", "Try again later; old ones go by and by.")


def forget(studio: Studio, owner: str, kept: int = 0) -> None:
    """Deletes an owner's zips but the newest `kept` and those that a run still needs."""
    from studio.train import sources

    folder = sources.uploads(studio.config.home)
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
