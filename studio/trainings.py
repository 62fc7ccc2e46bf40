"""Trainings as the studio's jobs: begun, paused, gone on with, and their models kept."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from studio.cards import Card
from studio.errors import InvalidTask, NotAllowed, NotFound, QueueFull, StudioError
from studio.jobs import Jobs, Snapshot
from studio.limits import Limits
from studio.tasks import MAX_SEED, Train, make_task
from studio.train import adopt, recipes
from studio.train.runs import AT_WORK, Run, Runs, State
from studio.weights.store import Store

TRAINER = "trainer"  # the card whose engine trains
ENDED: Mapping[str, State] = {
    "done": "finished", "cancelled": "paused", "failed": "failed", "interrupted": "interrupted",
}  # fmt: skip
"""What a run is whose job ended so."""
SOON_S = 60.0  # a run that is younger may still get its job


class Trainings:
    """Args:
    runs: the record of them.
    jobs: the queue they wait in.
    store: where an adopted model goes.
    require: raises NotAllowed for an ability that the mode does not give.
    limits: how many runs an owner may keep, and how long one may take.

    An `owner` makes another's run one that is not there; None may see all.
    """

    def __init__(
        self, runs: Runs, jobs: Jobs, store: Store, require: Callable[[str], None], limits: Limits | None = None
    ) -> None:
        self._runs = runs
        self._jobs = jobs
        self._store = store
        self._require = require
        self._limits = limits if limits is not None else Limits()

    def begin(
        self,
        recipe: str,
        *,
        options: Mapping[str, Any] | None = None,
        data: str | None = None,
        seed: int | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        patience: int = 0,
        owner: str = "local",
    ) -> Run:
        """Queues a new run. Without a budget the recipe's own minutes count.

        Raises NotFound, InvalidTask, NotAllowed (pictures of others, or a budget, that this mode does not give),
        QueueFull, DiskFull.
        """
        known = recipes.find(recipe)
        if known.family == "starter":
            raise InvalidTask(
                f"{recipe} takes too long for a lab.", "Train it on the command line, where it may take hours."
            )
        source = data if data is not None else known.data
        if source.partition(":")[0] not in ("stickers", "digits", "upload"):
            self._require("share")
        if steps is None and minutes is None:
            minutes = min(known.minutes, self._limits.minutes or known.minutes)
        fields = {
            "recipe": recipe,
            "run": "new",
            "steps": steps,
            "minutes": minutes,
            "data": source,
            "options": known.options.made(known.preset, options).model_dump(mode="json"),
            "seed": seed if seed is not None else random.randint(0, MAX_SEED),
            "patience": patience,
        }
        task = make_task(Train.kind, fields)
        assert isinstance(task, Train)
        self._bound(task)
        if len(self._runs.list(owner=owner)) >= self._limits.runs_each:
            raise QueueFull(f"You have {self._limits.runs_each} trainings already.", "Delete one to begin another.")
        run = self._runs.create(**adopt.record(task, known, owner))
        return self._queue(run, task.model_copy(update={"run": run.id}))

    def proceed(
        self, id: str, *, steps: int | None = None, minutes: float | None = None, owner: str | None = None
    ) -> Run:
        """Queues the rest of a run; a budget given here is that of the whole run from now on.

        Raises NotFound, NotAllowed (it is at work, or the budget is more than this mode gives), InvalidTask (no budget,
        or nothing is left to do), QueueFull, DiskFull. The run is as before then.
        """
        run = self._runs.get(id, owner)
        if run.state in AT_WORK:
            raise NotAllowed("This run is at work already.", "Pause it first to change it.")
        given = steps is not None or minutes is not None
        if run.state == "finished" and not given:
            raise InvalidTask("This run is finished.", "Give it more minutes to go on.")
        task = adopt.task_of(run, **({"steps": steps, "minutes": minutes} if given else {}))
        self._bound(task)
        changed = self._runs.update(
            id, steps=task.steps, minutes=task.minutes, state="waiting", phase="", message="", hint=""
        )
        return self._queue(changed, task, before=run)

    def pause(self, id: str, owner: str | None = None) -> Run:
        """Stops a run at its next step, with a checkpoint; one that waits does not begin.

        Raises NotFound, NotAllowed.
        """
        run = self._runs.get(id, owner)
        job = self._job(id)
        if job is None and run.state == "running":
            raise NotAllowed("This run is trained by another program.", "Stop it there, with Ctrl-C.")
        if job is not None:
            self._jobs.cancel(job.id)
        return self._runs.get(id)

    def adopt(self, id: str, title: str = "", *, pictures: bool | None = None, owner: str | None = None) -> Card:
        """Makes a run's model a model of the studio's own, listed in Models.

        `pictures` says whether the pictures of its data inside it go along; None: only those that come with the studio.

        Raises NotFound, NotAllowed, DiskFull, IntegrityError.
        """
        self._require("import")
        return adopt.adopt(self._store, self._runs.get(id, owner), self._runs.model(id), title, pictures=pictures)

    def settle(self, job: Snapshot) -> None:
        """Makes the record of a run agree with its job, which has ended: the trainer may not have been able to write
        (a full disk, a kill), or it never began. Raises DiskFull."""
        if not isinstance(job.task, Train):
            return
        with suppress(NotFound):
            state = ENDED[job.state]
            self._runs.settle(job.task.run, state=state, phase="", message=job.message, hint=job.hint, worker="")

    def recover(self) -> None:
        """Runs that wait for a job nobody has are paused: the app was killed between the two. Raises DiskFull."""
        waiting = {job.task.run for job in self._jobs.waiting() if isinstance(job.task, Train)}
        for run in self._runs.list():
            if run.state == "waiting" and run.id not in waiting and time.time() - run.updated > SOON_S:
                self._runs.update(run.id, state="paused")

    def leave(self, owner: str) -> None:
        """Deletes an owner's runs and the pictures that were brought in for them. Their jobs have ended by now."""
        self._delete(self._runs.list(owner=owner))

    def tidy(self, before: float) -> None:
        """Deletes runs that were last at work before that time, seconds since the epoch."""
        self._delete([run for run in self._runs.list() if run.updated < before])

    def _delete(self, gone: Sequence[Run]) -> None:
        from studio.train import sources  # brings OpenCV along, which the page's process does without at its start

        for run in gone:
            if run.state not in AT_WORK:
                self._runs.delete(run.id)
        held = {run.data for run in self._runs.list()}
        for source in {run.data for run in gone} - held:
            kind, _, id_ = source.partition(":")
            if kind == "upload":
                sources.upload_path(self._runs.home, id_).unlink(missing_ok=True)

    def _bound(self, task: Train) -> None:
        most = self._limits.minutes
        if most is not None and (task.minutes is None or task.steps is not None or task.minutes > most):
            raise NotAllowed(
                f"A training may take {most:g} minutes in all here.", f"Give a budget of at most {most:g} minutes."
            )

    def _job(self, id: str) -> Snapshot | None:
        return next((one for one in self._jobs.active() if getattr(one.task, "run", None) == id), None)

    def _queue(self, run: Run, task: Train, before: Run | None = None) -> Run:
        try:
            self._jobs.submit(task, TRAINER, owner=run.owner)
        except StudioError:
            if before is not None:
                names = ("steps", "minutes", "state", "phase", "message", "hint")
                self._runs.update(run.id, **{name: getattr(before, name) for name in names})
            else:
                self._runs.update(run.id, state="paused")
                self._runs.delete(run.id)
            raise
        return run
