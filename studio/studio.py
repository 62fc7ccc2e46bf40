"""The facade: all that a tab, the command line or the API receives."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from studio import cards, exports, files, worker
from studio.admission import Admission
from studio.cards import Card
from studio.clock import Clock
from studio.compress import plan
from studio.compress.bench import Bench
from studio.compress.measure import RUNS
from studio.config import Config, Mode
from studio.device import Device
from studio.downloads import Downloads
from studio.engines.base import Result
from studio.errors import (
    Cancelled,
    IntegrityError,
    NotAllowed,
    NotFound,
    StudioError,
    TooSlow,
    Unsupported,
    WorkerDied,
)
from studio.exports import File
from studio.jobs import Jobs, Live, Snapshot
from studio.library import Library
from studio.limits import LIMITS
from studio.pool import Pool
from studio.tasks import MAX_SEED, Compare, Explore, Generate, Task, Train, make_task
from studio.train import adopt
from studio.train.runs import Runs
from studio.trainings import TRAINER, Trainings
from studio.weights.store import Store
from studio.worker import Worker

log = logging.getLogger(__name__)

# What each mode allows. "share": everybody sees one library; without it each session sees its own.
ABILITIES: dict[Mode, frozenset[str]] = {
    "local": frozenset({"download", "import", "delete", "share"}),
    "space": frozenset({"download"}),
    "kiosk": frozenset(),
}


class Retention(NamedTuple):
    """Days until drafts and unused uploads go, until jobs leave the history, until kept results go (None: never)."""

    drafts: float
    jobs: float
    kept: float | None


# Who lives alone with the studio keeps everything; a public page and an exhibition must run for months.
RETENTION: dict[Mode, Retention] = {
    "local": Retention(1, 90, None),
    "space": Retention(1, 7, 7),
    "kiosk": Retention(1, 1, 1),
}
DAY_S = 86_400
TIDY_EVERY_S = 6 * 3600
CLOSE_S = 8.0  # what is at work may take so long to stop


@dataclass(frozen=True)
class Status:
    """The status line, for everybody. Sizes in bytes.

    Attributes:
        memory: what all loaded models take.
        loaded: of that, models that all share, by card id; a visitor's own are in nobody's list.
    """

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

    Raises StudioError where the home cannot be used, or is of a newer studio.
    """

    def __init__(self, config: Config, device: Device) -> None:
        self.config = config
        self.device = device
        budget = config.memory_mb * 2**20 if config.memory_mb is not None else device.memory // 2
        self.limits = LIMITS[config.mode]
        for folder in (config.home, config.cache):
            files.usable(folder)
        self.library = Library(config.home, self.limits)
        self.store = Store(config)
        self.downloads = Downloads(self.store.pull)
        self.runs = Runs(config.home)
        self.bench = Bench(config.home, config.cache, device)
        self.pool = Pool(budget, self._folder, device, config.cache, warm=config.prewarm)
        self.jobs = Jobs(
            config.home,
            self._execute,
            config.queue,
            each=self.limits.jobs_each,
            floor=self.limits.floor,
            on_end=lambda job: self.trainings.settle(job),
        )
        self.trainings = Trainings(self.runs, self.jobs, self.store, self.require, self.limits)
        self._clock = Clock(config.home / "clock.json", max(self.jobs.newest(), self.library.newest()))
        self._questions = Admission(self.limits.explores, self.limits.explores_each)
        self._closing = threading.Event()

    def start(self) -> None:
        """Begins to run jobs. Nothing runs before this."""
        self.jobs.start()
        threading.Thread(target=self._tidy_often, name="tidy", daemon=True).start()

    def prewarm(self) -> None:
        """Gets the heavy libraries ready in the background, once the page is up."""
        if self.config.prewarm:
            worker.prewarm()

    def tidy(self) -> None:
        """Deletes what the mode does not keep, see RETENTION."""
        now, days = self._clock.now(), RETENTION[self.config.mode]
        self.jobs.forget(now - days.jobs * DAY_S)
        kept_before = 0.0 if days.kept is None else now - days.kept * DAY_S
        self.trainings.tidy(kept_before)
        self.library.tidy(now - days.drafts * DAY_S, kept_before, self.jobs.assets())

    def leave(self, owner: str) -> None:
        """Ends a visit: the owner's jobs and trainings stop, and all that the owner made or brought in is removed.

        Returns once that is done, which takes some seconds where something is at work. Where all share one library
        nothing happens. Raises DiskFull; calling it again goes on.
        """
        if self.can("share"):
            return
        self.jobs.leave(owner)
        for run in self.runs.list(owner=owner):
            self._unload_run(run.id)
        self.trainings.leave(owner)
        self.library.leave(owner)
        self.jobs.forget(owner=owner)

    def close(self) -> None:
        """Ends everything within ten seconds: what is at work is asked to stop, and stopped when it does not."""
        self._closing.set()
        self.downloads.close()
        self.jobs.close(CLOSE_S)
        self.pool.close()

    # ── models ───────────────────────────────────────────────────────────────

    def cards(self, task: str | None = None, *, ready: bool = False) -> list[Card]:
        """Cards for a task kind (all without one), in catalogue order; with `ready` those that can run here and now."""
        found = [card for card in self.store.cards().values() if task is None or task in card.tasks]
        return [card for card in found if self.store.state(card).status == "ready"] if ready else found

    def card(self, id: str) -> Card:
        """Raises NotFound."""
        return cards.find(self.store.cards(), id)

    def facts(self, id: str) -> dict[str, Any]:
        """All that is known of a model: card, state here, and what its folder says (things, classes, metrics)."""
        card = self.card(id)
        state = self.store.state(card)
        facts = {**card.model_dump(mode="json"), "state": asdict(state), "predicted_memory": self.pool.predicted(card)}
        if state.offline:
            with suppress(NotFound):
                facts.update(_read_json(self.store.file(card, "facts.json")))
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
        are not here, Unsupported when nothing here can run them.
        """
        card = self.card(card_id)
        task = self.task(card, fields)
        for asset in task.assets():
            self.library.asset(asset)
        state = self.store.state(card)
        if state.status == "unusable":
            raise Unsupported(f"{card.title}: {state.reason}", "Choose another model.")
        if state.status != "ready":
            self.store.path(card)  # raises what is wrong; a ready model is verified when it is loaded
        return self.jobs.submit(task, card.id, owner=owner, kept=kept)

    def run(self, card_id: str, fields: dict[str, Any], *, owner: str = "local") -> Iterator[Snapshot]:
        """Submits and watches: snapshots to the end."""
        yield from self.jobs.watch(self.submit(card_id, fields, owner=owner).id)

    def explore(
        self,
        id: str,
        op: str,
        args: Mapping[str, Any] | None = None,
        *,
        image: str | None = None,
        other: str | None = None,
        third: str | None = None,
        owner: str | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Asks a trained model, answered at once: no job, nothing stored. `id` is a card's or a run's.

        Args:
            owner: who asks; another's run is not there then. None may see all.
            is_cancelled: whether nobody waits for the answer any more.

        Raises InvalidTask, NotFound, QueueFull (too many ask this model, or this owner asks too much), TooSlow,
        Cancelled (also once the studio closes), and what the engine raises.
        """
        fields = {"op": op, "args": {} if args is None else args, "image": image, "other": other, "third": third}
        task = make_task(Explore.kind, fields)
        card = self.explored(id, owner)
        assets = {id_: self.library.asset(id_).path for id_ in task.assets()}
        end = time.monotonic() + self.limits.explore_s

        def is_over() -> bool:
            return self._closing.is_set() or time.monotonic() > end or is_cancelled()

        try:
            with self._questions.place(card.id, owner or ""), self.pool.lease(card, is_over) as engine:
                return engine.run(task, assets, lambda *_: None, is_over)
        except (Cancelled, WorkerDied) as error:
            if self._closing.is_set():
                raise Cancelled("The studio is closing.") from error
            if time.monotonic() > end and isinstance(error, Cancelled):
                raise TooSlow(
                    f"{card.title} took longer than {self.limits.explore_s:g} seconds.",
                    "Ask for less at once: fewer steps or fewer pictures.",
                ) from error
            raise

    def explored(self, id: str, owner: str | None = None) -> Card:
        """The card behind a card's or a run's id. A run that trained on is another card, so its model is loaded anew.

        Raises NotFound, with an `owner` also for another's run.
        """
        known = self.store.cards().get(id)
        if known is not None:
            return known
        card = adopt.passing_card(self.runs.get(id, owner), self.runs.model(id))
        self._unload_run(id, card.id)
        return card

    def _unload_run(self, id: str, kept: str = "") -> None:
        """Ends the workers with a run's models, but for the card `kept`."""
        for old in self.pool.resident():
            if old != kept and adopt.run_of(old) == id:
                self.pool.unload(old)

    # ── variants ─────────────────────────────────────────────────────────────

    def variants(self, card: Card) -> list[str]:
        """Names of the runtimes and precisions a model can be measured in here, its own first."""
        return self.bench.offered(card) if self.store.state(card).status == "ready" else []

    def compare(
        self, id: str, names: Sequence[str] = (), *, runs: int = RUNS, anyway: bool = False, owner: str = "local"
    ) -> Snapshot:
        """Queues a measurement; its rows arrive in `bench.comparisons` one by one. Raises NotFound, QueueFull."""
        task = make_task(Compare.kind, {"variants": tuple(names), "runs": runs, "anyway": anyway})
        return self.jobs.submit(task, self.card(id).id, owner=owner, kept=False)

    def use(self, id: str, name: str) -> None:
        """Makes a measured variant this model's default on this device. Raises NotFound, InvalidTask."""
        card = self.card(id)
        self.bench.choose(card, self.store.fingerprint(card), name)
        self.pool.unload(id)

    @contextmanager
    def _leased(self, card: Card, task: Task, live: Live) -> Iterator[Worker]:
        """The worker for a task: the chosen variant's, or the model's own where that cannot be loaded."""
        chosen = card
        if self.bench.offered(card):
            chosen = self.bench.applied(card, self.store.path(card), self.store.fingerprint(card), task)
        if chosen is not card:
            try:
                with self.pool.lease(chosen, live.cancelled.is_set, self._need(chosen, task)):
                    pass  # loaded; leased again below, so that only loading may fall back
            except (IntegrityError, Unsupported) as error:
                log.warning("%s runs as it came: %s", card.id, error)
                chosen = card
        with self.pool.lease(chosen, live.cancelled.is_set, self._need(chosen, task)) as engine:
            yield engine

    def _need(self, card: Card, task: Task) -> int | None:
        """Bytes at peak that a picture larger than usual takes, None for all else. Raises OutOfMemory."""
        if not isinstance(task, Generate) or ("fast" not in card.options and self.device.accelerator != "cpu"):
            return None  # torch may have found a GPU, whose memory is another
        usual, budget = self.pool.predicted(card), self.pool.budget
        with suppress(IntegrityError, Unsupported):  # loading says what is wrong
            need = plan.need(card, self.store.path(card), task.width, task.height, usual, budget)
            return need if need > usual else None
        return None

    def _compare(self, card: Card, task: Compare, live: Live) -> str:
        def step(done: int, total: int, phase: str) -> None:
            live.progress(done, total, phase)
            if live.cancelled.is_set():
                raise Cancelled

        self.pool.unload_all()  # what is loaded would be measured with it
        folder, fingerprint = self.store.path(card), self.store.fingerprint(card)
        self.bench.compare(card, folder, fingerprint, task.variants, runs=task.runs, anyway=task.anyway, on_step=step)
        return ""

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
        shared = self.store.cards()
        return Status(
            self.device,
            self.config.mode,
            self.config.offline,
            sum(loaded.values()),
            self.pool.budget,
            {id_: size for id_, size in loaded.items() if id_ in shared},
            sum(job.state == "running" for job in active),
            sum(job.state == "queued" for job in active),
        )

    def _tidy_often(self) -> None:
        for folder in (self.config.home, self.config.cache):
            files.sweep(folder)
        while True:
            try:
                self.trainings.recover()
                self.tidy()
            except (StudioError, OSError) as error:  # a full disk, say; the studio works on and tries again
                log.warning("nothing was tidied: %s", error)
            if self._closing.wait(TIDY_EVERY_S):
                return

    def _folder(self, card: Card) -> Path:
        """What an engine is given: the verified files of a card, the model of a run, the home for the trainer."""
        run = adopt.run_of(card.id)
        if run is not None:
            return self.runs.model(run)
        return self.config.home if card.engine == TRAINER else self.store.path(card)

    def _execute(self, job: Snapshot, live: Live) -> str:
        card = self.card(job.card)
        if isinstance(job.task, Compare):
            return self._compare(card, job.task, live)
        assets = {id_: self.library.asset(id_).path for id_ in job.task.assets()}
        events: dict[str, Callable[..., None]] = {
            "progress": live.progress,
            "preview": lambda image: setattr(live, "preview", image),
        }
        live.progress(0, 0, "loading model")
        with self._leased(card, job.task, live) as engine:
            live.progress(0, 0, "running")
            result = engine.run(job.task, assets, lambda kind, values: events[kind](*values), live.cancelled.is_set)
        if isinstance(job.task, Train):  # its outcome is the run, which the trainer keeps itself
            return ""
        if live.cancelled.is_set():  # its owner may have left by now
            raise Cancelled
        live.progress(live.total, live.total, "saving")
        with suppress(StudioError):  # when it was used last is worth no result
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
