"""When: tasks on their way. Durable (rows in SQLite), watchable, cancellable, in order within their lane.

A job belongs to the app process that took it, so two apps on one home neither run each other's jobs nor declare
them interrupted; what a dead process left behind is: running jobs become "interrupted", queued ones are taken over.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from studio.database import Database
from studio.errors import Cancelled, NotFound, QueueFull, StudioError
from studio.processes import is_alive, own_mark
from studio.tasks import KINDS, Task, parse_task

log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
FINISHED = ("done", "failed", "cancelled", "interrupted")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL, task TEXT NOT NULL, card TEXT NOT NULL,
    kept INTEGER NOT NULL, created REAL NOT NULL, started REAL, finished REAL,
    error TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '',
    artifact TEXT NOT NULL DEFAULT '', app TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS job_state ON job (state, created);
"""


LANES: dict[str, list[str]] = {
    lane: [kind for kind, task in KINDS.items() if task.lane == lane] for lane in {task.lane for task in KINDS.values()}
}
"""Kinds of tasks by lane. A training is a lane of its own, so that a picture does not wait for minutes behind it."""
_IN_LANE = "json_extract(task, '$.task') IN (SELECT value FROM json_each(?))"


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


Execute = Callable[[Snapshot, Live], str]


class Jobs:
    """The queue and its runner.

    Args:
        home: the folder of the database.
        execute: runs one job to its artifact's id; raises StudioError. Called on the runner's thread.
        limit: how many jobs may wait.
    """

    def __init__(self, home: Path, execute: Execute, limit: int = 16) -> None:
        self._db = Database(home / "jobs.db", _SCHEMA)
        self._execute = execute
        self._limit = limit
        self._app = own_mark()
        self._live: dict[str, Live] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Takes over what dead apps left, then runs jobs, each lane on a thread of its own."""
        self._recover()
        for lane in LANES:
            thread = threading.Thread(target=self._loop, args=(lane,), name=f"jobs-{lane}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(self, task: Task, card: str, *, owner: str = "local", kept: bool = True) -> Snapshot:
        """Queues the task. Raises QueueFull when `limit` jobs wait already."""
        id_ = uuid.uuid4().hex
        with self._db.transaction() as db:
            (waiting,) = db.execute(
                "SELECT COUNT(*) FROM job WHERE state = 'queued' AND app = ?", (self._app,)
            ).fetchone()
            if waiting >= self._limit:
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
        with self._db.transaction() as db:
            db.execute(
                "UPDATE job SET state = 'cancelled', finished = ? WHERE id = ? AND state = 'queued'", (time.time(), id)
            )
        live = self._live.get(id)
        if live is not None:
            live.cancelled.set()
        self._notify()

    def history(self, *, owner: str | None = None, limit: int = 50) -> list[Snapshot]:
        """Newest first; unfinished jobs among them."""
        where, values = ("WHERE owner = ?", [owner]) if owner is not None else ("", [])
        rows = self._db.rows(f"SELECT * FROM job {where} ORDER BY created DESC LIMIT ?", (*values, limit))
        return [self._snapshot(row) for row in rows]

    def forget(self, before: float) -> None:
        """Clears jobs that ended before that time (seconds since the epoch) from the history."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM job WHERE finished < ?", (before,))

    def assets(self) -> set[str]:
        """Ids of all assets that jobs of the history name: whoever runs one again needs them."""
        tasks = (parse_task(json.loads(row["task"])) for row in self._db.rows("SELECT task FROM job"))
        return {id_ for task in tasks for id_ in task.assets()}

    def active(self, owner: str | None = None) -> list[Snapshot]:
        """Running and waiting jobs of this app, in order."""
        rows = self._db.rows(
            "SELECT * FROM job WHERE state IN ('running', 'queued') AND app = ? ORDER BY state DESC, created",
            (self._app,),
        )
        return [self._snapshot(row) for row in rows if owner is None or row["owner"] == owner]

    def close(self) -> None:
        """Stops after asking the running job to stop; waiting jobs stay queued for the next start."""
        self._closing = True
        for live in list(self._live.values()):
            live.cancelled.set()
        self._notify()
        for thread in self._threads:
            thread.join(10)

    # ── inside ───────────────────────────────────────────────────────────────

    def _loop(self, lane: str) -> None:
        while not self._closing:
            rows = self._db.rows(
                f"SELECT * FROM job WHERE state = 'queued' AND app = ? AND {_IN_LANE} ORDER BY created LIMIT 1",
                (self._app, json.dumps(LANES[lane])),
            )
            if rows:
                self._run(rows[0]["id"])
                continue
            with self._changed:
                self._changed.wait(0.5)

    def _run(self, id_: str) -> None:
        live = self._live[id_] = Live()
        with self._db.transaction() as db:
            taken = db.execute(
                "UPDATE job SET state = 'running', started = ? WHERE id = ? AND state = 'queued'", (time.time(), id_)
            ).rowcount
        if not taken:  # cancelled in between
            self._live.pop(id_, None)
            return
        self._notify()
        try:
            self._finish(id_, "done", artifact=self._execute(self.get(id_), live))
        except Cancelled:
            self._finish(id_, "interrupted" if self._closing else "cancelled")
        except StudioError as error:
            self._finish(id_, "failed", error=error)
        except Exception:  # the job's border: whatever happened, the next job must run
            log.exception("job %s", id_)
            self._finish(
                id_,
                "failed",
                error=StudioError("Something went wrong in the studio.", f"The log has it as job {id_[:8]}."),
            )
        finally:
            self._live.pop(id_, None)
            self._notify()

    def _finish(self, id_: str, state: State, *, artifact: str = "", error: StudioError | None = None) -> None:
        name, message, hint = (type(error).__name__, error.message, error.hint) if error else ("", "", "")
        with self._db.transaction() as db:
            db.execute(
                "UPDATE job SET state=?, finished=?, artifact=?, error=?, message=?, hint=? WHERE id = ?",
                (state, time.time(), artifact, name, message, hint, id_),
            )

    def _recover(self) -> None:
        dead = [
            row["app"]
            for row in self._db.rows("SELECT DISTINCT app FROM job WHERE state IN ('queued', 'running')")
            if row["app"] != self._app and not is_alive(row["app"])
        ]
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

    def _snapshot(self, row: sqlite3.Row) -> Snapshot:
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
        live = self._live.get(shot.id)
        if shot.state == "queued":
            return replace(shot, place=self._place(row))
        if live is None or shot.is_finished:
            return shot
        return replace(
            shot, step=live.step, total=live.total, phase=live.phase, preview=live.preview, remaining=live.remaining()
        )

    def _place(self, row: sqlite3.Row) -> int:
        lane = KINDS[json.loads(row["task"])["task"]].lane
        ahead = self._db.rows(
            "SELECT COUNT(*) AS n FROM job WHERE app = ? AND (state = 'running' OR (state = 'queued' AND created < ?)) "
            f"AND {_IN_LANE}",
            (row["app"], row["created"], json.dumps(LANES[lane])),
        )
        return int(ahead[0]["n"])


def id_of(value: Any) -> int:
    """Identity of an array that may be None, to see that it was replaced."""
    return 0 if value is None else id(value)
