"""Whether anything confirmed is lost when the studio is killed: python -m tests.bench.kills [--kills 200] [--seed 0]

A process takes jobs, finishes them, keeps results, uploads and runs, and says each time what it was told is done. It
is ended with SIGKILL at a random moment and begun anew on the same home. After each kill another process reads the
home and looks for all that was ever confirmed. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from studio import files
from studio.engines.base import Result
from studio.jobs import Jobs, Snapshot
from studio.library import Library
from studio.tasks import Generate
from studio.train.runs import Runs

KINDS = ("queued", "done", "upload", "run")


def live(home: Path, say: Callable[..., None], seed: int) -> None:
    """Works until it is killed. `say(kind, id, value)` is called with what is confirmed."""
    library, runs = Library(home), Runs(home)
    files.sweep(home)

    def execute(job: Snapshot, _: Any) -> str:
        assert isinstance(job.task, Generate)
        result = Result(images=(noise(job.task.seed or 0),), data={"infotext": ["x"]})
        return library.add(job.task, job.card, "", result).id

    jobs = Jobs(home, execute, limit=1000)
    jobs.start()

    def ask(number: int) -> None:
        rng = random.Random(seed * 100 + number)
        while True:
            job = jobs.submit(Generate(prompt="x", seed=rng.randrange(2**32)), "card", owner=f"owner-{number}")
            say("queued", job.id, "")
            *_, last = jobs.watch(job.id, every=0.01)
            say(last.state, job.id, last.artifact)
            say("upload", library.add_image(noise(rng.randrange(2**32)), "x", owner=f"owner-{number}").id, "")

    def train() -> None:
        run = runs.create(recipe="r", family="vae", title="t")
        for step in range(1_000_000):
            runs.update(run.id, step=step)
            say("run", run.id, step)

    for number in range(2):
        threading.Thread(target=ask, args=(number,), daemon=True).start()
    train()


def lost(home: Path, confirmed: dict[tuple[str, str], Any]) -> list[str]:
    """What of the confirmed things is not there, or is not what it was."""
    jobs, library, runs, missing = Jobs(home, lambda *_: ""), Library(home), Runs(home), []
    for (kind, id_), value in confirmed.items():
        try:
            right = {
                "queued": lambda id_, _: jobs.get(id_).state != "failed",
                "done": lambda id_, artifact: jobs.get(id_).state == "done" and _is_whole(library, artifact),
                "upload": lambda id_, _: library.pixels(id_).shape == (24, 24, 3),
                "run": lambda id_, step: runs.get(id_).state != "damaged" and runs.get(id_).step >= step,
            }[kind](id_, value)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not there
            right, kind = False, f"{kind} ({error!r})"
        if not right:
            missing.append(f"{kind} {id_}")
    return missing


def _is_whole(library: Library, id_: str) -> bool:
    artifact = library.get(id_)
    assert isinstance(artifact.task, Generate)
    return bool((library.pixels(artifact.outputs[0].id) == noise(artifact.task.seed or 0)).all())


def noise(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def kill(home: Path, kills: int, seed: int = 0, longest: float = 1.0) -> dict[str, Any]:
    """Begins and kills so many times, after at most `longest` seconds each, and says what was confirmed and lost."""
    rng = random.Random(seed)
    confirmed: dict[tuple[str, str], Any] = {}
    missing: list[str] = []
    for number in range(kills):
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(told)
            live(home, partial(_tell, tell), seed + number)
        os.close(tell)
        with os.fdopen(told, encoding="utf-8") as lines:
            first = [lines.readline()]  # it has come up
            threading.Timer(rng.uniform(0.0, longest), os.kill, (child, signal.SIGKILL)).start()
            for line in (*first, *lines):
                if line.endswith("\n"):
                    kind, id_, value = json.loads(line)
                    confirmed[kind, id_] = value
        os.waitpid(child, 0)
        missing += _in_child(lambda: lost(home, dict(list(confirmed.items())[-400:])))
    missing += _in_child(lambda: lost(home, confirmed))
    left = [str(path) for path in home.rglob("*.part")]
    _in_child(lambda: [str(files.sweep(home))])
    return {
        "kills": kills,
        "confirmed": dict(Counter(kind for kind, _ in confirmed)),
        "lost": sorted(set(missing)),
        "unfinished files before and after sweeping": [len(left), len(list(home.rglob("*.part")))],
    }


def _tell(pipe: int, *fact: Any) -> None:
    os.write(pipe, (json.dumps(fact) + "\n").encode())


def _in_child(call: Callable[[], list[str]]) -> list[str]:
    """The call's value, from a process of its own: SQLite's connections do not survive a fork."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, json.dumps(call()).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return list(json.loads(text)) if text else ["the home cannot be read"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = kill(Path(folder) / "home", asked.kills, asked.seed)
    print(json.dumps({**found, "seconds": round(time.monotonic() - began)}))  # noqa: T201


if __name__ == "__main__":
    main()
