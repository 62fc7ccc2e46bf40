"""On what, and with what outcome: pictures and masks by content, and the artifacts that say how each was made.

An Asset is a picture or mask, stored once as PNG under the hash of its pixels. An Artifact is what a run made:
its outputs (assets), its parents (the assets the task read), the task itself and the card with the fingerprint of
its weights, so it can be run again to the same result.

A picture that two people bring in is stored once, and held by both: each has a name of their own for it. Files are on
the disk before the rows that name them, and both change under the database's lock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio import files
from studio.database import Database
from studio.engines.base import Result
from studio.errors import NotFound, QueueFull, StudioError
from studio.limits import LOCAL, Limits
from studio.ops import pictures
from studio.tasks import Task, parse_task

_MIGRATIONS = (
    """
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
""",
    """
CREATE TABLE holding (
    asset TEXT NOT NULL REFERENCES asset ON DELETE CASCADE, owner TEXT NOT NULL, name TEXT NOT NULL,
    created REAL NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (asset, owner));
CREATE INDEX holding_owner ON holding (owner);
INSERT INTO holding SELECT id, 'local', name, created, 0 FROM asset WHERE id NOT IN (SELECT asset FROM output);
UPDATE asset SET name = '' WHERE id IN (SELECT asset FROM holding);
""",
)

log = logging.getLogger(__name__)

# An asset's columns, with the name that an owner gave it in place of the general one.
_ASSET = (
    "asset.id, kind, width, height, asset.created, COALESCE((SELECT holding.name FROM holding "
    "WHERE holding.asset = asset.id AND holding.owner = :owner), asset.name) AS name"
)


@dataclass(frozen=True)
class Asset:
    """A stored picture or mask. `path` is a PNG, `thumb` a WebP of at most 320 px a side; `name` is its owner's."""

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


class _File:
    """A picture or mask on its way to the disk, encoded at most once.

    Args:
        pixels: uint8 (H, W, 3) or bool (H, W).
        text: what its PNG says besides.
    """

    def __init__(
        self, pixels: NDArray[Any], kind: Literal["image", "mask"], text: Mapping[str, str] | None = None
    ) -> None:
        content = f"{pixels.dtype}{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()
        self.id = hashlib.sha256(content).hexdigest()
        self.kind = kind
        self.size = (pixels.shape[1], pixels.shape[0])
        self._pixels, self._text = pixels, text

    @cached_property
    def png(self) -> bytes:
        return pictures.encode_png(self._pixels, self._text)

    @cached_property
    def webp(self) -> bytes:
        return pictures.thumbnail(self._pixels)


_ENCODED = ("png", "webp")


class Library:
    """Assets and artifacts under one folder.

    Args:
        home: the folder; made when absent.
        limits: how much an owner, and all together, may bring in.
    """

    def __init__(self, home: Path, limits: Limits | None = None) -> None:
        self._home = home
        self._limits = limits if limits is not None else Limits()
        self._db = Database(home / "library.db", _MIGRATIONS)

    # ── assets ───────────────────────────────────────────────────────────────

    def add_image(
        self, source: bytes | Image.Image | NDArray[np.uint8], name: str = "", *, owner: str = "local"
    ) -> Asset:
        """Stores a picture from outside. Raises InvalidImage, DiskFull, QueueFull (as much as an owner may keep)."""
        return self._bring(_pixels(source), "image", name, owner)

    def add_mask(self, source: bytes | NDArray[np.bool_], name: str = "", *, owner: str = "local") -> Asset:
        """Stores a mask: bool (H, W), or a picture file whose light (or opaque) part is the mask. Raises as above."""
        mask = pictures.decode_mask(source) if isinstance(source, bytes) else source
        return self._bring(mask, "mask", name, owner)

    def asset(self, id: str, owner: str = "local") -> Asset:
        """The asset under the name that this owner gave it. Raises NotFound."""
        rows = self._db.rows(f"SELECT {_ASSET} FROM asset WHERE id = :id", {"id": id, "owner": owner})
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

        With an `owner` only what that owner brought in or has in artifacts.
        """
        owned = (
            "SELECT asset FROM output JOIN artifact ON artifact.id = output.artifact WHERE kept = 1 AND owner = :owner "
            "UNION SELECT asset FROM parent JOIN artifact ON artifact.id = parent.artifact "
            "WHERE kept = 1 AND owner = :owner UNION SELECT asset FROM holding WHERE owner = :owner"
        )
        where = f"kind = 'image' AND id IN ({owned})" if owner is not None else "kind = 'image'"
        named = _ASSET.replace(":owner", "COALESCE(:owner, 'local')")
        query = f"SELECT {named} FROM asset WHERE {where} ORDER BY created DESC LIMIT :limit"
        return tuple(self._asset(row) for row in self._db.rows(query, {"owner": owner, "limit": limit}))

    # ── artifacts ────────────────────────────────────────────────────────────

    def add(
        self, task: Task, card: str, fingerprint: str, result: Result, *, owner: str = "local", kept: bool = True
    ) -> Artifact:
        """Stores what a run made: all of it or nothing. Raises DiskFull."""
        texts: Sequence[str] = result.data.get("infotext", ())
        outputs = [
            _File(image, "image", {"parameters": texts[k]} if k < len(texts) else None)
            for k, image in enumerate(result.images)
        ] + [_File(mask, "mask") for mask in result.masks]
        id_ = uuid.uuid4().hex
        with self._stored(outputs, task.kind) as db:
            db.execute(
                "INSERT INTO artifact VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (id_, time.time(), owner, kept, json.dumps(task.to_json()), card, fingerprint, json.dumps(result.data)),
            )
            db.executemany("INSERT INTO output VALUES (?, ?, ?)", [(id_, k, file.id) for k, file in enumerate(outputs)])
            # What it was made from may be gone by now; that it was made is true nevertheless.
            named = "INSERT INTO parent SELECT ?, id FROM asset WHERE id = ?"
            db.executemany(named, [(id_, asset) for asset in task.assets()])
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
        self._delete("id = ?", id)

    def leave(self, owner: str) -> None:
        """Removes all that an owner made and brought in, except what others have too."""
        self._delete("owner = ?", owner)
        self._release("owner = ?", owner)

    def tidy(self, drafts_before: float, kept_before: float = 0.0, spared: Collection[str] = ()) -> None:
        """Deletes what nobody will miss. Times are seconds since the epoch.

        Unkept artifacts made before `drafts_before`, kept ones made before `kept_before`, and assets brought in before
        `drafts_before` that no artifact names and that are not among the `spared` ids.
        """
        self._delete("created < CASE WHEN kept THEN ? ELSE ? END", kept_before, drafts_before)
        free = "SELECT asset FROM output UNION SELECT asset FROM parent UNION SELECT value FROM json_each(?)"
        self._release(f"created < ? AND asset NOT IN ({free})", drafts_before, json.dumps(list(spared)))
        for row in self._db.rows("SELECT id FROM asset WHERE created < ?", (drafts_before,)):
            if row["id"] not in spared:
                self._drop_orphan(row["id"])

    def newest(self) -> float:
        """When the last asset came or artifact was made, seconds since the epoch; 0 without any."""
        query = "SELECT created FROM asset UNION ALL SELECT created FROM artifact ORDER BY created DESC LIMIT 1"
        return next((float(row["created"]) for row in self._db.rows(query)), 0.0)

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

    def _bring(self, pixels: NDArray[Any], kind: Literal["image", "mask"], name: str, owner: str) -> Asset:
        file = _File(pixels, kind)
        with self._stored([file], "") as db:
            held = (
                "INSERT INTO holding VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name, "
                "created = excluded.created"
            )
            size = sum(path.stat().st_size for path in self._paths(file.id))
            db.execute(held, (file.id, owner, name, time.time(), size))
            self._require_share(db, owner)
        return self.asset(file.id, owner)

    def _require_share(self, db: sqlite3.Connection, owner: str) -> None:
        sums = (  # a mask is small, and each touch of its sliders makes one: only its bytes count
            "SELECT COALESCE(SUM(kind = 'image'), 0), COALESCE(SUM(bytes), 0) "
            "FROM holding JOIN asset ON asset.id = holding.asset WHERE owner = ? OR ? IS NULL"
        )
        own, own_bytes = db.execute(sums, (owner, owner)).fetchone()
        count, size = db.execute(sums, (None, None)).fetchone()
        if owner != LOCAL and (own > self._limits.uploads_each or own_bytes > self._limits.bytes_each):
            raise QueueFull(
                f"You keep {own - 1} pictures here, which is as much as one may.", "Use one of those that are here."
            )
        if count > self._limits.uploads or size > self._limits.bytes:
            raise QueueFull("The studio holds as many pictures as it may.", "Try again later; old ones go by and by.")

    @contextmanager
    def _stored(self, put: Sequence[_File], name: str) -> Iterator[sqlite3.Connection]:
        """A transaction in which the files are there and named by rows. On any error neither is. Raises DiskFull."""
        writes = [(path, file, kind) for file in put for path, kind in zip(self._paths(file.id), _ENCODED, strict=True)]
        size = sum(len(getattr(file, kind)) for path, file, kind in writes if not path.exists())
        files.require_room(self._home, size, self._limits.floor)
        new: list[Path] = []
        try:
            with self._db.transaction() as db:
                for path, file, kind in writes:
                    if not path.exists():
                        new.append(path)
                        files.write(path, getattr(file, kind))
                for file in put:
                    db.execute(
                        "INSERT INTO asset VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                        "created = excluded.created, name = CASE WHEN name = '' THEN excluded.name ELSE name END",
                        (file.id, file.kind, *file.size, time.time(), name),
                    )
                yield db
        except BaseException:
            self._remove_unnamed(new)
            raise

    def _remove_unnamed(self, new: Sequence[Path]) -> None:
        """Takes back files whose rows could not be written, unless somebody else's rows name them by now."""
        try:
            with self._db.transaction() as db:
                for path in new:
                    if db.execute("SELECT 1 FROM asset WHERE id = ?", (path.stem,)).fetchone() is None:
                        path.unlink(missing_ok=True)
        except StudioError:
            log.debug("left for the next sweep")

    def _delete(self, where: str, *values: object) -> None:
        """Removes the artifacts, and then their outputs where nobody else has them."""
        with self._db.transaction() as db:
            ids = f"SELECT id FROM artifact WHERE {where}"
            assets = [row["asset"] for row in db.execute(f"SELECT asset FROM output WHERE artifact IN ({ids})", values)]
            db.execute(f"DELETE FROM artifact WHERE {where}", values)
        for asset in assets:
            self._drop_orphan(asset)

    def _release(self, where: str, *values: object) -> None:
        """Ends holdings, and removes their assets where nobody else has them."""
        with self._db.transaction() as db:
            assets = [row["asset"] for row in db.execute(f"SELECT asset FROM holding WHERE {where}", values)]
            db.execute(f"DELETE FROM holding WHERE {where}", values)
        for asset in assets:
            self._drop_orphan(asset)

    def _paths(self, id_: str) -> tuple[Path, Path]:
        folder = self._home / "assets" / id_[:2]
        return folder / f"{id_}.png", folder / f"{id_}.webp"

    def _drop_orphan(self, asset: str) -> None:
        """Removes an asset that no artifact names and nobody holds."""
        named = (
            "SELECT 1 FROM output WHERE asset = :id UNION SELECT 1 FROM parent WHERE asset = :id "
            "UNION SELECT 1 FROM holding WHERE asset = :id LIMIT 1"
        )
        with self._db.transaction() as db:
            if db.execute(named, {"id": asset}).fetchone() is None:
                db.execute("DELETE FROM asset WHERE id = ?", (asset,))
                for path in self._paths(asset):
                    path.unlink(missing_ok=True)

    def _asset(self, row: sqlite3.Row) -> Asset:
        path, thumb = self._paths(row["id"])
        return Asset(row["id"], row["kind"], row["width"], row["height"], row["created"], row["name"], path, thumb)

    def _artifact(self, row: sqlite3.Row) -> Artifact:
        whose = {"id": row["id"], "owner": row["owner"]}
        outputs = self._db.rows(
            f"SELECT {_ASSET} FROM asset JOIN output ON asset.id = output.asset WHERE output.artifact = :id "
            "ORDER BY output.position",
            whose,
        )
        parents = self._db.rows(
            f"SELECT {_ASSET} FROM asset JOIN parent ON asset.id = parent.asset WHERE parent.artifact = :id", whose
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
