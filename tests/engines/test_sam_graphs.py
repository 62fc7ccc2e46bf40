"""The segmenter on its shipped graphs: the same masks as on torch, without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from studio.cards import load_cards
from studio.compress.networks import GRAPHS, Place
from studio.config import ROOT
from studio.device import Device
from studio.engines.sam import SamEngine
from studio.ops.pictures import decode
from studio.tasks import Segment
from tests.fakes import FakeReport

FOLDER = ROOT / "models" / "starter-segmenter"
PICTURE = "a" * 64
CLICKS = {
    "click": {"points": ((220.0, 150.0, 1),)},
    "two": {"points": ((220.0, 150.0, 1), (10.0, 10.0, 0))},
    "box": {"box": (100.0, 60.0, 300.0, 280.0)},
    "both": {"points": ((220.0, 150.0, 1),), "box": (100.0, 60.0, 300.0, 280.0)},
}


def engine(**options):
    card = load_cards(ROOT / "models")["starter-segmenter"]
    return SamEngine(card.model_copy(update={"options": {**card.options, **options}}), FOLDER, Device("x", 1, 0, "cpu"))


@pytest.fixture(scope="module")
def pair():
    if not (FOLDER / GRAPHS / "encoder.onnx").is_file():
        pytest.skip("the graphs do not ship")
    return engine(fast=Place("onnxruntime", "fp32").to_option()), engine()


@pytest.mark.parametrize("fields", CLICKS.values(), ids=CLICKS)
def test_the_same_masks_as_torch(pair, fields, tmp_path):
    picture = decode((ROOT / "assets" / "examples" / "cat.jpg").read_bytes())
    report = FakeReport({PICTURE: picture}, tmp_path)
    ours, theirs = (one.run(Segment(image=PICTURE, **fields), report) for one in pair)
    assert np.allclose(ours.data["scores"], theirs.data["scores"], atol=2e-3)
    for first, second in zip(ours.masks, theirs.masks, strict=True):
        assert (first != second).mean() < 2e-3


def test_no_torch_in_that_worker(pair):
    code = (
        "import json, sys\nfrom tests.engines.test_sam_graphs import engine\n"
        "from studio.compress.networks import Place\n"
        "engine(fast=Place('onnxruntime', 'fp32').to_option())\nprint(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout.strip().splitlines()[-1])}
    assert not loaded & {"torch", "segment_anything", "transformers", "openvino"}


def test_everything_on_the_first_example_is_found(pair, tmp_path):
    """The shipped card's thresholds fit what the shipped network says of its own masks."""
    picture = decode((ROOT / "assets" / "examples" / "sticker-picnic.jpg").read_bytes())
    other = "b" * 64
    result = pair[0].run(Segment(image=other, everything=True), FakeReport({other: picture}, tmp_path))
    things = [area for area in result.data["areas"] if 1_000 < area < picture.shape[0] * picture.shape[1] / 8]
    assert len(things) >= 10
