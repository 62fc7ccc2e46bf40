"""Exported masks, read back by the programs they are for."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from studio.ops import masks as ops
from studio.ops import pictures, polygons
from studio.ops.segments import EXPORTS

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def masks() -> list[np.ndarray]:
    y, x = np.mgrid[:40, :60]
    ring = (np.hypot(x - 30, y - 20) < 15) & (np.hypot(x - 30, y - 20) > 6)
    bar = (y > 30) & (x > 40)
    return [ring, bar]


def export(name: str) -> bytes:
    return EXPORTS[name].write(IMAGE, masks(), [0.9, 0.5])


def test_a_mask_comes_back():
    assert (pictures.decode_mask(export("mask")) == ops.union(masks())).all()


@pytest.mark.parametrize(("name", "size"), [("cut-out", (60, 40)), ("cropped", (44, 34))])
def test_a_cut_out_keeps_its_pixels(name, size):
    image = Image.open(io.BytesIO(export(name)))
    assert (image.mode, image.size) == ("RGBA", size)
    alpha = np.asarray(image)[..., 3]
    assert set(np.unique(alpha)) == {0, 255}
    assert (alpha > 0).sum() == ops.area(ops.union(masks()))


def test_polygons_draw_the_masks_again():
    data = json.loads(export("polygons"))
    assert (data["width"], data["height"]) == (60, 40)
    for mask, segment in zip(masks(), data["segments"], strict=True):
        parts = [[np.array(ring, np.float32) for ring in part] for part in segment["polygons"]]
        assert ops.iou(polygons.to_mask(parts, 40, 60), mask) > 0.85
        assert segment["area"] == ops.area(mask)
    assert len(data["segments"][0]["polygons"][0]) == 2  # the hole
    assert data["segments"][1] == {
        "area": 171,
        "box": [41, 31, 60, 40],
        "score": 0.5,
        "polygons": [[[[41, 31], [60, 31], [60, 40], [41, 40]]]],
    }


def test_coco_reads_its_own(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    file = tmp_path / "coco.json"
    file.write_bytes(export("coco"))
    data = coco.COCO(str(file))
    annotations = data.loadAnns(data.getAnnIds(imgIds=1, iscrowd=0))
    assert len(annotations) == 2
    for mask, annotation in zip(masks(), annotations, strict=True):
        assert (data.annToMask(annotation) == mask).all()
        assert annotation["area"] == ops.area(mask)
    assert annotations[1]["bbox"] == [41, 31, 19, 9]


def test_every_export_says_what_it_is():
    for export_ in EXPORTS.values():
        assert export_.suffix in (".png", ".json")
        assert export_.media_type.endswith(export_.suffix[1:])
