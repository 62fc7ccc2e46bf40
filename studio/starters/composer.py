"""Synthetic scenes composed on the training device: thousands a second, with exact masks and boxes.

`Composer.draw` makes scenes by chance, `Composer.paint` those that `studio.starters.scenes` thought up and captioned.
The former are those of `studio.train.world.scatter` (the same backgrounds, sizes, angles and lights), and harder ones:
things among pieces of photographs and textured shapes, developed like photographs. All layers of a batch are sampled
from one mosaic, so a layer costs one `grid_sample`.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from studio.starters.atlas import CELL, COUNTS, MARGIN, PHOTO, Atlas
from studio.starters.scenes import Batch
from studio.starters.words import COLOURS, TINTS

SHRINK = (1.0, 1.5, 2.25, 3.4, 5.0)
"""How many times smaller than its cell a layer is drawn, by the mosaic's levels: each holds only what is then seen."""
PHOTO_SHRINK = (1.0, 2.0, 4.0)
LARGE = 256
"""Stickers in cells from this many px on are kept at PHOTO_SHRINK's levels only."""
STAR_FIELDS = 4
LEVELS = (1.0, 1.5, 1.5, 1.0, 0.6)
"""How often each level of a photograph's regions is shown."""
BLOBS = 96
CUTOUTS = 220
FEWEST_PIXELS = 24
VISIBLE = 0.2
"""A layer of which a smaller share, or fewer pixels, can be seen is not in the scene, as in `studio.train.world`."""


@dataclass(frozen=True)
class Mixture:
    """What scenes hold, by chance.

    Attributes:
        count: fewest and most layers.
        plain: share of scenes that hold stickers alone, as the starter world draws them.
        empty: share of scenes without any sticker.
        cutouts, blobs: chances of a layer of the other scenes to be a piece of a photograph or a textured shape.
        labelled: chance of a sticker to be of the detector's classes; None draws every sticker alike.
        photo: chance of a photograph as the ground; with `mapped`, of one whose regions are known.
        developed: share of scenes that are developed like photographs.
    """

    count: tuple[int, int] = (1, 8)
    plain: float = 0.4
    empty: float = 0.0
    cutouts: float = 0.25
    blobs: float = 0.15
    labelled: float | None = None
    photo: float = 0.5
    mapped: bool = False
    developed: float = 0.5


WORLD = Mixture(plain=1.0, developed=0.0)
"""As `studio.train.world.scatter` draws."""


@dataclass(frozen=True)
class Scenes:
    """B pictures of S px and the truth about them, N layers each.

    Attributes:
        pictures: float (B, 3, S, S), 0..1 RGB.
        owner: long (B, S, S): the layer seen at each pixel, N + r for region r of the ground.
        classes: long (B, N), the detector's class, -1 where there is none.
        kinds: long (B, N), 0 sticker, 1 cut-out, 2 blob, -1 no layer.
        seen: bool (B, N), enough of the layer can be seen.
        boxes: float (B, N, 4), xyxy px around what can be seen.
        mapped: bool (B,), the ground is a photograph whose regions are known.
    """

    pictures: Tensor
    owner: Tensor
    classes: Tensor
    kinds: Tensor
    seen: Tensor
    boxes: Tensor
    mapped: Tensor


class Composer:
    """Args:
    atlas: what scenes are made of.
    classes: names of the detector's classes, in order.
    device: where they are composed.
    seed: of everything drawn.
    """

    def __init__(self, atlas: Atlas, classes: tuple[str, ...], device: torch.device, seed: int = 0) -> None:
        rng = np.random.default_rng(0)
        self.cell = atlas.stickers.shape[1]
        self.shrink = SHRINK if self.cell < LARGE else PHOTO_SHRINK
        pieces = [*_cutouts(atlas, rng), *(_blob(rng) for _ in range(BLOBS))] if atlas.grounds else []
        cells = [*atlas.stickers, *(cv2.resize(piece, (self.cell, self.cell)) for piece in pieces)]
        kinds = [0] * len(atlas.stickers) + [1] * (len(pieces) - BLOBS) + [2] * min(BLOBS, len(pieces))
        known = np.array([-1 if name not in classes else classes.index(name) for name in atlas.classes])
        self.device = device
        self.chance = torch.Generator(device).manual_seed(seed)
        self.columns = int(np.ceil(np.sqrt(len(cells) * len(self.shrink))))
        self.mosaic = _mosaic(np.stack(cells), self.shrink, self.columns).to(device)
        if atlas.grounds:
            self.album = _mosaic(atlas.photographs, PHOTO_SHRINK, 8).to(device)
            levels = atlas.regions[: atlas.grounds].reshape(-1, PHOTO, PHOTO, 1)
            self.maps = _mosaic(levels, (1.0,), 8, scale=1.0).to(device)
        self.cells, self.stickers = len(cells), len(atlas.stickers)
        self.photographs, self.grounds = len(atlas.photographs), atlas.grounds
        self.aspects = torch.from_numpy(atlas.aspects).to(device)
        self.kinds = torch.tensor(kinds, device=device)
        self.classes = torch.tensor([*known.tolist(), *[-1] * len(pieces)], device=device)
        solid = np.array([(cell[..., 3] > 127).sum() for cell in cells]) / (self.cell - 2 * MARGIN) ** 2
        self.solid = torch.from_numpy(solid).float().to(device)
        counts = np.bincount(known[known >= 0], minlength=len(classes))
        even = np.array(
            [0.5 / max(1, (known >= 0).sum()) + 0.5 / len(classes) / counts[k] if k >= 0 else 0 for k in known]
        )  # half of the time every thing alike, half of the time every class
        self.every = torch.ones(len(known), device=device)
        self.named = torch.from_numpy(even).float().to(device)
        self.unnamed = torch.from_numpy(known < 0).float().to(device)
        self.tints = torch.tensor([COLOURS[name] for name in TINTS], device=device).float() / 255
        self.stars = _star_fields().to(device)

    def seeded(self, seed: int) -> Composer:
        """Another that draws from the same mosaic."""
        other = copy.copy(self)
        other.chance = torch.Generator(self.device).manual_seed(seed)
        return other

    # ── chance ───────────────────────────────────────────────────────────────

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.chance, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.chance, device=self.device)

    def integers(self, high: int | Tensor, *shape: int) -> Tensor:
        """Whole numbers from 0 to high - 1."""
        return (self.uniform(*shape) * high).long()

    # ── scenes ───────────────────────────────────────────────────────────────

    @torch.no_grad()
    def draw(self, count: int, size: int, mixture: Mixture) -> Scenes:
        """`count` scenes of `size` px."""
        layers = mixture.count[1]
        pictures, ground = self._grounds(count, size, mixture)
        mapped = ground[:, 0, 0] >= 0
        textures = self._photographs(count, size)[0], self._painted(count, size)
        owner = layers + ground.clamp(min=0)
        plain = self.uniform(count) < mixture.plain
        empty = self.uniform(count) < mixture.empty
        here = self._layers(count, layers, mixture, plain, empty)
        kinds = torch.where(here >= 0, self.kinds[here.clamp(min=0)], -1)
        sides = (size * 0.12 * 6 ** self.uniform(count, layers)).round().clamp(min=10)
        sides = torch.where((kinds > 0) & (self.uniform(count, layers) < 0.4), sides * 1.6, sides)
        upright = self.uniform(count, layers) < 0.7
        angles = torch.where(upright, self.normal(count, layers) * 12, self.uniform(count, layers, low=-180, high=180))
        mirror = torch.where(self.uniform(count, layers) < 0.5, -1.0, 1.0)
        stretch = torch.where(kinds > 0, self.uniform(count, layers, low=0.5, high=1.0), 1.0)
        centres = self.uniform(count, layers, 2, low=0.06, high=0.94) * size
        lights = self.uniform(count, layers, low=0.75, high=1.1)
        for n in range(layers):
            u, v = self._placed(size, centres[:, n], sides[:, n], torch.deg2rad(angles[:, n]), mirror[:, n])
            v = v / stretch[:, n, None, None]
            colour, alpha = self._sampled(here[:, n], sides[:, n], u, v)
            is_there = (here[:, n] >= 0)[:, None, None, None]
            colour, alpha = colour * is_there, alpha * is_there
            fill = torch.where((self.uniform(count) < 0.6)[:, None, None, None], textures[0], textures[1])
            tint = self.uniform(count, 3, 1, 1, low=0.5, high=1.2)
            shift = self.uniform(count, 3, 1, 1, low=-0.25, high=0.25)
            fill = (fill * tint + shift).clamp(0, 1) * alpha
            colour = torch.where((kinds[:, n] == 2)[:, None, None, None], fill, colour * lights[:, n, None, None, None])
            pictures = (pictures * (1 - alpha) + colour).clamp(0, 1)
            owner = torch.where(alpha[:, 0] > 0.5, n, owner)
        seen, boxes = _seen(owner, layers, sides**2 * stretch * self.solid[here.clamp(min=0)] * (here >= 0))
        classes = torch.where(here >= 0, self.classes[here.clamp(min=0)], -1)
        developed = (self.uniform(count) < mixture.developed)[:, None, None, None]
        if mixture.developed:
            pictures = torch.where(developed, self._developed(pictures), pictures)
        pictures = (pictures * 255).round() / 255
        return Scenes(pictures, owner, classes, kinds, seen, boxes, mapped)

    @torch.no_grad()
    def paint(self, batch: Batch, size: int) -> Tensor:
        """Pictures float (N, 3, size, size), 0..1 RGB, of scenes thought up elsewhere; wild grounds are drawn here."""
        grounds = torch.from_numpy(batch.grounds).to(self.device)
        pictures = self._bands(grounds, size)
        if batch.grounds[:, -1].any():
            wild, _ = self._grounds(len(pictures), size, Mixture(photo=0.3))
            pictures = torch.where(grounds[:, -1, None, None, None] > 0, wild, pictures)
        for sprites in batch.sprites.transpose(1, 0, 2):
            rows = np.flatnonzero(sprites[:, 0] >= 0)
            if not len(rows):
                continue
            thing, x, y, side, tint, angle, mirrored, light = torch.from_numpy(sprites[rows]).to(self.device).unbind(1)
            centres, mirror = torch.stack([x, y], 1) * size, torch.where(mirrored > 0, -1.0, 1.0)
            u, v = self._placed(size, centres, side * size, angle, mirror)
            colour, alpha = self._sampled(thing.long(), side * size, u, v)
            tinted = self._tinted(colour, alpha, tint.long().clamp(min=0))
            colour = torch.where((tint >= 0)[:, None, None, None], tinted, colour) * light[:, None, None, None]
            index = torch.from_numpy(rows).to(self.device)
            pictures[index] = (pictures[index] * (1 - alpha) + colour).clamp(0, 1)
        return pictures

    def _bands(self, grounds: Tensor, size: int) -> Tensor:
        """Three bands of colour, softly or sharply divided, with stars where they shine: (N, 3, size, size)."""
        y = ((torch.arange(size, device=self.device) + 0.5) / size)[None, None, :, None]
        top, middle, bottom = (grounds[:, 3 * i : 3 * i + 3, None, None] / 255 for i in range(3))
        first, second, softness, shining = (grounds[:, 9 + i, None, None, None] for i in range(4))
        bands = top
        for border, below in ((first, middle), (second, bottom)):
            share = ((y - border) / softness.clamp(min=1e-3) + 0.5).clamp(0, 1)
            bands = bands + (below - bands) * share
        bands = bands.expand(-1, -1, -1, size).contiguous()
        which = (grounds[:, :9].sum(1).long() % STAR_FIELDS)[:, None, None, None]
        light = F.interpolate(self.stars, size=(size, size), mode="area")
        light = light.expand(len(which), -1, -1, -1).gather(1, which.expand(-1, 1, size, size))
        return torch.where(shining > 0, torch.maximum(bands, light * shining), bands)

    def _tinted(self, colour: Tensor, alpha: Tensor, tint: Tensor) -> Tensor:
        """The sticker in one colour, its light and dark kept: four parts of the colour, one of its own."""
        light = (colour * colour.new_tensor((0.3, 0.59, 0.11))[:, None, None]).sum(1, keepdim=True)
        painted = torch.minimum(self.tints[tint][:, :, None, None] * (0.3 * alpha + 0.95 * light), alpha)
        return 0.8 * painted + 0.2 * colour

    def _placed(
        self, size: int, centres: Tensor, sides: Tensor, angles: Tensor, mirror: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where each pixel lies on a layer, u and v (B, S, S), -1..1 across its longer side; lengths in px."""
        y, x = torch.meshgrid(*(torch.arange(size, device=self.device) + 0.5,) * 2, indexing="ij")
        turn, scale = angles[:, None, None], 2 / sides[:, None, None]
        dx, dy = x - centres[:, 0, None, None], y - centres[:, 1, None, None]
        u = (dx * turn.cos() + dy * turn.sin()) * scale * mirror[:, None, None]
        return u, (dy * turn.cos() - dx * turn.sin()) * scale

    def _layers(self, count: int, layers: int, mixture: Mixture, plain: Tensor, empty: Tensor) -> Tensor:
        """Which cell each layer shows, -1 for none, (B, N)."""
        if mixture.labelled is None:
            stickers = torch.multinomial(self.every, count * layers, True, generator=self.chance)
        else:
            pick = self.uniform(count * layers) < mixture.labelled
            named = torch.multinomial(self.named, count * layers, True, generator=self.chance)
            unnamed = torch.multinomial(self.unnamed, count * layers, True, generator=self.chance)
            stickers = torch.where(pick, named, unnamed)
        first = self.stickers
        cutouts = first + self.integers(self.cells - BLOBS - first, count, layers)
        blobs = self.cells - BLOBS + self.integers(BLOBS, count, layers)
        dice = self.uniform(count, layers) * torch.where(
            empty[:, None], torch.tensor(mixture.cutouts + mixture.blobs, device=self.device), 1.0
        )
        mixed = ~plain | empty
        here = stickers.view(count, layers)
        here = torch.where(mixed[:, None] & (dice < mixture.cutouts), cutouts, here)
        is_blob = (dice >= mixture.cutouts) & (dice < mixture.cutouts + mixture.blobs)
        here = torch.where(mixed[:, None] & is_blob, blobs, here)
        fewest, most = mixture.count
        wanted = fewest + self.integers(most - fewest + 1, count)
        wanted = torch.where(empty, self.integers(most + 1, count), wanted)
        return torch.where(torch.arange(layers, device=self.device) < wanted[:, None], here, -1)

    def _sampled(self, here: Tensor, sides: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """What u, v (B, S, S), -1..1 of the layer, show: colour times alpha (B, 3, S, S) and alpha (B, 1, S, S)."""
        inner = (self.cell - 2 * MARGIN) / self.cell
        steps = torch.tensor(self.shrink, device=self.device)
        level = (inner * self.cell / sides[:, None] / steps).log().abs().argmin(1)
        where = here.clamp(min=0) * len(self.shrink) + level
        found = _look(self.mosaic, where, u * inner, v * inner, self.cell, self.columns)
        inside = ((u.abs() <= 1.02) & (v.abs() <= 1.02))[:, None]
        found = found * inside
        return found[:, :3], found[:, 3:]

    def _photographs(self, count: int, size: int, known: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pieces of photographs (B, 3, S, S), which ones they are (B,), and where each pixel comes from: u, v."""
        numbers = self.integers(self.grounds if known else self.photographs, count)
        aspects = self.aspects[numbers]
        share = self.uniform(count, low=0.4, high=1.0) * torch.where(self.uniform(count) < 0.15, 0.5, 1.0)
        across, down = share * (1 / aspects).clamp(max=1), share * aspects.clamp(max=1)
        cx = self.uniform(count, low=-1, high=1) * (1 - across)
        cy = self.uniform(count, low=-1, high=1) * (1 - down)
        mirror = torch.where(self.uniform(count) < 0.5, -1.0, 1.0)[:, None, None]
        upside = torch.where(self.uniform(count) < 0.1, -1.0, 1.0)[:, None, None]
        turn = torch.where(self.uniform(count) < 0.4, self.uniform(count, low=-0.4, high=0.4), 0.0)[:, None, None]
        steps = (torch.arange(size, device=self.device) + 0.5) * (2 / size) - 1
        x, y = steps[None, None, :], steps[None, :, None]
        u = cx[:, None, None] + mirror * across[:, None, None] * (turn.cos() * x - turn.sin() * y)
        v = cy[:, None, None] + upside * down[:, None, None] * (turn.sin() * x + turn.cos() * y)
        u, v = (1 - ((w + 1) % 4 - 2).abs() for w in (u, v))  # mirrored at the photograph's edges
        shrink = torch.maximum(across, down) * PHOTO / size
        level = (shrink[:, None] / torch.tensor(PHOTO_SHRINK, device=self.device)).log().abs().argmin(1)
        found = _look(self.album, numbers * len(PHOTO_SHRINK) + level, u, v, PHOTO, 8)
        orders = torch.tensor(list(itertools.permutations(range(3))), device=self.device)
        order = torch.where(self.uniform(count) < 0.2, self.integers(len(orders), count), 0)
        found = found[torch.arange(count, device=self.device)[:, None], orders[order]]
        return found, numbers, u, v

    def _grounds(self, count: int, size: int, mixture: Mixture) -> tuple[Tensor, Tensor]:
        """Backgrounds (B, 3, S, S), and the regions in them, long (B, S, S), -1 where they are not known."""
        shots, numbers, u, v = self._photographs(count, size, mixture.mapped)
        is_photo = self.uniform(count) < mixture.photo
        is_known = is_photo & (numbers < self.grounds)
        odds = torch.tensor(LEVELS, device=self.device)
        level = torch.multinomial(odds, count, True, generator=self.chance)
        where = numbers.clamp(max=self.grounds - 1) * len(COUNTS) + level
        regions = _look(self.maps, where, u, v, PHOTO, 8, mode="nearest")[:, 0].round().long()
        ground = torch.where(is_known[:, None, None], regions, -1)
        return torch.where(is_photo[:, None, None, None], shots, self._painted(count, size)), ground

    def _painted(self, count: int, size: int) -> Tensor:
        """Plain colours, gradients, soft noise and stripes with some grain, (B, 3, S, S), as the world paints them."""
        a, b = self.uniform(2, count, 3, 1, 1)
        kind = self.uniform(count)[:, None, None]
        y, x = torch.meshgrid(*(torch.arange(size, device=self.device) / size,) * 2, indexing="ij")
        turn = self.uniform(count, 1, 1, high=2 * np.pi)
        along = turn.cos() * (x - 0.5) + turn.sin() * (y - 0.5)
        cells = [2, 4, 8, 16, 24]
        pick = self.integers(len(cells), count)[:, None, None]
        noise = torch.zeros(count, size, size, device=self.device)
        for number, side in enumerate(cells):
            coarse = self.uniform(count, 1, side, side)
            fine = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)[:, 0].clamp(0, 1)
            noise = torch.where(pick == number, fine, noise)
        period = self.uniform(count, 1, 1, low=4 / size, high=1 / 3)
        stripes = ((along * 2 * np.pi / period).sin() > 0).float()
        patterns = torch.where(kind < 0.8, noise, stripes)
        weight = torch.where(kind < 0.25, 0.0, torch.where(kind < 0.5, 0.5 + along, patterns))
        painted = a + (b - a) * self.uniform(count, 1, 1, 1, low=0.2) * weight[:, None]
        grain = self.normal(count, 1, size, size) * self.uniform(count, 1, 1, 1, high=12 / 255)
        return (painted + grain).clamp(0, 1)

    def _developed(self, x: Tensor) -> Tensor:
        """Exposure, contrast, colour cast, sometimes gray, soft or noisy."""
        count = len(x)
        contrast = self.uniform(count, 1, 1, 1, low=0.6, high=1.25)
        light = self.uniform(count, 1, 1, 1, low=-0.12, high=0.12)
        cast = self.uniform(count, 3, 1, 1, low=0.85, high=1.15)
        x = (((x - 0.5) * contrast + 0.5 + light) * cast).clamp(0, 1)
        gray = (self.uniform(count) < 0.08)[:, None, None, None]
        x = torch.where(gray, x.mean(1, keepdim=True), x)
        soft = (self.uniform(count) < 0.2)[:, None, None, None]
        mean = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        x = torch.where(soft, mean, x)
        noisy = (self.uniform(count) < 0.25)[:, None, None, None]
        noise = self.normal(count, 1, *x.shape[2:]) * self.uniform(count, 1, 1, 1, low=0.008, high=0.04)
        return torch.where(noisy, (x + noise).clamp(0, 1), x)


def _star_fields() -> Tensor:
    """Points of light, float32 (1, STAR_FIELDS, 512, 512)."""
    rng = np.random.default_rng(0)
    fields = np.zeros((STAR_FIELDS, 512, 512), np.float32)
    for field in fields:
        for y, x in rng.integers(4, 508, (60, 2)):
            half = int(rng.integers(1, 3))
            field[y - half : y + half, x - half : x + half] = rng.uniform(0.5, 1)
    return torch.from_numpy(fields)[None]


def _seen(owner: Tensor, layers: int, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Which layers can be seen well enough (B, N), and boxes around what can be seen, xyxy px (B, N, 4)."""
    size, seen, boxes = owner.shape[-1], [], []
    steps = torch.arange(size, device=owner.device)
    for n in range(layers):
        mask = owner == n
        seen.append(mask.sum((1, 2)))
        rows, columns = mask.any(2), mask.any(1)
        first_x, last_x = torch.where(columns, steps, size).amin(1), torch.where(columns, steps, -1).amax(1)
        first_y, last_y = torch.where(rows, steps, size).amin(1), torch.where(rows, steps, -1).amax(1)
        boxes.append(torch.stack([first_x, first_y, last_x + 1, last_y + 1], 1))
    pixels = torch.stack(seen, 1)
    return pixels >= (VISIBLE * whole).clamp(min=FEWEST_PIXELS), torch.stack(boxes, 1).float()


def _mosaic(pictures: NDArray[np.uint8], shrink: tuple[float, ...], columns: int, scale: float = 255.0) -> Tensor:
    """Pictures (N, T, T, C) at each level, side by side in one picture float (1, C, rows T, columns T); RGBA becomes
    colour times alpha."""
    side, channels = pictures.shape[1], pictures.shape[3]
    rows = -(-len(pictures) * len(shrink) // columns)
    out = np.zeros((rows * side, columns * side, channels), np.float32)
    for number, picture in enumerate(pictures):
        x = picture.astype(np.float32) / scale
        if channels == 4:
            x[..., :3] *= x[..., 3:]
        for level, factor in enumerate(shrink):
            small = round(side / factor)
            y = x
            if small < side:
                y = cv2.resize(
                    cv2.resize(x, (small, small), interpolation=cv2.INTER_AREA),
                    (side, side),
                    interpolation=cv2.INTER_CUBIC,
                ).clip(0, 1)
            row, column = divmod(number * len(shrink) + level, columns)
            out[row * side : (row + 1) * side, column * side : (column + 1) * side] = y.reshape(side, side, channels)
    return torch.from_numpy(out).permute(2, 0, 1)[None].contiguous()


def _look(
    mosaic: Tensor, where: Tensor, u: Tensor, v: Tensor, side: int, columns: int, mode: str = "bilinear"
) -> Tensor:
    """What lies at u, v (B, S, S), -1..1 across the cells `where` (B,) -> (B, C, S, S)."""
    edge = 1 - 1 / side  # never between two cells
    row, column = where // columns, where % columns
    x = (column[:, None, None] + 0.5 + 0.5 * u.clamp(-edge, edge)) * side
    y = (row[:, None, None] + 0.5 + 0.5 * v.clamp(-edge, edge)) * side
    grid = torch.stack([x / mosaic.shape[3], y / mosaic.shape[2]], -1) * 2 - 1  # (B, S, S, 2)
    count, height, width = u.shape
    found = F.grid_sample(mosaic, grid.view(1, count * height, width, 2), mode=mode, align_corners=False)
    return found.view(-1, count, height, width).transpose(0, 1)


def _cutouts(atlas: Atlas, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Regions of the photographs as cells with soft edges, RGBA (CELL, CELL, 4)."""
    out: list[NDArray[np.uint8]] = []
    for _ in range(20 * CUTOUTS):
        if len(out) == CUTOUTS:
            break
        number, level = int(rng.integers(atlas.grounds)), int(rng.integers(len(COUNTS)))
        numbers, areas = np.unique(atlas.regions[number, level], return_counts=True)
        numbers = numbers[(areas > 0.004 * PHOTO**2) & (areas < 0.5 * PHOTO**2)]
        if not len(numbers):
            continue
        mask = (atlas.regions[number, level] == rng.choice(numbers)).astype(np.float32)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        alpha = cv2.GaussianBlur(mask, (0, 0), 1.5)[window]
        colour, alpha = atlas.photographs[number][window], np.clip(alpha * 3 - 1, 0, 1)
        wide, high = alpha.shape[1] * float(atlas.aspects[number]), float(alpha.shape[0])
        inner = (CELL - 2 * MARGIN) / max(wide, high)
        size = max(2, round(wide * inner)), max(2, round(high * inner))
        cell = np.zeros((CELL, CELL, 4), np.uint8)
        top, left = (CELL - size[1]) // 2, (CELL - size[0]) // 2
        piece = np.dstack(
            [
                cv2.resize(colour, size, interpolation=cv2.INTER_AREA),
                255 * cv2.resize(alpha, size, interpolation=cv2.INTER_AREA),
            ]
        )
        cell[top : top + size[1], left : left + size[0]] = piece.round().astype(np.uint8)
        out.append(cell)
    return out


def _blob(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A white shape with smooth edges, RGBA (CELL, CELL, 4): an ellipse, a polygon, a band or a blob."""
    out, inner = np.zeros((CELL, CELL), np.uint8), CELL / 2 - MARGIN
    kind = rng.random()
    if kind < 0.15:
        angles, reach = np.linspace(0, 2 * np.pi, 64, endpoint=False), np.ones(64)
    elif kind < 0.5:
        corners = int(rng.integers(3, 10))
        angles, reach = np.sort(rng.uniform(0, 2 * np.pi, corners)), rng.uniform(0.4, 1, corners)
    else:
        angles, reach = np.linspace(0, 2 * np.pi, 64, endpoint=False), np.ones(64)
        for wave in range(2, 8):
            reach = reach * (1 + rng.uniform(0, 0.6) / wave * np.cos(wave * angles + rng.uniform(0, 2 * np.pi)))
    points = reach[:, None] * np.stack([np.cos(angles), np.sin(angles) * (0.2 if 0.5 < kind < 0.6 else 1)], 1)
    points -= (points.max(0) + points.min(0)) / 2
    points = CELL / 2 + points * (inner / np.abs(points).max())
    cv2.fillPoly(out, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.dstack([np.full((CELL, CELL, 3), 255, np.uint8), out])
