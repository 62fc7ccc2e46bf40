"""The starter world: pictures composed from the Noto Color Emoji font, with everything a model could want to know.

One `scene(seed)` gives a picture, its caption, boxes, classes and instance masks, the same for the same seed on every
machine with the same font. `portrait` (one thing on a plain colour) and `pair` (two things and how they lie) feed the
text-to-image model, `scatter` (anything anywhere on any background) feeds the detector and the segmenter.

A tenth of all (thing, colour) pairs is held out: `portrait` and `pair` never draw them, so a model that paints
"a fox on a purple background" has composed it, not remembered it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from studio.errors import Unsupported

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Thing:
    """One emoji and its English name (Unicode CLDR's, shortened where nobody would type it)."""

    name: str
    emoji: str
    coco: str | None = None
    """COCO's name for its class, where COCO has one."""
    detector: str | None = None
    """Its class for the starter detector: COCO's name where there is one, else our own, None where it has none."""


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it. `boxes`, `names`, `classes` and `masks` run in parallel."""

    picture: Pixels
    """RGB uint8 (H, W, 3)."""
    caption: str
    boxes: NDArray[np.float32]
    """xyxy pixels (N, 4), around the visible pixels."""
    names: tuple[str, ...]
    classes: tuple[str | None, ...]
    """Detector classes, see `DETECTOR_CLASSES`."""
    masks: NDArray[np.bool_]
    """Visible pixels (N, H, W)."""


# Each entry is "emoji name", then "=class" where the detector knows it; "=*class" where the class is not one of COCO's.
_THINGS = """
🐶 dog face=dog, 🐕 dog=dog, 🐱 cat face=cat, 🐈 cat=cat, 🐯 tiger face, 🦁 lion, 🐎 horse=horse, 🦄 unicorn,
🦓 zebra=zebra, 🐄 cow=cow, 🐷 pig face=*pig, 🐑 sheep=sheep, 🐪 camel, 🦒 giraffe=giraffe, 🐘 elephant=elephant,
🦏 rhinoceros, 🐭 mouse face, 🐰 rabbit face=*rabbit, 🐻 bear=bear, 🐨 koala, 🐼 panda, 🦘 kangaroo, 🐓 rooster,
🐣 hatching chick, 🐦 bird=bird, 🐧 penguin=*penguin, 🦅 eagle=bird, 🦆 duck=bird, 🦢 swan=bird, 🦉 owl=bird,
🦩 flamingo=bird, 🦚 peacock, 🦜 parrot=bird, 🐸 frog=*frog, 🐊 crocodile, 🐢 turtle=*turtle, 🐍 snake, 🐉 dragon,
🦖 t-rex, 🐳 whale, 🐬 dolphin, 🐟 fish=*fish, 🐡 blowfish=*fish, 🦈 shark, 🐙 octopus=*octopus, 🐌 snail,
🦋 butterfly=*butterfly, 🐝 honeybee, 🐞 lady beetle, 🕷️ spider, 🦂 scorpion, 🦀 crab, 🦞 lobster, 🦑 squid,
🦊 fox=*fox, 🦝 raccoon, 🐒 monkey=*monkey, 🦍 gorilla, 🦥 sloth, 🦔 hedgehog, 🦇 bat, 🦌 deer, 🌹 rose=*flower,
🌷 tulip=*flower, 🌻 sunflower=*flower, 🌸 cherry blossom=*flower, 🌵 cactus, 🌴 palm tree=*tree, 🌳 tree=*tree,
🪴 potted plant=potted plant, 🍀 four leaf clover, 🍁 maple leaf, 🍄 mushroom=*mushroom, ☁️ cloud, ❄️ snowflake,
🌞 sun, 🌙 crescent moon, ⭐ star=*star, 🌈 rainbow, 🔥 fire, 💧 droplet, 🌋 volcano, 🪐 planet, ⛄ snowman,
🍎 red apple=apple, 🍏 green apple=apple, 🍐 pear, 🍊 orange=orange, 🍋 lemon, 🍌 banana=banana, 🍉 watermelon,
🍇 grapes, 🍓 strawberry, 🫐 blueberries, 🍒 cherries, 🍍 pineapple=*pineapple, 🥥 coconut, 🥝 kiwi, 🍅 tomato,
🥑 avocado, 🍆 eggplant, 🥕 carrot=carrot, 🌽 corn, 🌶️ hot pepper, 🥦 broccoli=broccoli, 🍞 bread, 🥐 croissant,
🥨 pretzel, 🥞 pancakes, 🧀 cheese, 🍔 hamburger=*hamburger, 🍟 french fries, 🍕 pizza=pizza, 🌭 hot dog=hot dog,
🥪 sandwich=sandwich, 🌮 taco, 🍳 fried egg, 🍿 popcorn, 🍣 sushi, 🍦 ice cream=*ice cream, 🍩 doughnut=donut,
🍪 cookie, 🎂 birthday cake=cake, 🧁 cupcake, 🥧 pie, 🍬 candy, 🍭 lollipop, 🍯 honey pot, ☕ coffee=cup, 🫖 teapot,
🍺 beer mug, 🍷 wine glass=wine glass, 🚗 car=car, 🚕 taxi=car, 🚌 bus=bus, 🚒 fire engine=truck, 🚑 ambulance=truck,
🚚 truck=truck, 🚜 tractor, 🚲 bicycle=bicycle, 🏍️ motorcycle=motorcycle, 🚂 locomotive=train, ✈️ airplane=airplane,
🚁 helicopter, 🚀 rocket=*rocket, 🛸 flying saucer, ⛵ sailboat=boat, 🚢 ship=boat, ⚓ anchor, 🏠 house=*house,
🏰 castle, ⛺ tent, 🎡 ferris wheel, 🚦 traffic light=traffic light, 🛑 stop sign=stop sign, ☂️ umbrella=umbrella,
🎈 balloon=*balloon, 🎁 gift, 🎄 christmas tree, 🎃 pumpkin, 🏆 trophy, ⚽ soccer ball=sports ball,
🏀 basketball=sports ball, 🏈 football=sports ball, 🪁 kite=kite, 🧸 teddy bear=teddy bear, 🎮 game controller,
👑 crown, 🎩 top hat, 👕 t-shirt, 👖 jeans, 👗 dress, 👟 running shoe=*shoe, 👠 high heel, 👜 handbag=handbag,
🎒 backpack=backpack, 👓 glasses, 💎 gem, 🎸 guitar=*guitar, 🎻 violin, 🎺 trumpet, 🥁 drum, 🎷 saxophone,
🎤 microphone, 🎧 headphones, 📱 mobile phone=cell phone, 💻 laptop=laptop, 📺 television=tv, 📷 camera=*camera,
💡 light bulb, 🕯️ candle, 📚 books=book, ✉️ envelope, ✏️ pencil, ✂️ scissors=scissors, 🔒 padlock, 🔑 key,
🔨 hammer, 🧲 magnet,
🔭 telescope, 🚽 toilet=toilet, 🪑 chair=chair, 🛋️ couch=couch, 🪥 toothbrush, 🤖 robot, 👻 ghost, 👽 alien, 💀 skull
"""

# More faces of the detector's classes; never drawn by `portrait` and `pair`.
_EXTRAS = """
🧍 person standing=person, 🚶 person walking=person, 🏃 person running=person, 🧒 child=person, 👩 woman=person,
👨 man=person, 👧 girl=person, 👦 boy=person, 👴 old man=person, 👵 old woman=person, 💃 woman dancing=person,
🕺 man dancing=person, 🐩 poodle=dog, 🐴 horse face=horse, 🐮 cow face=cow, 🐏 ram=sheep, 🐤 baby chick=bird,
🐖 pig=*pig, 🐇 rabbit=*rabbit, 🐵 monkey face=*monkey, 🌼 blossom=*flower, 🚙 jeep=car, 🏎️ racing car=car,
🚐 minibus=bus, 🚎 trolleybus=bus, 🚛 articulated lorry=truck, 🛻 pickup truck=truck, 🚆 train=train, 🚊 tram=train,
🛩️ small airplane=airplane, 🚤 speedboat=boat, 🛶 canoe=boat, 🚥 traffic lights=traffic light,
🌂 closed umbrella=umbrella, 👛 purse=handbag, 🧳 luggage=suitcase, 🏐 volleyball=sports ball,
⚾ baseball=sports ball, 🎾 tennis ball=sports ball, 🛹 skateboard=skateboard, 🍾 champagne=bottle,
🍼 baby bottle=bottle, 🥤 cup with straw=cup, 🔪 knife=knife, 🥣 bowl with spoon=bowl, 🍜 steaming bowl=bowl,
🍰 shortcake=cake, 🛏️ bed=bed, 🖥️ desktop computer=tv, ⌨️ keyboard=keyboard, ⏰ alarm clock=clock,
🕰️ mantelpiece clock=clock, 📕 closed book=book, 📖 open book=book, 🏺 amphora=vase, 👞 shoe=*shoe,
🥾 hiking boot=*shoe, 🏡 house with garden=*house, 📸 camera flash=*camera, 🌟 glowing star=*star, 🕊️ dove=bird,
🐠 tropical fish=*fish, 🌺 hibiscus=*flower, 🌲 evergreen tree=*tree, 🚓 police car=car, 🛵 scooter=motorcycle
"""


def _table(text: str) -> tuple[Thing, ...]:
    things = []
    for entry in text.replace("\n", " ").split(","):
        emoji, label = entry.strip().split(" ", 1)
        name, _, kind = label.partition("=")
        things.append(
            Thing(
                name=name,
                emoji=emoji,
                coco=kind if kind and not kind.startswith("*") else None,
                detector=kind.lstrip("*") or None,
            )
        )
    return tuple(things)


THINGS: tuple[Thing, ...] = _table(_THINGS)
"""What the text-to-image model can paint."""

EXTRAS: tuple[Thing, ...] = _table(_EXTRAS)
"""What `scatter` draws besides."""

DETECTOR_CLASSES: tuple[str, ...] = tuple(dict.fromkeys(t.detector for t in (*EXTRAS, *THINGS) if t.detector))
"""The starter detector's classes, person first."""

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (205, 52, 56),
    "orange": (240, 140, 40),
    "yellow": (250, 214, 74),
    "green": (84, 170, 88),
    "blue": (64, 124, 214),
    "purple": (136, 84, 184),
    "pink": (244, 168, 198),
    "brown": (128, 88, 60),
    "gray": (142, 146, 150),
    "white": (250, 250, 250),
}
"""Plain background colours, RGB."""

# fmt: off
NO_ARTICLE = frozenset((
    "blueberries", "books", "bread", "broccoli", "cheese", "cherries", "coffee", "corn", "fire", "french fries",
    "glasses", "grapes", "headphones", "jeans", "pancakes", "popcorn", "scissors", "sushi", "traffic lights",
))
# fmt: on

RELATIONS: Mapping[str, tuple[int, int]] = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
"""Where the first of two things lies, seen from the second: (x, y), y down."""

VISIBLE = 0.2
"""A thing of which a smaller share can be seen is not counted as being in the scene."""

FONT_ENV = "STUDIO_EMOJI_FONT"
FONT_PATHS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/local/share/fonts/NotoColorEmoji.ttf",
)
FONT_PX = 109  # the one size in which the font holds its bitmaps


def held_out(thing: str, colour: str) -> bool:
    """True for the tenth of (thing, colour) pairs that no training picture or caption shows."""
    return hashlib.sha256(f"{thing}|{colour}".encode()).digest()[0] % 10 == 0


def phrase(name: str) -> str:
    """The thing as a caption says it: "a pizza", "an owl", "grapes"."""
    if name in NO_ARTICLE:
        return name
    return f"an {name}" if name[0] in "aeiou" and not name.startswith("uni") else f"a {name}"


def font_path() -> Path:
    """Where the emoji font is. Raises Unsupported where there is none."""
    candidates = [os.environ[FONT_ENV]] if FONT_ENV in os.environ else FONT_PATHS
    for path in map(Path, candidates):
        if path.is_file():
            return path
    raise Unsupported(
        "The Noto Color Emoji font is not installed.",
        f"Install the Debian package fonts-noto-color-emoji, or point {FONT_ENV} at NotoColorEmoji.ttf.",
    )


@lru_cache(maxsize=1024)
def _glyph(emoji: str, path: str) -> Image.Image:
    font = ImageFont.truetype(path, FONT_PX)
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((12, 12), emoji, font=font, embedded_color=True)
    return canvas.crop(canvas.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())


@lru_cache(maxsize=8192)
def _resized(emoji: str, size: int, path: str) -> Image.Image:
    glyph = _glyph(emoji, path)
    scale = size / max(glyph.size)
    shape = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
    # Premultiplied, so that no dark seam appears where the sticker ends.
    return glyph.convert("RGBa").resize(shape, Image.Resampling.LANCZOS).convert("RGBA")


def sticker(emoji: str, size: int) -> Image.Image:
    """The emoji as RGBA, cut to its visible pixels, its longer side `size` pixels. Raises Unsupported."""
    return _resized(emoji, size, str(font_path())).copy()


def scene(
    seed: int,
    *,
    mode: str = "portrait",
    size: int = 128,
    things: Sequence[Thing] | None = None,
    photos: Sequence[Pixels] = (),
) -> Scene:
    """The scene of this seed: `mode` is "portrait", "pair" or "scatter", the picture (size, size).

    `things` narrows what is drawn; None is everything the mode may draw. `photos` are RGB uint8 (H, W, 3) backgrounds
    for "scatter". Raises Unsupported without an emoji font.
    """
    rng = np.random.default_rng([seed, tuple(MODES).index(mode)])
    return MODES[mode](rng, size, things, photos)


def portrait(
    thing: Thing,
    colour: str,
    rng: np.random.Generator,
    *,
    size: int = 128,
    caption: str | None = None,
    steady: bool = False,
) -> Scene:
    """One thing, large and nearly centred, on a plain colour. The caller minds `held_out`.

    A `steady` thing has one size, stands upright and exactly in the middle, which is far less to learn.
    """
    picture = _plain(colour, size)
    if steady:
        image = _turned(thing, round(0.75 * size), 0.0)
        centre = np.full(2, 0.5 * size)
    else:
        image = _turned(thing, round(size * rng.uniform(0.72, 0.78)), _small_angle(rng))
        centre = (0.5 + rng.uniform(-0.02, 0.02, 2)) * size
    mask = _paste(picture, image, centre)
    text = caption if caption is not None else canonical(thing.name, colour)
    return _scene(picture, text, [thing], [mask])


def canonical(thing: str, colour: str) -> str:
    """The caption that everything else varies: "a pizza on a blue background"."""
    return f"{phrase(thing)} on {phrase(colour)} background"


def _portrait(rng: np.random.Generator, size: int, things: Sequence[Thing] | None, photos: Sequence[Pixels]) -> Scene:
    thing, colour = _shown(rng, things)
    return portrait(thing, colour, rng, size=size, caption=say(rng, thing.name, colour))


def pair(
    rng: np.random.Generator, *, size: int = 128, things: Sequence[Thing] | None = None, steady: bool = False
) -> Scene:
    """Two things on a plain colour, one left of, right of, above or below the other; `steady` as in `portrait`."""
    first, colour = _shown(rng, things)
    second = first
    while second == first or held_out(second.name, colour):
        second = _pick(rng, things if things is not None else THINGS)
    relation = list(RELATIONS)[rng.integers(len(RELATIONS))]
    step = np.array(RELATIONS[relation]) * (0.25 if steady else rng.uniform(0.23, 0.26))
    picture = _plain(colour, size)
    masks = []
    for thing, side in ((first, 1), (second, -1)):
        share, angle = (0.44, 0.0) if steady else (rng.uniform(0.40, 0.47), _small_angle(rng))
        shift = np.zeros(2) if steady else rng.uniform(-0.02, 0.02, 2)
        masks.append(_paste(picture, _turned(thing, round(size * share), angle), (0.5 + side * step + shift) * size))
    caption = f"{phrase(first.name)} {relation} {canonical(second.name, colour)}"
    return _scene(picture, caption, [first, second], masks)


def _pair(rng: np.random.Generator, size: int, things: Sequence[Thing] | None, photos: Sequence[Pixels]) -> Scene:
    return pair(rng, size=size, things=things)


def scatter(
    rng: np.random.Generator,
    size: int,
    things: Sequence[Thing] | None = None,
    photos: Sequence[Pixels] = (),
    count: tuple[int, int] = (1, 8),
) -> Scene:
    """Things anywhere, of any size, turned and partly hidden, on any background; `count` is the fewest and the most."""
    picture = _background(rng, size, photos)
    wanted = int(rng.integers(count[0], count[1] + 1))
    drawn = list[tuple[Thing, int, NDArray[np.bool_]]]()  # thing, its pixels, visible
    for attempt in range(50):
        if attempt >= wanted and drawn:
            break
        thing = _pick(rng, things if things is not None else (*THINGS, *EXTRAS))
        image = _turned(thing, max(10, round(size * 0.12 * 6 ** rng.random())), _any_angle(rng))
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mask = _paste(picture, image, rng.uniform(0.06, 0.94, 2) * size, light=rng.uniform(0.75, 1.1))
        pixels = int((np.asarray(image.getchannel("A")) > 127).sum())
        drawn = [(t, n, m & ~mask) for t, n, m in drawn] + [(thing, pixels, mask)]
        drawn = [(t, n, m) for t, n, m in drawn if m.sum() >= max(24, VISIBLE * n)]
    names = [phrase(t.name) for t, _, _ in drawn]
    caption = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return _scene(picture, caption, [t for t, _, _ in drawn], [m for _, _, m in drawn])


Maker = Callable[[np.random.Generator, int, "Sequence[Thing] | None", Sequence[Pixels]], Scene]
MODES: Mapping[str, Maker] = {"portrait": _portrait, "pair": _pair, "scatter": scatter}


def _pick(rng: np.random.Generator, things: Sequence[Thing]) -> Thing:
    return things[int(rng.integers(len(things)))]


def _shown(rng: np.random.Generator, things: Sequence[Thing] | None) -> tuple[Thing, str]:
    while True:
        thing = _pick(rng, things if things is not None else THINGS)
        colour = list(COLOURS)[rng.integers(len(COLOURS))]
        if not held_out(thing.name, colour):
            return thing, colour


def say(rng: np.random.Generator, thing: str, colour: str) -> str:
    """A caption of a portrait: three times out of four the canonical one."""
    others = (
        phrase(thing),
        f"{phrase(thing)} on {colour}",
        f"{phrase(colour)} background with {phrase(thing)}",
        f"{thing} on {phrase(colour)} background",
        f"a picture of {canonical(thing, colour)}",
    )
    return canonical(thing, colour) if rng.random() < 0.75 else others[rng.integers(len(others))]


def _small_angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(-4, 4)) if rng.random() < 0.15 else 0.0


def _any_angle(rng: np.random.Generator) -> float:
    return float(rng.normal(0, 12)) if rng.random() < 0.7 else float(rng.uniform(-180, 180))


def _plain(colour: str, size: int) -> Pixels:
    return np.full((size, size, 3), COLOURS[colour], np.uint8)


def _turned(thing: Thing, size: int, degrees: float) -> Image.Image:
    image = _resized(thing.emoji, size, str(font_path()))
    if degrees == 0:
        return image
    turned = image.convert("RGBa").rotate(degrees, Image.Resampling.BILINEAR, expand=True).convert("RGBA")
    return turned.crop(turned.getchannel("A").getbbox())


def _paste(picture: Pixels, image: Image.Image, centre: NDArray[np.float64], light: float = 1.0) -> NDArray[np.bool_]:
    """Paints RGBA `image` into `picture` in place, its middle at `centre` (x, y); returns its pixels, bool (H, W)."""
    height, width = picture.shape[:2]
    left, top = np.round(centre - np.array(image.size) / 2).astype(int)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + image.width, width), min(top + image.height, height)
    mask = np.zeros((height, width), bool)
    if x0 >= x1 or y0 >= y1:
        return mask
    part = np.asarray(image)[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    alpha = part[..., 3:] / 255
    under = picture[y0:y1, x0:x1]
    picture[y0:y1, x0:x1] = np.clip(under + alpha * (part[..., :3] * light - under) + 0.5, 0, 255).astype(np.uint8)
    mask[y0:y1, x0:x1] = alpha[..., 0] > 0.5
    return mask


def _scene(picture: Pixels, caption: str, things: Sequence[Thing], masks: Sequence[NDArray[np.bool_]]) -> Scene:
    boxes = np.zeros((len(masks), 4), np.float32)
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes[i] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return Scene(
        picture=picture,
        caption=caption,
        boxes=boxes,
        names=tuple(t.name for t in things),
        classes=tuple(t.detector for t in things),
        masks=np.stack(masks) if len(masks) else np.zeros((0, *picture.shape[:2]), bool),
    )


def _background(rng: np.random.Generator, size: int, photos: Sequence[Pixels]) -> Pixels:
    """Plain, gradient, soft noise, stripes or (half of the time, where given) a piece of a photo."""
    if photos and rng.random() < 0.5:
        return _crop(photos[int(rng.integers(len(photos)))], rng, size)
    a, b = rng.integers(0, 256, (2, 3)).astype(np.float32)
    kind = rng.random()
    if kind < 0.25:
        weight: NDArray[np.floating] = np.zeros((size, size), np.float32)
    elif kind < 0.5:
        y, x = np.mgrid[:size, :size].astype(np.float32) / size
        turn = rng.uniform(0, 2 * np.pi)
        weight = 0.5 + 0.5 * (np.cos(turn) * (x - 0.5) + np.sin(turn) * (y - 0.5))
    elif kind < 0.8:
        cells = int(rng.integers(2, 24))
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
        weight = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
    else:
        y, x = np.mgrid[:size, :size].astype(np.float32)
        turn, period = rng.uniform(0, np.pi), rng.uniform(4, size / 3)
        weight = (np.sin((np.cos(turn) * x + np.sin(turn) * y) * 2 * np.pi / period) > 0).astype(np.float32)
    painted: NDArray[np.floating] = a + (b - a) * rng.uniform(0.2, 1) * weight[..., None]  # (size, size, 3)
    painted += rng.normal(0, rng.uniform(0, 12), painted.shape[:2])[..., None]
    return np.clip(painted, 0, 255).astype(np.uint8)


def _crop(photo: Pixels, rng: np.random.Generator, size: int) -> Pixels:
    side = int(min(photo.shape[:2]) * rng.uniform(0.4, 1))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in photo.shape[:2])
    piece = Image.fromarray(photo[top : top + side, left : left + side])
    return np.asarray(piece.resize((size, size), Image.Resampling.BILINEAR)).copy()
