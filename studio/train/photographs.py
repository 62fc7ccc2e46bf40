"""The photographs and textures that scikit-image's wheel brings along: backgrounds for the starter world's scenes.

Read from the package's own folder and never from the network (`skimage.data` would download the rest).
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PHOTOGRAPHS = (
    "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "hubble_deep_field.jpg", "ihc.png",
    "moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
TEXTURES = ("brick.png", "grass.png", "gravel.png", "text.png")


@lru_cache(maxsize=4)
def photographs(
    names: tuple[str, ...] = PHOTOGRAPHS + TEXTURES, *, longest: int = 640
) -> tuple[NDArray[np.uint8], ...]:
    """The named pictures, RGB uint8 (H, W, 3), longer side at most `longest`; () without scikit-image."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        return ()
    folder = Path(found.origin).parent / "data"
    pictures = []
    for name in names:
        if (folder / name).is_file():
            with Image.open(folder / name) as image:
                picture = image.convert("RGB")
            picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
            pictures.append(np.asarray(picture))
    return tuple(pictures)
