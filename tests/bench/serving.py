"""A server with a home of its own for the benches that press on it: on this machine only, ended with the bench."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]


class Served:
    """A running studio.

    Attributes:
        url: its address, without a slash at the end.
        log: what it wrote.
        process: it.
    """

    def __init__(self, folder: Path, mode: str, pace: float, module: str, root: Path = ROOT) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.log = folder, folder / "server.log"
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", module, str(folder), str(self.port), str(pace), mode]
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(command, cwd=root, stdout=log, stderr=log)
        self.process = psutil.Process(self._popen.pid)

    def wait(self, seconds: float = 180) -> None:
        """Until it is ready."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/face/ready", timeout=2).json()["ready"]:
                    return
            if self._popen.poll() is not None:
                break
            time.sleep(0.2)
        raise SystemExit(self.log.read_text(encoding="utf-8", errors="replace")[-4000:])

    def memory(self) -> float:
        """MB that the page's process alone holds."""
        return self.process.memory_full_info().uss / 2**20

    def end(self, seconds: float = 10) -> float | None:
        """Asks it to end; seconds until all its processes are gone, None where some had to be killed."""
        if self._popen.poll() is not None:
            return 0.0
        family = [self.process, *self.process.children(recursive=True)]
        began = time.monotonic()
        self._popen.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        _, alive = psutil.wait_procs(family, max(0.1, seconds - (time.monotonic() - began)))
        took = time.monotonic() - began
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        return None if alive else took


@contextlib.contextmanager
def served(
    mode: str = "space", pace: float = 0.02, module: str = "tests.apps.serve_fake", root: Path = ROOT
) -> Iterator[Served]:
    """A ready server on a free port and an empty home."""
    with tempfile.TemporaryDirectory(prefix="studio-bench-") as folder:
        server = Served(Path(folder), mode, pace, module, root)
        try:
            server.wait()
            yield server
        finally:
            server.end(3)


def page_config(text: str) -> dict[str, Any]:
    """Gradio's description of the page, out of its HTML."""
    match = re.search(r"window\.gradio_config\s*=\s*(\{.*?\});\s*</script>", text, re.S)
    if match is None:
        raise SystemExit("The page holds no configuration.")
    return dict(json.loads(match[1]))


def loads(config: dict[str, Any]) -> list[tuple[int, list[Any]]]:
    """Number and first values of each callback that a page calls when it is opened."""
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    return [
        (number, [values.get(input_) for input_ in callback["inputs"]])
        for number, callback in enumerate(config["dependencies"])
        if any(event == "load" for _, event in callback["targets"])
    ]


def raise_files(most: int = 4096) -> None:
    """A bench opens many connections."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, hard) if soft < most else soft, hard))
