"""What becomes of every kind of file that people have, and of every shipped model on another machine:

    python -m tests.bench.imports [--weights FOLDER]

Two tables. Each file of the folder is imported, one of a kind where there are many, and what was taken is run once: it
runs, is kept with the reason why nothing can run it, or is refused. Each shipped model is packed, unpacked in a second
studio with a home of its own and no cards, and run there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from studio.cards import Card
from studio.config import ROOT, Config
from studio.device import probe
from studio.doctor import run_once
from studio.errors import StudioError
from studio.studio import Studio
from studio.weights import packs

MODELS = {".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".onnx", ".gguf"}


def kinds(folder: Path) -> Iterator[Path]:
    """Every model file and every diffusers folder, and one file for each other ending."""
    seen: set[str] = set()
    for path in sorted(folder.rglob("*")):
        inside = any((parent / "model_index.json").is_file() for parent in path.parents)
        if path.is_dir() and (path / "model_index.json").is_file():
            yield path
        elif path.is_file() and not inside and (path.suffix in MODELS or path.suffix not in seen):
            seen.add(path.suffix)
            yield path


def taken(studio: Studio, card: Card) -> str:
    """What became of a model that was taken in: it runs, or why not."""
    reason = studio.store.state(card).reason
    if reason:
        return reason
    found = run_once(studio, card)
    return f"{'runs' if found.ok else 'FAILS'}: {found.detail}"


def imported(studio: Studio, path: Path) -> str:
    try:
        card = studio.store.add(path)
    except StudioError as error:
        return f"refused: {error}"
    return f"{card.summary} {taken(studio, card)}"


def travelled(here: Studio, card: Card, work: Path) -> str:
    """A shipped model, packed here, unpacked and run in a studio that knows no model."""
    (work / "models").mkdir(parents=True)
    there = open_studio(work, work / "models")
    try:
        file = packs.pack(here.store, [card], work / f"{card.id}.tar")
        (found,) = packs.unpack(there.store, file)
        same = there.store.fingerprint(found) == here.store.fingerprint(card)
        there.start()
        return f"{file.stat().st_size / 1e6:5.1f} MB, {'same' if same else 'OTHER'} bytes, {taken(there, found)}"
    except StudioError as error:
        return f"FAILS: {error}"
    finally:
        there.close()


def open_studio(work: Path, models: Path) -> Studio:
    config = Config(home=work / "home", cache=work / "cache", models=models, offline=True, prewarm=False)
    return Studio(config, probe("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared" / "weights")
    weights: Path = parser.parse_args().weights
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        studio = open_studio(work / "here", ROOT / "models")
        studio.start()
        try:
            for path in kinds(weights):
                begin = time.monotonic()
                text = imported(studio, path)
                say(path.relative_to(weights).as_posix(), f"{time.monotonic() - begin:5.1f} s", text)
            for card in [card for card in studio.cards() if card.source.kind == "builtin"]:
                begin = time.monotonic()
                text = travelled(studio, card, work / card.id)
                say(card.id, f"{time.monotonic() - begin:5.1f} s", text)
        finally:
            studio.close()


def say(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
