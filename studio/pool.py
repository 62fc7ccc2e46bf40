"""Engines in memory: workers under a RAM budget, least recently used ended first."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from studio import files
from studio.cards import Card
from studio.device import Device
from studio.errors import Cancelled, OutOfMemory, StudioError
from studio.worker import Worker, memory_of

log = logging.getLogger(__name__)


class Pool:
    """Leases workers. One lease a card at a time; a model stays loaded between leases while the budget allows.

    Args:
        budget: bytes of RAM that all workers together may take.
        locate: verified folder of a card's files (`Store.path`).
        device: passed to the engines.
        cache: engines keep there what can be computed again; measured memory is kept there too.
        warm: whether the fork server is used.
    """

    def __init__(
        self, budget: int, locate: Callable[[Card], Path], device: Device, cache: Path, *, warm: bool = True
    ) -> None:
        self.budget = budget
        self._locate = locate
        self._device = replace(device, memory=min(budget, device.memory or budget))  # engines keep within it
        self._cache = cache
        self._warm = warm
        self._workers: dict[str, Worker] = {}
        self._leased: dict[str, int] = {}  # bytes at peak that the work at hand will take
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._measured_file = cache / "measured-memory.json"
        self._measured = self._read_measured()

    @contextmanager
    def lease(
        self, card: Card, is_cancelled: Callable[[], bool] = lambda: False, need: int | None = None
    ) -> Iterator[Worker]:
        """The worker of that card, loaded; whoever else wants the same card waits. It is left loaded, unless it died.

        Args:
            need: bytes at peak that the work will take, where that depends on what is asked; else what was measured.

        Raises OutOfMemory before anything is loaded when the card cannot fit, what the engine's loading raises, and
        Cancelled while waiting, or once the pool is closed.
        """
        with self._turn(card.id, lambda: self._closed.is_set() or is_cancelled()):
            try:
                worker = self._ready(card, is_cancelled, self.predicted(card) if need is None else need)
                yield worker
            finally:
                with self._lock:
                    self._leased.pop(card.id, None)
                    known = self._workers.get(card.id)
                    if known is not None and known.alive:
                        if need is None:  # else it was an unusual size's
                            self._remember(card, known.memory)
                    else:
                        self._drop(card.id)

    def predicted(self, card: Card) -> int:
        """Bytes of RAM this card's worker will take at peak: measured here before, else from the card."""
        return self._measured.get(card.id, card.predicted_memory())

    def resident(self) -> dict[str, int]:
        """Bytes held by each loaded card, now. Whoever looks does not wait for a process that is being started."""
        workers = list(self._workers.items())
        return {id_: memory_of(worker.pid) for id_, worker in workers if worker.alive}

    def unload(self, card_id: str) -> None:
        with self._lock:
            if card_id not in self._leased:
                self._drop(card_id)

    def unload_all(self) -> None:
        """Ends every idle worker; a running job keeps its own."""
        with self._lock:
            for id_ in list(self._workers):
                self.unload(id_)

    def close(self) -> None:
        """Ends every worker, busy or not, all at the same time; none is begun from now on."""
        self._closed.set()
        with self._lock:
            ends = [worker.kill if id_ in self._leased else worker.close for id_, worker in self._workers.items()]
            self._workers = {}
        threads = [threading.Thread(target=end, daemon=True) for end in ends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @contextmanager
    def _turn(self, card_id: str, is_cancelled: Callable[[], bool]) -> Iterator[None]:
        """One at a time for each card; other cards go on meanwhile."""
        with self._lock:
            turn = self._turns.setdefault(card_id, threading.Lock())
        while not turn.acquire(timeout=0.1):
            if is_cancelled():
                raise Cancelled
        try:
            if is_cancelled():
                raise Cancelled
            yield
        finally:
            turn.release()

    def _ready(self, card: Card, is_cancelled: Callable[[], bool], need: int) -> Worker:
        """The loaded worker, marked as leased. Loading happens outside the lock, so that no other card waits for it."""
        with self._lock:
            worker = self._workers.get(card.id)
            if worker is not None and worker.card != card:  # another variant of the model is wanted now
                self._drop(card.id)
                worker = None
            if worker is not None and worker.alive:
                if need > worker.memory:
                    self._make_room(card, need)
                self._leased[card.id] = need
                return worker
            self._drop(card.id)
        folder = self._locate(card)
        with self._lock:
            self._make_room(card, need)
            if self._closed.is_set():
                raise Cancelled
            worker = Worker(card, folder, self._device, self._cache, warm=self._warm)
            self._workers[card.id] = worker
            self._leased[card.id] = need
        try:
            worker.load(is_cancelled)
        except StudioError:
            with self._lock:
                self._drop(card.id)
            raise
        return worker

    def _taken(self, card: Card) -> int:
        """Bytes held by all others now, or promised to those at work that have not reached their peak yet."""
        held = self.resident()
        return sum(max(size, self._leased.get(id_, 0)) for id_, size in held.items() if id_ != card.id)

    def _make_room(self, card: Card, need: int) -> None:
        if need > self.budget:
            raise OutOfMemory(
                f"{card.title} needs about {need >> 20} MB of memory; the studio may use {self.budget >> 20} MB.",
                "Choose a smaller model or give the studio a larger memory budget.",
            )
        idle = sorted(
            (worker for id_, worker in self._workers.items() if id_ not in self._leased and id_ != card.id),
            key=lambda worker: worker.last_used,
        )
        while idle and self._taken(card) + need > self.budget:
            log.info("ending the worker of %s to make room for %s", idle[0].card.id, card.id)
            self._drop(idle.pop(0).card.id)
        if self._leased and self._taken(card) + need > self.budget:
            busy = ", ".join(self._workers[id_].card.title for id_ in sorted(self._leased) if id_ in self._workers)
            raise OutOfMemory(
                f"{card.title} needs about {need >> 20} MB of memory, and {busy} is at work with the rest.",
                "Wait for it to end, or pause the training.",
            )

    def _drop(self, card_id: str) -> None:
        worker = self._workers.pop(card_id, None)
        if worker is not None:
            worker.close()

    def _remember(self, card: Card, memory: int) -> None:
        if memory > self._measured.get(card.id, 0):
            self._measured[card.id] = memory
            try:
                files.write(self._measured_file, json.dumps(self._measured).encode())
            except StudioError as error:  # it is measured again next time; the run itself went well
                log.warning("%s", error)

    def _read_measured(self) -> dict[str, int]:
        try:
            found = json.loads(self._measured_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(k): int(v) for k, v in found.items()} if isinstance(found, dict) else {}
