"""All that synthetic scenes are made of, in one file: stickers, and photographs with a hierarchy of their regions.

The file travels to machines that have neither the emoji font nor the packages the photographs come from:

    python -m studio.starters.atlas world.zip                                        # detector, segmenter
    python -m studio.starters.atlas painted.zip --of painted --cell 384              # text_to_image
    python -m studio.starters.atlas everything.zip --of everything --cell 72         # clip

Regions of a photograph are SLIC superpixels (Achanta et al., 2012) merged pair by pair, the two whose union costs
least first: Ward's criterion on colour and texture, weighed by how clear an edge runs between them. Cutting the tree at
several counts gives regions from the whole thing to its parts.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
CELL = 128
"""Side of a sticker's square cell, px, where nothing else is asked for."""
MARGIN = 2
"""Clear pixels around a sticker in its cell."""
PHOTO = 512
"""Side of the square that a photograph is stretched to, px; its aspect ratio is kept beside it."""
COUNTS = (4, 7, 12, 20, 34)
"""Regions of a photograph at each level of its hierarchy, coarse to fine."""
SUPERPIXELS = 500
_FLAT = ("hubble_deep_field.jpg", "moon.png", "page.png", "clock_motion.png", "cell.png")  # no regions to name in them


@dataclass(frozen=True)
class Atlas:
    """Stickers and photographs.

    Attributes:
        stickers: RGBA uint8 (G, C, C, 4), each in the middle of its cell, its longer side C - 2 MARGIN.
        names, classes: of each sticker; the class is None where the detector has none.
        photographs: RGB uint8 (K, PHOTO, PHOTO, 3); K is 0 for stickers that are painted on plain grounds only.
        aspects: width / height of each photograph before it was stretched, (K,).
        regions: uint8 (K, L, PHOTO, PHOTO), numbers of the regions at each level of COUNTS.
        grounds: how many of the photographs, from the first on, have regions; the rest are only textures.
    """

    stickers: Pixels
    names: tuple[str, ...]
    classes: tuple[str | None, ...]
    photographs: Pixels
    aspects: NDArray[np.float32]
    regions: Pixels
    grounds: int


def write(path: Path, of: str = "world", cell: int = CELL) -> None:
    """Draws all of it from the emoji font and the installed packages' pictures. Raises Unsupported without the font.

    `of` is "world" (what the starter world scatters), "painted" or "everything" (of `studio.starters.words`).
    """
    from studio.starters import words
    from studio.train.world import EXTRAS, THINGS, sticker

    classes = {thing.name: thing.detector for thing in (*THINGS, *EXTRAS)}
    sets: dict[str, Callable[[], Sequence[Any]]] = {
        "world": lambda: (*THINGS, *EXTRAS),
        "painted": words.painted,
        "everything": words.things,
    }
    chosen = sets[of]()
    cells = np.zeros((len(chosen), cell, cell, 4), np.uint8)
    for own, thing in zip(cells, chosen, strict=True):
        image = np.asarray(sticker(thing.emoji, cell - 2 * MARGIN))
        top, left = (cell - image.shape[0]) // 2, (cell - image.shape[1]) // 2
        own[top : top + image.shape[0], left : left + image.shape[1]] = image
    shots, grounds = ([], 0) if of == "painted" else _photographs()
    squares = [cv2.resize(shot, (PHOTO, PHOTO), interpolation=cv2.INTER_AREA) for shot in shots]
    facts = {
        "cell": cell,
        "names": [thing.name for thing in chosen],
        "classes": [classes.get(thing.name) for thing in chosen],
        "aspects": [shot.shape[1] / shot.shape[0] for shot in shots],
        "grounds": grounds,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        out.writestr("facts.json", json.dumps(facts, ensure_ascii=False))
        out.writestr("stickers.png", _encoded(Image.fromarray(cells.reshape(-1, cell, 4)), "PNG"))
        for number, square in enumerate(squares):
            out.writestr(f"photograph{number}.jpg", _encoded(Image.fromarray(square), "JPEG", quality=90))
            if number < grounds:
                levels = hierarchy(square, shots[number].shape[1] / shots[number].shape[0])
                out.writestr(f"regions{number}.png", _encoded(Image.fromarray(levels.reshape(-1, PHOTO)), "PNG"))


def _photographs() -> tuple[list[Pixels], int]:
    """All photographs, those with regions first, and how many those are."""
    from studio.train.photographs import PHOTOGRAPHS, TEXTURES, photographs

    whole = tuple(name for name in PHOTOGRAPHS if name not in _FLAT)
    shots = [*photographs(whole, longest=PHOTO), *_scikit_learn()]
    rest = [*photographs(_FLAT + TEXTURES, longest=PHOTO), _faces(), *_people()]
    return shots + rest, len(shots)


def read(path: Path) -> Atlas:
    """What `write` wrote."""
    with zipfile.ZipFile(path) as file:

        def picture(name: str) -> Pixels:
            return np.asarray(Image.open(io.BytesIO(file.read(name))))

        facts = json.loads(file.read("facts.json"))
        count, grounds = len(facts["aspects"]), facts["grounds"]
        regions = np.zeros((count, len(COUNTS), PHOTO, PHOTO), np.uint8)
        for number in range(grounds):
            regions[number] = picture(f"regions{number}.png").reshape(len(COUNTS), PHOTO, PHOTO)
        shots = [picture(f"photograph{number}.jpg") for number in range(count)]
        return Atlas(
            stickers=picture("stickers.png").reshape(-1, facts["cell"], facts["cell"], 4),
            names=tuple(facts["names"]),
            classes=tuple(facts["classes"]),
            photographs=np.stack(shots) if shots else np.zeros((0, PHOTO, PHOTO, 3), np.uint8),
            aspects=np.array(facts["aspects"], np.float32),
            regions=regions,
            grounds=grounds,
        )


def hierarchy(square: Pixels, aspect: float = 1.0) -> Pixels:
    """The regions of a photograph RGB (PHOTO, PHOTO, 3) at each level of COUNTS, uint8 (L, PHOTO, PHOTO)."""
    from skimage.segmentation import slic

    height, width = (PHOTO, round(PHOTO * aspect)) if aspect < 1 else (round(PHOTO / aspect), PHOTO)
    photo = cv2.resize(square, (width, height), interpolation=cv2.INTER_AREA)
    smooth = cv2.bilateralFilter(photo, 7, 30, 5)
    labels = slic(smooth, n_segments=SUPERPIXELS, compactness=8, sigma=1, start_label=0, enforce_connectivity=True)
    merged = _merged(labels.astype(np.int64), _features(smooth), _edges(smooth))
    levels = [cv2.resize(level, (PHOTO, PHOTO), interpolation=cv2.INTER_NEAREST) for level in merged]
    return np.stack(levels)


def _features(photo: Pixels) -> NDArray[np.float32]:
    """Colour and texture of each pixel, (H, W, 5): Lab, and how restless the lightness is at two scales."""
    lab = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    light = lab[..., 0]
    restless = [
        1.5 * np.sqrt(np.maximum(0, cv2.blur(light**2, (k, k)) - cv2.blur(light, (k, k)) ** 2)) for k in (7, 21)
    ]
    place = np.stack(np.meshgrid(*(np.linspace(0, 15, n) for n in light.shape[::-1])), -1)
    return np.dstack([lab, *restless, place]).astype(np.float32)


def _edges(photo: Pixels) -> NDArray[np.float32]:
    """How clear an edge is at each pixel, 0..1."""
    lab = cv2.GaussianBlur(cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), (0, 0), 1.5)
    steps = [cv2.Sobel(lab[..., c], cv2.CV_32F, dx, dy) for c in range(3) for dx, dy in ((1, 0), (0, 1))]
    return np.clip(np.sqrt(sum(step**2 for step in steps)) / 60, 0, 1)


def _merged(labels: NDArray[np.int64], features: NDArray[np.float32], edges: NDArray[np.float32]) -> list[Pixels]:
    count = int(labels.max()) + 1
    size = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    mean = (
        np.stack(
            [
                np.bincount(labels.ravel(), features[..., c].ravel().astype(np.float64), count)
                for c in range(features.shape[-1])
            ],
            1,
        )
        / np.maximum(size, 1)[:, None]
    )
    border: list[dict[int, list[float]]] = [{} for _ in range(count)]  # neighbour -> [length, sum of edge]
    for here, there, edge in (
        (labels[:, :-1], labels[:, 1:], np.maximum(edges[:, :-1], edges[:, 1:])),
        (labels[:-1], labels[1:], np.maximum(edges[:-1], edges[1:])),
    ):
        differ = here != there
        for a, b, e in zip(here[differ].tolist(), there[differ].tolist(), edge[differ].tolist(), strict=True):
            for x, y in ((a, b), (b, a)):
                entry = border[x].setdefault(y, [0.0, 0.0])
                entry[0] += 1
                entry[1] += e
    parent, version = list(range(count)), [0] * count

    def cost(a: int, b: int) -> float:
        length, edge = border[a][b]
        ward = size[a] * size[b] / (size[a] + size[b]) * float(((mean[a] - mean[b]) ** 2).sum())
        return ward * (0.15 + edge / length)

    queue = [(cost(a, b), a, b, 0, 0) for a in range(count) for b in border[a] if a < b]
    heapq.heapify(queue)
    alive, out = int((size > 0).sum()), list[Pixels]()
    wanted = sorted(COUNTS, reverse=True)
    while wanted:
        if alive <= wanted[0] or not queue:
            roots = np.array([_root(parent, i) for i in range(count)])
            out.append(np.unique(roots[labels], return_inverse=True)[1].reshape(labels.shape).astype(np.uint8))
            wanted.pop(0)
            continue
        _, a, b, when_a, when_b = heapq.heappop(queue)
        if parent[a] != a or parent[b] != b or version[a] != when_a or version[b] != when_b:
            continue
        mean[a] = (mean[a] * size[a] + mean[b] * size[b]) / (size[a] + size[b])
        size[a] += size[b]
        parent[b] = a
        version[a] += 1
        alive -= 1
        for other, (length, sharpness) in border[b].items():
            border[other].pop(b)
            if other != a:
                for x, y in ((a, other), (other, a)):
                    entry = border[x].setdefault(y, [0.0, 0.0])
                    entry[0] += length
                    entry[1] += sharpness
        border[b] = {}
        for other in border[a]:
            heapq.heappush(queue, (cost(a, other), a, other, version[a], version[other]))
    return out[::-1]


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        index = parent[index]
    return index


def _scikit_learn() -> list[Pixels]:
    """The two photographs in scikit-learn's wheel."""
    from sklearn.datasets import load_sample_images

    shots = [Image.fromarray(image) for image in load_sample_images().images]
    for shot in shots:
        shot.thumbnail((PHOTO, PHOTO), Image.Resampling.LANCZOS)
    return [np.asarray(shot) for shot in shots]


def _people() -> list[Pixels]:
    """Photographs of people and a street in matplotlib's and ultralytics' wheels."""
    found = []
    for package, file in (
        ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
        ("ultralytics", "assets/bus.jpg"),
        ("ultralytics", "assets/zidane.jpg"),
    ):
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / file if spec is not None and spec.origin else Path()
        if path.is_file():
            with Image.open(path) as image:
                image.thumbnail((PHOTO, PHOTO), Image.Resampling.LANCZOS)
                found.append(np.asarray(image.convert("RGB")))
    return found


def _faces() -> Pixels:
    """A sheet of faces and of what is none, in gray, from Labeled Faces in the Wild (Huang et al., 2007)."""
    from skimage.data import lfw_subset

    faces = (lfw_subset()[:196] * 255).astype(np.uint8)  # (196, 25, 25)
    sheet = faces.reshape(14, 14, 25, 25).transpose(0, 2, 1, 3).reshape(350, 350)
    return np.repeat(cv2.resize(sheet, (PHOTO, PHOTO), interpolation=cv2.INTER_CUBIC)[..., None], 3, 2)


def _encoded(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--of", choices=("world", "painted", "everything"), default="world")
    parser.add_argument("--cell", type=int, default=CELL)
    given = parser.parse_args()
    write(given.path, given.of, given.cell)
