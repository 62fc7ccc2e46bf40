"""What a detector found: the data of a Detect result, its export formats, and a drawing of it."""

from __future__ import annotations

import difflib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from studio.errors import InvalidTask

Colour = tuple[int, int, int]
Data = Mapping[str, Any]  # as `studio.engines.base.Result.data` documents it for Detect

# Twenty hues that stay apart on photographs, in the order of the hash.
PALETTE: tuple[Colour, ...] = (
    (230, 57, 70), (45, 125, 210), (46, 160, 67), (244, 162, 39), (145, 85, 240), (0, 180, 170), (255, 20, 130),
    (160, 110, 60), (90, 190, 250), (165, 200, 50), (250, 100, 20), (190, 85, 150), (255, 150, 170), (125, 140, 160),
)  # fmt: skip
"""RGB. None is lost on a dark page or on a light one."""
ALIKE = 100.0
"""Colours nearer than this, by Riemersma's weighted distance, are not given to two classes of one picture."""


def detect_data(
    size: tuple[int, int],
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: Sequence[str],
    model_classes: Sequence[str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The data of a Detect result. `size` is (height, width); boxes that lost all area by clipping are left out."""
    kept = [i for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()) if x1 < x2 and y1 < y2]
    return {
        "width": size[1],
        "height": size[0],
        "boxes": [[round(value, 2) for value in boxes[i].tolist()] for i in kept],
        "scores": [round(float(scores[i]), 4) for i in kept],
        "labels": [labels[i] for i in kept],
        "model_classes": list(model_classes),
        "seconds": dict(seconds),
    }


def unknown_classes(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raises InvalidTask for the first class that is not known, with the nearest names."""
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:8]
            raise InvalidTask(f"The model knows no class {name!r}.", f"Did you mean: {', '.join(close)}?")


def to_json(data: Data, picture: str = "") -> str:
    """One object per picture: its size and a list of {label, score, box: [x1, y1, x2, y2] px, text?}."""
    texts = data.get("texts")
    found = []
    for i, (box, score, label) in enumerate(_rows(data)):
        found.append({"label": label, "score": score, "box": box, **({"text": texts[i]} if texts else {})})
    content = {"picture": picture, "width": data["width"], "height": data["height"], "detections": found}
    return json.dumps(content, ensure_ascii=False, indent=2)


def to_yolo(data: Data, picture: str = "") -> dict[str, str]:
    """Two files by name: the labels "class cx cy w h", all 0..1, one line a box, and classes.txt that numbers them."""
    names = _classes(data)
    width, height = data["width"], data["height"]
    lines = []
    for (x1, y1, x2, y2), _score, label in _rows(data):
        values = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
        lines.append(" ".join([str(names.index(label)), *(f"{value:.6f}" for value in values)]))
    stem = Path(picture).stem if picture else "labels"
    one_line = (" ".join(name.split()) for name in names)  # a line break in a name would shift every number after it
    return {
        f"{stem}.txt": "".join(f"{line}\n" for line in lines),
        "classes.txt": "".join(f"{name}\n" for name in one_line),
    }


def to_coco(data: Data, picture: str = "") -> dict[str, Any]:
    """A COCO data set of one picture; ids start at 1, boxes are x y width height in px, scores are kept."""
    names = _classes(data)
    annotations = []
    for number, ((x1, y1, x2, y2), score, label) in enumerate(_rows(data), start=1):
        wide, high = round(x2 - x1, 2), round(y2 - y1, 2)
        annotations.append({
            "id": number,
            "image_id": 1,
            "category_id": names.index(label) + 1,
            "bbox": [x1, y1, wide, high],
            "area": round(wide * high, 2),
            "iscrowd": 0,
            "score": score,
        })  # fmt: skip
    return {
        "info": {},
        "licenses": [],
        "images": [{"id": 1, "file_name": picture, "width": data["width"], "height": data["height"]}],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }


def to_voc(data: Data, picture: str = "") -> str:
    """Pascal VOC XML. VOC counts pixels from 1 and its xmax is inclusive, so x1 = 0, x2 = 10 is written 1 and 10."""
    root = ElementTree.Element("annotation")
    _child(root, "filename", picture)
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", data["width"]), ("height", data["height"]), ("depth", 3)):
        _child(size, name, value)
    _child(root, "segmented", 0)
    for box, _score, label in _rows(data):
        thing = ElementTree.SubElement(root, "object")
        for name, text in (("name", label), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            _child(thing, name, text)
        limits = ElementTree.SubElement(thing, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), _voc_box(box, data), strict=True):
            _child(limits, name, value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def colours(labels: Iterable[str]) -> dict[str, Colour]:
    """RGB of the classes of one picture, no two alike as long as the palette lasts.

    A class has its own colour, the same in every picture, unless one before it in the picture is too like it; then it
    has the one that is farthest from all before.
    """
    found: dict[str, Colour] = {}
    for label in dict.fromkeys(labels):
        own = PALETTE[zlib.crc32(label.encode("utf-8")) % len(PALETTE)]
        free = [one for one in PALETTE if one not in found.values()]
        if found and free and _room(own, found.values()) < ALIKE:
            own = max(free, key=lambda one: _room(one, found.values()))
        found[label] = own
    return found


def _room(one: Colour, others: Iterable[Colour]) -> float:
    """Distance to the nearest of the others, weighted as eyes see it (T. Riemersma, "Colour metric", 2019)."""

    def distance(other: Colour) -> float:
        mean = (one[0] + other[0]) / 2
        red, green, blue = (a - b for a, b in zip(one, other, strict=True))
        return math.sqrt((2 + mean / 256) * red**2 + 4 * green**2 + (2 + (255 - mean) / 256) * blue**2)

    return min(distance(other) for other in others)


def draw(
    image: NDArray[np.uint8], data: Data, with_scores: bool = True, font_file: Path | None = None
) -> NDArray[np.uint8]:
    """A copy of the RGB picture (H, W, 3) with boxes and labels, lines and letters sized to the picture.

    Worse boxes are drawn first, so that the best are on top. `font_file` is a TrueType font; None takes PIL's own.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    line = max(1, round(min(image.shape[:2]) / 250))
    letters = max(10, round(min(min(image.shape[:2]) / 32, _usual_height(data) / 3)))
    font = ImageFont.load_default(letters) if font_file is None else ImageFont.truetype(str(font_file), letters)
    rows = list(zip(_rows(data), data.get("texts") or [""] * len(data["boxes"]), strict=True))
    inks = colours(data["labels"])
    for ((x1, y1, x2, y2), score, label), text in reversed(rows):
        ink = inks[label]
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=ink, width=line)
        words = [label, f"{score:.2f}" if with_scores else "", text[:40]]
        _write(pen, (x1, y1), " ".join(word for word in words if word), ink, font, canvas.size)
    return np.asarray(canvas)


def _usual_height(data: Data) -> float:
    """Median height of the boxes in px: in a crowd, letters sized to the picture would hide the things."""
    return float(np.median([box[3] - box[1] for box in data["boxes"]])) if data["boxes"] else 0.0


def _write(
    pen: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    ink: tuple[int, int, int],
    font: Any,
    size: tuple[int, int],
) -> None:
    """A label above the corner, or inside the box where there is no room above; never outside the picture."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    edge = max(1, round((bottom - top) / 6))
    width, height = right - left + 2 * edge, bottom - top + 2 * edge
    x = max(0, min(corner[0], size[0] - width))
    y = corner[1] - height if corner[1] >= height else min(corner[1], max(0, size[1] - height))
    pen.rectangle((x, y, x + width, y + height), fill=ink)
    red, green, blue = ink
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    pen.text((x + edge - left, y + edge - top), text, fill=(0, 0, 0) if is_light else (255, 255, 255), font=font)


def _rows(data: Data) -> list[tuple[list[float], float, str]]:
    return list(zip(data["boxes"], data["scores"], data["labels"], strict=True))


def _classes(data: Data) -> list[str]:
    """The model's classes, then any label it did not announce, in order of appearance."""
    return list(dict.fromkeys([*data.get("model_classes", ()), *data["labels"]]))


def _voc_box(box: Sequence[float], data: Data) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = box
    left, top = min(round(x1) + 1, data["width"]), min(round(y1) + 1, data["height"])
    return left, top, max(left, round(x2)), max(top, round(y2))


def _child(parent: ElementTree.Element, name: str, text: object) -> None:
    """XML 1.0 has no way to write most control characters; they become spaces."""
    clean = "".join(" " if ord(sign) < 32 and sign not in "\t\n\r" else sign for sign in str(text))
    ElementTree.SubElement(parent, name).text = clean


class Export(NamedTuple):
    """`write` takes (data, name of the picture) and returns the text of one file, a JSON object, or files by name.

    `suffix` is that of the file; ".zip" where there are several.
    """

    suffix: str
    write: Callable[[Data, str], str | dict[str, Any]]


EXPORTS: dict[str, Export] = {
    "json": Export(".json", to_json),
    "yolo": Export(".zip", to_yolo),
    "coco": Export(".json", to_coco),
    "voc": Export(".xml", to_voc),
}
