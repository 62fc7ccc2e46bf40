"""Weights on disk: the shipped ones, those of a hub (in the standard Hugging Face cache), and the user's own.

Nothing is handed to an engine before every file was hashed against a recorded sha256; after that, size and time of
change are enough until one of them differs, but for a week at most: a bit that flips on the disk changes neither.
Records are small JSON files, so two apps can share one home and one cache.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio.cards import Card, Source, load_cards
from studio.compress.variants import Variants
from studio.config import Config
from studio.errors import IntegrityError, NotAllowed, NotFound, OfflineError, StudioError, Unsupported
from studio.intake import convert, detectors
from studio.intake.recognise import Finding
from studio.weights import pull
from studio.weights.cardfile import free_id
from studio.weights.fetch import Hub, RemoteFile
from studio.weights.hubcache import sha256
from studio.weights.obstacles import obstacle
from studio.weights.pull import OnProgress, Progress, PullPlan, size_of
from studio.weights.records import FileRecord, Record, Records, check, is_fresh, survey
from studio.weights.shelf import Shelf
from studio.weights.shipped import builtin_record

TRUSTED_S = 7 * 86_400  # seconds after which files are hashed again when they are loaded
HINTS = {
    "builtin": "Reinstall the studio, or restore that file.",
    "hub": "Download it again.",
    "home": "Remove it and import it again.",
}


Status = Literal["ready", "unusable", "absent", "partial", "damaged"]
_NEW = "_new"  # the lock under which a model gets its id; no id begins so


@dataclass(frozen=True)
class State:
    """What of a model is on this device.

    Attributes:
        size: bytes on disk.
        last_used: seconds since the epoch, 0 for never.
        revision: the commit, for models from a hub.
        offline: all files are here and right, so no network is needed.
        damaged: the file that is wrong, where status is "damaged".
        reason: why nothing here can run it although all of it is here, where status is "unusable".
    """

    status: Status
    size: int = 0
    pinned: bool = False
    last_used: float = 0.0
    revision: str = ""
    damaged: str = ""
    reason: str = ""

    @property
    def offline(self) -> bool:
        return self.status in ("ready", "unusable")


@dataclass(frozen=True)
class Usage:
    """Bytes on disk. `evictable` can be downloaded again and is not pinned; `variants` were converted here."""

    builtin: int
    hub: int
    imported: int
    evictable: int
    free: int
    variants: int = 0


@dataclass(frozen=True)
class Evicted:
    card: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.card} ({self.bytes / 1e6:.0f} MB)"


class Store:
    """All cards and the files behind them.

    Args:
        cards: shipped and catalogue cards; read from `config.models` where None.
        hub: where downloads come from and go to; the real hub where None.
    """

    def __init__(self, config: Config, cards: dict[str, Card] | None = None, hub: Hub | None = None) -> None:
        self._config = config
        known = load_cards(config.models) if cards is None else cards
        self._cards = dict(sorted(known.items(), key=lambda item: not item[1].is_shipped))
        self._hub = hub if hub is not None else Hub(offline=config.offline)
        self._shelf = Shelf(config.home / "models")
        self._records = Records(config.home / "store")
        self._variants = Variants(config.home)

    # ── what there is ────────────────────────────────────────────────────────

    def cards(self) -> dict[str, Card]:
        """Shipped, catalogue and imported cards by id, in this order. An imported card that cannot be read is left out
        and logged."""
        return {**self._cards, **self._imported()}

    def state(self, card: Card) -> State:
        """What of the model is here, without hashing and without network."""
        reason = obstacle(card)
        whole: Status = "unusable" if reason else "ready"
        if card.source.kind == "none":
            return State(whole, reason=reason)
        record = self._record(card)
        if record is None:
            return State("absent")
        folder = self._folder(card, record)
        sizes = {name: size_of(folder / name) for name in record.files}
        here = sum(max(size, 0) for size in sizes.values()) if record.files else _tree_size(folder)
        if not record.complete:
            here += pull.partial_size(self._hub, card, record)
            return State("partial", here, record.pinned, record.last_used, record.revision)
        wrong = next((name for name, size in sizes.items() if size != record.files[name].size), record.damaged)
        if wrong:
            return State("damaged", here, record.pinned, record.last_used, record.revision, wrong)
        return State(whole, here, record.pinned, record.last_used, record.revision, reason=reason)

    def path(self, card: Card) -> Path:
        """The folder with the model's files, all of them verified.

        Raises:
            IntegrityError: a file is missing or differs; names it.
            OfflineError, NotFound: the model is not on this device.
        """
        return self._checked(card, full=False)

    def file(self, card: Card, name: str) -> Path:
        """One file of the model, it alone verified. Raises as `path`, and NotFound where the model has no such file."""
        return self._checked(card, full=False, only=name) / name

    def verify(self, card: Card, tick: convert.Tick = None) -> None:
        """Hashes every file anew; `tick` is called every megabyte and may raise to stop. Raises as `path`."""
        self._checked(card, full=True, tick=tick)

    def files(self, card: Card) -> dict[str, FileRecord]:
        """The files of a model with their hashes, by name; those of a shipped model that was never sealed are hashed
        now. Raises as `path`."""
        folder = self.path(card)
        record = self._record(card)
        if record is None:
            return {}
        return dict(record.files) if record.files else survey(folder)

    def fingerprint(self, card: Card) -> str:
        """One hash over the names and hashes of all files; empty for cards without weights. Raises as `path`."""
        lines = "".join(f"{name} {file.sha256}\n" for name, file in sorted(self.files(card).items()))
        return hashlib.sha256(lines.encode()).hexdigest() if lines else ""

    def usage(self) -> Usage:
        """Bytes on disk by origin, and what is free where downloads go."""
        sums = {"builtin": 0, "hub": 0, "imported": 0, "none": 0}
        for card in self.cards().values():
            sums[card.source.kind] += self.state(card).size
        evictable = sum(size for _, _, size in self._evictable())
        free = pull.free_bytes(self._hub.cache)
        return Usage(sums["builtin"], sums["hub"], sums["imported"], evictable, free, self._variants.bytes())

    # ── download ─────────────────────────────────────────────────────────────

    def plan(self, card: Card) -> PullPlan:
        """What a download of this card would bring: sizes, licence, revision. Asks the hub only where something is
        missing. Raises as `pull`."""
        state, record = self.state(card), self._record(card)
        if state.offline and record is not None:
            files = tuple(RemoteFile(name, file.size, file.sha256, file.etag) for name, file in record.files.items())
            return PullPlan(files, record.size, 0, card.licence, card.source.gated, record.revision)
        return pull.plan(self._hub, card)

    def pull(self, card: Card, on_progress: OnProgress | None = None) -> Path:
        """Downloads what is missing and returns the verified folder. A broken or cancelled download goes on later.

        Args:
            on_progress: called with bytes done, bytes in all, seconds left (None while unknown); may raise to cancel.

        Raises:
            OfflineError, NotFound, NotAllowed (gated), DownloadError, IntegrityError, UnsafeFile, DiskFull
        """
        if card.source.kind != "hub":
            raise Unsupported(f"{card.title} is not from a hub.", "There is nothing to download.")
        progress = Progress(card.size if card.size is not None else 0, on_progress)
        with self._records.lock(card.id, progress.tick):
            if not self.state(card).offline:
                self._pull(card, progress)
        return self._checked(card, full=False, tick=progress.tick)

    def _pull(self, card: Card, progress: Progress) -> None:
        found = pull.listing(self._hub, card)
        old = self._records.get(card.id)
        begun = pull.started(card, found, old)
        self._records.put(card.id, begun.model_copy(update={"owned": True}))
        record, _ = pull.transfer(self._hub, card, found, old, progress)
        self._records.put(card.id, self._converted(card, record, progress) if "convert" in card.options else record)

    def _converted(self, card: Card, record: Record, progress: Progress) -> Record:
        """Turns the one downloaded pickle into a safe file of our own, and gives the pickle up."""
        if len(record.files) != 1:
            raise Unsupported(f"{card.title} is converted from one file, not {len(record.files)}.", "Fix the card.")
        name = next(iter(record.files))
        stage = self._shelf.stage()
        try:
            convert.bring((self._folder(card, record) / name).resolve(), stage, progress.tick)
            files = survey(stage)
            self._shelf.remove(card.id)
            self._shelf.publish(stage, card.id)
        finally:
            convert.discard(stage)
        pull.give_up(self._hub, card, record, ())
        return record.model_copy(update={"place": "home", "files": files})

    # ── import ───────────────────────────────────────────────────────────────

    def add(
        self,
        source: Path,
        *,
        title: str = "",
        licence: str = "unknown",
        names: Sequence[str] = (),
        tick: convert.Tick = None,
    ) -> Card:
        """Brings in a file or folder of the user's: checked, converted where needed, copied, listed.

        The same file twice gives the same card. On failure nothing is listed and nothing is left behind.

        Args:
            names: class names of a detector that carries none.
            tick: called often; may raise to cancel.
        Raises: NotFound, UnsafeFile, IntegrityError, Unsupported, DiskFull, CardError (names that do not fit).
        """
        source = Path(source)
        origin = sha256(source, tick) if source.is_file() and not source.is_symlink() else ""
        if origin and (twin := self._with_origin(origin)) is not None:
            return self.name_classes(twin, names) if names else twin
        stage = self._shelf.stage()
        try:
            found = convert.bring(source, stage, tick, names)
            extra = {"kind": found.kind, **({"origin": origin} if origin else {})}
            card = Card(
                id=free_id(source.stem, ()),
                title=title if title else source.stem,
                summary=found.summary,
                tasks=found.tasks,
                engine=found.engine,
                licence=licence,
                source=Source(kind="imported"),
                size=None,
                memory=None,
                options={**found.options, **extra},
            )
            return self._list(stage, card, survey(stage), origin)
        finally:
            convert.discard(stage)

    def name_classes(self, card: Card, names: Sequence[str]) -> Card:
        """Gives the classes of an imported detector their names. Raises NotAllowed, CardError, and as `path`."""
        if card.source.kind != "imported" or card.engine != "yolo":
            raise NotAllowed(f"{card.title} is no detector of yours.", "Only an imported detector's classes are named.")
        finding = Finding(str(card.options.get("kind", "")), card.engine, card.tasks, card.summary, card.options)
        settled = detectors.settled(finding, self.path(card), names)
        own = card.model_copy(update={"summary": settled.summary, "options": settled.options})
        with self._records.lock(card.id):
            self._shelf.rewrite(own)
        return own

    def stage(self) -> Path:
        """A new empty folder on the disk of the imported models. Whoever asks for it discards it."""
        return self._shelf.stage()

    def take(self, stage: Path, card: Card) -> Card:
        """Lists a staged folder of checked files: as the files of that card where it is known and not here, else as a
        model of the user's. What is here already with the same files stays. For packs."""
        files = survey(stage)
        known = self.cards().get(card.id)
        if known is not None and self.state(known).offline and self._same_files(known, files):
            return known
        if known is not None and known.source.kind == "hub" and not self.state(known).offline:
            now = time.time()
            record = Record(place="home", files=files, complete=True, owned=True, last_used=now, checked=now)
            with self._records.lock(known.id):
                self._shelf.remove(known.id)
                self._shelf.publish(stage, known.id)
                self._records.put(known.id, record)
            return known
        return self._list(stage, card, files)

    def _list(self, stage: Path, card: Card, files: dict[str, FileRecord], origin: str = "") -> Card:
        """Makes a staged folder a model of the user's, under its card's id or, where that is taken, one like it.

        Its card carries the hashes, in case the record is lost. The same `origin` twice gives the same card.
        """
        hashes = {name: file.sha256 for name, file in files.items()}
        fields = {"sha256": hashes, "size": sum(file.size for file in files.values())}
        with self._records.lock(_NEW):  # one at a time: of two that want one id, the second sees the first
            if origin and (twin := self._with_origin(origin)) is not None:
                return twin
            id_ = free_id(card.id, self.cards().keys() | self._shelf.ids())
            own = card.model_copy(update={**fields, "id": id_, "source": Source(kind="imported", path=id_)})
            self._shelf.publish(stage, id_, own)
            with self._records.lock(id_):
                now = time.time()
                self._records.put(id_, Record(place="home", files=files, complete=True, last_used=now, checked=now))
        return own

    def _with_origin(self, origin: str) -> Card | None:
        own = self._imported().values()
        return next((card for card in own if card.options.get("origin") == origin and self.state(card).offline), None)

    def _same_files(self, card: Card, files: dict[str, FileRecord]) -> bool:
        mine = {name: file.sha256 for name, file in self.files(card).items()}
        return mine == {name: file.sha256 for name, file in files.items()}

    # ── keep and give up ─────────────────────────────────────────────────────

    def pin(self, card: Card) -> None:
        """Keeps the model from being evicted. Raises NotFound where it is not here."""
        self._note(card, pinned=True)

    def unpin(self, card: Card) -> None:
        self._note(card, pinned=False)

    def touch(self, card: Card) -> None:
        """Notes that the model was used now."""
        if self._record(card) is not None:
            self._note(card, last_used=time.time())

    def remove(self, card: Card) -> int:
        """Takes the model and what was converted from it off this disk and returns the bytes freed. Files that other
        models use stay.

        Raises NotAllowed for shipped models.
        """
        if card.is_shipped:
            raise NotAllowed(f"{card.title} is part of the studio.", "Only downloaded and imported models can go.")
        with self._records.lock(card.id):
            record = self._record(card)
            freed = self.state(card).size
            if record is not None and record.place == "hub":
                freed = pull.give_up(self._hub, card, record, self._shared(card, record))
            self._shelf.remove(card.id)
            self._records.drop(card.id)
        return freed + self._variants.forget(card.id)

    def evict(self, budget: int | None = None, keep: Collection[str] = ()) -> tuple[Evicted, ...]:
        """Removes downloaded models and their variants, least recently used first, until the rest fit into the budget.

        Never touched: shipped and imported models (they cannot be downloaded again), pinned ones, those in `keep`, and
        files that another program put into the cache.

        Args:
            budget: bytes; the configured disk budget where None.
            keep: ids of cards, e.g. of loaded models.
        """
        limit = self._config.disk_budget if budget is None else budget
        hub = [card for card in self._cards.values() if card.source.kind == "hub"]
        total = sum(self.state(card).size + self._variants.bytes(card.id) for card in hub)
        gone: list[Evicted] = []
        for _, card, _ in self._evictable():
            if total > limit and card.id not in keep:
                freed = self.remove(card)
                total -= freed
                gone.append(Evicted(card.id, freed))
        return tuple(gone)

    def _evictable(self) -> list[tuple[float, Card, int]]:
        """Last use, card, bytes of every model that could go, least recently used first."""
        found = []
        for card in self._cards.values():
            record = self._records.get(card.id) if card.source.kind == "hub" else None
            if record is not None and record.owned and not record.pinned:
                found.append((record.last_used, card, self.state(card).size + self._variants.bytes(card.id)))
        return sorted(found, key=lambda row: row[0])

    def _shared(self, card: Card, record: Record) -> set[str]:
        """Files of this snapshot that another card uses too."""
        others = [other for other in self._cards.values() if other.source.repo == card.source.repo]
        known = [self._records.get(other.id) for other in others if other.id != card.id]
        return {name for other in known if other and other.revision == record.revision for name in other.files}

    def _note(self, card: Card, **fields: bool | float) -> None:
        with self._records.lock(card.id):
            record = self._record(card)
            if record is None:
                raise NotFound(f"{card.title} is not on this device.", "Download it first.")
            self._records.put(card.id, record.model_copy(update=fields))

    # ── looking ──────────────────────────────────────────────────────────────

    def _imported(self) -> dict[str, Card]:
        return {id_: card for id_, card in self._shelf.cards().items() if id_ not in self._cards}

    def _record(self, card: Card) -> Record | None:
        """What is known of the files, or None where there are none."""
        known = self._records.get(card.id)
        if card.source.kind == "none":
            return None
        if card.source.kind == "builtin":
            return builtin_record(self._config.models, card, known)
        if card.source.kind == "imported":
            return known if known is not None else _from_card(self._shelf.path(card.id), card)
        return known if known is not None else pull.found_in_cache(self._hub, card)

    def _checked(self, card: Card, full: bool, tick: convert.Tick = None, only: str | None = None) -> Path:
        if card.source.kind == "none":
            return self._config.models
        record = self._record(card)
        if record is None or not record.complete:
            raise self._absent(card, record)
        folder = self._folder(card, record)
        if record.place == "hub" and self._records.get(card.id) is None:  # brought by another program
            convert.check_folder(folder, list(record.files))
        names = [name for name in record.files if only in (None, name)]
        is_unsealed = not record.files  # a shipped folder without hashes: what lies there is taken as it is
        if only is not None and not names and not (is_unsealed and (folder / only).is_file()):
            raise NotFound(f"{card.title} has no {only}.")
        files, damaged, checked = dict(record.files), record.damaged if only else "", record.checked
        if only is None and (full or time.time() - checked > TRUSTED_S):
            full, checked = True, time.time()
        for name in names:
            if full or record.damaged or not is_fresh(folder, name, record.files[name]):
                files[name] = self._checked_file(card, record, name, tick)
        if (files, damaged, checked) != (record.files, record.damaged, record.checked):
            self._put(card, record.model_copy(update={"files": files, "damaged": damaged, "checked": checked}))
        return folder

    def _checked_file(self, card: Card, record: Record, name: str, tick: convert.Tick) -> FileRecord:
        try:
            return check(self._folder(card, record), name, record.files[name], tick)
        except IntegrityError as error:
            self._put(card, record.model_copy(update={"damaged": name}))
            where = f"models/{card.source.path}" if record.place == "builtin" else card.id
            raise IntegrityError(f"{where}/{error.message}", HINTS[record.place]) from error

    def _put(self, card: Card, record: Record) -> None:
        """Saves what a look at the files found, but not over what was pinned, used or removed meanwhile."""
        with self._records.lock(card.id):
            now = self._records.get(card.id)
            if now is not None and (now.revision, now.place) != (record.revision, record.place):
                return
            kept = {"pinned": now.pinned, "last_used": now.last_used} if now is not None else {}
            self._records.put(card.id, record.model_copy(update=kept))

    def _absent(self, card: Card, record: Record | None) -> StudioError:
        what = "is only partly" if record is not None else "is not"
        if card.source.kind == "builtin":
            return NotFound(f"models/{card.source.path} is missing.", HINTS["builtin"])
        if card.source.kind == "imported":
            return NotFound(f"{card.title} {what} on this device.", "Import it again.")
        if self._hub.is_offline:
            return OfflineError(
                f"{card.title} {what} on this device, and the studio is offline.",
                "Import a model pack, or go online and download it.",
            )
        return NotFound(f"{card.title} {what} on this device.", "Download it.")

    def _folder(self, card: Card, record: Record) -> Path:
        if record.place == "builtin":
            return self._config.models / card.source.path
        if record.place == "home":
            return self._shelf.path(card.id)
        return self._hub.repo(card.source.repo).snapshot(record.revision)


def _from_card(folder: Path, card: Card) -> Record | None:
    """The record of an imported model whose record was lost: its card carries the hashes."""
    if not folder.is_dir() or not card.sha256:
        return None
    files = {name: FileRecord(size=max(size_of(folder / name), 0), sha256=h) for name, h in card.sha256.items()}
    return Record(place="home", files=files, complete=True)


def _tree_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
