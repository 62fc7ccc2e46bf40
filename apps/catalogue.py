"""The models as the Models tab shows them, what can be done with each, and the routes for both.

Every change goes through `Studio.require`, so a public page or a kiosk refuses it whatever the page shows.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from apps.uploads import announced, receive
from studio import files
from studio.cards import Card
from studio.downloads import Download, Downloads, OnProgress
from studio.errors import InvalidTask, NotAllowed, OfflineError
from studio.intake.detectors import parse_names
from studio.studio import Studio
from studio.trainings import TRAINER
from studio.weights import packs
from studio.weights.obstacles import obstacle

Json = dict[str, Any]

GROUPS = (("generate", "Make pictures"), ("detect", "Find things"), ("segment", "Cut out"), ("explore", "Labs"))
STATES = ("ready", "partial", "damaged", "unusable", "absent")  # in the order they are listed


class Catalogue:
    """What the Models tab knows and does.

    Args:
        studio: the studio.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.checks = Downloads(self._check)  # a check is watched and cancelled like a download
        self._acts: dict[str, Callable[[Card], None]] = {
            "fetch": self._fetch,
            "cancel": self._cancel,
            "verify": self._verify,
            "pin": self._pin,
            "unpin": self._unpin,
            "remove": self._remove,
            "unload": self._unload,
        }

    # ── looking ──────────────────────────────────────────────────────────────

    def overview(self) -> Json:
        """All models by task, those on this device first, and the disk."""
        loaded = self.studio.pool.resident()
        rows = [self._row(card, loaded) for card in self.studio.cards() if card.engine != TRAINER]
        rows.sort(key=lambda row: STATES.index(row["status"]))
        groups = [
            {"task": task, "title": title, "models": found}
            for task, title in GROUPS
            if (found := [row for row in rows if row["task"] == task]) or task != "explore"
        ]
        others = [row for row in rows if row["task"] not in dict(GROUPS)]
        if others:
            groups.append({"task": "other", "title": "Others", "models": others})
        usage = {**asdict(self.studio.store.usage()), "budget": self.studio.config.disk_budget}
        abilities = {name: self.studio.can(name) for name in ("download", "import", "delete", "share")}
        return {"groups": groups, "usage": usage, "can": abilities, "offline": self.studio.config.offline}

    def details(self, id: str) -> Json:
        """Everything known of one model: facts, and its files with their hashes once it is here."""
        facts = self.studio.facts(id)
        card = self.studio.card(id)
        files = self.studio.store.files(card) if facts["state"]["status"] in ("ready", "unusable") else {}
        listed = [{"name": name, "size": file.size, "sha256": file.sha256} for name, file in sorted(files.items())]
        return {**facts, "files": listed}

    def plan(self, id: str) -> Json:
        """What a download would bring, asked from the hub. Raises as `Store.plan`."""
        self.studio.require("download")
        self._online()
        plan = self.studio.store.plan(self.studio.card(id))
        return {
            "bytes": plan.bytes,
            "missing": plan.missing,
            "files": len(plan.files),
            "licence": plan.licence,
            "gated": plan.gated,
            "revision": plan.revision,
        }

    def _row(self, card: Card, loaded: dict[str, int]) -> Json:
        state = self.studio.store.state(card)
        return {
            "id": card.id,
            "task": card.tasks[0],
            "title": card.title,
            "summary": card.summary,
            "licence": card.licence,
            "licence_url": card.licence_url if card.licence_url.startswith("https://") else "",
            "commercial": card.commercial,
            "origin": card.source.kind,
            "repo": card.source.repo,
            "size": state.size if state.offline else card.size,
            "here": state.size,
            "status": state.status,
            "damaged": state.damaged,
            "reason": state.reason,
            "pinned": state.pinned,
            "memory": self.studio.pool.predicted(card),
            "runs": not obstacle(card),
            "loaded": loaded.get(card.id),
            "download": _progress(self.studio.downloads.get(card.id)),
            "check": _progress(self.checks.get(card.id)),
        }

    # ── changing ─────────────────────────────────────────────────────────────

    def act(self, name: str, id: str) -> None:
        """Does one of the actions above. Raises NotAllowed, NotFound, InvalidTask and what the action raises."""
        if name not in self._acts:
            raise InvalidTask(f"There is no action {name!r} for a model.", f"Choose one of: {', '.join(self._acts)}.")
        self._acts[name](self.studio.card(id))

    def room(self) -> list[Json]:
        """What `make_room` would take away: downloaded, unpinned, not in memory."""
        loaded = self.studio.pool.resident()
        found = []
        for card in self.studio.cards():
            state = self.studio.store.state(card)
            if card.source.kind == "hub" and state.size and not state.pinned and card.id not in loaded:
                found.append({"id": card.id, "title": card.title, "size": state.size})
        return found

    def make_room(self) -> int:
        """Takes away all downloaded models that are neither pinned nor in memory; returns the bytes freed."""
        self.studio.require("delete")
        gone = self.studio.store.evict(0, keep=self.studio.pool.resident())
        return sum(one.bytes for one in gone)

    def bring(self, path: Path, title: str, classes: str = "") -> list[Card]:
        """Takes in a file of the user's: a model, or a pack of several. Raises as `Store.add` and `packs.unpack`.

        Args:
            classes: names of a detector's classes, "coco" or with commas between; empty: those of the file.
        """
        self.studio.require("import")
        if path.suffix.lower() == ".tar":
            return packs.unpack(self.studio.store, path)
        names = parse_names(classes) if classes else ()
        return [self.studio.store.add(path, title=title, names=names)]

    def told(self, card: Card) -> Json:
        """What is said of a model that was just taken in."""
        reason = self.studio.store.state(card).reason
        return {"id": card.id, "title": card.title, "task": card.tasks[0], "summary": card.summary, "reason": reason}

    def _fetch(self, card: Card) -> None:
        self.studio.require("download")
        self._online()
        self.studio.downloads.start(card)

    def _cancel(self, card: Card) -> None:
        self.studio.require("download")
        self.studio.downloads.cancel(card.id)
        self.checks.cancel(card.id)

    def _verify(self, card: Card) -> None:
        self.studio.require("delete")
        self.checks.start(card)

    def _pin(self, card: Card) -> None:
        self.studio.require("delete")
        self.studio.store.pin(card)

    def _unpin(self, card: Card) -> None:
        self.studio.require("delete")
        self.studio.store.unpin(card)

    def _remove(self, card: Card) -> None:
        self.studio.require("delete")
        self.studio.pool.unload(card.id)
        if card.id in self.studio.pool.resident():
            raise NotAllowed(f"{card.title} is at work.", "Wait for its job to end, or cancel it.")
        self.studio.store.remove(card)

    def _unload(self, card: Card) -> None:
        self.studio.require("share")
        self.studio.pool.unload(card.id)

    def _online(self) -> None:
        if self.studio.config.offline:
            raise OfflineError(
                "The studio is offline.", "Start it without --offline to fetch models, or import a pack."
            )

    def _check(self, card: Card, progress: OnProgress) -> Path:
        """Hashes every file anew, telling how far it is; the store ticks once a megabyte."""
        total, begun = self.studio.store.state(card).size, time.monotonic()
        done = 0

        def tick() -> None:
            nonlocal done
            done = min(done + 2**20, total)
            seconds = time.monotonic() - begun
            progress(done, total, (total - done) * seconds / done if done and seconds > 0.5 else None)

        progress(0, total, None)
        self.studio.store.verify(card, tick)
        progress(total, total, 0.0)
        return self.studio.store.path(card)


def _progress(download: Download | None) -> Json | None:
    return asdict(download) if download is not None else None


# ── a file on its way in ─────────────────────────────────────────────────────


def inbox(studio: Studio) -> Path:
    """A new private folder for one file; whoever asks for it removes it."""
    return files.make(files.draft(studio.config.cache / "inbox" / "file"))


def plain_name(name: str) -> str:
    """A file name without anything that could lead elsewhere; the ending stays, since it says what the file claims."""
    path = Path(Path(name.replace("\\", "/")).name)
    stem = re.sub(r"[^A-Za-z0-9._ -]+", "-", path.stem).strip(" .-")[:80] or "model"
    return stem + re.sub(r"[^A-Za-z0-9.]+", "", path.suffix)[:16]


# ── the routes ───────────────────────────────────────────────────────────────


def add_routes(face: APIRouter, studio: Studio) -> None:
    """Adds them to the page's own routes, under /face."""
    catalogue = Catalogue(studio)

    @face.get("/models")
    def overview() -> Json:
        return catalogue.overview()

    @face.get("/models/room")
    def room() -> Json:
        return {"models": catalogue.room()}

    @face.post("/models/room")
    def make_room() -> Json:
        return {"freed": catalogue.make_room()}

    @face.post("/models/import")
    async def import_(request: Request, name: str = "", classes: str = "") -> Json:
        studio.require("import")
        folder = inbox(studio)
        try:
            path = folder / plain_name(name)
            await receive(request.stream(), path, announced(request), studio.limits.floor)
            cards = await run_in_threadpool(catalogue.bring, path, Path(name).stem[:80], classes)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return {"cards": [catalogue.told(card) for card in cards]}

    @face.get("/models/{id}")
    def details(id: str) -> Json:
        return catalogue.details(id)

    @face.get("/models/{id}/plan")
    def plan(id: str) -> Json:
        return catalogue.plan(id)

    @face.get("/models/{id}/pack")
    def pack(id: str) -> Response:
        studio.require("import")
        card = studio.card(id)
        folder = inbox(studio)
        try:
            path = packs.pack(studio.store, [card], folder / f"{card.id}.tar")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        after = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(path, media_type="application/x-tar", filename=path.name, background=after)

    @face.post("/models/{id}/{action}")
    def act(id: str, action: str) -> Json:
        catalogue.act(action, id)
        return catalogue.overview()
