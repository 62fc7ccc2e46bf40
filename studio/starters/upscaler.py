"""Recipe: the starter enlargers, twice and four times, for clean photographs and for noisy or compressed ones.

    python -m studio.starters.upscaler --out OUT --seconds 480

Four small SRVGG networks learn side by side from the same pieces of the photographs that scikit-image and scikit-learn
bring along: the clean ones from pieces made smaller by an antialiased bicubic filter, the others from pieces that are
blurred, made smaller, grained and compressed as JPEG does it.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from studio.nets.srvgg import SrvggCompact, build
from studio.starters import budget

WIDTH, LAYERS = 48, 11
PIECE = 128
SCALES = (2, 4)
KINDS = ("clean", "damaged")
NAMES = tuple(f"{kind}-x{scale}" for kind in KINDS for scale in SCALES)
PACKAGES = {
    "skimage": ("data", (
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
        "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png",
        "retina.jpg", "rocket.jpg",
    )),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
}  # fmt: skip
SHRUNK = (1.0, 0.7, 0.5)
"""Every photograph is also learned from smaller, where it is sharper than its lens and sensor were."""
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 8 for _ in range(4)),
)  # fmt: skip
"""Quantisation of JPEG at quality 50 (ITU-T T.81, annex K)."""


def photographs(folder: Path | None = None) -> list[NDArray[np.uint8]]:
    """RGB uint8 (H, W, 3), from the packages or, where given, from a folder of the same files."""
    files = []
    for package, (inside, names) in PACKAGES.items():
        if folder is None:
            spec = importlib.util.find_spec(package)
            place = Path(spec.origin).parent / inside if spec is not None and spec.origin else Path()
        else:
            place = folder
        files += [place / name for name in names if (place / name).is_file()]
    found = []
    for file in files:
        with Image.open(file) as image:
            found.append(np.asarray(image.convert("RGB")))
    return found


class Pieces:
    """Squares of photographs on a device, by chance, turned and mirrored: (N, 3, PIECE, PIECE) in 0..1."""

    def __init__(self, photos: Sequence[NDArray[np.uint8]], device: torch.device) -> None:
        flat, offsets, shapes = [], [], []
        total = 0
        for photo, share in itertools.product(photos, SHRUNK):
            size = (round(photo.shape[1] * share), round(photo.shape[0] * share))
            if min(size) <= PIECE:
                continue
            small = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)) if share < 1 else photo
            flat.append(small.reshape(-1, 3))
            offsets.append(total)
            shapes.append(small.shape[:2])
            total += small.shape[0] * small.shape[1]
        self.pixels = torch.from_numpy(np.concatenate(flat)).to(device)
        self.offsets = torch.tensor(offsets, device=device)
        self.shapes = torch.tensor(shapes, device=device)
        areas = (self.shapes.float() - PIECE).prod(1)
        self.weights = areas.sqrt()
        self.device = device

    @torch.no_grad()
    def draw(self, count: int) -> Tensor:
        which = torch.multinomial(self.weights, count, replacement=True)
        room = self.shapes[which] - PIECE  # (N, 2)
        corner = (torch.rand((count, 2), device=self.device) * (room + 1)).long().minimum(room)
        line = torch.arange(PIECE, device=self.device)
        rows, columns = corner[:, :1] + line, corner[:, 1:] + line
        index = self.offsets[which][:, None, None] + rows[:, :, None] * self.shapes[which][:, 1][:, None, None]
        pieces = self.pixels[index + columns[:, None, :]].permute(0, 3, 1, 2).float() / 255
        chance = torch.rand((3, count, 1, 1, 1), device=self.device) < 0.5
        pieces = torch.where(chance[0], pieces.flip(2), pieces)
        pieces = torch.where(chance[1], pieces.flip(3), pieces)
        pieces = torch.where(chance[2], pieces.transpose(2, 3), pieces)
        light = 0.7 + 0.5 * torch.rand((count, 1, 1, 1), device=self.device)
        return torch.where(torch.rand_like(light) < 0.3, (pieces * light).clamp(0, 1), pieces)


def smaller(pictures: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic, rounded to 8 bits."""
    small = F.interpolate(pictures, scale_factor=1 / scale, mode="bicubic", antialias=True, align_corners=False)
    return small.clamp(0, 1).mul(255).round().div(255)


@torch.no_grad()
def damaged(pictures: Tensor, scale: int) -> Tensor:
    """Made smaller after a blur, grained and compressed, each more or less; a tenth stays clean."""
    count, device = len(pictures), pictures.device
    chance = torch.rand((6, count, 1, 1, 1), device=device)
    small = smaller(blurred(pictures, chance[0] * 0.5 * scale), scale)
    grey = torch.randn((count, 1, *small.shape[2:]), device=device)
    colour = torch.randn(small.shape, device=device)
    sigma = chance[1] ** 2 * 30 / 255 * (chance[2] < 0.8)
    noisy = (small + sigma * torch.where(chance[3] < 0.4, grey, colour)).clamp(0, 1)
    quality = 25 + 70 * chance[4].flatten()
    worse = torch.where(chance[5] < 0.8, jpeg(noisy, quality), noisy)
    return worse.mul(255).round().div(255)


def blurred(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian of sigma (N, 1, 1, 1) pixels, of which less than 0.2 is none."""
    reach = torch.arange(-4, 5, device=pictures.device).float()
    kernel = torch.exp(-(reach**2) / (2 * sigma.reshape(-1, 1).clamp_min(0.15) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # (3 N, 9)
    x = F.pad(pictures, (4, 4, 4, 4), mode="reflect").flatten(0, 1)[None]
    x = F.conv2d(x, kernel[:, None, :, None], groups=len(kernel))
    x = F.conv2d(x, kernel[:, None, None, :], groups=len(kernel))
    return x.view(pictures.shape)


def jpeg(pictures: Tensor, quality: Tensor) -> Tensor:
    """What baseline JPEG with halved colour leaves of (N, 3, H, W) in 0..1 at `quality` (N,) of 1..100; sides / 16."""
    k = torch.arange(8, device=pictures.device).float()
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    r, g, b = (pictures * 255).unbind(1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    chroma = F.avg_pool2d(torch.stack([(b - luma) * 0.564, (r - luma) * 0.713], 1), 2)

    def coded(plane: Tensor, table: Any) -> Tensor:
        """(N, H, W), centred on 0."""
        count, height, width = plane.shape
        step = (torch.tensor(table, device=plane.device).float() * scale[:, None, None]).round().clamp(1, 255)
        blocks = plane.view(count, height // 8, 8, width // 8, 8).transpose(2, 3)
        found = basis @ blocks @ basis.T
        step = step[:, None, None]
        back = basis.T @ ((found / step).round() * step) @ basis
        return back.transpose(2, 3).reshape(count, height, width)

    luma = coded(luma - 128, LUMA) + 128
    blue, red = (
        F.interpolate(coded(chroma[:, i], CHROMA)[:, None], scale_factor=2, mode="nearest")[:, 0] for i in (0, 1)
    )
    rgb = torch.stack([luma + 1.403 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.773 * blue], 1)
    return (rgb / 255).clamp(0, 1)


def train(given: Any, photos: Path | None = None, batch: int = 48, rate: float = 1e-3) -> Path:
    """Trains as `budget.arguments` says and writes `out`/upscaler.pt."""
    device = budget.prepare(given.device, given.seed)
    journal, path = budget.Journal(given.out / "upscaler.log"), given.out / "upscaler.pt"
    found = photographs(photos)
    pieces = Pieces(found, device)
    journal(f"{len(found)} photographs")
    nets = {name: SrvggCompact(scale=int(name[-1]), width=WIDTH, layers=LAYERS).to(device) for name in NAMES}
    for net in nets.values():
        torch.nn.init.normal_(net.body[-1].weight, std=1e-3)
        torch.nn.init.zeros_(net.body[-1].bias)
    everything = torch.nn.ModuleDict(nets)

    def loss(progress: float, share: float) -> tuple[Tensor, Mapping[str, Tensor], int]:
        count = max(1, round((2 if given.tiny else batch) * share))
        wanted, losses = pieces.draw(count), {}
        for name, net in nets.items():
            with torch.no_grad():
                small = {"clean": smaller, "damaged": damaged}[name.split("-")[0]](wanted, net.scale)
            with budget.fast(device):
                made = net(small.contiguous(memory_format=torch.channels_last))
            losses[name] = ((made.float() - wanted).square() + 1e-6).sqrt().mean()
        return torch.stack(list(losses.values())).sum(), losses, count

    def keep() -> None:
        budget.save({"weights": budget.half(everything.state_dict())}, path)

    plan = budget.Budget(given.seconds, rate=rate, weight_decay=0.0, warmup=100, ema=0.999, steps=given.steps)
    # Untrained, the networks answer with enlarged pixels: that is the trivial answer.
    guard = budget.Guard("upscaler")
    budget.descend(everything, loss, plan, journal, keep, lambda: "kept", guard=guard)
    return path


def networks(saved: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Names and weights of the four in what `train` saved."""
    weights = torch.load(saved, weights_only=True, map_location="cpu")["weights"]
    for name in NAMES:
        yield name, {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}


def export(saved: Path, folder: Path) -> None:
    """`folder`/NAME.safetensors for each, half precision, with the published keys."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, weights in networks(saved):
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / f"{name}.safetensors")


@torch.no_grad()
def evaluate(saved: Path, pictures: Path, crop: int = 512) -> dict[str, Any]:
    """PSNR in dB on the middle (crop, crop) of a folder's pictures: bicubic, the network, both without a margin of 4.

    Clean: made smaller by Pillow's antialiased bicubic. Damaged: grain of deviation 10 and JPEG of quality 50 besides.
    """
    import io

    found: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for name, weights in networks(saved):
        net, rows = build(weights), []
        for file in sorted(pictures.iterdir()):
            with Image.open(file) as image:
                full = image.convert("RGB")
            side = min(crop, *(extent // 16 * 16 for extent in full.size))
            left, top = ((extent - side) // 2 for extent in full.size)
            full = full.crop((left, top, left + side, top + side))
            small = full.resize((side // net.scale,) * 2, Image.Resampling.BICUBIC)
            if name.startswith("damaged"):
                noisy = np.clip(np.asarray(small, np.float32) + rng.normal(0, 10, (*small.size[::-1], 3)), 0, 255)
                Image.fromarray(noisy.round().astype(np.uint8)).save(buffer := io.BytesIO(), "JPEG", quality=50)
                small = Image.open(buffer).convert("RGB")
            made = net(torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255)[0]
            ours = (made.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            plain = np.asarray(small.resize(full.size, Image.Resampling.BICUBIC))
            rows.append([psnr(plain, np.asarray(full)), psnr(ours, np.asarray(full))])
        bicubic, ours_db = np.mean(rows, 0)
        found[name] = {"bicubic": round(bicubic, 2), "network": round(ours_db, 2), "gain": round(ours_db - bicubic, 2)}
    return found


def psnr(made: NDArray[np.uint8], wanted: NDArray[np.uint8], margin: int = 4) -> float:
    """In dB over RGB, without `margin` pixels at the border."""
    off = made[margin:-margin, margin:-margin].astype(np.float64) - wanted[margin:-margin, margin:-margin]
    return float(10 * np.log10(255**2 / np.square(off).mean()))


def main() -> None:
    parser = budget.arguments(__doc__)
    parser.add_argument("--photographs", type=Path, help="a folder with the packages' files")
    parser.add_argument("--evaluate", type=Path, help="measure OUT/upscaler.pt on this folder's pictures and stop")
    parser.add_argument("--export", type=Path, help="write the networks of OUT/upscaler.pt into this folder and stop")
    given = parser.parse_args()
    if given.export is not None:
        export(given.out / "upscaler.pt", given.export)
    elif given.evaluate is not None:
        print(json.dumps(evaluate(given.out / "upscaler.pt", given.evaluate), indent=1))  # noqa: T201 - a command's answer
    else:
        train(given, given.photographs)


if __name__ == "__main__":
    main()
