"""The studio on a disk that is full for a while: python -m tests.bench.full_disk [FOLDER]

For every kind of write: the disk is filled, the write is refused in words, the disk is freed, the same write works,
and what was there before is as it was. Then jobs of both lanes end while the disk is full. Without a folder a small
tmpfs is mounted, which needs the right to do so. Prints one JSON object: what each kind did.
"""

from __future__ import annotations

import argparse
import errno
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from safetensors.numpy import save_file

from studio.cards import Card
from studio.compress.verdicts import Choice
from studio.config import Config
from studio.engines.base import ENGINES, EngineSpec, Result
from studio.errors import StudioError
from studio.limits import LIMITS, Limits
from studio.processes import own_mark
from studio.studio import Studio
from studio.tasks import Generate, Train
from tests.fakes import DEVICE, paced_card

PICTURE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)


class Bench:
    """A studio with a run, a picture and a file to import, and how each kind of write is done."""

    def __init__(self, home: Path, elsewhere: Path) -> None:
        config = Config(home=home, cache=home / "cache", models=elsewhere / "models", prewarm=False, memory_mb=1000)
        self.studio = Studio(config, DEVICE)
        self.studio.store._cards["paced"] = paced_card()
        self.run = self.studio.runs.create(recipe="r", family="vae", title="t", state="paused")
        self.training = Train(recipe="r", run=self.run.id, steps=50)
        self.file = elsewhere / "sam.safetensors"
        tensors = {
            "image_encoder.patch_embed.proj.weight": np.zeros((768, 3, 16, 16), np.float32),
            "prompt_encoder.point.weight": np.zeros(4, np.float32),
            "mask_decoder.iou_token.weight": np.zeros(4, np.float32),
        }
        save_file(tensors, self.file)
        self._seed = 0

    def picture(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        self._seed += 1
        return np.random.default_rng(self._seed).integers(0, 256, (200, 200, 3), dtype=np.uint8)

    def import_file(self) -> Card:
        return self.studio.store.add(self.file)

    @property
    def writes(self) -> Mapping[str, Callable[[], Any]]:
        studio = self.studio
        return {
            "job": lambda: studio.jobs.submit(Generate(prompt="x" * 2000, seed=1), "paced"),
            "upload": lambda: studio.library.add_image(self.picture(), "x"),
            "mask": lambda: studio.library.add_mask(self.picture()[..., 0] > 9),
            "result": lambda: studio.library.add(Generate(seed=1), "paced", "", Result(images=(self.picture(),))),
            "run": lambda: studio.runs.update(self.run.id, phase="x" * 9000),
            "new run": lambda: studio.runs.create(recipe="r", family="vae", title="t" * 9000),
            "import": self.import_file,
            "setting": lambda: studio.bench.verdicts.put("paced", Choice("torch", "fp32", "f", "x" * 9000, {})),
            "measurement": lambda: studio.bench.comparisons.put(
                "paced", {"card": "paced", "runtime": "torch", "precision": "fp32"}, pictures=[PICTURE]
            ),
        }


def refusals(bench: Bench, fill: Callable[[], None], free: Callable[[], None]) -> dict[str, str]:
    """What each write said on the full disk, after it was seen to work again."""
    said = {}
    for name, write in bench.writes.items():
        fill()
        try:
            write()
            said[name] = "went through"  # it found a page that was free already
        except StudioError as error:
            said[name] = type(error).__name__
        finally:
            free()
        write()
    return said


def ends(bench: Bench, fill: Callable[[], None], free: Callable[[], None]) -> dict[str, str]:
    """How a job of each lane, during which the disk was full, and the next one ended."""
    studio, found = bench.studio, {}
    studio.start()
    studio.runs.update(bench.run.id, state="running", worker=own_mark())  # its trainer lives on after the job
    jobs = {
        "work": lambda: studio.submit("paced", {"prompt": "slow", "steps": 20}),
        "training": lambda: studio.jobs.submit(bench.training, "paced"),
    }
    for lane, submit in jobs.items():
        first = submit()
        while studio.jobs.get(first.id).state == "queued":
            time.sleep(0.02)
        fill()
        *_, _ = studio.jobs.watch(first.id)
        time.sleep(1.5)
        free()
        *_, last = studio.jobs.watch(submit().id)
        found[lane] = f"{studio.jobs.get(first.id).state}, then {last.state}"
    return {**found, "run": studio.runs.get(bench.run.id).state}


@contextmanager
def small_disk() -> Iterator[Path]:
    """A tmpfs of 160 MB, more than stays free. Raises CalledProcessError where that is not allowed."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> None:
    """Takes the last byte of a disk."""
    with (disk / "ballast").open("wb", buffering=0) as out:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    out.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, help="a folder on a small disk")
    asked = parser.parse_args()
    ENGINES["paced"] = EngineSpec("tests.fakes:PacedEngine", heavy=False)
    place = nullcontext(asked.folder) if asked.folder is not None else small_disk()
    with patch.dict(LIMITS, local=Limits(floor=0)), tempfile.TemporaryDirectory() as elsewhere, place as disk:
        (Path(elsewhere) / "models").mkdir()
        bench = Bench(disk / "home", Path(elsewhere))
        ways = (partial(fill, disk), (disk / "ballast").unlink)
        found = {"refused": refusals(bench, *ways), "lanes": ends(bench, *ways)}
        bench.studio.close()
        left = [path.name for path in (disk / "home").rglob("*.part")]
    print(json.dumps({**found, "left over": left}))  # noqa: T201


if __name__ == "__main__":
    main()
