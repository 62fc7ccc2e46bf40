"""Draws the sticker atlas from the Noto Color Emoji font: `python assets/stickers/make.py` in the repository's root."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from studio.train.world import THINGS, Thing, sticker  # noqa: E402 - found through the line above

SIDE, COLUMNS = 64, 16
# The first thing of each group; groups run to the next one's first.
GROUPS = {"dog face": "animals", "rose": "nature", "red apple": "food", "car": "transport", "umbrella": "things"}

# Yellow faces, alike enough that a small generator learns them in minutes: the emoticons without the devil, the red
# face and the cats, and some newer ones.
SMILEYS = (*range(0x1F600, 0x1F608), *range(0x1F609, 0x1F621), *range(0x1F622, 0x1F638), *range(0x1F641, 0x1F645),
           0x1F910, 0x1F911, 0x1F913, 0x1F914, 0x1F917, 0x1F929, 0x1F970, 0x1F9D0, 0x1F912, 0x1F915, 0x1F920, 0x1F923,
           0x1F924, 0x1F925, 0x1F927, 0x1F928, 0x1F92A, 0x1F92B, 0x1F92D, 0x1F92F, 0x1F971, 0x1F972, 0x1F973, 0x1F974,
           0x1F978, 0x1F979, 0x1F97A, 0x1FAE0, 0x1FAE2, 0x1FAE3, 0x1FAE4)  # fmt: skip

# What a stranger names at a glance even when it is tiny, from all groups: "stickers:favourites".
FAVOURITES = """
dog face, cat face, lion, unicorn, pig face, rabbit face, panda, elephant, penguin, owl, frog, turtle, whale, dolphin,
fish, octopus, butterfly, lady beetle, fox, monkey, rose, tulip, sunflower, cactus, palm tree, tree, mushroom,
maple leaf, sun, crescent moon, star, rainbow, fire, snowman, red apple, pear, banana, watermelon, grapes, strawberry,
pineapple, carrot, broccoli, hamburger, pizza, fried egg, ice cream, doughnut, birthday cake, car, bus, locomotive,
airplane, rocket, sailboat, house, umbrella, balloon, gift, soccer ball, teddy bear, guitar, light bulb, ghost
"""


def smileys() -> list[Thing]:
    """Named as Unicode names them."""
    return [Thing(unicodedata.name(chr(code)).lower(), chr(code)) for code in SMILEYS]


def main() -> None:
    things = [*THINGS, *smileys()]
    rows = -(-len(things) // COLUMNS)
    sheet = Image.new("RGBA", (SIDE * COLUMNS, SIDE * rows))
    entries, group = [], ""
    for k, thing in enumerate(things):
        image = sticker(thing.emoji, SIDE - 2)
        column, row = k % COLUMNS, k // COLUMNS
        place = (column * SIDE + (SIDE - image.width) // 2, row * SIDE + (SIDE - image.height) // 2)
        sheet.paste(image, place)
        group = "smileys" if k >= len(THINGS) else GROUPS.get(thing.name, group)
        entries.append({"name": thing.name, "group": group})
    favourites = [name.strip() for name in FAVOURITES.split(",")]
    index = {"side": SIDE, "sets": {"favourites": favourites}, "stickers": entries}
    pixels = np.array(sheet)
    pixels[pixels[..., 3] == 0] = 0
    Image.fromarray(pixels).save(HERE / "stickers.webp", quality=92, method=6)
    (HERE / "index.json").write_text(json.dumps(index, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
