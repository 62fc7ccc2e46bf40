"""Who may ask at once: so many for one thing, and so many of one owner. Whoever comes later is refused, not kept."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from studio.errors import QueueFull


class Admission:
    """Args:
    most: how many may ask for one thing at once.
    each: how many questions of one owner there may be at once.
    """

    def __init__(self, most: int, each: int) -> None:
        self._most, self._each = most, each
        self._things: Counter[str] = Counter()
        self._owners: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, thing: str, owner: str) -> Iterator[None]:
        """A place while the block runs. Raises QueueFull."""
        with self._lock:
            if self._things[thing] >= self._most or self._owners[owner] >= self._each:
                raise QueueFull("This model has more questions to answer already.", "Try again in a moment.")
            self._things[thing] += 1
            self._owners[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                for counter, key in ((self._things, thing), (self._owners, owner)):
                    counter[key] -= 1
                    if not counter[key]:
                        del counter[key]
