import threading
import time

import pytest

from studio.errors import Cancelled, QueueFull, Unsupported
from studio.jobs import Jobs
from studio.tasks import Generate, Train

TASK = Generate(prompt="x", seed=1)


class Work:
    """An `execute` that waits until it is released."""

    def __init__(self):
        self.release = threading.Event()
        self.started = threading.Event()
        self.ran = []

    def __call__(self, job, live):
        self.ran.append(job.task.prompt)
        self.started.set()
        for step in range(1000):
            live.progress(step, 1000, "step")
            if live.cancelled.is_set():
                raise Cancelled
            if self.release.wait(0.01):
                break
        return "artifact-" + job.task.prompt


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def jobs(tmp_path, work):
    jobs = Jobs(tmp_path, work, limit=2)
    jobs.start()
    yield jobs
    work.release.set()
    jobs.close()


def finish(jobs, job):
    *_, last = jobs.watch(job.id)
    return last


def test_jobs_run_in_order_and_name_their_artifact(jobs, work):
    work.release.set()
    submitted = [jobs.submit(Generate(prompt=str(n)), "card") for n in range(2)]
    assert [finish(jobs, job).artifact for job in submitted] == ["artifact-0", "artifact-1"]
    assert work.ran == ["0", "1"]


def test_progress_is_seen_while_it_runs(jobs, work):
    job = jobs.submit(TASK, "card")
    work.started.wait(5)
    seen = next(s for s in jobs.watch(job.id) if s.step > 3)
    assert (seen.state, seen.phase, seen.total) == ("running", "step", 1000)
    assert seen.remaining > 0
    work.release.set()


def test_the_place_in_line_is_known(jobs, work):
    jobs.submit(TASK, "card")
    work.started.wait(5)
    second, third = jobs.submit(TASK, "card"), jobs.submit(TASK, "card")
    assert (jobs.get(second.id).place, jobs.get(third.id).place) == (1, 2)


def test_a_full_queue_refuses_and_keeps_what_waits(jobs, work):
    running = jobs.submit(TASK, "card")
    work.started.wait(5)
    waiting = [jobs.submit(TASK, "card") for _ in range(2)]
    with pytest.raises(QueueFull, match="2 jobs are waiting"):
        jobs.submit(TASK, "card")
    work.release.set()
    assert [finish(jobs, job).state for job in (running, *waiting)] == ["done"] * 3


def test_cancel_waiting_and_running(jobs, work):
    running = jobs.submit(TASK, "card")
    work.started.wait(5)
    waiting = jobs.submit(TASK, "card")
    jobs.cancel(waiting.id)
    assert jobs.get(waiting.id).state == "cancelled"
    before = time.monotonic()
    jobs.cancel(running.id)
    assert finish(jobs, running).state == "cancelled"
    assert time.monotonic() - before < 1
    jobs.cancel(running.id)  # a finished job stays as it is
    assert jobs.get(running.id).state == "cancelled"


def test_errors_keep_their_words_and_the_next_job_runs(tmp_path):
    def execute(job, live):
        if job.task.prompt == "refuse":
            raise Unsupported("That cannot be done.", "Do something else.")
        if job.task.prompt == "bug":
            raise ZeroDivisionError
        return "fine"

    jobs = Jobs(tmp_path, execute)
    jobs.start()
    refused, bug, fine = (finish(jobs, jobs.submit(Generate(prompt=p), "card")) for p in ("refuse", "bug", "fine"))
    jobs.close()
    assert (refused.state, refused.error, refused.hint) == ("failed", "Unsupported", "Do something else.")
    assert bug.state == "failed"
    assert "ZeroDivision" not in bug.message
    assert fine.artifact == "fine"


def test_what_a_dead_app_left_is_interrupted_or_taken_over(tmp_path, work):
    dead = Jobs(tmp_path, work)
    dead._app = "999999999:1.0"  # a process that does not exist
    running, waiting = dead.submit(Generate(prompt="running"), "card"), dead.submit(Generate(prompt="waiting"), "card")
    with dead._db.transaction() as db:
        db.execute("UPDATE job SET state = 'running', started = 1 WHERE id = ?", (running.id,))
    work.release.set()
    jobs = Jobs(tmp_path, work)
    jobs.start()
    interrupted = jobs.get(running.id)
    assert interrupted.state == "interrupted"
    assert interrupted.hint == "Run it again."
    assert finish(jobs, waiting).state == "done"
    jobs.close()


def test_two_living_apps_leave_each_other_alone(tmp_path, work):
    one = Jobs(tmp_path, work)
    one.start()
    job = one.submit(TASK, "card")
    work.started.wait(5)
    two = Jobs(tmp_path, lambda job, live: "stolen")
    two.start()
    assert one.get(job.id).state == "running"
    work.release.set()
    assert finish(one, job).artifact == "artifact-x"
    two.close()
    one.close()


def test_closing_interrupts_what_runs_and_keeps_what_waits(tmp_path, work):
    jobs = Jobs(tmp_path, work)
    jobs.start()
    running = jobs.submit(TASK, "card")
    work.started.wait(5)
    waiting = jobs.submit(TASK, "card")
    jobs.close()
    assert jobs.get(running.id).state == "interrupted"
    assert jobs.get(waiting.id).state == "queued"


def test_history_is_newest_first_and_by_owner(jobs, work):
    work.release.set()
    mine, theirs = jobs.submit(TASK, "card"), jobs.submit(TASK, "card", owner="someone")
    finish(jobs, theirs)
    assert [job.id for job in jobs.history()] == [theirs.id, mine.id]
    assert [job.id for job in jobs.history(owner="someone")] == [theirs.id]


def test_old_jobs_leave_the_history_and_live_ones_stay(jobs, work):
    work.release.set()
    done = finish(jobs, jobs.submit(TASK, "card"))
    jobs.forget(done.created)
    assert [job.id for job in jobs.history()] == [done.id]
    jobs.forget(time.time() + 1)
    assert jobs.history() == []


def test_the_assets_of_all_jobs_are_known(jobs, work):
    work.release.set()
    finish(jobs, jobs.submit(Generate(prompt="x", image="a" * 64, seed=1), "card"))
    finish(jobs, jobs.submit(Generate(prompt="y", seed=1), "card"))
    assert jobs.assets() == {"a" * 64}


def test_a_training_and_a_picture_run_side_by_side_but_not_two_trainings(tmp_path):
    running, release = [], threading.Event()

    def work(job, live):
        running.append(job.id)
        release.wait(20)
        return ""

    jobs = Jobs(tmp_path, work)
    jobs.start()
    first, second = (jobs.submit(Train(recipe="vae", run=f"run-{k}", steps=1), "trainer") for k in range(2))
    picture = jobs.submit(TASK, "card")
    end = time.monotonic() + 10
    while len(running) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert sorted(running) == sorted([first.id, picture.id])
    assert jobs.get(second.id).place == 1
    release.set()
    assert list(jobs.watch(second.id))[-1].state == "done"
    jobs.close()
