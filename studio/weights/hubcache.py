"""The standard Hugging Face cache on disk: where files lie, and how to take some away. No network, no huggingface_hub.

    <cache>/models--owner--name/refs/<revision>            the commit a branch or tag stood at
                               /snapshots/<commit>/<file>  a link to
                               /blobs/<etag>               the bytes; the etag is the sha256 (LFS) or the git blob id

Other programs use the same folders, so only files that a record of ours names are ever removed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from studio import files
from studio.errors import CardError, UnsafeFile

CHUNK = 1 << 20  # bytes read at a time
COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def default_cache() -> Path:
    """The folder that huggingface_hub itself would use, by the same environment variables."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return Path(os.path.expandvars(value)).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", os.path.join(base, "huggingface"))
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def safe_name(name: str) -> str:
    """A relative path inside a folder, in POSIX spelling. Raises UnsafeFile for anything that could leave it."""
    path = PurePosixPath(name)
    wrong = not name or "\\" in name or "\0" in name or ":" in name or path.is_absolute() or len(name) > 500
    if wrong or any(part in ("..", ".") for part in name.split("/")) or str(path) != name:
        raise UnsafeFile(f"The file name {name[:80]!r} does not stay inside its folder.", "Do not use this model.")
    return name


class Repo:
    """The local side of one repository of models."""

    def __init__(self, cache: Path, name: str) -> None:
        if not _REPO.fullmatch(name) or ".." in name or "--" in name:
            raise CardError(f"{name!r} is not the name of a repository.", "Write it as owner/name.")
        self.folder = cache / ("models--" + name.replace("/", "--"))

    def blob(self, etag: str) -> Path:
        return self.folder / "blobs" / etag

    def partial(self, etag: str) -> Path:
        """Where our unfinished download of a blob lies, to be resumed."""
        return self.folder / "blobs" / f"{etag}.studio.incomplete"

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def commit(self, revision: str) -> str | None:
        """The commit a revision stood at when it was last seen, or None."""
        if COMMIT.fullmatch(revision):
            return revision if self.snapshot(revision).is_dir() else None
        try:
            found = (self.folder / "refs" / safe_name(revision)).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return found if COMMIT.fullmatch(found) and self.snapshot(found).is_dir() else None

    def link(self, commit: str, name: str, etag: str) -> Path:
        """Makes `snapshots/<commit>/<name>` show the blob; where links are not allowed the blob itself moves there."""
        pointer, blob = self.snapshot(commit) / name, self.blob(etag)
        if pointer.exists() and pointer.resolve() == blob.resolve():
            return pointer
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)
        try:
            os.symlink(os.path.relpath(blob, pointer.parent), pointer)
        except OSError:
            os.replace(blob, pointer)
        return pointer

    def remember(self, revision: str, commit: str) -> None:
        """Notes that the branch or tag stands at the commit."""
        if revision == commit:
            return
        ref = self.folder / "refs" / safe_name(revision)
        files.write(ref, commit.encode("ascii"))

    def remove(self, commit: str, names: Iterable[str]) -> int:
        """Takes files of a snapshot away, and their blobs where no other snapshot shows them. Bytes freed."""
        freed = 0
        for name in names:
            pointer = self.snapshot(commit) / safe_name(name)
            blob = pointer.resolve() if pointer.is_symlink() else None
            size = _size(pointer)
            pointer.unlink(missing_ok=True)
            if blob is not None and blob.parent == (self.folder / "blobs").resolve() and not self._shown(blob):
                blob.unlink(missing_ok=True)
                blob = None
            freed += size if blob is None else 0
        self._prune()
        return freed

    def drop_partials(self, etags: Iterable[str]) -> None:
        for etag in etags:
            self.partial(etag).unlink(missing_ok=True)

    def _shown(self, blob: Path) -> bool:
        return any(link.is_symlink() and link.resolve() == blob for link in (self.folder / "snapshots").rglob("*"))

    def _prune(self) -> None:
        """Removes folders that became empty, and references to snapshots that are gone."""
        folders = [path for path in (self.folder / "snapshots").rglob("*") if path.is_dir() and not path.is_symlink()]
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        for ref in [path for path in (self.folder / "refs").rglob("*") if path.is_file()]:
            if self.commit(ref.relative_to(self.folder / "refs").as_posix()) is None:
                ref.unlink(missing_ok=True)
        blobs = self.folder / "blobs"
        if blobs.is_dir() and not any(blobs.iterdir()) and not any((self.folder / "refs").glob("*")):
            for folder in (blobs, self.folder / "snapshots", self.folder / "refs", self.folder):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


def pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def sha256(path: Path, tick: Callable[[], None] | None = None) -> str:
    """The sha256 of a file in hex; `tick` is called every megabyte and may raise to stop."""
    digest = hashlib.sha256()
    for chunk in pieces(path):
        digest.update(chunk)
        if tick is not None:
            tick()
    return digest.hexdigest()


def git_hash(size: int) -> hashlib._Hash:
    """A started hash that becomes the git blob id of a file of that many bytes."""
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
