"""The user's own models: `<home>/models/<id>/`, each with its `card.toml`. Folders appear and vanish whole."""

from __future__ import annotations

import logging
import os
import time
import uuid
from pathlib import Path

from studio.cards import Card, read_cards
from studio.errors import CardError
from studio.intake.convert import discard
from studio.weights.cardfile import to_toml
from studio.weights.records import write_atomic

CARD = "card.toml"
DAY = 86_400  # seconds; longer than any import takes
log = logging.getLogger(__name__)


class Shelf:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: tuple[int, dict[str, Card]] = (-1, {})

    def path(self, id_: str) -> Path:
        return self._folder / id_

    def cards(self) -> dict[str, Card]:
        """The cards on the shelf, by id. One that cannot be read is left out and logged."""
        try:
            stamp = self._folder.stat().st_mtime_ns
        except OSError:
            return {}
        if self._read[0] != stamp:
            self._read = (stamp, self._read_all())
        return self._read[1]

    def _read_all(self) -> dict[str, Card]:
        found: dict[str, Card] = {}
        for file in sorted(self._folder.glob(f"[!.]*/{CARD}")):
            try:
                found |= {card.id: card for card in read_cards(file) if card.id == file.parent.name}
            except CardError as error:
                log.warning("An imported model is left out: %s", error)
        return found

    def stage(self) -> Path:
        """A new empty folder on the same disk, seen by nobody. Whoever asks for it discards it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(".*"):  # of a program that was killed
            if time.time() - left.stat().st_mtime > DAY:
                discard(left)
        stage = self._folder / f".staging-{uuid.uuid4().hex}"
        stage.mkdir()
        return stage

    def publish(self, stage: Path, id_: str, card: Card | None = None) -> None:
        """Makes a staged folder the model `id_`, in one step. With a card it is listed as the user's own."""
        if card is not None:
            write_atomic(stage / CARD, to_toml(card).encode())
        self.remove(id_)
        os.replace(stage, self.path(id_))

    def rewrite(self, card: Card) -> None:
        """Replaces the card of a model that is here."""
        write_atomic(self.path(card.id) / CARD, to_toml(card).encode())
        os.utime(self._folder)  # whoever keeps the cards in memory looks again

    def remove(self, id_: str) -> None:
        """Takes a model away so that it is never seen half removed."""
        if self.path(id_).exists():
            hidden = self._folder / f".bin-{uuid.uuid4().hex}"
            os.replace(self.path(id_), hidden)
            discard(hidden)
