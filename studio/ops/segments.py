"""Masks as files other programs read. EXPORTS names the formats; each takes (picture, masks, scores) to bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from studio.ops import masks as ops
from studio.ops import pictures, polygons, rle

TOLERANCE = 1.0  # px an exported polygon may leave the mask's outline

Pixels = NDArray[np.uint8]
Masks = Sequence[NDArray[np.bool_]]
Scores = Sequence[float]


class Export(NamedTuple):
    """`write` takes the picture uint8 (H, W, 3), at least one mask bool (H, W) and a score per mask."""

    label: str
    suffix: str
    media_type: str
    write: Callable[[Pixels, Masks, Scores], bytes]


def mask_png(image: Pixels, masks: Masks, scores: Scores) -> bytes:
    """White where any of the masks is, black elsewhere."""
    return pictures.encode_png(ops.union(masks))


def cut_out_png(image: Pixels, masks: Masks, scores: Scores) -> bytes:
    """What the masks cover on transparency, in the picture's size."""
    return pictures.encode_png(ops.cut_out(image, ops.union(masks)))


def cropped_png(image: Pixels, masks: Masks, scores: Scores) -> bytes:
    """What the masks cover on transparency, cropped to it."""
    return pictures.encode_png(ops.cut_out(image, ops.union(masks), crop=True))


def polygon_json(image: Pixels, masks: Masks, scores: Scores) -> bytes:
    """Per mask its parts, each a list of rings [[x, y], ...]: the outer one, then its holes. Pixels."""
    segments = [
        {**_facts(mask), "score": score, "polygons": _rounded(polygons.from_mask(mask, TOLERANCE))}
        for mask, score in zip(masks, scores, strict=True)
    ]
    return _json({**_size(image), "segments": segments})


def coco_json(image: Pixels, masks: Masks, scores: Scores) -> bytes:
    """A COCO data set of one picture, with compressed run lengths; pycocotools reads it."""
    annotations = [_annotation(i + 1, *pair) for i, pair in enumerate(zip(masks, scores, strict=True))]
    return _json(
        {
            "images": [{"id": 1, "file_name": "", **_size(image)}],
            "categories": [{"id": 1, "name": "thing"}],
            "annotations": annotations,
        }
    )


EXPORTS: dict[str, Export] = {
    "mask": Export("Mask (PNG)", ".png", "image/png", mask_png),
    "cut-out": Export("Cut-out (PNG)", ".png", "image/png", cut_out_png),
    "cropped": Export("Cut-out, cropped (PNG)", ".png", "image/png", cropped_png),
    "polygons": Export("Polygons (JSON)", ".json", "application/json", polygon_json),
    "coco": Export("COCO run lengths (JSON)", ".json", "application/json", coco_json),
}


def _annotation(id_: int, mask: NDArray[np.bool_], score: float) -> dict[str, Any]:
    left, top, right, bottom = ops.box(mask).tolist()
    height, width = mask.shape
    return {
        "id": id_,
        "image_id": 1,
        "category_id": 1,
        "segmentation": {"size": [height, width], "counts": rle.compress(rle.encode(mask))},
        "area": ops.area(mask),
        "bbox": [left, top, right - left, bottom - top],  # COCO's x y width height
        "iscrowd": 0,
        "score": score,
    }


def _facts(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return {"area": ops.area(mask), "box": ops.box(mask).tolist()}


def _size(image: Pixels) -> dict[str, int]:
    return {"width": image.shape[1], "height": image.shape[0]}


def _rounded(parts: list[list[polygons.Ring]]) -> list[list[list[list[float]]]]:
    return [[ring.round(2).tolist() for ring in part] for part in parts]


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
