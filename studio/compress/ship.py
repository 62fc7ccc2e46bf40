"""Writes the graphs that let a shipped model run without torch. For maintainers, after a training:

    python -m studio.compress.ship CARD

Puts `graphs/<part>.onnx` (no weights in them) beside the safetensors files of a shipped card; seal the shipped files
anew afterwards. The graphs fit the weights as long as the architecture stays.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from studio.cards import Card, find, load_cards
from studio.compress import export, graphs
from studio.compress.networks import GRAPHS
from studio.config import ROOT


def ship(card: Card, folder: Path) -> dict[str, int]:
    """Exports the model in `folder` and keeps the graphs. Returns bytes by part. Raises as an export does."""
    with tempfile.TemporaryDirectory() as name:
        export.parts(card, folder, Path(name))
        return keep(Path(name), folder)


def keep(exported: Path, folder: Path) -> dict[str, int]:
    """Takes the weights out of exported networks and puts the graphs into the model's folder. Bytes by part."""
    shutil.rmtree(folder / GRAPHS, ignore_errors=True)
    (folder / GRAPHS).mkdir()
    sizes = {}
    for file in sorted(exported.glob("*.onnx")):
        model = graphs.read(file)
        taken = {name for name in graphs.floats(model) if name.startswith(graphs.PREFIX)}  # even a bias of one number
        out = folder / GRAPHS / file.name
        graphs.save(graphs.strip(model, taken), out)
        sizes[file.stem] = out.stat().st_size
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card")
    card = find(load_cards(ROOT / "models"), parser.parse_args().card)
    for part, size in ship(card, ROOT / "models" / card.source.path).items():
        print(f"{part}: {size / 1000:.0f} kB")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
