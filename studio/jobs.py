"""When: tasks on their way. Durable (rows in SQLite), watchable, cancellable, in order within their lane.

A job belongs to the app process that took it, so two apps on one home neither run each other's jobs nor declare
them interrupted; what a dead process left behind is: running jobs become "interrupted", queued ones are taken over.

How a job ended is kept in memory until it could be written, so a disk that is full for a while costs no job its
outcome and stops no lane. Owners take turns: whoever was served longest ago comes first.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from studio import files
from studio.database import Database
from studio.errors import Cancelled, NotFound, QueueFull, StudioError
from studio.limits import turns
from studio.processes import is_alive, own_mark
from studio.tasks import KINDS, Task, parse_task

log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
FINISHED = ("done", "failed", "cancelled", "interrupted")

_MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL, task TEXT NOT NULL, card TEXT NOT NULL,
    kept INTEGER NOT NULL, created REAL NOT NULL, started REAL, finished REAL,
    error TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '',
    artifact TEXT NOT NULL DEFAULT '', app TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS job_state ON job (state, created);
""",
    "CREATE INDEX job_owner ON job (owner)",
)
SERVED = 1000  # owners whose turn is remembered
RETRY_S = 1.0  # between two tries to write what a full disk refused

LANES: dict[str, list[str]] = {
    lane: [kind for kind, task in KINDS.items() if task.lane == lane] for lane in {task.lane for task in KINDS.values()}
}
"""Kinds of tasks by lane. A training is a lane of its own, so that a picture does not wait for minutes behind it."""
_IN_LANE = "json_extract(task, '$.task') IN (SELECT value FROM json_each(:lane))"


@dataclass(frozen=True)
class Snapshot:
    """A job as it is at one moment.

    Attributes:
        place: how many jobs come before it, while queued.
        step, total, phase: how far it is; total 0 while nothing is known yet.
        seconds: run time so far, or in all.
        remaining: estimated seconds still to go, None while unknown.
        preview: the picture as it forms, uint8 (H, W, 3), or None.
        error, message, hint: why it failed: the error's class name and its two sentences.
        artifact: id of the result once done.
    """

    id: str
    owner: str
    state: State
    task: Task
    card: str
    kept: bool
    created: float
    place: int = 0
    step: int = 0
    total: int = 0
    phase: str = ""
    seconds: float = 0.0
    remaining: float | None = None
    preview: NDArray[np.uint8] | None = None
    error: str = ""
    message: str = ""
    hint: str = ""
    artifact: str = ""

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


class Live:
    """What is known of a running job between two looks at it. Written by the runner, read by the watchers."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.step = self.total = 0
        self.phase = "starting"
        self.preview: NDArray[np.uint8] | None = None
        self._phase_start = (time.monotonic(), 0)

    def progress(self, step: int, total: int, phase: str) -> None:
        if phase != self.phase:
            self._phase_start = (time.monotonic(), step)
        self.step, self.total, self.phase = step, total, phase

    def remaining(self) -> float | None:
        """Seconds to the last step at the pace of this phase."""
        since, first = self._phase_start
        steps = self.step - first
        return None if steps <= 0 else (time.monotonic() - since) / steps * (self.total - self.step)


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `finished` in seconds since the epoch."""

    state: State
    finished: float
    artifact: str = ""
    error: str = ""
    message: str = ""
    hint: str = ""

    @classmethod
    def of(cls, state: State, artifact: str = "", error: StudioError | None = None) -> Outcome:
        name, message, hint = (type(error).__name__, error.message, error.hint) if error else ("", "", "")
        return cls(state, time.time(), artifact, name, message, hint)


Execute = Callable[[Snapshot, Live], str]
OnEnd = Callable[[Snapshot], None]


class Jobs:
    """The queue and its runner.

    Args:
        home: the folder of the database.
        execute: runs one job to its artifact's id; raises StudioError. Called on the runner's thread.
        limit: how many jobs may wait. A full queue still takes one of each owner who has none in it, up to as many
            again, so that nobody is locked out by another.
        each: how many jobs of one lane an owner may have unfinished.
        floor: bytes that have to be free on the disk for a job to be taken.
        on_end: called with each job that ended; may raise StudioError, then it is called again later.
    """

    def __init__(
        self,
        home: Path,
        execute: Execute,
        limit: int = 16,
        *,
        each: int = 1_000_000,
        floor: int = 0,
        on_end: OnEnd = lambda _: None,
    ) -> None:
        self._db = Database(home / "jobs.db", _MIGRATIONS)
        self._execute = execute
        self._limit = limit
        self._each = each
        self._home, self._floor = home, floor
        self._on_end = on_end
        self._app = own_mark()
        self._live: dict[str, Live] = {}
        self._ended: dict[str, Outcome] = {}  # to be written
        self._unsaved: dict[str, Outcome] = {}  # those of them that the disk refused; shown nevertheless
        self._taking = threading.Lock()  # a waiting job is either begun or cancelled
        self._flushing = threading.Lock()
        self._served: dict[str, list[str]] = {lane: [] for lane in LANES}
        self._changed = threading.Condition()
        self._recovered = False
        self._closing = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Takes over what dead apps left, then runs jobs, each lane on a thread of its own."""
        self._tend()
        for lane in LANES:
            thread = threading.Thread(target=self._loop, args=(lane,), name=f"jobs-{lane}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(self, task: Task, card: str, *, owner: str = "local", kept: bool = True) -> Snapshot:
        """Queues the task; it is on the disk when this returns.

        Raises QueueFull where `limit` jobs wait already or the owner has `each` unfinished, and DiskFull.
        """
        files.require_room(self._home, 0, self._floor)
        id_ = uuid.uuid4().hex
        counts = (
            "SELECT COALESCE(SUM(state = 'queued'), 0), COALESCE(SUM(state = 'queued' AND owner = :owner), 0), "
            f"COALESCE(SUM(owner = :owner AND {_IN_LANE}), 0) FROM job "
            "WHERE state IN ('queued', 'running') AND app = :app AND id NOT IN (SELECT value FROM json_each(:ended))"
        )
        values = {
            "owner": owner,
            "app": self._app,
            "lane": json.dumps(LANES[task.lane]),
            "ended": json.dumps(list(self._ended)),
        }
        with self._db.transaction() as db:
            waiting, own, unfinished = db.execute(counts, values).fetchone()
            if unfinished >= self._each:
                raise QueueFull(f"{unfinished} of your jobs are not finished yet.", "Wait for one, or cancel it.")
            if waiting >= (self._limit if own else 2 * self._limit):
                raise QueueFull(
                    f"{waiting} jobs are waiting, which is as many as the queue holds.", "Wait for one to finish."
                )
            db.execute(
                "INSERT INTO job (id, owner, state, task, card, kept, created, app) VALUES (?,?,'queued',?,?,?,?,?)",
                (id_, owner, json.dumps(task.to_json()), card, kept, time.time(), self._app),
            )
        self._notify()
        return self.get(id_)

    def get(self, id: str) -> Snapshot:
        """Raises NotFound."""
        rows = self._db.rows("SELECT * FROM job WHERE id = ?", (id,))
        if not rows:
            raise NotFound("There is no such job.", "It may have been cleared from the history.")
        return self._snapshot(rows[0])

    def watch(self, id: str, every: float = 0.15) -> Iterator[Snapshot]:
        """Snapshots as the job changes, the last one finished. Waits at most `every` seconds between looks."""
        before: tuple[object, ...] = ()
        while True:
            now = self.get(id)
            key = (now.state, now.place, now.step, now.phase, id_of(now.preview), int(now.seconds * 2))
            if key != before:
                yield now
                before = key
            if now.is_finished:
                return
            with self._changed:
                self._changed.wait(every)

    def cancel(self, id: str) -> None:
        """A queued job ends at once, a running one at its next step. A finished one stays as it is."""
        with self._taking:
            live = self._live.get(id)
            waits = live is None and self.get(id).state == "queued"
            if live is not None:
                live.cancelled.set()
            elif waits:
                self._ended[id] = Outcome.of("cancelled")
        if waits:
            self._save()
        self._notify()

    def history(self, *, owner: str | None = None, limit: int = 50) -> list[Snapshot]:
        """Newest first; unfinished jobs among them."""
        where, values = ("WHERE owner = ?", [owner]) if owner is not None else ("", [])
        rows = self._db.rows(f"SELECT * FROM job {where} ORDER BY rowid DESC LIMIT ?", (*values, limit))
        return self._snapshots(rows)

    def forget(self, before: float = math.inf, owner: str | None = None) -> None:
        """Clears jobs that ended before that time (seconds since the epoch) from the history, all or an owner's."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM job WHERE finished < ? AND (? IS NULL OR owner = ?)", (before, owner, owner))

    def newest(self) -> float:
        """When the last job was submitted, seconds since the epoch; 0 without any."""
        return float(self._db.rows("SELECT COALESCE(MAX(created), 0) AS newest FROM job")[0]["newest"])

    def assets(self) -> set[str]:
        """Ids of all assets that jobs of the history name: whoever runs one again needs them."""
        tasks = (parse_task(json.loads(row["task"])) for row in self._db.rows("SELECT task FROM job"))
        return {id_ for task in tasks for id_ in task.assets()}

    def active(self, owner: str | None = None) -> list[Snapshot]:
        """Running and waiting jobs of this app, in the order they are run."""
        rows = self._db.rows(
            "SELECT * FROM job WHERE state IN ('running', 'queued') AND app = ? ORDER BY state DESC, rowid",
            (self._app,),
        )
        jobs = self._snapshots(row for row in rows if owner in (None, row["owner"]))
        return sorted((job for job in jobs if not job.is_finished), key=lambda job: (job.state == "queued", job.place))

    def waiting(self) -> list[Snapshot]:
        """Waiting and running jobs of all apps on this home."""
        rows = self._db.rows("SELECT * FROM job WHERE state IN ('running', 'queued') ORDER BY rowid")
        return self._snapshots(rows)

    def leave(self, owner: str, seconds: float = 15.0) -> bool:
        """Cancels an owner's jobs and says whether all of them have ended, waiting so long for those at work."""
        end = time.monotonic() + seconds
        for job in self.active(owner):
            self.cancel(job.id)
        while self.active(owner):
            if time.monotonic() > end:
                return False
            with self._changed:
                self._changed.wait(0.1)
        return True

    def stop(self) -> None:
        """Asks what runs to stop and takes nothing new; `close` waits for it."""
        self._closing = True
        for live in list(self._live.values()):
            live.cancelled.set()
        self._notify()

    def close(self, seconds: float = 10.0) -> None:
        """Stops after asking the running jobs to stop; waiting jobs stay queued for the next start.

        Waits `seconds` in all.
        """
        self.stop()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    # ── inside ───────────────────────────────────────────────────────────────

    def _loop(self, lane: str) -> None:
        trouble = ""
        while not self._closing:
            try:
                self._tend()
                _, waiting = self._queues()[lane]
                if waiting:
                    self._run(waiting[0], lane)
                    continue
                trouble, pause = "", RETRY_S if self._ended else 0.5
            except Exception as error:  # the lane's border: it must be there for the next job
                if str(error) != trouble:  # once, not every second while the disk is full
                    log.warning("the queue waits: %s", error, exc_info=not isinstance(error, StudioError))
                trouble, pause = str(error), RETRY_S
            with self._changed:
                self._changed.wait(pause)

    def _queues(self) -> dict[str, tuple[int, list[str]]]:
        """For each lane how many jobs are at work, and the ids of those that wait, in the order they are run."""
        query = (
            "SELECT id, owner, state, json_extract(task, '$.task') AS kind FROM job "
            "WHERE state IN ('queued', 'running') AND app = ? ORDER BY rowid"
        )
        rows = [row for row in self._db.rows(query, (self._app,)) if row["id"] not in self._ended]
        queues = {}
        for lane, kinds in LANES.items():
            own = [row for row in rows if row["kind"] in kinds]
            waiting = [(row["id"], row["owner"]) for row in own if row["state"] == "queued"]
            queues[lane] = len(own) - len(waiting), turns(waiting, self._served[lane])
        return queues

    def _places(self) -> dict[str, int]:
        """How many jobs come before each one that waits."""
        return {id_: at_work + place for at_work, order in self._queues().values() for place, id_ in enumerate(order)}

    def _run(self, id_: str, lane: str) -> None:
        with self._taking:
            if id_ in self._ended:  # cancelled in between
                return
            with self._db.transaction() as db:
                taken = db.execute(
                    "UPDATE job SET state = 'running', started = ? WHERE id = ? AND state = 'queued'",
                    (time.time(), id_),
                ).rowcount
            if not taken:
                return
            live = self._live[id_] = Live()
        self._notify()
        try:
            self._ended[id_] = self._outcome(id_, live, lane)
            self._save()
        finally:
            self._live.pop(id_, None)
            self._notify()

    def _outcome(self, id_: str, live: Live, lane: str) -> Outcome:
        try:
            job = self.get(id_)
            others = [owner for owner in self._served[lane] if owner != job.owner]
            self._served[lane] = [*others[-SERVED:], job.owner]
            return Outcome.of("done", self._execute(job, live))
        except Cancelled:
            return Outcome.of("interrupted" if self._closing else "cancelled")
        except StudioError as error:
            if self._closing and live.cancelled.is_set():  # its worker was ended before it could answer
                return Outcome.of("interrupted")
            return Outcome.of("failed", error=error)
        except Exception:  # the job's border: whatever happened, the next job must run
            log.exception("job %s", id_)
            bug = StudioError("Something went wrong in the studio.", f"The log has it as job {id_[:8]}.")
            return Outcome.of("failed", error=bug)

    def _save(self) -> None:
        """Writes what has ended, or says that it has to wait."""
        try:
            self._flush()
        except StudioError as error:
            log.warning("a job has ended, which cannot be saved yet: %s", error)

    def _flush(self) -> None:
        """Writes what has ended. What cannot be written stays for later; raises the last StudioError then."""
        refused: StudioError | None = None
        with self._flushing:
            for id_, outcome in list(self._ended.items()):
                try:
                    self._on_end(_ended(self.get(id_), outcome))
                    with self._db.transaction() as db:
                        db.execute(
                            "UPDATE job SET state = ?, finished = ?, artifact = ?, error = ?, message = ?, hint = ? "
                            "WHERE id = ? AND state IN ('queued', 'running')",
                            (*astuple(outcome), id_),
                        )
                except NotFound:
                    log.debug("job %s went when its owner left", id_[:8])
                except StudioError as error:
                    self._unsaved[id_] = outcome
                    refused = error
                    continue
                self._ended.pop(id_)
                self._unsaved.pop(id_, None)
        if refused is not None:
            raise refused

    def _tend(self) -> None:
        """What is due on the disk, as far as it lets us: what dead apps left, and what has ended."""
        try:
            if not self._recovered:
                self._recover()
                self._recovered = True
            self._flush()
        except StudioError as error:
            log.debug("later: %s", error)

    def _recover(self) -> None:
        dead = [
            row["app"]
            for row in self._db.rows("SELECT DISTINCT app FROM job WHERE state IN ('queued', 'running')")
            if row["app"] != self._app and not is_alive(row["app"])
        ]
        if not dead:
            return
        with self._db.transaction() as db:
            for app in dead:
                db.execute(
                    "UPDATE job SET state = 'interrupted', finished = ?, message = ?, hint = ? "
                    "WHERE app = ? AND state = 'running'",
                    (time.time(), "The studio was closed while this ran.", "Run it again.", app),
                )
                db.execute("UPDATE job SET app = ? WHERE app = ? AND state = 'queued'", (self._app, app))

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _snapshots(self, rows: Iterable[sqlite3.Row]) -> list[Snapshot]:
        places = self._places()
        return [self._snapshot(row, places) for row in rows]

    def _snapshot(self, row: sqlite3.Row, places: Mapping[str, int] | None = None) -> Snapshot:
        end = row["finished"] or time.time()
        shot = Snapshot(
            row["id"],
            row["owner"],
            row["state"],
            parse_task(json.loads(row["task"])),
            row["card"],
            bool(row["kept"]),
            row["created"],
            seconds=end - row["started"] if row["started"] else 0.0,
            error=row["error"],
            message=row["message"],
            hint=row["hint"],
            artifact=row["artifact"],
        )
        if (unsaved := self._unsaved.get(shot.id)) is not None:
            return _ended(shot, unsaved)
        live = self._live.get(shot.id)
        if shot.state == "queued":
            return replace(shot, place=(self._places() if places is None else places).get(shot.id, 0))
        if live is None or shot.is_finished:
            return shot
        return replace(
            shot, step=live.step, total=live.total, phase=live.phase, preview=live.preview, remaining=live.remaining()
        )


def _ended(shot: Snapshot, outcome: Outcome) -> Snapshot:
    told = {name: getattr(outcome, name) for name in ("state", "artifact", "error", "message", "hint")}
    return replace(shot, **told)


def id_of(value: Any) -> int:
    """Identity of an array that may be None, to see that it was replaced."""
    return 0 if value is None else id(value)
