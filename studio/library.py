"""On what, and with what outcome: pictures and masks by content, and the artifacts that say how each was made.

An Asset is a picture or mask, stored once as PNG under the hash of its pixels. An Artifact is what a run made:
its outputs (assets), its parents (the assets the task read), the task itself and the card with the fingerprint of
its weights, so it can be run again to the same result.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.database import Database
from studio.engines.base import Result
from studio.errors import DiskFull, NotFound
from studio.ops import pictures
from studio.tasks import Task, parse_task

_SCHEMA = """
CREATE TABLE IF NOT EXISTS asset (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    created REAL NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS artifact (
    id TEXT PRIMARY KEY, created REAL NOT NULL, owner TEXT NOT NULL, kept INTEGER NOT NULL,
    task TEXT NOT NULL, card TEXT NOT NULL, fingerprint TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS output (
    artifact TEXT NOT NULL REFERENCES artifact ON DELETE CASCADE, position INTEGER NOT NULL,
    asset TEXT NOT NULL REFERENCES asset);
CREATE TABLE IF NOT EXISTS parent (
    artifact TEXT NOT NULL REFERENCES artifact ON DELETE CASCADE, asset TEXT NOT NULL REFERENCES asset);
CREATE INDEX IF NOT EXISTS artifact_created ON artifact (created);
CREATE INDEX IF NOT EXISTS output_artifact ON output (artifact);
CREATE INDEX IF NOT EXISTS output_asset ON output (asset);
CREATE INDEX IF NOT EXISTS parent_asset ON parent (asset);
"""


@dataclass(frozen=True)
class Asset:
    """A stored picture or mask. `path` is a PNG, `thumb` a WebP of at most 320 px a side."""

    id: str
    kind: Literal["image", "mask"]
    width: int
    height: int
    created: float
    name: str
    path: Path
    thumb: Path


@dataclass(frozen=True)
class Artifact:
    """What one run made. `outputs` are its pictures or masks, `parents` what it was made from."""

    id: str
    created: float
    owner: str
    kept: bool
    task: Task
    card: str
    fingerprint: str
    data: Mapping[str, Any]
    outputs: tuple[Asset, ...] = ()
    parents: tuple[Asset, ...] = ()


@dataclass(frozen=True)
class Ancestry:
    """An artifact and where its parents come from; a parent that was brought in from outside has no `maker`."""

    artifact: Artifact
    parents: tuple[tuple[Asset, Ancestry | None], ...] = field(default=())


class Library:
    """Assets and artifacts under one folder.

    Args:
        home: the folder; made when absent.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._db = Database(home / "library.db", _SCHEMA)

    # ── assets ───────────────────────────────────────────────────────────────

    def add_image(self, source: bytes | Image.Image | NDArray[np.uint8], name: str = "") -> Asset:
        """Stores a picture from outside. Raises InvalidImage, DiskFull."""
        return self._put(_pixels(source), "image", name)

    def add_mask(self, source: bytes | NDArray[np.bool_], name: str = "") -> Asset:
        """Stores a mask: bool (H, W), or a picture file whose light (or opaque) part is the mask."""
        return self._put(pictures.decode_mask(source) if isinstance(source, bytes) else source, "mask", name)

    def asset(self, id: str) -> Asset:
        """Raises NotFound."""
        rows = self._db.rows("SELECT * FROM asset WHERE id = ?", (id,))
        if not rows:
            raise NotFound("This picture is no longer in the library.", "Choose it again.")
        return self._asset(rows[0])

    def pixels(self, id: str) -> NDArray[np.uint8]:
        """The asset as RGB uint8 (H, W, 3)."""
        return pictures.decode(self.asset(id).path.read_bytes())

    def mask(self, id: str) -> NDArray[np.bool_]:
        """The asset as a mask (H, W)."""
        return pictures.decode_mask(self.asset(id).path.read_bytes())

    def pictures(self, owner: str | None = None, limit: int = 20_000) -> tuple[Asset, ...]:
        """Pictures that kept artifacts made or read, and those brought in from outside, newest first.

        With an `owner` only what is in that owner's artifacts.
        """
        owned = (
            "SELECT asset FROM output JOIN artifact ON artifact.id = output.artifact WHERE kept = 1 AND owner = :owner "
            "UNION SELECT asset FROM parent JOIN artifact ON artifact.id = parent.artifact "
            "WHERE kept = 1 AND owner = :owner"
        )
        where = f"kind = 'image' AND id IN ({owned})" if owner is not None else "kind = 'image'"
        query = f"SELECT * FROM asset WHERE {where} ORDER BY created DESC LIMIT :limit"
        with self._db.transaction() as db:
            rows = db.execute(query, {"owner": owner, "limit": limit}).fetchall()
        return tuple(self._asset(row) for row in rows)

    # ── artifacts ────────────────────────────────────────────────────────────

    def add(
        self, task: Task, card: str, fingerprint: str, result: Result, *, owner: str = "local", kept: bool = True
    ) -> Artifact:
        """Stores what a run made: all of it or nothing. Raises DiskFull."""
        texts: Sequence[str] = result.data.get("infotext", ())
        outputs = [
            self._put(image, "image", task.kind, {"parameters": texts[k]} if k < len(texts) else None)
            for k, image in enumerate(result.images)
        ] + [self._put(mask, "mask", task.kind) for mask in result.masks]
        id_ = uuid.uuid4().hex
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO artifact VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (id_, time.time(), owner, kept, json.dumps(task.to_json()), card, fingerprint, json.dumps(result.data)),
            )
            db.executemany("INSERT INTO output VALUES (?, ?, ?)", [(id_, k, a.id) for k, a in enumerate(outputs)])
            db.executemany("INSERT INTO parent VALUES (?, ?)", [(id_, asset) for asset in task.assets()])
        return self.get(id_)

    def get(self, id: str) -> Artifact:
        """Raises NotFound."""
        rows = self._db.rows("SELECT * FROM artifact WHERE id = ?", (id,))
        if not rows:
            raise NotFound("This result is no longer in the library.", "It may have been deleted in another window.")
        return self._artifact(rows[0])

    def list(
        self, *, owner: str | None = None, kind: str | None = None, text: str = "", limit: int = 60, offset: int = 0
    ) -> list[Artifact]:
        """Kept artifacts, newest first. `kind` is a task kind, `text` is looked for in prompt, card and labels."""
        where, values = ["kept = 1"], []
        if owner is not None:
            where.append("owner = ?")
            values.append(owner)
        if kind is not None:
            where.append("json_extract(task, '$.task') = ?")
            values.append(kind)
        if text.strip():
            pattern = "%" + text.strip().replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
            where.append(
                r"(json_extract(task, '$.prompt') LIKE ? ESCAPE '\' OR card LIKE ? ESCAPE '\' "
                r"OR json_extract(data, '$.labels') LIKE ? ESCAPE '\')"
            )
            values += [pattern] * 3
        rows = self._db.rows(
            f"SELECT * FROM artifact WHERE {' AND '.join(where)} ORDER BY created DESC LIMIT ? OFFSET ?",
            (*values, limit, offset),
        )
        return [self._artifact(row) for row in rows]

    def keep(self, id: str) -> None:
        """Lists a draft (see `add(kept=False)`) from now on."""
        with self._db.transaction() as db:
            db.execute("UPDATE artifact SET kept = 1 WHERE id = ?", (id,))

    def discard(self, id: str) -> None:
        """Takes it off the list; `keep` brings it back until `tidy` deletes it."""
        with self._db.transaction() as db:
            db.execute("UPDATE artifact SET kept = 0 WHERE id = ?", (id,))

    def made_from(self, asset: str, limit: int = 24) -> tuple[Artifact, ...]:
        """Kept artifacts that read this asset, newest first."""
        rows = self._db.rows(
            "SELECT artifact.* FROM artifact JOIN parent ON parent.artifact = artifact.id "
            "WHERE parent.asset = ? AND kept = 1 ORDER BY created DESC LIMIT ?",
            (asset, limit),
        )
        return tuple(self._artifact(row) for row in rows)

    def delete(self, id: str) -> None:
        """Removes the artifact, and its outputs where no other artifact makes or uses them. Idempotent."""
        rows = self._db.rows("SELECT asset FROM output WHERE artifact = ?", (id,))
        with self._db.transaction() as db:
            db.execute("DELETE FROM artifact WHERE id = ?", (id,))
        for row in rows:
            self._drop_orphan(row["asset"])

    def tidy(self, drafts_before: float, kept_before: float = 0.0, spared: Collection[str] = ()) -> None:
        """Deletes what nobody will miss. Times are seconds since the epoch.

        Unkept artifacts made before `drafts_before`, kept ones made before `kept_before`, and assets brought in before
        `drafts_before` that no artifact names and that are not among the `spared` ids.
        """
        query = "SELECT id FROM artifact WHERE created < CASE WHEN kept THEN ? ELSE ? END"
        for row in self._db.rows(query, (kept_before, drafts_before)):
            self.delete(row["id"])
        for row in self._db.rows("SELECT id FROM asset WHERE created < ?", (drafts_before,)):
            if row["id"] not in spared:
                self._drop_orphan(row["id"])

    def lineage(self, id: str, depth: int = 8) -> Ancestry:
        """The artifact, what it was made from, and what made those, `depth` generations back."""
        artifact = self.get(id)
        parents = tuple((asset, self._maker(asset, artifact, depth)) for asset in artifact.parents)
        return Ancestry(artifact, parents)

    # ── inside ───────────────────────────────────────────────────────────────

    def _maker(self, asset: Asset, child: Artifact, depth: int) -> Ancestry | None:
        rows = self._db.rows(
            "SELECT artifact.id FROM artifact JOIN output ON output.artifact = artifact.id "
            "WHERE output.asset = ? AND artifact.created < ? ORDER BY artifact.created DESC LIMIT 1",
            (asset.id, child.created),
        )
        return self.lineage(rows[0]["id"], depth - 1) if rows and depth > 0 else None

    def _put(
        self, pixels: NDArray[Any], kind: Literal["image", "mask"], name: str, text: Mapping[str, str] | None = None
    ) -> Asset:
        id_ = hashlib.sha256(
            f"{pixels.dtype}{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()
        ).hexdigest()
        path, thumb = self._paths(id_)
        if not path.exists():
            _write(path, pictures.encode_png(pixels, text))
        if not thumb.exists():
            _write(thumb, pictures.thumbnail(pixels))
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO asset VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET created = excluded.created",
                (id_, kind, pixels.shape[1], pixels.shape[0], time.time(), name),
            )
        return self.asset(id_)

    def _paths(self, id_: str) -> tuple[Path, Path]:
        folder = self._home / "assets" / id_[:2]
        return folder / f"{id_}.png", folder / f"{id_}.webp"

    def _drop_orphan(self, asset: str) -> None:
        with self._db.transaction() as db:
            used = db.execute(
                "SELECT 1 FROM output WHERE asset = ? UNION SELECT 1 FROM parent WHERE asset = ? LIMIT 1",
                (asset, asset),
            ).fetchone()
            if not used:
                db.execute("DELETE FROM asset WHERE id = ?", (asset,))
        if not used:
            for path in self._paths(asset):
                path.unlink(missing_ok=True)

    def _asset(self, row: sqlite3.Row) -> Asset:
        path, thumb = self._paths(row["id"])
        return Asset(row["id"], row["kind"], row["width"], row["height"], row["created"], row["name"], path, thumb)

    def _artifact(self, row: sqlite3.Row) -> Artifact:
        outputs = self._db.rows(
            "SELECT asset.* FROM asset JOIN output ON asset.id = output.asset WHERE output.artifact = ? "
            "ORDER BY output.position",
            (row["id"],),
        )
        parents = self._db.rows(
            "SELECT asset.* FROM asset JOIN parent ON asset.id = parent.asset WHERE parent.artifact = ?", (row["id"],)
        )
        return Artifact(
            row["id"],
            row["created"],
            row["owner"],
            bool(row["kept"]),
            parse_task(json.loads(row["task"])),
            row["card"],
            row["fingerprint"],
            json.loads(row["data"]),
            tuple(self._asset(r) for r in outputs),
            tuple(self._asset(r) for r in parents),
        )


def _pixels(source: bytes | Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(source, bytes):
        return pictures.decode(source)
    if isinstance(source, Image.Image):
        return pictures.decode(pictures.encode_png(np.array(source.convert("RGBA"))))
    return source


def _write(path: Path, data: bytes) -> None:
    """The whole file or none: written beside, synced, then renamed. Raises DiskFull."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full; nothing was saved.", "Free some room and run it again.") from error
        raise
