"""Files that are whole or not there, and stay after a power cut: the one place that writes what must not be lost.

A file is written beside its place under a name that says who writes it, synced, renamed, and its folder synced. What a
killed writer leaves is known by that name, so `sweep` takes it away and never what somebody is still writing.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from studio.errors import DiskFull, StudioError
from studio.processes import is_alive, own_mark

log = logging.getLogger(__name__)

PRIVATE = 0o700
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Libraries that write themselves tell of a full disk in words only.
_FULL_WORDS = ("no space left", "disk is full", "os error 28", "os error 122")
_DRAFT = re.compile(r"\..*\.(\d+)-(\d+\.\d+)\.[0-9a-f]{8}\.(?:part|bin)")
# Of versions that did not say who wrote, and of safetensors, which does not either.
_OLD_DRAFT = re.compile(r".*\.(?:part|tmp)|\.(?:bin|staging)-[0-9a-f]+|\.tmp\w{6}")
_OLD_S = 86_400


def make(folder: Path) -> Path:
    """The folder, made with those above it where absent, for this user's eyes only.

    Raises DiskFull, and StudioError where it cannot be made.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=PRIVATE, exist_ok=True)
            sync(path.parent)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file")
    except OSError as error:
        if is_full(error):
            raise refusal(folder.name, error) from error
        raise StudioError(
            f"The folder {folder} cannot be used: {error.strerror or error}.",
            "Choose another one, or make it writable.",
        ) from error
    return folder


def usable(folder: Path) -> Path:
    """As `make`, and sure that it can be written to. Raises StudioError, DiskFull."""
    make(folder)
    probe = draft(folder / "probe")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        if is_full(error):  # what is there can still be read
            return folder
        raise StudioError(
            f"The folder {folder} cannot be written to: {error.strerror}.", "Choose another one, or make it writable."
        ) from error
    return folder


def write(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing. Raises DiskFull, StudioError."""
    with whole(path) as part:
        part.write_bytes(data)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to; at the end of the block the file there takes its place, synced. On any error nothing stays.

    Raises DiskFull and StudioError for what the system refuses, and what the block raises.
    """
    part = draft(path)
    try:
        make(path.parent)
        yield part
        sync(part)
        os.replace(part, path)
        sync(path.parent)
    except StudioError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or is_full(error):
            raise refusal(path.name, error) from error
        raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def publish(stage: Path, place: Path) -> None:
    """Makes a folder of finished files appear at `place`, synced.

    Raises FileExistsError where something is there, DiskFull, StudioError.
    """
    try:
        for path in (*sorted(stage.rglob("*")), stage):
            sync(path)
        os.rename(stage, place)
        sync(place.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES) and place.exists():
            raise FileExistsError(errno.EEXIST, "it is there already", str(place)) from error
        raise refusal(place.name, error) from error


def draft(path: Path, kind: str = "part") -> Path:
    """A name beside `path` for what is not whole yet ("part") or no longer wanted ("bin"), with the writer's mark."""
    return path.with_name(f".{path.name[:120]}.{own_mark().replace(':', '-')}.{uuid.uuid4().hex[:8]}.{kind}")


def sweep(folder: Path) -> int:
    """Removes what writers that are gone left unfinished below the folder, and says how many there were."""
    count = 0
    for root, folders, files in os.walk(folder):
        left = [name for name in (*folders, *files) if _is_left(Path(root), name)]
        # The files of a model may be called whatever they like.
        folders[:] = [] if Path(root).name == "models" else [name for name in folders if name not in left]
        for name in left:
            path = Path(root, name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
            count += 1
    return count


def sync(path: Path) -> None:
    """Returns once a file's bytes, or a folder's names, are on the disk. Where folders cannot be synced, nothing."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):  # folders, on Windows
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def require_room(folder: Path, size: int, floor: int) -> None:
    """Raises DiskFull where writing `size` bytes would leave less than `floor` bytes free."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    free = shutil.disk_usage(place).free
    if free - size < floor:
        raise DiskFull(
            f"The disk has {free >> 20} MB left, and {floor >> 20} MB stay free.", "Free some room and try again."
        )


def is_full(error: BaseException) -> bool:
    """Whether an error of a write means that there is no room."""
    return getattr(error, "errno", None) in _FULL or any(words in str(error).lower() for words in _FULL_WORDS)


def refusal(name: str, error: Exception) -> StudioError:
    """What a failed write means for the user."""
    if is_full(error):
        return DiskFull(f"The disk is full; {name} was not saved.", "Free some room and try again.")
    reason = getattr(error, "strerror", None) or error
    return StudioError(f"{name} could not be saved: {reason}.", "Look at the studio's folder.")


def _is_left(root: Path, name: str) -> bool:
    marked = _DRAFT.fullmatch(name)
    if marked is not None:
        return not is_alive(f"{marked[1]}:{marked[2]}")
    if _OLD_DRAFT.fullmatch(name) is None:
        return False
    try:
        return time.time() - (root / name).stat().st_mtime > _OLD_S
    except OSError:
        return False
