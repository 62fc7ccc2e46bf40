"""Draws the sticker atlas from the Noto Color Emoji font: `python assets/stickers/make.py` in the repository's root."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from studio.train.world import THINGS, sticker  # noqa: E402 - found through the line above

SIDE, COLUMNS = 64, 16
# The first thing of each group; groups run to the next one's first.
GROUPS = {"dog face": "animals", "rose": "nature", "red apple": "food", "car": "transport", "umbrella": "things"}


def main() -> None:
    rows = -(-len(THINGS) // COLUMNS)
    sheet = Image.new("RGBA", (SIDE * COLUMNS, SIDE * rows))
    entries, group = [], ""
    for k, thing in enumerate(THINGS):
        image = sticker(thing.emoji, SIDE - 2)
        column, row = k % COLUMNS, k // COLUMNS
        place = (column * SIDE + (SIDE - image.width) // 2, row * SIDE + (SIDE - image.height) // 2)
        sheet.paste(image, place)
        group = GROUPS.get(thing.name, group)
        entries.append({"name": thing.name, "group": group})
    pixels = np.array(sheet)
    pixels[pixels[..., 3] == 0] = 0
    Image.fromarray(pixels).save(HERE / "stickers.webp", quality=92, method=6)
    (HERE / "index.json").write_text(json.dumps({"side": SIDE, "stickers": entries}, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
