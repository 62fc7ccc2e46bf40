"""The facade: all that a tab, the command line or the API receives."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studio import cards, exports, worker
from studio.cards import Card
from studio.config import Config, Mode
from studio.device import Device
from studio.downloads import Downloads
from studio.engines.base import ENGINES
from studio.errors import NotAllowed
from studio.exports import File
from studio.jobs import Jobs, Live, Snapshot
from studio.library import Library
from studio.pool import Pool
from studio.tasks import MAX_SEED, Task, make_task
from studio.weights.store import Store

# What each mode allows. "share": everybody sees one library; without it each session sees its own.
ABILITIES: dict[Mode, frozenset[str]] = {
    "local": frozenset({"download", "import", "delete", "share"}),
    "space": frozenset({"download"}),
    "kiosk": frozenset(),
}
DRAFT_DAYS = 1


@dataclass(frozen=True)
class Status:
    """The status line. Sizes in bytes."""

    device: Device
    mode: Mode
    offline: bool
    memory: int
    budget: int
    loaded: dict[str, int]
    running: int
    waiting: int


class Studio:
    """Library, store, pool and jobs of one app, wired together.

    Args:
        config: settings.
        device: the machine.
    """

    def __init__(self, config: Config, device: Device) -> None:
        self.config = config
        self.device = device
        budget = config.memory_mb * 2**20 if config.memory_mb is not None else device.memory // 2
        self.library = Library(config.home)
        self.store = Store(config)
        self.downloads = Downloads(self.store.pull)
        self.pool = Pool(budget, self.store.path, device, config.cache, warm=config.prewarm)
        self.jobs = Jobs(config.home, self._execute, config.queue)

    def start(self) -> None:
        """Begins to run jobs. Nothing runs before this."""
        self.library.drop_drafts(time.time() - DRAFT_DAYS * 86400)
        self.jobs.start()

    def prewarm(self) -> None:
        """Gets the heavy libraries ready in the background, once the page is up."""
        if self.config.prewarm:
            worker.prewarm()

    def close(self) -> None:
        self.downloads.close()
        self.jobs.close()
        self.pool.close()

    # ── models ───────────────────────────────────────────────────────────────

    def cards(self, task: str | None = None, *, ready: bool = False) -> list[Card]:
        """Cards for a task kind (all without one), in catalogue order; with `ready` those that can run here and now."""
        found = [card for card in self.store.cards().values() if task is None or task in card.tasks]
        return [card for card in found if self._is_ready(card)] if ready else found

    def card(self, id: str) -> Card:
        """Raises NotFound."""
        return cards.find(self.store.cards(), id)

    def facts(self, id: str) -> dict[str, Any]:
        """All that is known of a model: card, state here, and what its folder says (things, classes, metrics)."""
        card = self.card(id)
        state = self.store.state(card)
        facts = {**card.model_dump(mode="json"), "state": asdict(state), "predicted_memory": self.pool.predicted(card)}
        if state.status == "ready":
            facts.update(_read_json(self.store.path(card) / "facts.json"))
        return facts

    def can(self, ability: str) -> bool:
        """Whether the mode allows "download", "import", "delete" or "share"."""
        return ability in ABILITIES[self.config.mode]

    def require(self, ability: str) -> None:
        """Raises NotAllowed."""
        if not self.can(ability):
            raise NotAllowed(
                f"Models cannot be changed in {self.config.mode} mode ({ability}).", "Start the studio in local mode."
            )

    # ── work ─────────────────────────────────────────────────────────────────

    def task(self, card: Card, fields: dict[str, Any]) -> Task:
        """A complete task for that card: its defaults where a field is None, and a drawn seed. Raises InvalidTask."""
        kind = card.tasks[0]
        known = make_task(kind, {name: value for name, value in fields.items() if value is not None})
        missing = {
            name: value
            for name, value in card.defaults.items()
            if name in type(known).model_fields and getattr(known, name) is None
        }
        if "seed" in type(known).model_fields and getattr(known, "seed", None) is None:
            missing["seed"] = random.SystemRandom().randint(0, MAX_SEED)
        return make_task(kind, {**known.model_dump(exclude_unset=True), **missing})

    def submit(self, card_id: str, fields: dict[str, Any], *, owner: str = "local", kept: bool = True) -> Snapshot:
        """Checks and queues. `kept=False` makes a draft that the library does not list until it is kept.

        Raises InvalidTask, NotFound (card or asset), QueueFull; IntegrityError or OfflineError when the model's files
        are not here.
        """
        card = self.card(card_id)
        task = self.task(card, fields)
        for asset in task.assets():
            self.library.asset(asset)
        if self.store.state(card).status != "ready":
            self.store.path(card)  # raises what is wrong; a ready model is verified when it is loaded
        return self.jobs.submit(task, card.id, owner=owner, kept=kept)

    def run(self, card_id: str, fields: dict[str, Any], *, owner: str = "local") -> Iterator[Snapshot]:
        """Submits and watches: snapshots to the end."""
        yield from self.jobs.watch(self.submit(card_id, fields, owner=owner).id)

    def again(self, job_or_artifact: Snapshot | Any, *, owner: str = "local") -> Snapshot:
        """The same task on the same card, with the same seed, as a new job."""
        fields = {k: v for k, v in job_or_artifact.task.to_json().items() if k != "task"}
        return self.submit(job_or_artifact.card, fields, owner=owner)

    def export(self, artifact: str, format: str, chosen: Sequence[int] = ()) -> list[File]:
        """The artifact as files; see `studio.exports.FORMATS`. Raises NotFound, InvalidTask."""
        return exports.export(self.library, self.library.get(artifact), format, chosen)

    def status(self) -> Status:
        active = self.jobs.active()
        loaded = self.pool.resident()
        return Status(
            self.device,
            self.config.mode,
            self.config.offline,
            sum(loaded.values()),
            self.pool.budget,
            loaded,
            sum(job.state == "running" for job in active),
            sum(job.state == "queued" for job in active),
        )

    def _is_ready(self, card: Card) -> bool:
        return card.engine in ENGINES and self.store.state(card).status == "ready"

    def _execute(self, job: Snapshot, live: Live) -> str:
        card = self.card(job.card)
        assets = {id_: self.library.asset(id_).path for id_ in job.task.assets()}
        events: dict[str, Callable[..., None]] = {
            "progress": live.progress,
            "preview": lambda image: setattr(live, "preview", image),
        }
        live.progress(0, 0, "loading model")
        with self.pool.lease(card, live.cancelled.is_set) as engine:
            live.progress(0, 0, "running")
            result = engine.run(job.task, assets, lambda kind, values: events[kind](*values), live.cancelled.is_set)
        live.progress(live.total, live.total, "saving")
        self.store.touch(card)
        artifact = self.library.add(
            job.task, card.id, self.store.fingerprint(card), result, owner=job.owner, kept=job.kept
        )
        return artifact.id


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
