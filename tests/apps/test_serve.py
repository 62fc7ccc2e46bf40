"""The address the studio listens on."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.serve import listen
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

    with ThreadPoolExecutor(1) as elsewhere:  # a browser of other tests keeps a loop in this thread
        elsewhere.submit(asyncio.run, visit()).result()
    assert at_once == [1]


def test_a_taken_address_is_refused_with_what_to_do(config):
    with listen(config) as first:
        taken = config.model_copy(update={"port": first.getsockname()[1]})
        with pytest.raises(Unsupported, match="cannot be used") as caught:
            listen(taken)
    assert "--port" in caught.value.hint
