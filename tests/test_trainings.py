import time

import pytest

from studio.errors import Cancelled, DiskFull, InvalidTask, NotAllowed, NotFound, QueueFull
from studio.jobs import Jobs
from studio.limits import Limits
from studio.train import recipes
from studio.train.runs import Runs
from studio.train.sources import upload_path
from studio.trainings import Trainings
from tests.fakes import FullDisk
from tests.train.tiny import RECIPE


class Trainer:
    """Trains as the real one does, as far as the record is concerned, until it is told how to end."""

    def __init__(self, runs):
        self.runs = runs
        self.end = None  # an error, or None to go on

    def __call__(self, job, live):
        lock = self.runs.begin(job.task.run)
        try:
            while self.end is None:
                if live.cancelled.is_set():
                    self.runs.update(job.task.run, state="paused")
                    raise Cancelled
                time.sleep(0.01)
            raise self.end
        finally:
            lock.release()


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", RECIPE)
    return Runs(tmp_path)


@pytest.fixture
def trainer(runs):
    return Trainer(runs)


def started(runs, trainer, limits=None):
    jobs = Jobs(runs.home, trainer, on_end=lambda job: trainings.settle(job))
    trainings = Trainings(runs, jobs, None, lambda _: None, limits)
    jobs.start()
    return jobs, trainings


@pytest.fixture
def lab(runs, trainer):
    jobs, trainings = started(runs, trainer, Limits(minutes=60, runs_each=3))
    yield trainings
    jobs.close()


@pytest.fixture
def home_lab(runs, trainer):
    jobs, trainings = started(runs, trainer)
    yield trainings
    jobs.close()


def state_of(runs, id_, *wanted):
    end = time.monotonic() + 20
    while (state := runs.get(id_).state) not in wanted and time.monotonic() < end:
        time.sleep(0.01)
    return state


def begin(lab, owner="anna", **fields):
    return lab.begin("tiny", data="digits", **{"minutes": 1.0, **fields}, owner=owner)


@pytest.mark.parametrize("minutes", ["x", -1, float("nan"), [], 10**9])
def test_a_wrong_budget_is_refused_and_the_run_stays(lab, runs, minutes):
    run = begin(lab)
    lab.pause(run.id)
    before = state_of(runs, run.id, "paused"), runs.get(run.id).minutes
    with pytest.raises((InvalidTask, NotAllowed)):
        lab.proceed(run.id, minutes=minutes)
    assert (runs.get(run.id).state, runs.get(run.id).minutes) == before
    assert lab.proceed(run.id, minutes=2.0).minutes == 2.0


def test_a_budget_is_bounded_where_strangers_train(lab, runs):
    with pytest.raises(NotAllowed, match="60 minutes"):
        begin(lab, minutes=61.0)
    with pytest.raises(NotAllowed, match="60 minutes"):
        begin(lab, minutes=None, steps=10)
    run = begin(lab)
    lab.pause(run.id)
    state_of(runs, run.id, "paused")
    with pytest.raises(NotAllowed, match="60 minutes"):
        lab.proceed(run.id, minutes=14_400)
    with pytest.raises(NotAllowed, match="60 minutes"):
        lab.proceed(run.id, steps=100_000_000)


def test_a_budget_is_not_bounded_at_home(home_lab):
    assert begin(home_lab, minutes=14_400.0).minutes == 14_400
    assert begin(home_lab, minutes=None, steps=10_000_000).steps == 10_000_000


def test_an_owner_keeps_so_many(lab):
    for _ in range(3):
        begin(lab)
    with pytest.raises(QueueFull, match="3 trainings"):
        begin(lab)
    assert begin(lab, owner="ben")


def test_anothers_run_is_not_there(lab, runs):
    run = begin(lab)
    for act in (lab.pause, lab.proceed, lab.adopt, runs.delete, runs.get, runs.model, runs.samples, runs.curves):
        with pytest.raises(NotFound):
            act(run.id, owner="ben")
    with pytest.raises(NotFound):
        runs.sample(run.id, "samples", 0, owner="ben")
    assert lab.pause(run.id, owner="anna")


def test_an_id_cannot_be_guessed(lab):
    first, second = begin(lab), begin(lab)
    random = [run.id.rpartition("-")[2] for run in (first, second)]
    assert [len(bytes.fromhex(part)) * 8 for part in random] == [128, 128]
    assert random[0] != random[1]


def test_a_waiting_run_that_is_paused_does_not_begin(lab, runs):
    begin(lab)
    second = begin(lab)
    assert lab.pause(second.id).state == "paused"


def test_a_run_whose_trainer_could_not_write_its_end_can_go_on(lab, runs, trainer, monkeypatch):
    run = begin(lab)
    assert state_of(runs, run.id, "running") == "running"
    disk = FullDisk(monkeypatch)
    disk.fill()
    trainer.end = DiskFull("The disk has no room for the checkpoint of step 7; that of step 5 is kept.", "Free some.")
    time.sleep(0.3)
    assert runs.get(run.id).state == "running"  # nobody could write it down
    disk.free()
    assert state_of(runs, run.id, "failed") == "failed"
    assert "step 7" in runs.get(run.id).message
    trainer.end = None
    lab.proceed(run.id)
    assert state_of(runs, run.id, "running") == "running"


def test_a_refused_continuation_leaves_the_run_as_it_was(runs, trainer):
    jobs = Jobs(runs.home, trainer, limit=0)
    lab = Trainings(runs, jobs, None, lambda _: None)
    run = runs.create(recipe="tiny", family="vae", title="t", minutes=1.0, data="digits", state="interrupted")
    with pytest.raises(QueueFull):
        lab.proceed(run.id, minutes=2.0)
    assert (runs.get(run.id).state, runs.get(run.id).minutes) == ("interrupted", 1.0)
    with pytest.raises(QueueFull):
        begin(lab)
    assert [one.id for one in runs.list()] == [run.id]


def test_a_run_whose_job_was_never_queued_does_not_wait_for_ever(runs, lab):
    lost, young = (runs.create(recipe="tiny", family="vae", title="t") for _ in range(2))
    waiting = begin(lab)
    runs.update(lost.id, updated=time.time() - 1000)
    runs.update(waiting.id, updated=time.time() - 1000)
    lab.recover()
    assert [runs.get(run.id).state for run in (lost, young)] == ["paused", "waiting"]
    assert runs.get(waiting.id).state in ("waiting", "running")


def test_who_leaves_takes_runs_and_their_pictures_along(runs, lab):
    own, shared = (upload_path(runs.home, name) for name in ("own", "shared"))
    for path in (own, shared):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    fields = {"recipe": "tiny", "family": "vae", "title": "t", "state": "paused"}
    for name in ("own", "shared"):
        runs.create(owner="anna", data=f"upload:{name}", **fields)
    stays = runs.create(owner="ben", data="upload:shared", **fields)
    lab.leave("anna")
    assert [run.id for run in runs.list()] == [stays.id]
    assert (own.exists(), shared.exists()) == (False, True)


def test_runs_of_strangers_go_with_time(runs, lab):
    old, new = (runs.create(recipe="tiny", family="vae", title="t", state="paused") for _ in range(2))
    runs.update(old.id, updated=1.0)
    lab.tidy(2.0)
    assert [run.id for run in runs.list()] == [new.id]
