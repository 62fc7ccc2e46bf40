import subprocess
import sys
import threading
import time

import psutil
import pytest

from studio.errors import Cancelled, DiskFull, QueueFull, Unsupported
from studio.jobs import Jobs
from studio.processes import is_alive
from studio.tasks import Generate, Train
from tests.fakes import FullDisk

TASK = Generate(prompt="x", seed=1)


class Work:
    """An `execute` that waits until it is released."""

    def __init__(self):
        self.release = threading.Event()
        self.started = threading.Event()
        self.ran = []

    def __call__(self, job, live):
        name = getattr(job.task, "prompt", job.task.kind)
        self.ran.append(name)
        self.started.set()
        for step in range(1000):
            live.progress(step, 1000, "step")
            if live.cancelled.is_set():
                raise Cancelled
            if self.release.wait(0.01):
                break
        return "artifact-" + name


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


@pytest.mark.parametrize("task", [TASK, Train(recipe="vae", run="run-1", steps=1)], ids=["work", "training"])
def test_a_disk_that_is_full_for_a_while_costs_no_job_and_no_lane(jobs, work, monkeypatch, task):
    disk = FullDisk(monkeypatch)
    running, waiting = jobs.submit(task, "card"), jobs.submit(task, "card")
    assert work.started.wait(5)
    disk.fill()
    work.release.set()
    assert finish(jobs, running).state == "done"  # for all who ask, though it is nowhere written yet
    with pytest.raises(DiskFull):
        jobs.submit(task, "card")
    assert jobs.get(waiting.id).state == "queued"
    disk.free()
    assert finish(jobs, waiting).state == "done"
    assert [job.state for job in jobs.history()] == ["done", "done"]
    again = Jobs(jobs._db._file.parent, work)  # what another start of the studio reads
    assert [job.state for job in again.history()] == ["done", "done"]
    assert finish(jobs, jobs.submit(task, "card")).state == "done"


def test_a_waiting_job_is_cancelled_on_a_full_disk_too(jobs, work, monkeypatch):
    disk = FullDisk(monkeypatch)
    jobs.submit(TASK, "card")
    work.started.wait(5)
    waiting = jobs.submit(Generate(prompt="never"), "card")
    disk.fill()
    jobs.cancel(waiting.id)
    assert jobs.get(waiting.id).state == "cancelled"
    disk.free()
    work.release.set()
    assert finish(jobs, jobs.submit(Generate(prompt="next"), "card")).state == "done"
    assert work.ran == ["x", "next"]


def test_the_end_of_a_job_is_told_once_it_could_be_written_down(tmp_path, work):
    told = []

    def on_end(job):
        told.append(job.state)
        if len(told) < 3:
            raise DiskFull("The disk is full.")

    work.release.set()
    jobs = Jobs(tmp_path, work, on_end=on_end)
    jobs.start()
    job = jobs.submit(TASK, "card")
    assert finish(jobs, job).state == "done"
    end = time.monotonic() + 20
    while len(told) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    assert told == ["done"] * 3
    jobs.close()


def test_a_bug_in_the_queue_itself_does_not_end_its_lane(jobs, work, monkeypatch):
    work.release.set()
    queues, broken = jobs._queues, [True]
    monkeypatch.setattr(jobs, "_queues", lambda: 1 / 0 if broken else queues())
    time.sleep(0.7)  # it stumbles at least once
    broken.clear()
    assert finish(jobs, jobs.submit(TASK, "card")).state == "done"


def test_a_zombie_is_dead(tmp_path, work):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = f"{child.pid}:{psutil.Process(child.pid).create_time():.2f}"
    assert is_alive(mark)
    dead = Jobs(tmp_path, work)
    dead._app = mark
    running, waiting = dead.submit(Generate(prompt="running"), "card"), dead.submit(Generate(prompt="waiting"), "card")
    with dead._db.transaction() as db:
        db.execute("UPDATE job SET state = 'running', started = 1 WHERE id = ?", (running.id,))
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:  # nobody has waited for it
        time.sleep(0.01)
    work.release.set()
    jobs = Jobs(tmp_path, work)
    jobs.start()
    try:
        assert jobs.get(running.id).state == "interrupted"
        assert finish(jobs, waiting).state == "done"
    finally:
        jobs.close()
        child.wait()


def test_owners_take_turns(tmp_path, work):
    jobs = Jobs(tmp_path, work)
    jobs.start()
    first = jobs.submit(Generate(prompt="a1"), "card", owner="a")
    work.started.wait(5)
    rest = [jobs.submit(Generate(prompt=name), "card", owner=name[0]) for name in ("a2", "a3", "b1", "b2")]
    assert [(job.task.prompt, job.place) for job in jobs.active()] == [
        ("a1", 0), ("b1", 1), ("a2", 2), ("b2", 3), ("a3", 4),
    ]  # fmt: skip
    work.release.set()
    for job in (first, *rest):
        finish(jobs, job)
    assert work.ran == ["a1", "b1", "a2", "b2", "a3"]
    jobs.close()


def test_an_owner_has_a_share_and_a_full_queue_still_takes_the_next_visitor(tmp_path, work):
    jobs = Jobs(tmp_path, work, limit=3, each=3)
    jobs.start()
    jobs.submit(TASK, "card", owner="greedy")
    work.started.wait(5)
    for _ in range(2):
        jobs.submit(TASK, "card", owner="greedy")
    with pytest.raises(QueueFull, match="3 of your jobs"):
        jobs.submit(TASK, "card", owner="greedy")
    jobs.submit(TASK, "card", owner="other")
    assert jobs.submit(TASK, "card", owner="next").place == 2
    with pytest.raises(QueueFull, match="4 jobs are waiting"):
        jobs.submit(TASK, "card", owner="other")
    work.release.set()
    jobs.close()


def test_a_share_holds_when_all_ask_at_once(tmp_path, work):
    jobs = Jobs(tmp_path, work, limit=16, each=2)
    results = []

    def ask():
        try:
            results.append(jobs.submit(TASK, "card", owner="one").state)
        except QueueFull:
            results.append("refused")

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["queued"] * 2 + ["refused"] * 10


def test_who_leaves_takes_the_jobs_along(jobs, work):
    jobs.submit(TASK, "card", owner="visitor")
    work.started.wait(5)
    jobs.submit(TASK, "card", owner="visitor")
    stays = jobs.submit(TASK, "card", owner="other")
    assert jobs.leave("visitor")
    jobs.forget(owner="visitor")
    work.release.set()
    assert finish(jobs, stays).state == "done"
    assert [job.owner for job in jobs.history()] == ["other"]


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
