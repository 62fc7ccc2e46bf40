"""The address the studio listens on."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from apps import serve
from apps.serve import Front, listen, reply
from studio.config import Config
from studio.errors import Unsupported


@pytest.fixture
def config(tmp_path):
    return Config(home=tmp_path / "home", cache=tmp_path / "cache", host="127.0.0.1", port=0)


def test_an_answer_is_sent_at_once(config):
    """With Nagle's algorithm on, every answer would wait 40 ms for the browser's acknowledgement."""
    at_once = []

    async def met(reader, writer):
        at_once.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def visit():
        listener = listen(config)
        async with await asyncio.start_server(met, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            await reader.read()
            writer.close()

    run_elsewhere(visit())
    assert at_once == [1]


def test_a_taken_address_is_refused_with_what_to_do(config):
    with listen(config) as first:
        taken = config.model_copy(update={"port": first.getsockname()[1]})
        with pytest.raises(Unsupported, match="cannot be used") as caught:
            listen(taken)
    assert "--port" in caught.value.hint


def test_who_asks_while_the_studio_starts_waits_for_the_answer():
    async def check():
        front, sent = Front(), []

        async def app(scope, receive, send):
            await reply(send, b"application/json", b"{}")

        app.router = SimpleNamespace(lifespan_context=lambda app: nullcontext_async())

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/v1/generate"}
        asking = asyncio.create_task(front(scope, None, send))
        await asyncio.sleep(0.05)
        assert sent == []
        await front.adopt(app)
        await asking
        assert sent[0]["status"] == 200

    run_elsewhere(check())


def test_a_start_that_takes_too_long_is_said_with_when_to_come_back(monkeypatch):
    monkeypatch.setattr(serve, "READY_S", 0.01)
    sent = []

    async def send(message):
        sent.append(message)

    run_elsewhere(Front()({"type": "http", "method": "GET", "path": "/api/v1/models"}, None, send))
    assert sent[0]["status"] == 503
    assert b"retry-after" in dict(sent[0]["headers"])


@asynccontextmanager
async def nullcontext_async():
    yield


def run_elsewhere(work):
    with ThreadPoolExecutor(1) as elsewhere:  # a browser of other tests keeps a loop in this thread
        return elsewhere.submit(asyncio.run, work).result()
