"""The user's own models: `<home>/models/<id>/`, each with its `card.toml`. Folders appear and vanish whole."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from studio import files
from studio.cards import Card, read_cards
from studio.errors import CardError
from studio.intake.convert import discard
from studio.weights.cardfile import to_toml

CARD = "card.toml"
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

    def ids(self) -> set[str]:
        """Ids that are taken, also by a folder whose card cannot be read."""
        return {path.name for path in self._folder.glob("[!.]*")}

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
        files.make(self._folder)
        return files.make(files.draft(self._folder / "model"))

    def publish(self, stage: Path, id_: str, card: Card | None = None) -> None:
        """Makes a staged folder the model `id_`, in one step. With a card it is listed as the user's own.

        Raises FileExistsError where there is one already, DiskFull.
        """
        if card is not None:
            files.write(stage / CARD, to_toml(card).encode())
        files.publish(stage, self.path(id_))
        self._read = (-1, {})  # the folder's time of change is too coarse to tell of two models in a moment

    def rewrite(self, card: Card) -> None:
        """Replaces the card of a model that is here."""
        files.write(self.path(card.id) / CARD, to_toml(card).encode())
        os.utime(self._folder)  # whoever keeps the cards in memory looks again

    def remove(self, id_: str) -> None:
        """Takes a model away so that it is never seen half removed."""
        if self.path(id_).exists():
            hidden = files.draft(self.path(id_), "bin")
            os.replace(self.path(id_), hidden)
            discard(hidden)
