"""Which process holds something: its id and the moment it began, so that a reused id is not taken for it."""

from __future__ import annotations

import os

import psutil


def own_mark() -> str:
    """This process, as text that `is_alive` understands."""
    return f"{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_alive(mark: str) -> bool:
    """Whether the process that wrote this mark still runs. One that ended and was not waited for is dead."""
    pid, _, created = mark.partition(":")
    try:
        process = psutil.Process(int(pid))
        return f"{process.create_time():.2f}" == created and process.status() not in _DEAD
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False


_DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
