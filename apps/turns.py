"""What a route asks before it works: whose request it is, and whether it is their turn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from apps.visitors import LOCAL
from studio.errors import Cancelled, NotFound, QueueFull
from studio.jobs import Snapshot
from studio.library import Artifact
from studio.studio import Studio
from studio.train.runs import Run

T = TypeVar("T")


def owner_of(request: Request) -> str:
    """The owner that the guard found for a request."""
    return str(request.scope.get("state", {}).get("owner", LOCAL))


Owner = Annotated[str, Depends(owner_of)]


def seen_by(studio: Studio, owner: str) -> str | None:
    """Whose things an owner sees: None is everybody's."""
    return None if studio.can("share") else owner


def own_job(studio: Studio, id: str, owner: str) -> Snapshot:
    """Raises NotFound, also for another's job."""
    job = studio.jobs.get(id)
    if seen_by(studio, owner) not in (None, job.owner):
        raise NotFound("There is no such job.", "It may have been cleared from the history.")
    return job


def own_artifact(studio: Studio, id: str, owner: str) -> Artifact:
    """Raises NotFound, also for another's result."""
    artifact = studio.library.get(id)
    if seen_by(studio, owner) not in (None, artifact.owner):
        raise NotFound("This result is no longer in the library.", "It may have been deleted in another window.")
    return artifact


def own_run(studio: Studio, id: str, owner: str) -> Run:
    """Raises NotFound, also for another's run."""
    return studio.runs.get(id, seen_by(studio, owner))


class Bulkhead:
    """Bounds one kind of work, so that it never takes the threads or the memory that answer everybody else.

    Args:
        what: the work as a refusal calls it, "questions to a model".
        places: how much of it is done at once.
        waiting: how much more may wait.
        each: how much of both one owner may have.
    """

    def __init__(self, what: str, *, places: int, waiting: int, each: int) -> None:
        self._what = what
        self._most = places + waiting
        self._each = each
        self._owners: Counter[str] = Counter()
        self._places = asyncio.Semaphore(places)
        self._working: set[asyncio.Future[Any]] = set()

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """Waits for a turn, in order. Raises QueueFull instead where too much waits already."""
        if self._owners.total() >= self._most or self._owners[owner] >= self._each:
            raise QueueFull(f"Too many {self._what} are waiting.", "Try again in a moment.")
        self._owners[owner] += 1
        try:
            async with self._places:
                yield
        finally:
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]

    async def turn(self, request: Request) -> AsyncIterator[None]:
        """As a route's dependency: the route runs in its turn."""
        async with self.place(owner_of(request)):
            yield

    async def run(self, request: Request, call: Callable[[Callable[[], bool]], T]) -> T:
        """`call(is_cancelled)` on a thread in its turn; cancelled when the client leaves or the studio ends.

        Raises QueueFull, Cancelled and what the call raises.
        """
        stop, begun = threading.Event(), False

        async def work() -> T:
            nonlocal begun
            async with self.place(owner_of(request)):
                begun = True
                return await run_in_threadpool(call, stop.is_set)

        working, leaving = asyncio.ensure_future(work()), asyncio.ensure_future(_left(request))
        self._working.add(working)
        working.add_done_callback(self._done)
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Cancelled
            return working.result()
        finally:
            stop.set()
            leaving.cancel()
            if not begun:
                working.cancel()  # what has begun keeps its place until its thread has seen the stop

    def _done(self, working: asyncio.Future[Any]) -> None:
        self._working.discard(working)
        if not working.cancelled():
            working.exception()  # nobody else may be there to hear it


class Latest(Generic[T]):
    """What everybody asks for and nobody needs twice a second. While somebody looks, others get what was seen before.

    Args:
        look: finds the value.
        seconds: how long it is good for.
    """

    def __init__(self, look: Callable[[], T], seconds: float = 0.5) -> None:
        self._look = look
        self._seconds = seconds
        self._lock = threading.Lock()
        self._seen: tuple[float, T] | None = None

    def __call__(self) -> T:
        seen = self._seen
        if seen is not None and time.monotonic() - seen[0] < self._seconds:
            return seen[1]
        if not self._lock.acquire(blocking=seen is None):
            assert seen is not None
            return seen[1]
        try:
            value = self._look()
            self._seen = time.monotonic(), value
            return value
        finally:
            self._lock.release()

    def forget(self) -> None:
        self._seen = None


async def _left(request: Request) -> None:
    """Returns when the client is gone. The body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
