import os
import signal
import time

import pytest

from studio import worker as module
from studio.engines.base import ENGINES, EngineSpec
from studio.errors import Cancelled, StudioError, Unsupported, WorkerDied
from studio.tasks import Generate
from studio.worker import Worker
from tests.fakes import DEVICE, paced_card


@pytest.fixture(autouse=True)
def paced(monkeypatch):
    monkeypatch.setitem(ENGINES, "paced", EngineSpec("tests.fakes:PacedEngine", heavy=False))


@pytest.fixture
def start(tmp_path):
    started = []

    def start(**options):
        worker = Worker(paced_card(**options), tmp_path, DEVICE, tmp_path, warm=False)
        started.append(worker)
        worker.load()
        return worker

    yield start
    for worker in started:
        worker.close()


def run(worker, prompt, *, cancelled=lambda: False, steps=4):
    events = []
    task = Generate(prompt=prompt, seed=7, steps=steps, width=64, height=64)
    result = worker.run(task, {}, lambda kind, values: events.append((kind, values)), cancelled)
    return result, events


def test_a_run_reports_and_returns(start):
    worker = start()
    result, events = run(worker, "anything")
    assert [values[:2] for kind, values in events if kind == "progress"] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert [values[0].shape for kind, values in events if kind == "preview"] == [(16, 16, 3)]
    assert (result.images[0] == run(worker, "anything")[0].images[0]).all()
    assert worker.memory > 2**20


def test_an_engine_error_crosses_with_its_words_and_the_worker_lives(start):
    worker = start()
    with pytest.raises(Unsupported) as caught:
        run(worker, "refuse")
    assert caught.value.hint == "Do something else."
    with pytest.raises(StudioError, match="an ordinary bug"):
        run(worker, "crash")
    assert run(worker, "fine")[0].images


def test_a_loading_error_is_the_engines_own(tmp_path):
    worker = Worker(paced_card(broken=True), tmp_path, DEVICE, tmp_path, warm=False)
    with pytest.raises(Unsupported, match="cannot be loaded"):
        worker.load()
    worker.close()


def test_an_engine_nobody_has_is_said_before_anything_starts(tmp_path):
    card = paced_card().model_copy(update={"engine": "hovercraft"})
    with pytest.raises(Unsupported, match="hovercraft"):
        Worker(card, tmp_path, DEVICE, tmp_path, warm=False)


def test_a_killed_worker_is_told_in_words(start):
    with pytest.raises(WorkerDied, match="ended by the system") as caught:
        run(start(), "die")
    assert "memory" in caught.value.hint


def test_cancel_stops_within_a_step_and_the_worker_stays(start):
    worker = start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run(worker, "slow", steps=150, cancelled=lambda: time.monotonic() - began > 0.3)
    assert time.monotonic() - began < 1
    assert worker.alive
    assert run(worker, "fine")[0].images


def test_a_run_that_does_not_listen_is_ended(start, monkeypatch):
    monkeypatch.setattr(module, "GRACE_S", 0.3)
    worker = start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run(worker, "deaf", cancelled=lambda: time.monotonic() - began > 0.2)
    assert time.monotonic() - began < 3
    assert not worker.alive


def test_close_returns_the_memory(start):
    worker = start(megabytes=80)
    assert module.memory_of(worker.pid) > 80 * 2**20
    pid = worker.pid
    worker.close()
    assert module.memory_of(pid) == 0


def test_ctrl_c_in_the_terminal_is_for_the_parent(start):
    worker = start()
    os.kill(worker.pid, signal.SIGINT)
    assert run(worker, "fine")[0].images


def test_memory_is_looked_up_once_a_second_at_most(monkeypatch):
    asked, clock = [], [100.0]
    monkeypatch.setattr(module, "memory_of", lambda pid: asked.append(pid) or 1000 * len(asked))
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    taken = module.Taken()
    assert [taken(), taken()] == [1000, 1000]
    clock[0] += 2
    assert taken() == 2000
    assert asked == [os.getpid()] * 2
