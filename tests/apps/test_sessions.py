"""What an open page leaves in the studio's process, and what its two routes take."""

import asyncio
import json
import tracemalloc

import gradio as gr
import pytest
from starlette.testclient import TestClient

from apps import sessions
from apps.guard import Guard
from apps.serve import create_app, quiet_gradio
from apps.sessions import Session, Sessions, Visits
from tests.apps.fakes import fake_studio
from tests.apps.test_serve import run_elsewhere


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    made = fake_studio(tmp_path_factory.mktemp("sessions"), mode="space")
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(studio):
    quiet_gradio(studio.config)
    return create_app(studio)


@pytest.fixture(scope="module")
def gradio(app):
    return app.routes[-1].app


@pytest.fixture
def client(app, studio):
    return TestClient(Guard(app, studio.config), "http://localhost", raise_server_exceptions=False)


def callback(gradio, name):
    """Number and first values of the callback of that event of a page's load."""
    number, fn = next((k, fn) for k, fn in gradio.get_blocks().fns.items() if any(t[1] == name for t in fn.targets))
    return number, [getattr(block, "value", None) for block in fn.inputs]


def call(client, gradio, **changes):
    number, values = callback(gradio, "load")
    body = {"fn_index": number, "data": values, "session_hash": "abc123", "event_data": None, **changes}
    return client.post("/gradio_api/run/predict", content=json.dumps(body))


def test_a_page_is_answered_and_costs_only_what_it_changed(client, gradio):
    assert call(client, gradio).status_code == 200
    session = gradio.state_holder.session_data["abc123"]
    assert isinstance(session, Session)
    assert len(session.blocks_config.blocks.maps[0]) <= 3, "only the control whose choices the callback set"
    assert session.config_values == {}
    assert session.blocks_config.fns is gradio.get_blocks().default_config.fns


def test_sessions_are_bounded_and_end_with_the_visit(gradio):
    held = Sessions(gradio.get_blocks())
    for k in range(sessions.MOST + 50):
        held[f"page{k}"]
    assert len(held.session_data) == sessions.MOST
    held["x" * 2_000_000]
    assert len(held.session_data) == sessions.MOST, "no page has such a name"


def test_a_page_takes_kilobytes(gradio):
    held = Sessions(gradio.get_blocks())
    changed = gr.Dropdown(["a", "b"], render=False)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for k in range(100):
        held[f"page{k}"][changed._id] = changed
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 100 < 10_000, "Gradio's own takes 420,000"


@pytest.mark.parametrize(
    "changes",
    [
        {"fn_index": 10**6},
        {"fn_index": -1},
        {"fn_index": None},
        {"data": []},
        {"data": {"a": 1}},
        {"data": [[{"no": "list"}], {}, 1]},
        {"session_hash": "../" * 9},
        {"session_hash": "x" * 1000},
        {"data": [float("nan")]},
        {"data": ["\ud800"]},
        {"trigger_id": "x"},
    ],
)
def test_a_call_no_page_would_make_is_refused(client, gradio, changes):
    answer = call(client, gradio, **changes)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]


def test_a_value_that_a_control_does_not_take_is_refused(client, gradio):
    number, fn = next(
        (k, fn) for k, fn in gradio.get_blocks().fns.items() if fn.inputs and isinstance(fn.inputs[0], gr.Dropdown)
    )
    values = [["not", "a", "choice"], *[getattr(block, "value", None) for block in fn.inputs[1:]]]
    assert call(client, gradio, fn_index=number, data=values).status_code == 422


@pytest.mark.parametrize(
    "path",
    ["queue/join", "queue/data", "cancel", "reset", "run/other", "call/x", "api/predict", f"heartbeat/{33 * 'x'}"],
)
def test_the_rest_of_gradio_is_closed(client, path):
    assert client.post(f"/gradio_api/{path}", json={}).status_code in (404, 405)


def test_a_visit_ends_some_time_after_the_last_page_is_closed(gradio):
    async def check():
        left = []
        visits = Visits(Sessions(gradio.get_blocks()), (left.append, 0.15))
        first, second = visits._beats("one", "me"), visits._beats("two", "me")
        await anext(first), await anext(second)
        await first.aclose()
        await asyncio.sleep(0.3)
        assert left == [], "another page is open"
        await second.aclose()
        again = visits._beats("three", "me")
        await anext(again)
        await asyncio.sleep(0.3)
        assert left == [], "they came back"
        await again.aclose()
        for _ in range(100):
            if left:
                break
            await asyncio.sleep(0.05)
        assert left == ["me"]

    run_elsewhere(check())


def test_a_closed_pages_session_goes_unless_it_is_back(gradio, monkeypatch):
    async def check():
        held = Sessions(gradio.get_blocks())
        held["one"], held["two"]
        visits = Visits(held, None)
        pages = [visits._beats(name, "local") for name in ("one", "two")]
        for beats in pages:
            await anext(beats)
            await beats.aclose()
        back = visits._beats("two", "local")
        await anext(back)
        held.delete_all_expired_state()
        assert set(held.session_data) == {"one", "two"}, "a page that lost its connection may be back soon"
        monkeypatch.setattr(sessions, "AGAIN_S", 0.0)
        held.delete_all_expired_state()
        assert set(held.session_data) == {"two"}
        await back.aclose()

    run_elsewhere(check())
