"""A real browser against a real server with a fake engine. Skipped, with the reason, where there is no browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


class Server:
    """The studio in a process of its own. `pace` is seconds a step of the fake engine."""

    def __init__(self, folder: Path, pace: float, mode: str, module: str = "tests.apps.serve_fake") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.pace, self.mode, self.module = folder, pace, mode, module
        self.url = f"http://localhost:{self.port}/"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        command = [
            sys.executable,
            "-m",
            self.module,
            str(self.folder),
            str(self.port),
            str(self.pace),
            self.mode,
        ]
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        end = time.monotonic() + 180
        while time.monotonic() < end:
            try:
                if b"true" in urllib.request.urlopen(f"{self.url}face/ready", timeout=2).read():
                    return self
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.2)
        raise AssertionError("the studio did not start within three minutes")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def serve(tmp_path_factory) -> Iterator[Callable[..., Server]]:
    """Starts servers; they end with the tests."""
    servers: list[Server] = []

    def start(pace: float = 0.02, mode: str = "local", **more: str) -> Server:
        servers.append(Server(tmp_path_factory.mktemp("studio"), pace, mode, **more))
        return servers[-1].start()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def server(serve) -> Server:
    """The one most tests share: a job takes half a second, or ten where the prompt says "slow"."""
    return serve()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("STUDIO_TEST_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")
    with api.sync_playwright() as driver:
        try:
            found = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        except api.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        yield found
        found.close()


class Window:
    """A page and what it did: the hosts it asked, and what went wrong in it."""

    def __init__(self, browser: Any, url: str, width: int, height: int, scheme: str) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.context.set_default_timeout(60_000)  # a busy machine is slow, not broken
        self.url = url
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.page = self.open()

    def open(self) -> Any:
        """A new page in the same browser profile, loaded."""
        page = self.context.new_page()
        page.on(
            "request",
            lambda r: self.foreign.append(r.url) if not r.url.startswith((self.url, "data:", "blob:")) else None,
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(self.url)
        page.wait_for_selector("#generate-run button")
        self.page = page
        return page


@pytest.fixture
def window(browser, request) -> Iterator[Callable[..., Window]]:
    """Opens windows, each with a profile of its own; at the end none has asked a foreign host or failed."""
    opened: list[Window] = []

    def show(url: str = "", width: int = 1440, height: int = 900, scheme: str = "light") -> Window:
        url = url if url else request.getfixturevalue("server").url  # started only where a test needs it
        opened.append(Window(browser, url, width, height, scheme))
        return opened[-1]

    yield show
    for one in opened:
        one.context.close()
    assert [host for one in opened for host in one.foreign] == []
    assert [error for one in opened for error in one.errors] == []
