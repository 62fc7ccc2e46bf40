"""Connections that only stay make room, and the log stays small."""

import asyncio
import logging
import socket
import threading
import time

import pytest
import uvicorn

from apps import connections
from apps.connections import Connection, Repeats
from apps.serve import Server


async def app(scope, receive, send):
    if scope["path"] == "/slow":
        await asyncio.sleep(1.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port():
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none", http=Connection))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(20)


def ask(port, path="/"):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return one.makefile("rb").read()


def is_closed(one):
    one.settimeout(20)
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def test_half_a_head_is_not_waited_for_and_an_answer_is(port, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert b"200" in ask(port, "/slow"), "a request at work may take longer"
        assert is_closed(half)


def test_the_next_visitor_gets_a_place_of_one_that_only_waits(port, monkeypatch):
    monkeypatch.setattr(connections, "most", lambda: 5)
    held = []
    for _ in range(20):
        held.append(socket.create_connection(("127.0.0.1", port)))
        time.sleep(0.01)
    assert b"200" in ask(port)
    assert is_closed(held[0])
    for one in held:
        one.close()


def test_there_are_files_left_besides_all_connections():
    resource = pytest.importorskip("resource")
    assert 2 * connections.most() <= resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_a_message_that_repeats_is_written_once():
    passes = Repeats()
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "socket.accept() out of system resource", (), None)
    other = logging.LogRecord("asyncio", logging.ERROR, "", 0, "something else", (), None)
    assert [passes.filter(record) for _ in range(3)] == [True, False, False]
    assert passes.filter(other)
