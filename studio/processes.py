"""Which process holds something: its id and the moment it began, so that a reused id is not taken for it."""

from __future__ import annotations

import os

import psutil


def own_mark() -> str:
    """This process, as text that `is_alive` understands."""
    return f"{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_alive(mark: str) -> bool:
    """Whether the process that wrote this mark still runs."""
    pid, _, created = mark.partition(":")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == created
    except (psutil.NoSuchProcess, ValueError):
        return False
