"""The record of trainings: one folder each, written by whoever trains, read by the page. No torch.

<home>/runs/<id>/run.json         what was asked, how far it is
                 metrics.jsonl    {"step", "seconds", name: value} a line; validation names begin with "valid_"
                 samples/<name>/<step>.png
                 last.pt best.pt  checkpoints
                 model/           what the lab opens: model.safetensors, config.json, facts.json
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files
from studio.errors import InvalidTask, NotAllowed, NotFound
from studio.processes import is_alive, own_mark

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "paused", "finished", "failed", "interrupted", "damaged"]
AT_WORK = ("waiting", "running")
RECORD = "run.json"
MODEL = "model"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


class Run(BaseModel):
    """One training, from asked to finished.

    Attributes:
        family: the lab that opens it.
        steps, minutes: the budget of the whole run; one of them.
        step, total, seconds: how far it is; `total` is an estimate while the budget is in minutes.
        phase: what it does at the moment.
        message, hint: why it stopped, where there is something to say.
        metrics: the last of each curve, validation names with "valid_".
        best: the watched metric's best value and its step.
        owner: whose it is, see `studio.limits`.
        worker: mark of the process that trains it.
        pictures: facts of the data, see `studio.train.data.describe`.
        mlflow: id of its record there.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    recipe: str
    family: str
    title: str
    options: dict[str, Any] = Field(default_factory=dict)
    data: str = "stickers"
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    patience: int = 0
    owner: str = "local"
    created: float = 0.0
    updated: float = 0.0
    state: State = "waiting"
    step: int = 0
    total: int = 0
    seconds: float = 0.0
    phase: str = ""
    message: str = ""
    hint: str = ""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    watched: str = ""
    best: dict[str, float] = Field(default_factory=dict)
    pictures: dict[str, Any] = Field(default_factory=dict)
    worker: str = ""
    mlflow: str = ""


class Runs:
    """All runs of one home.

    Args:
        home: the studio's folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = home / "runs"

    # ── looking ──────────────────────────────────────────────────────────────

    def folder(self, id_: str) -> Path:
        """Where a run is kept. Raises NotFound for what cannot be an id."""
        if not _ID.fullmatch(id_):
            raise NotFound(f"There is no run {id_!r}.", "It may have been deleted.")
        return self._folder / id_

    def get(self, id_: str, owner: str | None = None) -> Run:
        """The run as it is now; one whose process is gone is "interrupted", one whose record is wrong "damaged".

        Raises NotFound, with an `owner` also for another's.
        """
        missing = NotFound(f"There is no run {id_!r}.", "It may have been deleted.")
        try:
            run = _read(id_, (self.folder(id_) / RECORD).read_bytes())
        except OSError as error:
            raise missing from error
        if owner not in (None, run.owner):
            raise missing
        if run.state == "running" and not is_alive(run.worker):
            return run.model_copy(
                update={
                    "state": "interrupted",
                    "phase": "",
                    "message": "The studio was closed while this trained.",
                    "hint": "Continue goes on from its last checkpoint.",
                }
            )
        return run

    def list(self, *, family: str | None = None, owner: str | None = None) -> Sequence[Run]:
        """Newest first."""
        found = []
        for file in self._folder.glob(f"[a-z0-9]*/{RECORD}"):
            try:
                found.append(self.get(file.parent.name))
            except NotFound as error:
                log.warning("A run is left out: %s", error)
        kept = [run for run in found if family in (None, run.family) and owner in (None, run.owner)]
        return sorted(kept, key=lambda run: run.created, reverse=True)

    def curves(self, id_: str, since: int = -1, most: int = 600, owner: str | None = None) -> Sequence[dict[str, Any]]:
        """What was measured after step `since`, oldest first; thinned to about `most` lines (validation all kept).

        Here and below an `owner` makes another's run one that is not there.
        """
        self._check(id_, owner)
        rows = [row for row in read_metrics(self.folder(id_) / "metrics.jsonl") if row["step"] > since]
        if len(rows) <= most:
            return rows
        every = math.ceil(len(rows) / most)
        return [
            row
            for k, row in enumerate(rows)
            if k % every == 0 or k == len(rows) - 1 or any(name.startswith("valid_") for name in row)
        ]

    def samples(self, id_: str, owner: str | None = None) -> dict[str, Sequence[int]]:
        """The steps at which samples of each name were drawn, in order."""
        self._check(id_, owner)
        folder = self.folder(id_) / "samples"
        names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        return {
            name: sorted(int(file.stem) for file in (folder / name).glob("*.png") if file.stem.isdigit())
            for name in names
        }

    def sample(self, id_: str, name: str, step: int, owner: str | None = None) -> Path:
        """The picture. Raises NotFound."""
        self._check(id_, owner)
        path = self.folder(id_) / "samples" / name / f"{step:08d}.png"
        if not re.fullmatch(r"[a-z0-9_-]{1,40}", name) or not path.is_file():
            raise NotFound("There is no such sample.", "")
        return path

    def model(self, id_: str, owner: str | None = None) -> Path:
        """The folder with the run's model. Raises NotFound while there is none."""
        self._check(id_, owner)
        path = self.folder(id_) / MODEL
        if not (path / "config.json").is_file():
            raise NotFound("This run has no model yet.", "It has one after its first minute; let it train on.")
        return path

    # ── changing ─────────────────────────────────────────────────────────────

    def create(self, **fields: Any) -> Run:
        """A new run, waiting. `fields` are those of Run but `id`, which nobody can guess. Raises DiskFull."""
        now = time.time()
        stamp = time.strftime("%m%d-%H%M%S", time.localtime(now))
        id_ = f"{fields['recipe']}-{stamp}-{secrets.token_hex(16)}"
        run = Run(id=id_, created=now, updated=now, **fields)
        self._write(run)
        return run

    def update(self, id_: str, **fields: Any) -> Run:
        """Changes the record. Raises NotFound, DiskFull, and InvalidTask for values that are none of a Run's."""
        before = self.get(id_).model_dump()
        try:
            run = Run.model_validate({**before, "updated": time.time(), **fields})
        except ValidationError as error:
            name = error.errors()[0]["loc"][0]
            raise InvalidTask(f"{name} of a run cannot be {fields.get(str(name))!r}.", "Correct the value.") from error
        self._write(run)
        return run

    def begin(self, id_: str) -> FileLock:
        """Marks the run as this process's as long as it holds the lock. Raises NotAllowed where another trains it."""
        lock = FileLock(self.folder(id_) / "run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise NotAllowed("This run is being trained already.", "Wait for it, or pause it first.") from error
        self.update(id_, state="running", worker=own_mark(), message="", hint="", phase="loading")
        return lock

    def settle(self, id_: str, **fields: Any) -> None:
        """Changes the record of a run that is said to be at work, where nobody trains it. Raises NotFound, DiskFull."""
        lock = FileLock(self.folder(id_) / "run.lock")
        if self.get(id_).state not in AT_WORK:
            return
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return
        except OSError as error:
            raise files.refusal(RECORD, error) from error
        try:
            self.update(id_, **fields)
        finally:
            lock.release()

    def delete(self, id_: str, owner: str | None = None) -> None:
        """Raises NotFound; NotAllowed while it trains."""
        if self.get(id_, owner).state in AT_WORK:
            raise NotAllowed("This run is at work.", "Pause it first.")
        hidden = files.draft(self.folder(id_), "bin")
        os.replace(self.folder(id_), hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def _check(self, id_: str, owner: str | None) -> None:
        if owner is not None:
            self.get(id_, owner)

    def _write(self, run: Run) -> None:
        files.write(self.folder(run.id) / RECORD, run.model_dump_json(indent=1).encode())


def _read(id_: str, data: bytes) -> Run:
    """The run of a record; what is wrong in it is left out, and then the run is damaged."""
    try:
        fields = json.loads(data)
    except ValueError:
        fields = None
    known = dict(fields) if isinstance(fields, dict) else {}
    wrong: list[str] = []
    while True:
        try:
            run = Run.model_validate({"recipe": "", "family": "", "title": id_, **known, "id": id_})
        except ValidationError as error:
            names = {str(one["loc"][0]) for one in error.errors()}
            wrong += sorted(names)
            known = {name: value for name, value in known.items() if name not in names}
            continue
        if wrong or not {"recipe", "family"} <= known.keys():
            what = f"Its record is damaged ({', '.join(wrong)})." if wrong else "Its record is damaged."
            return run.model_copy(update={"state": "damaged", "phase": "", "message": what, "hint": _DAMAGED})
        return run


_DAMAGED = "Continue with a new budget to mend it, or delete the run."


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; one that was cut short by a kill is left out."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """As JSON can hold them: what is not a finite number is None."""
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
