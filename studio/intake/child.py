"""Work on files that nobody vouches for, in a process with limits and without network.

    python -m studio.intake.child MEMORY SECONDS MODULE ARGUMENTS

The child says what went wrong as JSON on the last line of stderr, {"error", "message", "hint"}, and exits with 1.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.airgap import Airgap
from studio.errors import StudioError, Unsupported, by_name

ROOT = Path(__file__).resolve().parents[2]
GB = 2**30


def run(
    module: str, *arguments: str | Path, seconds: float, memory: int, tick: Callable[[], None] | None = None
) -> str:
    """Runs `python -m module` within limits and returns what it printed.

    Args:
        seconds: wall-clock limit.
        memory: limit of its address space in bytes, where the platform has one.
        tick: called four times a second; may raise, which ends the child.
    Raises: the StudioError that the child named, or Unsupported when it died.
    """
    limits = str(memory), str(int(seconds) + 1)
    command = [sys.executable, "-m", "studio.intake.child", *limits, module, *map(str, arguments)]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    env = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env)
    end = time.monotonic() + seconds
    try:
        while True:
            try:
                out, err = child.communicate(timeout=0.25)
                break
            except subprocess.TimeoutExpired:
                if tick is not None:
                    tick()
                if time.monotonic() > end:
                    raise Unsupported(
                        f"Reading the file took more than {seconds:.0f} s and was stopped.", "Use another format."
                    ) from None
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    if child.returncode != 0:
        died = Unsupported(
            "The process that read the file died; it may need more memory than an import may take.",
            "Use the .safetensors or .onnx version of this model.",
        )
        raise said(err.decode("utf-8", "replace"), died)
    return out.decode("utf-8", "replace")


def said(text: str, otherwise: StudioError) -> StudioError:
    """The error that a child wrote down on the last line of its stderr, or `otherwise` where it could not."""
    try:
        facts: Any = json.loads((text.strip().splitlines() or [""])[-1])
        return by_name(str(facts["error"]))(str(facts["message"]), str(facts["hint"]))
    except (ValueError, KeyError, TypeError):
        return otherwise


def fail(error: StudioError) -> int:
    """What a child says before it gives up; returns its exit status."""
    said = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    sys.stderr.write("\n" + json.dumps(said) + "\n")
    return 1


def _limit(memory: int, seconds: int) -> None:
    """Limits of this process: address space in bytes, seconds of work per core; no core dumps."""
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:
        return  # Windows: the parent's clock is the only limit
    wanted = {"RLIMIT_AS": memory, "RLIMIT_CPU": seconds * (os.cpu_count() or 1), "RLIMIT_CORE": 0}
    for name, value in wanted.items():
        if hasattr(resource, name):
            resource.setrlimit(getattr(resource, name), (value, value))


def main(argv: list[str]) -> None:
    memory, seconds, module, *arguments = argv
    Airgap().close()
    _limit(int(memory), int(seconds))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
