"""Bulkheads: what is asked for by one must not take what answers all."""

import asyncio
import threading
import time

import pytest
from starlette.requests import Request

from apps.turns import Bulkhead, Latest, own_artifact, own_job, own_run
from studio.errors import Cancelled, NotFound, QueueFull
from tests.apps.fakes import fake_studio
from tests.apps.test_serve import run_elsewhere


def asked_by(owner, left=None):
    """A request whose client leaves once `left` is set."""

    async def receive():
        await (left.wait() if left is not None else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": [], "state": {"owner": owner}}, receive)


def test_too_much_is_refused_at_once_and_a_place_comes_back():
    async def check():
        bulkhead = Bulkhead("questions", places=1, waiting=1, each=9)
        go = threading.Event()
        first = [asyncio.create_task(bulkhead.run(asked_by("a"), lambda _: go.wait(10))) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull, match="questions"):
            await bulkhead.run(asked_by("b"), lambda _: True)
        go.set()
        assert await asyncio.gather(*first) == [True, True]
        assert await bulkhead.run(asked_by("b"), lambda _: "answered") == "answered"

    run_elsewhere(check())


def test_one_owner_leaves_room_for_the_next():
    async def check():
        bulkhead = Bulkhead("questions", places=2, waiting=2, each=1)
        go = threading.Event()
        first = asyncio.create_task(bulkhead.run(asked_by("a"), lambda _: go.wait(10)))
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull):
            await bulkhead.run(asked_by("a"), lambda _: True)
        assert await bulkhead.run(asked_by("b"), lambda _: "answered") == "answered"
        go.set()
        await first

    run_elsewhere(check())


def test_work_ends_when_its_client_leaves_and_keeps_its_place_until_then():
    async def check():
        bulkhead = Bulkhead("questions", places=1, waiting=5, each=9)
        left, ended, stays = asyncio.Event(), threading.Event(), threading.Event()

        def work(is_cancelled):
            while not is_cancelled():
                stays.wait(0.01)
            ended.wait(10)  # the model needs a while to stop

        asking = asyncio.create_task(bulkhead.run(asked_by("a", left), work))
        await asyncio.sleep(0.05)
        left.set()
        with pytest.raises(Cancelled):
            await asking
        next_ = asyncio.create_task(bulkhead.run(asked_by("b"), lambda _: "answered"))
        await asyncio.sleep(0.1)
        assert not next_.done(), "the first is still at work"
        ended.set()
        assert await asyncio.wait_for(next_, 10) == "answered"

    run_elsewhere(check())


def test_who_leaves_while_waiting_is_never_served():
    async def check():
        bulkhead = Bulkhead("questions", places=1, waiting=5, each=9)
        go, left, served = threading.Event(), asyncio.Event(), []
        first = asyncio.create_task(bulkhead.run(asked_by("a"), lambda _: go.wait(10)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(bulkhead.run(asked_by("b", left), lambda _: served.append("b")))
        await asyncio.sleep(0.05)
        left.set()
        with pytest.raises(Cancelled):
            await second
        go.set()
        await first
        await asyncio.sleep(0.05)
        assert served == []

    run_elsewhere(check())


@pytest.mark.parametrize(("mode", "seen"), [("local", True), ("space", False), ("kiosk", False)])
def test_what_is_anothers_is_not_there(tmp_path, mode, seen):
    studio = fake_studio(tmp_path, mode=mode)
    studio.start()
    try:
        job = list(studio.run("starter", {"prompt": "a rocket"}, owner="me"))[-1]
        run = studio.runs.create(recipe="vae", family="vae", title="", owner="me")
        for find, id_ in ((own_job, job.id), (own_artifact, job.artifact), (own_run, run.id)):
            assert find(studio, id_, "me").owner == "me"
            if seen:
                assert find(studio, id_, "you").owner == "me"
            else:
                with pytest.raises(NotFound):
                    find(studio, id_, "you")
    finally:
        studio.close()


def test_who_looks_while_somebody_looks_gets_what_was_seen_before():
    go, looks = threading.Event(), []

    def look():
        looks.append(1)
        if len(looks) > 1:
            go.wait(20)
        return len(looks)

    latest = Latest(look, 0.0)
    assert latest() == 1
    slow = threading.Thread(target=latest)
    slow.start()
    while len(looks) < 2:
        time.sleep(0.01)
    assert latest() == 1
    go.set()
    slow.join()
    assert latest() == 3
