"""Which weights: frozen records read from `models/*.toml`, one table a card.

    [starter-detector]
    title = "Starter detector"
    tasks = ["detect"]
    engine = "yolo"
    ...

Cards are data. A card whose values are wrong raises CardError naming the file and the key.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.errors import CardError, NotFound


class Source(BaseModel):
    """Where the files come from.

    kind "none"     the engine needs no weights
    kind "builtin"  shipped in `models/<path>`
    kind "hub"      Hugging Face repository `repo` at `revision`, the files that match `include`
    kind "imported" the user's own file or folder, copied into the store
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["none", "builtin", "hub", "imported"]
    path: str = ""
    repo: str = ""
    revision: str = "main"
    include: tuple[str, ...] = ()
    gated: bool = False


class Card(BaseModel):
    """One set of weights and all that is known about it before it is loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")
    title: str
    summary: str = ""
    tasks: tuple[str, ...] = Field(min_length=1)
    engine: str
    licence: str
    licence_url: str = ""
    commercial: bool | None = None  # None: read the licence
    source: Source
    size: int | None = Field(None, ge=0, description="Bytes to download or on disk; None where unknown.")
    memory: int | None = Field(None, ge=0, description="Bytes of RAM at peak, measured or published; None: estimated.")
    sha256: dict[str, str] = Field(default_factory=dict, description="Published hash per file; never invented.")
    defaults: dict[str, Any] = Field(default_factory=dict, description="Task fields this model prefers.")
    options: dict[str, Any] = Field(default_factory=dict, description="What the engine needs to know.")

    @property
    def is_shipped(self) -> bool:
        return self.source.kind in ("none", "builtin")

    def predicted_memory(self) -> int:
        """Bytes of RAM a worker with this model is expected to take at peak, before anything was measured here."""
        if self.memory is not None:
            return self.memory
        return 300 * 2**20 + round(1.5 * (self.size or 200 * 2**20))


def load_cards(*folders: Path) -> dict[str, Card]:
    """All cards of the `*.toml` files in the folders, by id, in file order. Later folders may not redefine an id."""
    cards: dict[str, Card] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.toml")):
            for card in read_cards(file):
                if card.id in cards:
                    raise CardError(f"{file.name}: the id {card.id!r} is already taken.", "Give the card another id.")
                cards[card.id] = card
    return cards


def read_cards(file: Path) -> list[Card]:
    """The cards of one TOML file. Raises CardError."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CardError(f"{file.name} cannot be read: {error}.", "Fix the file or remove it.") from error
    return [_card(file, id_, table) for id_, table in tables.items()]


def _card(file: Path, id_: str, table: Any) -> Card:
    if not isinstance(table, dict):
        raise CardError(f"{file.name}: {id_} is not a table.", f"Write it as [{id_}].")
    try:
        return Card.model_validate({"id": id_, **table})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CardError(f"{file.name}: [{id_}] {key}: {first['msg']}.", "Correct the key and start again.") from error


def find(cards: dict[str, Card], id_: str) -> Card:
    """The card, or NotFound that names what there is."""
    if id_ not in cards:
        raise NotFound(f"There is no model {id_!r}.", "It may have been removed; look at the list of models.")
    return cards[id_]
