"""What is known of each model on this disk: one small JSON file a model, replaced atomically, safe for two apps.

Reading takes no lock because a file is replaced whole. Whoever changes a record holds the model's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files
from studio.errors import IntegrityError
from studio.weights.hubcache import git_hash, pieces, safe_name, sha256


class FileRecord(BaseModel):
    """One file as it was when its bytes were last hashed. `mtime_ns` 0: not hashed here yet."""

    model_config = ConfigDict(frozen=True)
    size: int = Field(ge=0)
    sha256: str = ""
    etag: str = ""
    mtime_ns: int = 0


class Record(BaseModel):
    """One model.

    Attributes:
        place: "hub" in the Hugging Face cache, "home" in the studio's own folder, "builtin" among the shipped ones.
        revision: the commit, for files from a hub.
        complete: all files were here and right.
        owned: the studio brought the files here itself, so eviction may take them away.
        damaged: name of a file that was found to differ; empty when there is none.
        last_used: seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True)
    place: Literal["hub", "home", "builtin"]
    files: dict[str, FileRecord] = Field(default_factory=dict)
    revision: str = ""
    complete: bool = False
    owned: bool = False
    damaged: str = ""
    pinned: bool = False
    last_used: float = 0.0
    checked: float = 0.0

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


class Records:
    """All records of one home, by the id of the card."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, id_: str) -> Record | None:
        """The record, or None where there is none or it cannot be read (then the files are looked at anew)."""
        try:
            return Record.model_validate_json((self._folder / f"{id_}.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def put(self, id_: str, record: Record) -> Record:
        files.write(self._folder / f"{id_}.json", record.model_dump_json(indent=1).encode())
        return record

    def drop(self, id_: str) -> None:
        (self._folder / f"{id_}.json").unlink(missing_ok=True)

    def ids(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.json"))

    @contextmanager
    def lock(self, id_: str, tick: Callable[[], None] | None = None) -> Iterator[None]:
        """Holds the model against other threads and programs; `tick` is called while waiting and may raise."""
        files.make(self._folder)
        lock = FileLock(self._folder / f"{id_}.lock")
        while True:
            try:
                lock.acquire(timeout=0.25)
                break
            except Timeout:
                if tick is not None:
                    tick()
            except OSError as error:
                raise files.refusal(f"{id_}.lock", error) from error
        try:
            yield
        finally:
            lock.release()


def check(folder: Path, name: str, known: FileRecord, tick: Callable[[], None] | None = None) -> FileRecord:
    """Hashes a file of a model and returns its record. Raises IntegrityError that names it where it differs."""
    path = folder / safe_name(name)
    try:
        stat = path.stat()
        found = sha256(path, tick)
    except FileNotFoundError as error:
        raise IntegrityError(f"{name} is missing.") from error
    except OSError as error:
        raise IntegrityError(f"{name} cannot be read: {error.strerror}.") from error
    if stat.st_size != known.size or (known.sha256 and found != known.sha256) or not _is_blob(path, known):
        raise IntegrityError(f"{name} is damaged: it differs from its recorded hash.")
    return known.model_copy(update={"sha256": found, "mtime_ns": stat.st_mtime_ns})


def _is_blob(path: Path, known: FileRecord) -> bool:
    """Whether a small file of a hub is the git blob it is listed as; asked only where no sha256 is known."""
    if known.sha256 or len(known.etag) != 40:
        return True
    digest = git_hash(known.size)
    for piece in pieces(path):
        digest.update(piece)
    return digest.hexdigest() == known.etag


def is_fresh(folder: Path, name: str, known: FileRecord) -> bool:
    """Whether the file looks the same as when it was hashed (size and time of change)."""
    try:
        stat = (folder / name).stat()
    except OSError:
        return False
    return known.mtime_ns != 0 and (stat.st_size, stat.st_mtime_ns) == (known.size, known.mtime_ns)


def survey(folder: Path) -> dict[str, FileRecord]:
    """Every file under the folder, hashed. Links and special files raise IntegrityError."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path.name} is a link or a special file.", "Only plain files can be kept.")
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            found[name] = check(folder, name, FileRecord(size=path.stat().st_size))
    return found
