"""Every export is read back by something that did not write it."""

from __future__ import annotations

import itertools
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from studio.errors import InvalidTask
from studio.ops import detections as ops

NAMES = ["cat", "rock & <roll>", "Ünïcode 猫"]
DATA = {
    "width": 200,
    "height": 100,
    "boxes": [[10.0, 20.0, 60.5, 80.25], [0.0, 0.0, 200.0, 100.0]],
    "scores": [0.9, 0.5],
    "labels": ["rock & <roll>", "cat"],
    "model_classes": NAMES,
}
NOTHING = {**DATA, "boxes": [], "scores": [], "labels": []}


def test_data_leaves_out_boxes_without_area_and_is_json():
    boxes = np.array([[1, 1, 5, 5], [7, 7, 7, 9]], np.float32)
    data = ops.detect_data((10, 20), boxes, np.array([0.5, 0.4], np.float32), ["a", "b"], ["a", "b"], {"x": 1.0})
    assert (data["width"], data["height"], data["labels"]) == (20, 10, ["a"])
    assert json.loads(json.dumps(data)) == data


def test_json():
    found = json.loads(ops.to_json(DATA, "a.png"))
    assert found["detections"][0] == {"label": "rock & <roll>", "score": 0.9, "box": [10.0, 20.0, 60.5, 80.25]}


def test_json_carries_the_texts_of_codes():
    assert json.loads(ops.to_json({**DATA, "texts": ["hello", ""]}))["detections"][0]["text"] == "hello"


def test_yolo_read_back():
    files = ops.to_yolo(DATA, "folder/a.png")
    names = files["classes.txt"].splitlines()
    rows = [line.split() for line in files["a.txt"].splitlines()]
    assert [names[int(row[0])] for row in rows] == DATA["labels"]
    for row, box in zip(rows, DATA["boxes"], strict=True):
        x, y, w, h = (float(value) for value in row[1:])
        back = [(x - w / 2) * 200, (y - h / 2) * 100, (x + w / 2) * 200, (y + h / 2) * 100]
        np.testing.assert_allclose(back, box, atol=1e-3)


def test_coco_read_back_by_pycocotools(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    file = tmp_path / "a.json"
    file.write_text(json.dumps(ops.to_coco(DATA, "a.png")), encoding="utf-8")
    found = coco.COCO(str(file))
    rows = found.loadAnns(found.getAnnIds(imgIds=[1]))
    assert [row["bbox"] for row in rows] == [[10.0, 20.0, 50.5, 60.25], [0.0, 0.0, 200.0, 100.0]]
    assert [found.loadCats(row["category_id"])[0]["name"] for row in rows] == DATA["labels"]
    assert len({row["id"] for row in rows}) == 2
    assert rows[0]["area"] == pytest.approx(50.5 * 60.25, abs=0.01)


def test_voc_read_back():
    root = ElementTree.fromstring(ops.to_voc(DATA, "a & b.png"))
    assert root.findtext("filename") == "a & b.png"
    things = root.findall("object")
    assert [thing.findtext("name") for thing in things] == DATA["labels"]
    corners = [[int(thing.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")] for thing in things]
    assert corners == [[11, 21, 60, 80], [1, 1, 200, 100]]


def test_voc_drops_signs_that_xml_cannot_hold():
    data = {**DATA, "labels": ["a\x00b", "cat"]}
    assert ElementTree.fromstring(ops.to_voc(data)).findtext("object/name") == "a b"


@pytest.mark.parametrize("name", ops.EXPORTS)
def test_exports_of_nothing(name):
    assert ops.EXPORTS[name].write(NOTHING, "a.png")


@pytest.mark.parametrize("size", [(8, 8), (40, 60), (1500, 1000)])
def test_drawing_changes_a_copy(size):
    image = np.full((*size, 3), 128, np.uint8)
    data = {**DATA, "boxes": [[1.0, 1.0, 7.0, 7.0], [0.0, 0.0, float(size[1]), float(size[0])]]}
    drawn = ops.draw(image, data)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 128).all()
    assert (drawn == ops.colours(DATA["labels"])["rock & <roll>"]).all(axis=2).any()


def test_a_class_alone_has_the_same_colour_in_every_picture():
    assert ops.colours(["cat"]) == ops.colours(["cat", "cat"])
    assert len({ops.colours([f"class {i}"])[f"class {i}"] for i in range(200)}) == len(ops.PALETTE)


def test_two_classes_of_one_picture_are_never_alike():
    names = ["house", "bus", "dog", "person", "car", "umbrella", "star", "tree"]
    found = ops.colours(names)
    assert len(set(found.values())) == len(names)
    for one, other in itertools.combinations(found.values(), 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) >= 45
    assert len(ops.colours(f"class {i}" for i in range(300))) == 300


def test_no_colour_is_lost_on_a_dark_or_a_light_page():
    for colour in ops.PALETTE:
        linear = [(v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4) for v in colour]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        dark, light = (luminance + 0.05) / (0.007 + 0.05), (0.965 + 0.05) / (luminance + 0.05)
        assert dark >= 3
        assert light >= 1.7


def test_unknown_class_names_near_ones():
    with pytest.raises(InvalidTask, match="person"):
        ops.unknown_classes(["persn"], ["dog", "person"])
    ops.unknown_classes([], [])
