"""Scenes to pictures, many at once, on any torch device: stickers by bilinear sampling from three sizes, alpha over."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from studio.starters.text_to_image.scenes import Scene
from studio.starters.text_to_image.vocabulary import COLOURS, TINTS

TEXTURE_PX = 384
SLOTS = 4
STAR_FIELDS = 4


def pack(pictures: Sequence[Image.Image], file: Path) -> None:
    """Writes stickers (RGBA, any size) as `file`, a zip of WebPs: cut to what is visible, longer side TEXTURE_PX."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, picture in enumerate(pictures):
            image = picture.convert("RGBA")
            image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())
            scale = TEXTURE_PX / max(image.size)
            shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            held = io.BytesIO()
            image.convert("RGBa").resize(shape, Image.Resampling.LANCZOS).convert("RGBA").save(held, "WEBP", lossless=True, quality=90)
            archive.writestr(f"{number:03}.webp", held.getvalue())


def unpack(file: Path) -> list[Image.Image]:
    """The stickers of `pack`, RGBA."""
    with zipfile.ZipFile(file) as archive:
        return [Image.open(io.BytesIO(archive.read(name))).convert("RGBA") for name in sorted(archive.namelist())]


class Batch:
    """Scenes as arrays, which is how processes and devices exchange them.

    Attributes:
        sprites: float32 (N, SLOTS, 5): thing (-1: none), x, y, size, tint (-1: none).
        grounds: float32 (N, 13): three RGB bands 0..255, first, second, softness, stars.
    """

    def __init__(self, sprites: NDArray[np.float32], grounds: NDArray[np.float32]) -> None:
        self.sprites, self.grounds = sprites, grounds

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Batch:
        sprites = np.full((len(scenes), SLOTS, 5), -1, np.float32)
        grounds = np.zeros((len(scenes), 13), np.float32)
        for i, scene in enumerate(scenes):
            for slot, sprite in enumerate(scene.sprites[:SLOTS]):
                sprites[i, slot] = sprite
            ground = scene.ground
            grounds[i] = (*ground.top, *ground.middle, *ground.bottom, *ground[3:])
        return cls(sprites, grounds)


class Compositor:
    """Paints batches.

    Args:
        stickers: RGBA pictures, in the order of `vocabulary.THINGS`.
        device: where textures lie and pictures are made.
    """

    def __init__(self, stickers: Sequence[Image.Image], device: torch.device) -> None:
        self._device = device
        full = np.zeros((len(stickers), TEXTURE_PX, TEXTURE_PX, 4), np.uint8)
        for i, image in enumerate(stickers):
            scale = TEXTURE_PX / max(image.size)
            shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            if image.size != shape:
                image = image.convert("RGBa").resize(shape, Image.Resampling.LANCZOS).convert("RGBA")
            left, top = (TEXTURE_PX - image.width) // 2, (TEXTURE_PX - image.height) // 2
            full[i, top : top + image.height, left : left + image.width] = np.asarray(image)
        levels = []
        rgba = torch.from_numpy(full).to(device).permute(0, 3, 1, 2).half().div_(255)
        rgba[:, :3] *= rgba[:, 3:]  # premultiplied: no dark seam where a sticker ends
        for _ in range(3):
            levels.append(rgba)
            rgba = F.avg_pool2d(rgba.float(), 2).half()
        self._levels = levels
        tints = torch.tensor([COLOURS[name] for name in TINTS], dtype=torch.float32, device=device) / 255
        self._tints = tints[:, :, None, None]
        self._stars = _star_fields().to(device)

    def paint(self, batch: Batch, size: int) -> Tensor:
        """Pictures float32 (N, 3, size, size) in [-1, 1]."""
        grounds = torch.from_numpy(batch.grounds).to(self._device)
        canvas = self._ground(grounds, size)
        for slot in range(SLOTS):
            sprites = batch.sprites[:, slot]
            rows = np.flatnonzero(sprites[:, 0] >= 0)
            pixels = sprites[rows, 3] * size
            level = np.clip(np.round(np.log2(TEXTURE_PX / np.maximum(pixels, 1))), 0, 2).astype(int)
            for number in range(3):
                chosen = rows[level == number]
                if len(chosen):
                    self._over(canvas, torch.from_numpy(sprites[chosen]).to(self._device), chosen, number, size)
        return canvas.mul_(2).sub_(1)

    def _ground(self, grounds: Tensor, size: int) -> Tensor:
        y = ((torch.arange(size, device=self._device) + 0.5) / size)[None, None, :, None]
        top, middle, bottom = (grounds[:, 3 * i : 3 * i + 3, None, None] / 255 for i in range(3))
        first, second, softness, stars = (grounds[:, 9 + i, None, None, None] for i in range(4))
        width = softness.clamp(min=1e-3)
        upper = ((y - first) / width + 0.5).clamp(0, 1)
        lower = ((y - second) / width + 0.5).clamp(0, 1)
        bands = top + (middle - top) * upper
        bands = bands + (bottom - bands) * lower
        canvas = bands.expand(-1, -1, -1, size).contiguous()
        which = (grounds[:, :9].sum(1).long() % STAR_FIELDS)[:, None, None, None]
        shine = F.interpolate(self._stars, size=(size, size), mode="area").gather(0, which.expand(-1, 1, size, size))
        return torch.where(stars > 0, torch.maximum(canvas, shine * stars), canvas)

    def _over(self, canvas: Tensor, sprites: Tensor, rows: NDArray[np.intp], level: int, size: int) -> None:
        """Lays one sprite on each of the canvases `rows`."""
        textures = self._levels[level][sprites[:, 0].long()].float()
        tinted = sprites[:, 4] >= 0
        if bool(tinted.any()):
            textures = torch.where(tinted[:, None, None, None], self._tinted(textures, sprites[:, 4]), textures)
        x, y, side = sprites[:, 1], sprites[:, 2], sprites[:, 3]
        theta = torch.zeros(len(sprites), 2, 3, device=self._device)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / side
        theta[:, 0, 2], theta[:, 1, 2] = (1 - 2 * x) / side, (1 - 2 * y) / side
        grid = F.affine_grid(theta, [len(sprites), 4, size, size], align_corners=False)
        layer = F.grid_sample(textures, grid, align_corners=False)
        index = torch.from_numpy(rows).to(self._device)
        canvas[index] = layer[:, :3] + canvas[index] * (1 - layer[:, 3:])

    def _tinted(self, textures: Tensor, tint: Tensor) -> Tensor:
        """The sticker in one colour, its light and dark kept: four parts of the colour, one of its own."""
        colour = self._tints[tint.long().clamp(min=0)]
        alpha = textures[:, 3:]
        light = (textures[:, :3] * textures.new_tensor((0.3, 0.59, 0.11))[:, None, None]).sum(1, keepdim=True)
        painted = torch.minimum(colour * (0.3 * alpha + 0.95 * light), alpha)
        return torch.cat([0.8 * painted + 0.2 * textures[:, :3], alpha], 1)


def _star_fields() -> Tensor:
    """Points of light, float32 (STAR_FIELDS, 1, 512, 512)."""
    rng = np.random.default_rng(0)
    fields = np.zeros((STAR_FIELDS, 1, 512, 512), np.float32)
    for field in fields[:, 0]:
        for y, x, light, half in zip(
            rng.integers(4, 508, 60), rng.integers(4, 508, 60), rng.uniform(0.5, 1, 60), rng.integers(1, 3, 60), strict=True
        ):
            field[y - half : y + half, x - half : x + half] = light
    return torch.from_numpy(fields)
