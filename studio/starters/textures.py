"""Emoji as textures on a GPU, and scenes composed from them there: what the recipes of this package learn from.

`python -m studio.starters.textures FOLDER` draws the emoji of words.json once with the Noto Color Emoji font into
textures.webp and textures.json, so that a machine without the font can train.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SIDE = 72
COLUMNS = 32
HUES = 8
"""Turns of the hue by an eighth of a circle that a thing is also shown in."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "white", "black")
PLAIN = (
    (205, 52, 56), (240, 140, 40), (250, 214, 74), (84, 170, 88), (64, 124, 214), (136, 84, 184), (244, 168, 198),
    (128, 88, 60), (142, 146, 150), (250, 250, 250), (24, 24, 28),
)  # fmt: skip
"""RGB of the plain backgrounds, by COLOURS."""
MOSTLY_EMPTY = 0.05
"""A tile of which less is painted shows the outlined box of a glyph that the font lacks."""
DOMINANT = 0.55
"""A thing has a colour where at least this share of its pixels has it."""


@dataclass(frozen=True)
class Atlas:
    """tiles uint8 RGBA (T, SIDE, SIDE, 4), their emoji, and their colour at each turn of the hue (T, HUES), or -1."""

    tiles: NDArray[np.uint8]
    emoji: tuple[str, ...]
    colours: NDArray[np.int64]


def read(folder: Path) -> Atlas:
    """What `main` wrote."""
    found = json.loads((folder / "textures.json").read_text(encoding="utf-8"))
    with Image.open(folder / "textures.webp") as image:
        sheet = np.asarray(image.convert("RGBA"))
    tiles = [sheet[SIDE * (k // COLUMNS) :, SIDE * (k % COLUMNS) :][:SIDE, :SIDE] for k in range(len(found["emoji"]))]
    return Atlas(np.stack(tiles), tuple(found["emoji"]), np.array(found["colours"], np.int64))


def hue_matrix(turns: Tensor) -> Tensor:
    """Rotations of the hue about the grey axis by `turns` (N,) circles: (N, 3, 3) for RGB columns."""
    angle = 2 * math.pi * turns.float()
    c, s = angle.cos(), angle.sin()
    a, b, d = c + (1 - c) / 3, (1 - c) / 3 - math.sqrt(1 / 3) * s, (1 - c) / 3 + math.sqrt(1 / 3) * s
    return torch.stack([torch.stack(row, -1) for row in ((a, b, d), (d, a, b), (b, d, a))], -2)


class Painter:
    """Composes scenes on a device. The scenes themselves are drawn by chance elsewhere (`Scenes`)."""

    def __init__(self, atlas: Atlas, photos: Sequence[NDArray[np.uint8]], device: torch.device) -> None:
        tiles = torch.from_numpy(atlas.tiles).permute(0, 3, 1, 2).float() / 255
        tiles = torch.cat([tiles[:, :3] * tiles[:, 3:], tiles[:, 3:]], 1)  # premultiplied
        levels = [tiles]
        for factor in (2, 4):  # what a thing looks like from afar, so that small ones do not flicker
            small = F.avg_pool2d(tiles, factor)
            levels.append(F.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False))
        self.levels = torch.stack(levels).half().to(device)  # (3, T, 4, SIDE, SIDE)
        self.device = device
        squares = [np.asarray(Image.fromarray(p).resize((256, 256), Image.Resampling.LANCZOS)) for p in photos]
        stack = np.stack(squares) if squares else np.zeros((1, 256, 256, 3), np.uint8)
        self.photos = torch.from_numpy(stack).permute(0, 3, 1, 2).half().div(255).to(device)
        self.plain = torch.tensor(PLAIN, device=device).float() / 255

    @torch.no_grad()
    def paint(self, scene: Mapping[str, Tensor], size: int) -> Tensor:
        """Pictures (B, 3, size, size) in 0..1 of B scenes as `Scenes` draws them."""
        picture = self._ground(scene, size)
        things = scene["things"]
        for k in range(things.shape[1]):
            laid = self._laid(scene, k, size)
            colour, alpha = laid[:, :3], laid[:, 3:]
            picture = colour + (1 - alpha) * picture
        return picture.clamp(0, 1)

    def _laid(self, scene: Mapping[str, Tensor], k: int, size: int) -> Tensor:
        """The k-th thing of each scene, premultiplied RGBA (B, 4, size, size)."""
        thing = scene["things"][:, k]
        share, place = scene["shares"][:, k], scene["places"][:, k]  # longer side and middle, as shares of the side
        pixels = share * size
        level = (pixels < 0.75 * SIDE).long() + (pixels < 0.3 * SIDE).long()
        tile = self.levels[level, thing.clamp_min(0)]  # (B, 4, SIDE, SIDE)
        turn = scene["angles"][:, k]
        scale = 1 / share.clamp_min(0.01)
        c, s = turn.cos() * scale, turn.sin() * scale
        flip = torch.where(scene["flips"][:, k] > 0, -1.0, 1.0)
        x, y = place[:, 0] * 2 - 1, place[:, 1] * 2 - 1
        rows = torch.stack(
            [
                torch.stack([c * flip, s * flip, -(c * x + s * y) * flip], 1),
                torch.stack([-s, c, s * x - c * y], 1),
            ],
            1,
        )
        grid = F.affine_grid(rows, [len(thing), 4, size, size], align_corners=False)
        found = F.grid_sample(tile.float(), grid, mode="bilinear", align_corners=False)
        colour = torch.einsum("bij,bjhw->bihw", hue_matrix(scene["hues"][:, k] / HUES), found[:, :3])
        colour = (colour * scene["lights"][:, k, None, None, None]).clamp(min=0).minimum(found[:, 3:])
        return torch.cat([colour, found[:, 3:]], 1) * (thing >= 0)[:, None, None, None]

    def _ground(self, scene: Mapping[str, Tensor], size: int) -> Tensor:
        """Plain colours, or gradients, soft noise, stripes and photographs: all are drawn, `kind` takes one."""
        kind, count, device = scene["kind"], len(scene["kind"]), self.device
        a, b = torch.rand((2, count, 3, 1, 1), device=device)
        line = (torch.arange(size, device=device) + 0.5) / size - 0.5
        turn = torch.rand((count, 1, 1), device=device) * 2 * math.pi
        slope = turn.cos() * line + turn.sin() * line[:, None]  # (B, size, size)
        period = 4 / size + torch.rand((count, 1, 1), device=device) * 0.3
        stripes = ((slope / period * 2 * math.pi).sin() > 0).float()
        soft = F.interpolate(torch.rand((count, 1, 7, 7), device=device), (size, size), mode="bicubic")[:, 0]
        weight = torch.stack([torch.zeros_like(slope), slope + 0.5, soft, stripes], 1)
        which = (kind - 1).clamp(0, 3)
        chosen = weight[torch.arange(count, device=device), which][:, None]
        painted = a + (b - a) * (0.2 + 0.8 * torch.rand((count, 1, 1, 1), device=device)) * chosen
        painted = painted + torch.randn((count, 1, size, size), device=device) * 0.04 * torch.rand(
            (count, 1, 1, 1), device=device
        )
        zoom = 0.3 + 0.7 * torch.rand((count, 1, 1), device=device)
        shift = (torch.rand((count, 2, 1), device=device) * 2 - 1) * (1 - zoom)
        rows = torch.cat([torch.eye(2, device=device) * zoom, shift], 2)
        photo = F.grid_sample(
            self.photos[torch.randint(len(self.photos), (count,), device=device)].float(),
            F.affine_grid(rows, [count, 3, size, size], align_corners=False),
            mode="bilinear", padding_mode="reflection", align_corners=False,
        )  # fmt: skip
        named = self.plain[scene["ground"].clamp_min(0)][:, :, None, None].expand(-1, -1, size, size)
        kind = kind[:, None, None, None]
        return torch.where(kind == 0, named, torch.where(kind == 5, photo, painted))


def blurred_and_lit(pictures: Tensor) -> Tensor:
    """Small changes a camera or a codec makes, (B, 3, S, S) in 0..1: light, contrast, grain, a little blur."""
    count, device = len(pictures), pictures.device
    one = torch.rand((4, count, 1, 1, 1), device=device)
    soft = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(one[0] < 0.2, soft, pictures)
    x = (x - 0.5) * (0.85 + 0.3 * one[1]) + 0.5 + (one[2] - 0.5) * 0.12
    return (x + torch.randn_like(x) * 0.03 * one[3]).clamp(0, 1)


def dominant(tiles: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Index into COLOURS of what most pixels of each tile look like at each turn of the hue, (T, HUES); -1: none."""
    small = torch.from_numpy(tiles[:, 1::3, 1::3]).float() / 255  # (T, h, w, 4)
    found = []
    for turn in range(HUES):
        matrix = hue_matrix(torch.tensor([turn / HUES]))[0]
        rgb = torch.einsum("ij,thwj->thwi", matrix, small[..., :3]).clamp(0, 1)
        named = nearest_name(rgb)
        shares = torch.stack([((named == k) & (small[..., 3] > 0.5)).sum((1, 2)) for k in range(len(COLOURS))], 1)
        share, best = (shares / (small[..., 3] > 0.5).sum((1, 2)).clamp_min(1)[:, None]).max(1)
        found.append(torch.where(share >= DOMINANT, best, -1))
    return torch.stack(found, 1).numpy()


def nearest_name(rgb: Tensor) -> Tensor:
    """Index into COLOURS for RGB (..., 3) in 0..1, by hue, saturation and value as people name them."""
    high, low = rgb.amax(-1), rgb.amin(-1)
    spread = (high - low).clamp_min(1e-6)
    r, g, b = rgb.unbind(-1)
    hue = torch.where(
        high == r, (g - b) / spread % 6, torch.where(high == g, (b - r) / spread + 2, (r - g) / spread + 4)
    )
    hue = hue * 60
    bounds = torch.tensor([18.0, 38.0, 68.0, 165.0, 255.0, 290.0, 340.0], device=rgb.device)
    names = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0], device=rgb.device)
    name = names[torch.bucketize(hue, bounds)]
    pale_red = ((name == 0) | (hue < 22)) & (high > 0.8) & (spread / high.clamp_min(1e-6) < 0.45)
    name = torch.where(pale_red, 6, name)
    name = torch.where(((name == 1) | (name == 0)) & (high < 0.62) & (hue > 8) & (hue < 50), 7, name)
    grey = spread / high.clamp_min(1e-6) < 0.16
    tone = torch.where(high > 0.85, 9, torch.where(high < 0.25, 10, 8))
    return torch.where(grey | (high < 0.15), tone, name)


def main(folder: Path) -> None:
    from studio.starters import words
    from studio.train import world

    tiles, emoji = [], []
    for entry in words.entries():
        try:
            image = world.sticker(entry.emoji, SIDE - 2)
        except (TypeError, ValueError):  # no glyph: nothing to cut out
            continue
        tile = Image.new("RGBA", (SIDE, SIDE))
        tile.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
        if (np.asarray(tile)[..., 3] > 0).mean() < MOSTLY_EMPTY:
            continue
        tiles.append(np.asarray(tile))
        emoji.append(entry.emoji)
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.zeros((rows * SIDE, COLUMNS * SIDE, 4), np.uint8)
    for k, one in enumerate(tiles):
        sheet[SIDE * (k // COLUMNS) :, SIDE * (k % COLUMNS) :][:SIDE, :SIDE] = one * (one[..., 3:] > 0)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(folder / "textures.webp", quality=88, method=4)
    told: dict[str, Any] = {"emoji": emoji, "colours": dominant(np.stack(tiles)).tolist()}
    (folder / "textures.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
