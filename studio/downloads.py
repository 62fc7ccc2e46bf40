"""Downloads under way: each on a thread of its own, watchable and cancellable. What arrived stays and is resumed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from studio.cards import Card
from studio.errors import Cancelled, StudioError

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int, float | None], None]


@dataclass(frozen=True)
class Download:
    """One download as it is now. Sizes in bytes; `remaining` in seconds, None while unknown."""

    card: str
    state: Literal["running", "done", "failed", "cancelled"] = "running"
    done: int = 0
    total: int = 0
    remaining: float | None = None
    message: str = ""
    hint: str = ""


class Downloads:
    """Args:
    pull: fetches a card's files, calling back with bytes done, bytes in all and seconds left (`Store.pull`).
    """

    def __init__(self, pull: Callable[[Card, OnProgress], Path]) -> None:
        self._pull = pull
        self._lock = threading.Lock()
        self._downloads: dict[str, Download] = {}
        self._cancelled: set[str] = set()

    def start(self, card: Card) -> Download:
        """Begins, or returns the one that is running already."""
        with self._lock:
            known = self._downloads.get(card.id)
            if known is not None and known.state == "running":
                return known
            self._cancelled.discard(card.id)
            begun = self._downloads[card.id] = Download(card.id)
        threading.Thread(target=self._run, args=(card,), name=f"download {card.id}", daemon=True).start()
        return begun

    def get(self, card_id: str) -> Download | None:
        """The download of that card since the start of the app, or None."""
        with self._lock:
            return self._downloads.get(card_id)

    def cancel(self, card_id: str) -> None:
        """Stops at the next chunk; what arrived is kept and the next start goes on from there."""
        with self._lock:
            self._cancelled.add(card_id)

    def close(self) -> None:
        with self._lock:
            self._cancelled.update(self._downloads)

    def _run(self, card: Card) -> None:
        def progress(done: int, total: int, remaining: float | None) -> None:
            if card.id in self._cancelled:
                raise Cancelled
            self._note(card.id, done=done, total=total, remaining=remaining)

        try:
            self._pull(card, progress)
            self._note(card.id, state="done", remaining=0.0)
        except Cancelled:
            self._note(card.id, state="cancelled")
        except StudioError as error:
            self._note(card.id, state="failed", message=error.message, hint=error.hint)
        except Exception:
            log.exception("download of %s", card.id)
            self._note(card.id, state="failed", message="The download stopped with an error.", hint="Try it again.")

    def _note(self, card_id: str, **changes: object) -> None:
        with self._lock:
            self._downloads[card_id] = replace(self._downloads[card_id], **changes)  # type: ignore[arg-type]
