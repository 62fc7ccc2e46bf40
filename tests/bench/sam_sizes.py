"""Seconds and memory of the SAM engine with random weights of the real size, run by hand:

    python -m tests.bench.sam_sizes [starter vit_b mobile ...] [--everything]

Per network one JSON line: seconds to load, for the first click (picture encoded), for more (decoder only; CPU seconds
beside them, which a busy machine does not change) and for a new engine's first (embedding from disk), and the highest
resident memory in MB after the clicks. Each network runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PICTURE = "a" * 64
HEIGHT, WIDTH = 640, 960


def measure(name: str, everything: bool) -> dict[str, object]:
    """Makes the weights in a child, so that only loading and running counts here."""
    from studio.cards import Card, Source
    from studio.device import probe
    from studio.engines.sam import SamEngine
    from studio.tasks import Segment
    from tests.fakes import FakeReport

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        subprocess.run([sys.executable, "-m", "tests.bench.sam_sizes", "--make", name, place], check=True)
        card = Card(
            id="random-sam",
            title="Random SAM",
            tasks=("segment",),
            engine="sam",
            licence="Apache-2.0",
            source=Source(kind="none"),
            options={"architecture": name, "min_score": -1e9, "min_stability": 0.0},
        )
        image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        report = FakeReport({PICTURE: image}, folder / "cache")
        click = Segment(image=PICTURE, points=((400, 300, 1),))
        start = time.perf_counter()
        engine = SamEngine(card, folder, probe("cpu"))
        facts: dict[str, object] = {"network": name, "load_s": round(time.perf_counter() - start, 2)}
        facts["first_click"] = engine.run(click, report).data["seconds"]
        facts["more_clicks_s"] = [engine.run(click, report).data["seconds"]["decode"] for _ in range(5)]
        start = time.process_time()
        engine.run(click, report)
        facts["click_cpu_s"] = round(time.process_time() - start, 3)
        facts["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        if everything:
            result = engine.run(Segment(image=PICTURE, everything=True, points_per_side=16), report)
            facts["everything_s"], facts["segments"] = result.data["seconds"]["decode"], len(result.masks)
        facts["weights_mb"] = round((folder / "model.safetensors").stat().st_size / 2**20, 1)
        engine.close()
        facts["from_disk"] = SamEngine(card, folder, probe("cpu")).run(click, report).data["seconds"]
        return facts


def make(name: str, folder: Path) -> None:
    """Random weights of the published layout in `folder`."""
    from safetensors.torch import save_file

    from studio.nets.sam import CONFIGS, build_sam

    save_file(build_sam(CONFIGS[name]).state_dict(), folder / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["starter", "vit_b"])
    parser.add_argument("--everything", action="store_true")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.names[0], Path(options.names[1]))
    elif options.here:
        sys.stdout.write(json.dumps(measure(options.names[0], options.everything)) + "\n")
    else:
        extra = ["--everything"] * options.everything
        for name in options.names:
            subprocess.run([sys.executable, "-m", "tests.bench.sam_sizes", "--here", name, *extra], check=True)


if __name__ == "__main__":
    main()
