"""Engines in memory: workers under a RAM budget, least recently used ended first."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.cards import Card
from studio.device import Device
from studio.errors import OutOfMemory, StudioError
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
        self._device = device
        self._cache = cache
        self._warm = warm
        self._workers: dict[str, Worker] = {}
        self._leased: set[str] = set()
        self._lock = threading.RLock()
        self._measured_file = cache / "measured-memory.json"
        self._measured = self._read_measured()

    @contextmanager
    def lease(self, card: Card, is_cancelled: Callable[[], bool] = lambda: False) -> Iterator[Worker]:
        """The worker of that card, loaded. It is left loaded, unless it died.

        Raises OutOfMemory before anything is loaded when the card cannot fit, and what the engine's loading raises.
        """
        with self._lock:
            worker = self._workers.get(card.id)
            if worker is not None and not worker.alive:
                self._drop(card.id)
                worker = None
            if worker is None:
                worker = self._start(card, is_cancelled)
            self._leased.add(card.id)
        try:
            yield worker
        finally:
            with self._lock:
                self._leased.discard(card.id)
                if worker.alive:
                    self._remember(card, worker.memory)
                else:
                    self._drop(card.id)

    def predicted(self, card: Card) -> int:
        """Bytes of RAM this card's worker will take at peak: measured here before, else from the card."""
        return self._measured.get(card.id, card.predicted_memory())

    def resident(self) -> dict[str, int]:
        """Bytes held by each loaded card, now."""
        with self._lock:
            return {id_: memory_of(worker.pid) for id_, worker in self._workers.items() if worker.alive}

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
        """Ends every worker, busy or not."""
        for id_ in list(self._workers):
            self._drop(id_)

    def _start(self, card: Card, is_cancelled: Callable[[], bool]) -> Worker:
        folder = self._locate(card)
        self._make_room(card)
        worker = Worker(card, folder, self._device, self._cache, warm=self._warm)
        try:
            worker.load(is_cancelled)
        except StudioError:
            worker.close()
            raise
        self._workers[card.id] = worker
        return worker

    def _make_room(self, card: Card) -> None:
        need = self.predicted(card)
        if need > self.budget:
            raise OutOfMemory(
                f"{card.title} needs about {need >> 20} MB of memory; the studio may use {self.budget >> 20} MB.",
                "Choose a smaller model or raise the memory budget (--memory-mb).",
            )
        idle = sorted(
            (worker for id_, worker in self._workers.items() if id_ not in self._leased), key=lambda w: w.last_used
        )
        while idle and sum(self.resident().values()) + need > self.budget:
            log.info("ending the worker of %s to make room for %s", idle[0].card.id, card.id)
            self._drop(idle.pop(0).card.id)

    def _drop(self, card_id: str) -> None:
        worker = self._workers.pop(card_id, None)
        if worker is not None:
            worker.close()

    def _remember(self, card: Card, memory: int) -> None:
        if memory > self._measured.get(card.id, 0):
            self._measured[card.id] = memory
            self._cache.mkdir(parents=True, exist_ok=True)
            part = self._measured_file.with_suffix(".part")
            part.write_text(json.dumps(self._measured), encoding="utf-8")
            part.replace(self._measured_file)

    def _read_measured(self) -> dict[str, int]:
        try:
            found = json.loads(self._measured_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(k): int(v) for k, v in found.items()} if isinstance(found, dict) else {}
