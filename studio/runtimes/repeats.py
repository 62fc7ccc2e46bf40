"""A network whose inputs have free sides, compiled anew for a shape that comes twice in a row.

A runtime that knows every size beforehand leaves out the arithmetic of sizes and lays its arrays out once. Compiling
takes longer than many runs, so one picture of a shape is not worth it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.errors import StudioError
from studio.runtimes.base import Arrays, Session

log = logging.getLogger(__name__)
Shapes = Mapping[str, tuple[int, ...]]
Key = tuple[tuple[str, tuple[int, ...]], ...]


class RepeatSession:
    """Answers as the free network does; see `Session`.

    Args:
        free: the network compiled for any shape.
        compiled: gives one that is compiled for these shapes of all inputs.
        limit: how many of those are kept, the least recently used leave first; at least 1.
    """

    def __init__(self, free: Session, compiled: Callable[[Shapes], Session], limit: int) -> None:
        self._free = free
        self._compiled = compiled
        self._limit = limit
        self._fixed: OrderedDict[Key, Session] = OrderedDict()
        self._last: Key = ()
        self.inputs, self.outputs, self.metadata = free.inputs, free.outputs, free.metadata

    def run(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        key = tuple((name, np.shape(value)) for name, value in feed.items())
        is_again, self._last = key == self._last, key
        if key in self._fixed:
            self._fixed.move_to_end(key)
        elif is_again:
            self._fixed[key] = self._fitted(key)
            while len(self._fixed) > self._limit:
                self._let_go(self._fixed.popitem(last=False)[1])
        return self._fixed.get(key, self._free).run(feed)

    def rest(self) -> None:
        for session in {id(one): one for one in (self._free, *self._fixed.values())}.values():
            session.rest()

    def close(self) -> None:
        for session in self._fixed.values():
            self._let_go(session)
        self._fixed.clear()
        self._free.close()

    def _fitted(self, key: Key) -> Session:
        """The network for that shape; the free one, which answers the same, where it cannot be compiled."""
        try:
            return self._compiled(dict(key))
        except StudioError as error:
            log.info("not compiled for %s: %s", dict(key), error)
            return self._free

    def _let_go(self, session: Session) -> None:
        if session is not self._free:
            session.close()
