"""One variant, measured in a fresh process:

    python -m studio.compress.measuring SPEC.json

SPEC holds "card" (its options say which networks to run), "folder", "engine", "samples" (how many are compared), "own"
(the user's pictures), "out" (a folder for what it makes) and "cores". On stdout: one line once loaded, one for each
line that comes in ("run"), and after "end" one with the peak; what it made of the samples is in `out`.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from studio.cards import Card
from studio.compress import samples
from studio.compress.conversion import Calls
from studio.device import Device, probe
from studio.engines.base import ENGINES, Result
from studio.errors import StudioError
from studio.intake.child import fail
from studio.worker import memory_of, prepare_environment

MB = 2**20


def peak_mb() -> float:
    """Most memory this process ever held, MB; its present size where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float(psutil.Process().memory_info().rss / MB)


def keep(result: Result, file: Path) -> None:
    """Writes down what a run made: pictures, boxes, or the best mask."""
    data = result.data
    arrays: dict[str, Any] = {f"image{k}": image for k, image in enumerate(result.images)}
    if "labels" in data:
        arrays |= {
            "boxes": np.array(data["boxes"], np.float32).reshape(-1, 4),
            "scores": np.array(data["scores"], np.float32),
            "labels": np.array(data["labels"], str),
        }
    if result.masks:
        arrays["mask"] = result.masks[0]
    np.savez(file, **arrays)


def main(argv: list[str]) -> int:
    prepare_environment()
    say = sys.stdout
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    card, folder, out = Card.model_validate(spec["card"]), Path(spec["folder"]), Path(spec["out"])
    here = probe("cpu")
    device = Device(here.name, int(spec["cores"]), here.memory, "cpu")
    try:
        own = [Path(name) for name in spec["own"]]
        chosen = samples.for_card(card, folder, int(spec["samples"]), own, first=1000)
        started = time.perf_counter()
        module, _, kind = ENGINES[spec["engine"]].target.partition(":")
        engine = getattr(importlib.import_module(module), kind)(card, folder, device)
        loaded = time.perf_counter() - started
        resident = memory_of(psutil.Process().pid) / MB

        def run(number: int, cache: Path) -> tuple[Result, float]:
            sample = chosen[number % len(chosen)]
            begin = time.perf_counter()
            result = engine.run(sample.task, Calls(sample.assets, cache))
            return result, 1000 * (time.perf_counter() - begin)

        # A cache of its own for each timed run: an embedding that is there already would be timed as none.
        _, first = run(0, out / "cache-first")
        say.write(json.dumps({"load_s": loaded, "resident_mb": resident, "first_ms": first}) + "\n")
        say.flush()
        for count, line in enumerate(sys.stdin, 1):
            if line.strip() != "run":
                break
            _forget(engine)
            _, spent = run(0, out / f"cache-{count}")
            say.write(json.dumps({"ms": spent}) + "\n")
            say.flush()
        for number in range(len(chosen)):
            result, _ = run(number, out / "cache-last")
            keep(result, out / f"{number:03}.npz")
        say.write(json.dumps({"peak_mb": peak_mb()}) + "\n")
    except StudioError as error:
        return fail(error)
    return 0


def _forget(engine: Any) -> None:
    """Embeddings in memory would make every run but the first a click on a known picture."""
    recent = getattr(engine, "_recent", None)
    if recent is not None:
        recent.clear()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
