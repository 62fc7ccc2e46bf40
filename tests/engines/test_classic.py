"""The classical methods on pictures whose answer is known because they were drawn here, and on one photograph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from studio.cards import Card, Source
from studio.device import Device
from studio.engines.classic import METHODS, Classic
from studio.errors import CardError, InvalidTask
from studio.ops import masks as ops
from studio.tasks import Detect, Generate, Segment
from tests.fakes import FakeReport

ID = "0" * 64
DEVICE = Device("test", 1, 2**33, "cpu")


def engine(method):
    card = Card(
        id="c",
        title="C",
        tasks=("detect", "segment"),
        engine="classic",
        licence="Apache-2.0",
        source=Source(kind="none"),
        options={"method": method},
    )
    return Classic(card, Path(), DEVICE)


def run(method, image, task=Detect, **fields):
    return engine(method).run(task(image=ID, **fields), FakeReport({ID: image}))


def qr(text, side=200):
    code = cv2.QRCodeEncoder.create().encode(text)
    side = side if side is not None else 3 * len(code)
    return cv2.resize(cv2.cvtColor(code, cv2.COLOR_GRAY2RGB), (side, side), interpolation=cv2.INTER_NEAREST)


def ean13(digits, module=3, height=120):
    """An EAN-13 barcode, RGB, with its quiet zone; `digits` are 13 with a right check digit."""
    codes = "0001101 0011001 0010011 0111101 0100011 0110001 0101111 0111011 0110111 0001011"
    left = codes.split()
    right = ["".join("10"[int(bit)] for bit in code) for code in left]
    mirrored = [code[::-1] for code in right]
    parities = "LLLLLL LLGLGG LLGGLG LLGGGL LGLLGG LGGLLG LGGGLL LGLGLG LGLGGL LGGLGL"
    parity = parities.split()[int(digits[0])]
    first = "".join((left if kind == "L" else mirrored)[int(d)] for kind, d in zip(parity, digits[1:7], strict=True))
    bits = "0" * 12 + "101" + first + "01010" + "".join(right[int(d)] for d in digits[7:]) + "101" + "0" * 12
    row = np.repeat(np.array([0 if bit == "1" else 255 for bit in bits], np.uint8), module)
    return np.repeat(np.broadcast_to(row, (height, len(row)))[..., None], 3, axis=2)


def disc(size=(200, 300), centre=(150, 100), radius=50, noise=6):
    """A red disc on green, and where it is."""
    rng = np.random.default_rng(0)
    image = np.full((*size, 3), (60, 140, 60), np.uint8)
    cv2.circle(image, centre, radius, (200, 40, 40), cv2.FILLED)
    truth = image[..., 0] == 200
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8), truth


def test_methods_are_a_table_and_names_are_checked():
    for name in METHODS:
        engine(name).close()
    with pytest.raises(CardError, match="grabcut"):
        engine("magic")


def test_wrong_kind_of_task():
    with pytest.raises(InvalidTask, match="detect"):
        engine("faces").run(Segment(image=ID), FakeReport())
    with pytest.raises(InvalidTask, match="segment"):
        engine("grabcut").run(Generate(), FakeReport())


def test_unknown_class():
    with pytest.raises(InvalidTask, match="face"):
        run("faces", np.zeros((50, 50, 3), np.uint8), classes=["faec"])


@pytest.mark.parametrize("method", ["people", "faces", "codes"])
@pytest.mark.parametrize("size", [(1, 1), (20, 700), (200, 200)])
def test_nothing_in_an_empty_picture(method, size):
    data = run(method, np.full((*size, 3), 127, np.uint8)).data
    assert (data["boxes"], data["scores"], data["labels"]) == ([], [], [])
    assert (data["height"], data["width"]) == size


@pytest.mark.parametrize("text", ["https://example.org/a?b=c", "grüße 猫"])
def test_qr_code(text):
    image = np.full((600, 900, 3), 255, np.uint8)
    image[100:300, 400:600] = qr(text)
    data = run("codes", image).data
    assert (data["labels"], data["texts"], data["scores"]) == (["QR code"], [text], [1.0])
    np.testing.assert_allclose(data["boxes"][0], [400, 100, 600, 300], atol=30)


def test_two_qr_codes_and_a_barcode_in_one_picture():
    image = np.full((700, 1000, 3), 255, np.uint8)
    image[50:250, 50:250], image[50:250, 600:800] = qr("one"), qr("two")
    bars = ean13("4006381333931")
    image[450 : 450 + bars.shape[0], 300 : 300 + bars.shape[1]] = bars
    data = run("codes", image).data
    assert set(zip(data["labels"], data["texts"], strict=True)) == {
        ("QR code", "one"),
        ("QR code", "two"),
        ("EAN-13", "4006381333931"),
    }
    only = run("codes", image, classes=["EAN-13"]).data
    assert (only["labels"], only["texts"]) == (["EAN-13"], ["4006381333931"])


def test_small_code_in_a_large_picture():
    image = np.full((1500, 3000, 3), 255, np.uint8)
    code = qr("small", None)
    side = len(code)
    image[1000 : 1000 + side, 2000 : 2000 + side] = code
    data = run("codes", image).data
    assert data["texts"] == ["small"]
    np.testing.assert_allclose(data["boxes"][0], [2000, 1000, 2000 + side, 1000 + side], atol=12)


def test_face_of_the_astronaut():
    image = pytest.importorskip("skimage.data").astronaut()[:300, :400]
    data = run("faces", image, confidence=0.3).data
    x1, y1, x2, y2 = data["boxes"][0]
    assert x1 < 222 < x2  # between her eyes
    assert y1 < 115 < y2
    assert 60 < x2 - x1 < 160
    assert data["labels"][0] == "face"


def test_grabcut_from_a_box():
    image, truth = disc()
    result = run("grabcut", image, Segment, box=(85, 35, 215, 165))
    assert ops.iou(result.masks[0], truth) > 0.97
    assert result.data["areas"] == [int(result.masks[0].sum())]
    assert result.data["boxes"][0] == pytest.approx([100, 50, 201, 151], abs=2)
    assert 0.3 < result.data["scores"][0] <= 1


def test_grabcut_from_clicks_keeps_what_hangs_together():
    image, truth = disc()
    cv2.circle(image, (40, 40), 20, (200, 40, 40), cv2.FILLED)  # a second disc that nobody clicked
    result = run("grabcut", image, Segment, points=((150, 100, 1), (250, 20, 0)), brush=21)
    assert ops.iou(result.masks[0], truth) > 0.95


def test_grabcut_obeys_negative_strokes():
    image, _ = disc()
    result = run("grabcut", image, Segment, box=(85, 35, 215, 165), points=((120, 100, 0),), brush=9)
    assert not result.masks[0][100, 120]


def test_grabcut_in_a_wide_picture():
    image, truth = disc((400, 1500), (700, 200), 120)
    result = run("grabcut", image, Segment, box=(560, 60, 840, 340))
    assert result.masks[0].shape == (400, 1500)
    assert ops.iou(result.masks[0], truth) > 0.97


def test_grabcut_says_what_it_needs():
    image, _ = disc()
    for fields, hint in (
        ({}, "click"),
        ({"points": ((5, 5, 0),)}, "click"),
        ({"box": (0, 0, 300, 200)}, "background"),
        ({"everything": True}, "Felzenszwalb"),
        ({"box": (400, 0, 500, 50)}, "outside"),
        ({"points": ((300, 0, 1),)}, "outside"),
    ):
        with pytest.raises(InvalidTask, match=hint):
            run("grabcut", image, Segment, **fields)


def test_grabcut_stops_when_cancelled():
    image, _ = disc()
    report = FakeReport({ID: image}, cancel_after=3)
    with pytest.raises(Exception, match="Cancelled"):
        engine("grabcut").run(Segment(image=ID, box=(85, 35, 215, 165)), report)


@pytest.mark.parametrize("method", ["felzenszwalb", "watershed"])
def test_segments_from_clicks(method):
    image, truth = disc()
    result = run(method, image, Segment, points=((150, 100, 1), (20, 20, 0)), scale=300)
    assert ops.iou(result.masks[0], truth) > 0.9


@pytest.mark.parametrize("method", ["felzenszwalb", "watershed"])
def test_segments_from_a_box(method):
    image, truth = disc()
    result = run(method, image, Segment, box=(95, 45, 206, 156), scale=300)
    assert ops.iou(result.masks[0], truth) > 0.9


@pytest.mark.parametrize("method", ["felzenszwalb", "watershed"])
def test_segments_need_a_hint(method):
    with pytest.raises(InvalidTask, match="everything"):
        run(method, disc()[0], Segment)


def test_watershed_without_negative_clicks():
    image, truth = disc()
    assert ops.iou(run("watershed", image, Segment, points=((150, 100, 1),), brush=30).masks[0], truth) > 0.9


@pytest.mark.parametrize("method", ["felzenszwalb", "watershed"])
def test_everything(method):
    image = np.full((240, 320, 3), 230, np.uint8)
    truths = []
    for x, y, radius in ((60, 60, 40), (130, 65, 32), (240, 160, 50), (40, 200, 12)):  # the first two touch nearly
        blob = np.zeros((240, 320), np.uint8)
        cv2.circle(blob, (x, y), radius, 1, cv2.FILLED)
        image[blob > 0] = (30, 60 + radius, 90)
        truths.append(blob > 0)
    result = run(method, image, Segment, everything=True, scale=200, min_area=100)
    for truth in truths:
        assert max(ops.iou(mask, truth) for mask in result.masks) > 0.8
    assert all(area >= 100 for area in result.data["areas"])
    assert result.data["scores"] == sorted(result.data["scores"], reverse=True)
    assert result.data["left_out"] == 0


def test_felzenszwalb_clicks_in_one_segment():
    with pytest.raises(InvalidTask, match="scale"):
        run("felzenszwalb", disc()[0], Segment, points=((150, 100, 1), (155, 100, 0)), scale=300)
