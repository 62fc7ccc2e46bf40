"""Downloads as a whole: what is missing, the room for it, its progress, and what another program already brought.

One file is the business of `fetch`; here are the many files of a card.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from studio.cards import Card
from studio.errors import DiskFull, IntegrityError, StudioError, Unsupported
from studio.files import free_bytes
from studio.intake import convert
from studio.intake.pipelines import INDEX, check_pipeline
from studio.weights.fetch import Hub, Listing, RemoteFile
from studio.weights.records import FileRecord, Record, check, is_fresh

ROOM = 64 * 2**20  # bytes that stay free on the disk
OnProgress = Callable[[int, int, float | None], None]


@dataclass(frozen=True)
class PullPlan:
    """What a download would bring. Sizes in bytes; `missing` is what is not here yet."""

    files: tuple[RemoteFile, ...]
    bytes: int
    missing: int
    licence: str
    gated: bool
    revision: str


class Progress:
    """Bytes of a whole download and the time that is left, from the rate since it started."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total = total
        self._report = on_progress
        self._done = self._current = self._before = 0
        self._began = time.monotonic()

    def start(self, total: int, here: int) -> None:
        """Now the true size is known; `here` bytes of it need no transfer."""
        self._total, self._before, self._began = total, here, time.monotonic()
        self.tick()

    def file(self, count: int) -> None:
        """So many bytes of the current file are here."""
        self._current = count
        self.tick()

    def next(self, size: int) -> None:
        """The current file is done."""
        self._done, self._current = self._done + size, 0
        self.tick()

    def tick(self) -> None:
        """Reports; raises what the listener raises."""
        if self._report is None:
            return
        done = self._done + self._current
        moved, seconds = done - self._before, time.monotonic() - self._began
        left = (self._total - done) * seconds / moved if moved > 0 and seconds > 0.5 else None
        self._report(done, self._total, left)


def listing(hub: Hub, card: Card) -> Listing:
    """What the hub offers for the card. Raises IntegrityError where it is not what the card was made for."""
    if card.source.kind != "hub":
        raise Unsupported(f"{card.title} is not from a hub.", "There is nothing to download.")
    found = hub.listing(card.source.repo, card.source.revision, card.source.include)
    for file in found.files:
        if card.sha256.get(file.name, file.sha256) != file.sha256:
            raise IntegrityError(
                f"The hub offers another {file.name} than the one this card was made for.", "Update the studio."
            )
    return found


def plan(hub: Hub, card: Card) -> PullPlan:
    """Asks the hub; reads no file."""
    found = listing(hub, card)
    total = sum(file.size for file in found.files)
    here = sum(_here(hub, card, found.commit, file) for file in found.files)
    return PullPlan(found.files, total, total - here, found.licence or card.licence, found.gated, found.commit)


def started(card: Card, found: Listing, old: Record | None) -> Record:
    """The record of a download that begins now; what was pinned stays so."""
    files = {file.name: FileRecord(size=file.size, sha256=file.sha256, etag=file.etag) for file in found.files}
    base = old if old is not None else Record(place="hub")
    fields = {"place": "hub", "revision": found.commit, "complete": False, "damaged": "", "files": files}
    return base.model_copy(update=fields)


def transfer(hub: Hub, card: Card, found: Listing, old: Record | None, progress: Progress) -> tuple[Record, int]:
    """Brings every missing file and checks all of them: the record, complete, and the bytes that were brought.

    Raises what `Hub.download` raises, DiskFull before the first byte, UnsafeFile, and what the listener raises.
    """
    record, repo = started(card, found, old), hub.repo(card.source.repo)
    folder = repo.snapshot(found.commit)
    here = {file.name: _sound(hub, card, found.commit, file, old, progress) for file in found.files}
    missing = sum(file.size for file in found.files) - sum(here.values())
    progress.start(sum(file.size for file in found.files), sum(here.values()))
    make_room(hub.cache, missing, card.title)
    files = dict(record.files)
    for file in found.files:
        if here[file.name] < file.size or file.size == 0:
            hub.download(card.source.repo, found.commit, file, progress.file)
        elif repo.blob(file.etag).exists():
            repo.link(found.commit, file.name, file.etag)
        files[file.name] = check(folder, file.name, files[file.name], progress.tick)
        progress.next(file.size)
    repo.remember(card.source.revision, found.commit)
    if "convert" not in card.options:
        convert.check_folder(folder, list(files))
    owned = record.owned or missing > 0
    fields = {"files": files, "complete": True, "owned": owned, "last_used": time.time()}
    return record.model_copy(update=fields), missing


def found_in_cache(hub: Hub, card: Card) -> Record | None:
    """A record of files that another program put into the cache, where they are all that the card needs."""
    repo = hub.repo(card.source.repo)
    commit = repo.commit(card.source.revision)
    patterns = card.source.include
    if commit is None or not patterns or "convert" in card.options:
        return None
    folder = repo.snapshot(commit)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    wanted = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not all(any(fnmatchcase(name, pattern) for name in wanted) for pattern in patterns):
        return None
    try:
        if INDEX in wanted:
            check_pipeline(folder)
    except StudioError:
        return None
    files = {name: _cached(folder / name, card.sha256.get(name, "")) for name in wanted}
    return Record(place="hub", files=files, revision=commit, complete=True)


def give_up(hub: Hub, card: Card, record: Record, shared: Collection[str]) -> int:
    """Removes the files and partial files of a record from the cache, but not the `shared` ones. Bytes freed."""
    repo = hub.repo(card.source.repo)
    etags = [file.etag for name, file in record.files.items() if file.etag and name not in shared]
    freed = partial_size(hub, card, record)
    repo.drop_partials(etags)
    return freed + repo.remove(record.revision, [name for name in record.files if name not in shared])


def partial_size(hub: Hub, card: Card, record: Record) -> int:
    """Bytes of unfinished files."""
    repo = hub.repo(card.source.repo)
    return sum(max(size_of(repo.partial(file.etag)), 0) for file in record.files.values() if file.etag)


def make_room(folder: Path, needed: int, title: str) -> None:
    """Raises DiskFull where `needed` bytes do not fit beside ROOM."""
    free = free_bytes(folder)
    if needed > 0 and needed + ROOM > free:
        raise DiskFull(
            f"{title} needs {needed / 1e6:.0f} MB beside the {ROOM / 1e6:.0f} MB that stay free; the disk has "
            f"{free / 1e6:.0f} MB left.",
            "Remove models you do not need.",
        )


def size_of(path: Path) -> int:
    """Bytes of a file, -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _here(hub: Hub, card: Card, commit: str, file: RemoteFile) -> int:
    """Bytes of a file that are here, by size alone."""
    repo = hub.repo(card.source.repo)
    if file.size in (size_of(repo.snapshot(commit) / file.name), size_of(repo.blob(file.etag))):
        return file.size
    return min(max(size_of(repo.partial(file.etag)), 0), file.size)


def _sound(hub: Hub, card: Card, commit: str, file: RemoteFile, old: Record | None, progress: Progress) -> int:
    """Bytes of a file that are here and right. A whole file that differs from its hash is thrown away."""
    repo = hub.repo(card.source.repo)
    known = FileRecord(size=file.size, sha256=file.sha256, etag=file.etag)
    for path in (repo.snapshot(commit) / file.name, repo.blob(file.etag)):
        if size_of(path) < 0:
            continue
        seen = old.files.get(file.name) if old is not None and not old.damaged else None
        if seen is not None and seen.etag == file.etag and is_fresh(path.parent, path.name, seen):
            return file.size
        try:
            check(path.parent, path.name, known, progress.tick)
            return file.size
        except IntegrityError:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    return min(max(size_of(repo.partial(file.etag)), 0), file.size)


def _cached(path: Path, published: str) -> FileRecord:
    """A file of the cache as the name of its blob describes it."""
    etag = path.resolve().name if path.is_symlink() else ""
    is_hash = len(etag) in (40, 64) and all(char in "0123456789abcdef" for char in etag)
    digest = published or (etag if is_hash and len(etag) == 64 else "")
    return FileRecord(size=max(size_of(path), 0), sha256=digest, etag=etag if is_hash else "")
