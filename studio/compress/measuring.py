"""One variant, measured in a fresh process:

    python -m studio.compress.measuring SPEC.json

SPEC holds "card" (its options say which networks to run), "folder", "engine", "samples" (how many are compared), "own"
(the user's pictures), "out" (a folder for what it makes), "asked" (the folder of the variant that all are compared
with, "" for that one itself) and "cores". Each answer is a JSON object on a line of stdout,
with the peak so far: one once loaded and run, then one for each line that comes in, "compare" (what it makes of the
samples is in `out`) or "run" (timed); any other line ends it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from studio.cards import Card
from studio.compress import samples
from studio.compress.conversion import Calls
from studio.compress.samples import Sample
from studio.device import probe
from studio.engines.base import ENGINES, Painter, Result
from studio.errors import StudioError
from studio.intake.child import fail
from studio.worker import memory_of, prepare_environment

MB = 2**20
STEPS = 3  # of a painting, that variants are compared at one by one
STEPPED = 4  # paintings of which
SHOWN = 4  # samples that pictures are kept of
SHOWN_SIDE = 768  # px, at most, of a picture that boxes or masks are drawn on
SURE = 0.25  # score of boxes that are drawn: what Detect shows by itself


def peak_mb() -> float:
    """Most memory this process ever held, MB; its present size where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float(psutil.Process().memory_info().rss / MB)


class Questions:
    """What a painter's UNet was asked on the way to a picture, in order: each {"sample", "timestep", "text"}."""

    def __init__(self) -> None:
        self._all: list[Mapping[str, NDArray[np.float32]]] = []

    def __call__(self, feed: Mapping[str, NDArray[np.float32]]) -> None:
        self._all.append(feed)

    def some(self) -> dict[str, NDArray[np.float32]]:
        """STEPS of them, spread evenly from noise to picture: "0.sample", "0.timestep", ..."""
        chosen = [self._all[len(self._all) * k // STEPS] for k in range(STEPS)] if self._all else []
        return {f"{k}.{name}": array for k, feed in enumerate(chosen) for name, array in feed.items()}


def keep(
    sample: Sample, result: Result, file: Path, *, is_shown: bool, steps: NDArray[np.float32] | None = None
) -> None:
    """Writes down what a run made (a picture, boxes, or the best mask), what would have been right, and a picture of
    it to look at."""
    data = result.data
    arrays: dict[str, Any] = {}
    if result.images:
        arrays["image"] = result.images[0]
    if "labels" in data:
        arrays |= {
            "boxes": np.array(data["boxes"], np.float32).reshape(-1, 4),
            "scores": np.array(data["scores"], np.float32),
            "labels": np.array(data["labels"], str),
        }
    if result.masks:
        arrays["mask"] = result.masks[0]
    if sample.truth is not None:
        arrays |= {"true_boxes": sample.truth.boxes, "true_labels": np.array(sample.truth.labels, str)}
    if sample.mask is not None:
        arrays["true_mask"] = sample.mask
    if sample.thing:
        arrays["thing"] = np.array(sample.thing)
    if steps is not None:
        arrays["steps"] = steps
    if is_shown:
        arrays["shown"] = picture_of(sample, result)
    np.savez(file, **arrays)


def picture_of(sample: Sample, result: Result) -> NDArray[np.uint8]:
    """The picture that was made, or the sample with its boxes or its mask drawn, uint8 (H, W, 3)."""
    if result.images:
        return result.images[0]
    from studio.ops import detections, masks  # not above: what they import would count as the model's memory

    picture = next(iter(sample.assets.values()))
    if result.masks:
        return _small(masks.draw(picture, result.masks[:1]))
    sure = [number for number, score in enumerate(result.data["scores"]) if score >= SURE]
    chosen = {name: [result.data[name][number] for number in sure] for name in ("boxes", "scores", "labels")}
    return _small(detections.draw(picture, chosen))


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = SHOWN_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    import cv2

    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


class Measuring:
    """An engine and the samples it is asked.

    Args:
        spec: see the module.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        here = probe("cpu")
        device = replace(here, cores=int(spec["cores"]))
        card, folder = Card.model_validate(spec["card"]), Path(spec["folder"])
        own = [Path(name) for name in spec["own"]]
        self._out = Path(spec["out"])
        self._asked = Path(spec["asked"] or spec["out"])
        self._samples = samples.for_card(card, folder, int(spec["samples"]), own, first=1000)
        started = time.perf_counter()
        module, _, kind = ENGINES[spec["engine"]].target.partition(":")
        self._engine = getattr(importlib.import_module(module), kind)(card, folder, device)
        self._loaded = time.perf_counter() - started
        self._resident = memory_of(psutil.Process().pid) / MB
        self._count = 0

    def first(self) -> dict[str, float]:
        """What loading took, and the first run."""
        return {"load_s": self._loaded, "resident_mb": self._resident, "first_ms": self.run()["ms"]}

    def run(self) -> dict[str, float]:
        """One timed run, with a cache of its own: an embedding that is there already would be timed as none."""
        _forget(self._engine)
        self._count += 1
        begin = time.perf_counter()
        self._ask(self._samples[0], self._out / f"cache-{self._count}")
        return {"ms": 1000 * (time.perf_counter() - begin)}

    def compare(self) -> dict[str, float]:
        """What it makes of all samples, written down."""
        for number, sample in enumerate(self._samples):
            file = self._asked / f"asked-{number:03}.npz"
            questions = Questions()
            if isinstance(self._engine, Painter) and self._asked == self._out and number < STEPPED:
                self._engine.on_question = questions
            result = self._ask(sample, self._out / "cache-compare")
            if asked := questions.some():
                np.savez(file, **asked)  # type: ignore[arg-type]
            steps = self._steps(file) if file.is_file() else None
            keep(sample, result, self._out / f"{number:03}.npz", is_shown=number < SHOWN, steps=steps)
        return {}

    def _steps(self, file: Path) -> NDArray[np.float32] | None:
        """The UNet's answers to what the reference's was asked, (STEPS, ...)."""
        if not isinstance(self._engine, Painter):
            return None
        self._engine.on_question = None
        with np.load(file, allow_pickle=False) as asked:
            feeds = [{name: asked[f"{k}.{name}"] for name in ("sample", "timestep", "text")} for k in range(STEPS)]
        return np.stack([self._engine.answer(feed) for feed in feeds])

    def _ask(self, sample: Sample, cache: Path) -> Result:
        found: Result = self._engine.run(sample.task, Calls(sample.assets, cache))
        return found


def main(argv: list[str]) -> int:
    prepare_environment()

    def say(numbers: dict[str, float]) -> None:
        sys.stdout.write(json.dumps({**numbers, "peak_mb": peak_mb()}) + "\n")
        sys.stdout.flush()

    try:
        measuring = Measuring(json.loads(Path(argv[0]).read_text(encoding="utf-8")))
        orders: dict[str, Callable[[], dict[str, float]]] = {"run": measuring.run, "compare": measuring.compare}
        say(measuring.first())
        for line in sys.stdin:
            if line.strip() not in orders:
                break
            say(orders[line.strip()]())
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
