"""Connections under a limit: who only holds one open makes room for whoever comes next.

Uvicorn waits for ever for the head of a request, and takes connections until the process has no file left to open; then
asyncio logs each one it cannot take, thousands a second.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 400  # connections
FILES = 4096  # that the process would like to be able to open
HEAD_S = 15.0  # from a connection, or from its last answer, to the whole head of the next request
REPEAT_S = 30.0


@cache
def most() -> int:
    """How many connections leave the process files to open; asks the system for more where it gives few."""
    if sys.platform == "win32":
        return MOST
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return min(MOST, wanted // 2)


class Connection(H11Protocol):
    """A connection that knows since when it has asked for nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.quiet_since = time.monotonic()
        super().connection_made(transport)
        if len(self.connections) > most():
            idle = [one for one in self.connections if isinstance(one, Connection) and one.is_quiet]
            min(idle, key=lambda one: one.quiet_since).transport.abort()  # this one at the latest

    def on_response_complete(self) -> None:
        self.quiet_since = time.monotonic()
        super().on_response_complete()

    @property
    def is_quiet(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete


def close_idle(connections: Iterable[Any]) -> None:
    """Closes those whose next request did not come in time."""
    since = time.monotonic() - HEAD_S
    for one in list(connections):
        if isinstance(one, Connection) and one.is_quiet and one.quiet_since < since:
            one.transport.close()


class Repeats(logging.Filter):
    """Lets each message pass once in REPEAT_S: what goes wrong a thousand times a second must not fill the disk."""

    KEPT = 256

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, text = time.monotonic(), record.getMessage()
        if now - self._seen.get(text, -REPEAT_S) < REPEAT_S:
            return False
        if len(self._seen) >= self.KEPT:
            self._seen.clear()
        self._seen[text] = now
        return True
