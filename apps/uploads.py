"""Large files on their way in: to disk as they come, and never to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from studio import files

LOOK_EVERY = 16 * 2**20  # bytes written between two looks at the disk


def announced(request: Request) -> int:
    """Bytes that a request says it brings; 0 where it says nothing."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() else 0


async def receive(chunks: AsyncIterator[bytes], path: Path, size: int, floor: int) -> None:
    """Writes a body of `size` bytes, 0 where that is not known, as it comes.

    Raises DiskFull before less than `floor` bytes are free, and StudioError where the file cannot be written.
    """
    left, unseen = size, LOOK_EVERY
    try:
        with path.open("xb") as out:
            async for chunk in chunks:
                unseen += len(chunk)
                if unseen >= LOOK_EVERY:
                    unseen = 0
                    files.require_room(path.parent, max(left, 0) if size else LOOK_EVERY, floor)
                left -= len(chunk)
                await run_in_threadpool(out.write, chunk)
    except OSError as error:
        raise files.refusal(path.name, error) from error
