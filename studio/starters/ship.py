"""Puts a training's result into the folder of the shipped model, in the files its engine reads.

    python -m studio.starters.ship segmenter OUT/segmenter.pt models/starter-segmenter --size 384
    python -m studio.starters.ship detector OUT/detector.pt models/starter-detector --size 192 --sureness -1.1

Judge what it is worth (`studio.starters.judge`), write its README and facts, then seal the shipped files anew.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from studio.cards import find, load_cards
from studio.compress import graphs
from studio.compress.ship import ship
from studio.config import ROOT


def ship_segmenter(result: Path, folder: Path, size_px: int) -> list[Path]:
    """model.safetensors (fp16), config.json and graphs/, for pictures of `size_px`: no weight depends on it."""
    from studio.nets.sam import build_sam
    from studio.train.segmenter import export

    kept = torch.load(result, weights_only=True, map_location="cpu")
    config = {**kept["config"], "image_size": size_px}
    sam = build_sam(config)
    own = set(sam.state_dict())
    missing, unknown = sam.load_state_dict({k: v.float() for k, v in kept["weights"].items() if k in own}, strict=False)
    if unknown or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"{result} holds another network: missing {missing}")
    export(sam, folder, config=config)
    ship(find(load_cards(ROOT / "models"), "starter-segmenter"), folder)
    return [folder / "model.safetensors", folder / "config.json", *sorted((folder / "graphs").iterdir())]


def ship_detector(result: Path, folder: Path, size_px: int, sureness: float = 0.0, share: float = 1.0) -> list[Path]:
    """model.onnx in `folder`, its weights stored as fp16.

    `sureness` is added to every class's logit. With a `share` below 1 the weights lie so far on the way from those that
    `folder` holds to the trained ones, which forgets less (Wortsman et al., 2022).
    """
    from studio.train.detector import export, network

    kept = torch.load(result, weights_only=True, map_location="cpu")
    net = network()
    missing, _ = net.load_state_dict(kept["weights"], strict=False)
    if any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"{result} holds another network: missing {missing}")
    file = folder / "model.onnx"
    before = _weights(graphs.widened(graphs.read(file))) if share < 1 else {}
    model = graphs.read(export(net, folder, size_px=size_px))
    for item in model.graph.initializer:
        array = numpy_helper.to_array(item)
        kind = array.dtype
        if item.name in before and before[item.name].shape == array.shape and item.name.startswith("model."):
            array = (1 - share) * before[item.name] + share * array
        if re.search(r"\.cv3\.\d\.2\.bias$", item.name):
            array = array + sureness
        item.CopyFrom(numpy_helper.from_array(array.astype(kind), item.name))
    graphs.save(graphs.narrowed(model), file)
    return [file]


def _weights(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("segmenter", "detector"))
    parser.add_argument("result", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, required=True, help="px of the longer side that the engine looks at")
    parser.add_argument("--sureness", type=float, default=0.0, help="detector: added to every class's logit")
    parser.add_argument("--share", type=float, default=1.0, help="detector: of the way from the folder's own weights")
    given = parser.parse_args()
    if given.what == "segmenter":
        files = ship_segmenter(given.result, given.folder, given.size)
    else:
        files = ship_detector(given.result, given.folder, given.size, given.sureness, given.share)
    for file in files:
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
