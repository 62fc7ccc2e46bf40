"""Trainings as the studio's jobs: begun, paused, gone on with, and their models kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from studio.cards import Card
from studio.errors import InvalidTask, NotAllowed, StudioError
from studio.jobs import Jobs
from studio.tasks import MAX_SEED, Train
from studio.train import adopt, recipes
from studio.train.runs import AT_WORK, Run, Runs
from studio.weights.store import Store

TRAINER = "trainer"  # the card whose engine trains


class Trainings:
    """Args:
    runs: the record of them.
    jobs: the queue they wait in.
    store: where an adopted model goes.
    require: raises NotAllowed for an ability that the mode does not give.
    """

    def __init__(self, runs: Runs, jobs: Jobs, store: Store, require: Callable[[str], None]) -> None:
        self._runs = runs
        self._jobs = jobs
        self._store = store
        self._require = require

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

        Raises NotFound, InvalidTask, NotAllowed (pictures of others in this mode), QueueFull.
        """
        known = recipes.find(recipe)
        if known.family == "starter":
            raise InvalidTask(
                f"{recipe} takes too long for a lab.", "Train it on the command line, where it may take hours."
            )
        source = data if data is not None else known.data
        if source.partition(":")[0] not in ("stickers", "digits", "upload"):
            self._require("share")
        task = Train(
            recipe=recipe,
            run="new",
            steps=steps,
            minutes=minutes if steps is not None or minutes is not None else known.minutes,
            data=source,
            options=known.options.made(known.preset, options).model_dump(mode="json"),
            seed=seed if seed is not None else random.randint(0, MAX_SEED),
            patience=patience,
        )
        run = self._runs.create(**adopt.record(task, known, owner))
        return self._queue(run, task.model_copy(update={"run": run.id}))

    def proceed(self, id: str, *, steps: int | None = None, minutes: float | None = None) -> Run:
        """Queues the rest of a run; a budget given here is that of the whole run from now on.

        Raises NotFound, NotAllowed (it is at work), InvalidTask (nothing is left to do), QueueFull.
        """
        run = self._runs.get(id)
        if run.state in AT_WORK:
            raise NotAllowed("This run is at work already.", "Pause it first to change it.")
        given = steps is not None or minutes is not None
        budget = {"steps": steps, "minutes": minutes} if given else {"steps": run.steps, "minutes": run.minutes}
        run = self._runs.update(id, **budget)
        if run.state == "finished" and not given:
            raise InvalidTask("This run is finished.", "Give it more minutes to go on.")
        return self._queue(run, adopt.task_of(run))

    def pause(self, id: str) -> Run:
        """Stops a run at its next step, with a checkpoint; one that waits does not begin.

        Raises NotFound, NotAllowed.
        """
        job = next((one for one in self._jobs.active() if getattr(one.task, "run", None) == id), None)
        if job is None and self._runs.get(id).state == "running":
            raise NotAllowed("This run is trained by another program.", "Stop it there, with Ctrl-C.")
        if job is not None:
            self._jobs.cancel(job.id)
            if job.state == "queued":
                self._runs.update(id, state="paused", phase="")
        return self._runs.get(id)

    def adopt(self, id: str, title: str = "", *, pictures: bool | None = None) -> Card:
        """Makes a run's model a model of the studio's own, listed in Models.

        `pictures` says whether the pictures of its data inside it go along; None: only those that come with the studio.

        Raises NotFound, NotAllowed, DiskFull, IntegrityError.
        """
        self._require("import")
        return adopt.adopt(self._store, self._runs.get(id), self._runs.model(id), title, pictures=pictures)

    def _queue(self, run: Run, task: Train) -> Run:
        try:
            self._jobs.submit(task, TRAINER, owner=run.owner)
        except StudioError:
            if run.step == 0:
                self._runs.update(run.id, state="paused")
                self._runs.delete(run.id)
            raise
        return run
