"""How much may be brought in, and how it is written to disk."""

from __future__ import annotations

import errno
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from apps.visitors import Allowance
from studio.errors import DiskFull, QueueFull
from studio.studio import Studio

ROOM = 64 * 2**20  # bytes that stay free on the disk
LOOK_EVERY = 16 * 2**20  # bytes written between two looks at the disk


class Uploads:
    """How much strangers may bring: so much an hour each, so much a day all together, and never the last of the disk.

    Args:
        studio: whose home it goes to; in local mode only the disk is a limit.
    """

    EACH = 256 * 2**20  # bytes an hour, as they are stored
    ALL = 8 * 2**30  # bytes a day
    FLOOR = 256 * 2**20  # bytes of the disk that stay free

    def __init__(self, studio: Studio) -> None:
        self._home = studio.config.home
        self._shared = studio.can("share")
        self._each = Allowance(self.EACH, self.EACH / 3600)
        self._all = Allowance(self.ALL, self.ALL / 86_400)

    def admit(self, owner: str, size: int = 0) -> None:
        """Before `size` bytes are read or made. Raises QueueFull, DiskFull."""
        if size + self.FLOOR > shutil.disk_usage(self._home).free:
            raise DiskFull("The disk has no room for this.", "Free some room, then try again.")
        if self._shared:
            return
        wait = self._each.take(owner, size) or self._all.take("", size)
        if wait:
            raise QueueFull(
                "You brought as much as the studio takes for now.", f"Try again in {max(1, round(wait / 60))} min."
            )

    def charge(self, owner: str, size: int) -> None:
        """What was stored beyond what was announced."""
        if not self._shared:
            self._each.charge(owner, max(0, size))
            self._all.charge("", max(0, size))


def announced(request: Request) -> int:
    """Bytes that a request says it brings; 0 where it says nothing."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() else 0


async def receive(chunks: AsyncIterator[bytes], path: Path, size: int) -> None:
    """Writes a body of `size` bytes, 0 where that is not known, as it comes. Raises DiskFull before the disk is."""
    full = DiskFull("The disk has no room for this file.", "Free some room, for example with Make room in Models.")
    left = size
    unseen = LOOK_EVERY
    with path.open("xb") as out:
        try:
            async for chunk in chunks:
                unseen += len(chunk)
                if unseen >= LOOK_EVERY:
                    unseen = 0
                    if max(left, LOOK_EVERY) + ROOM > shutil.disk_usage(path.parent).free:
                        raise full
                left -= len(chunk)
                await run_in_threadpool(out.write, chunk)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise full from error
            raise
