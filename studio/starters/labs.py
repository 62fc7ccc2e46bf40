"""Recipes: the starters of the labs, on a GPU: VAE, DCGAN and StyleGAN of faces, a DDPM of sixty things by name.

    python -m studio.starters.labs stylegan --out OUT --seconds 480
    python -m studio.starters.labs stylegan --out OUT --export models/starter-stylegan

The networks and losses are those of `studio.train`; here stickers are laid on their grounds by the device itself, no
number leaves it but now and then, and batches are larger. What is saved goes through the trainer's own export.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from studio.nets import coders
from studio.nets.denoiser import Config, Denoiser
from studio.nets.gan import ConvDiscriminator, ConvGenerator
from studio.nets.stylegan2 import ResidualDiscriminator, StyleGenerator
from studio.nets.vae import gaussian_error, kl_per_latent
from studio.ops import reverse
from studio.starters import budget
from studio.train import sources
from studio.train.gan_losses import LOSSES, real_penalty

SHOWN = 36
"""Samples on the sheet, a square number."""
WALK = 50
"""Steps of the denoiser to a sample."""


class Stickers:
    """Stickers on plain colours as `sources.stickers` places them, drawn by chance on a device."""

    def __init__(self, group: str, size: int, device: torch.device) -> None:
        atlas = sources.atlas()
        chosen = atlas.members(group)
        self.names = tuple(atlas.names[k] for k in chosen)
        tiles = torch.from_numpy(atlas.stickers[chosen]).permute(0, 3, 1, 2).float() / 255
        self.tiles = torch.cat([tiles[:, :3] * tiles[:, 3:], tiles[:, 3:]], 1).to(device)
        self.grounds = torch.tensor(sources.BACKGROUNDS, device=device).float() / 255
        self.size, self.device = size, device

    @torch.no_grad()
    def draw(self, count: int, between: float = 0.0) -> tuple[Tensor, Tensor]:
        """Pictures (count, 3, size, size) in -1..1 and their labels. A share `between` has a ground between two."""
        labels = torch.randint(len(self.tiles), (count,), device=self.device)
        u = torch.rand((5, count), device=self.device) * 2 - 1
        turn, scale = u[0] * (8 * torch.pi / 180), 1 / (0.87 + 0.05 * u[1])
        c, s = turn.cos() * scale, turn.sin() * scale
        x, y = u[2] * 0.06, u[3] * 0.06
        rows = torch.stack([torch.stack([c, -s, s * y - c * x], 1), torch.stack([s, c, -s * x - c * y], 1)], 1)
        fine = 2 * self.size
        grid = F.affine_grid(rows, [count, 4, fine, fine], align_corners=False)
        laid = F.avg_pool2d(F.grid_sample(self.tiles[labels], grid, align_corners=False), 2)
        ground = self.grounds[torch.randint(len(self.grounds), (count,), device=self.device)]
        other = self.grounds[torch.randint(len(self.grounds), (count,), device=self.device)]
        share = torch.rand((count, 1), device=self.device) * (u[4] < 2 * between - 1)[:, None]
        ground = ground.lerp(other, share)
        picture = laid[:, :3] + (1 - laid[:, 3:]) * ground[:, :, None, None]
        return picture.clamp(0, 1).mul(255).round().div(127.5).sub(1), labels


class Follower:
    """The running average of a network, buffers too, which is the result."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net, self.decay = copy.deepcopy(net).requires_grad_(False).eval(), decay
        mine, theirs = self.net.state_dict(), net.state_dict()
        names = [name for name, value in mine.items() if value.is_floating_point()]
        self.mine, self.theirs = [mine[n] for n in names], [theirs[n] for n in names]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        torch._foreach_lerp_(self.mine, self.theirs, 1 - min(self.decay, (1 + step) / (10 + step)))


@dataclass
class Lesson:
    """One network in training. `step` updates it at a share of the peak rates and tells losses, still on the device."""

    step: Callable[[int, float], Mapping[str, Tensor]]
    parts: Callable[[], dict[str, dict[str, Tensor]]]
    show: Callable[[], Tensor]
    """SHOWN samples (N, 3, S, S) in -1..1."""


def vae(stickers: Stickers, options: Mapping[str, Any]) -> Lesson:
    net = coders.build("vae", {"size": options["size"], "width": options["width"], "latents": options["latents"]})
    net.to(stickers.device)
    average = Follower(net, 0.999)
    optimizer = _adam(net, options["rate"], (0.9, 0.99))

    def step(number: int, rate: float) -> Mapping[str, Tensor]:
        x, _ = stickers.draw(options["batch"], between=0.3)
        mean, log_variance = posterior = net.posterior(x)
        made = net.pictures(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        error = gaussian_error(made, x, options["deviation"]).mean()
        divergence = kl_per_latent(posterior).sum(1).mean()
        warm = min(1.0, (number + 1) / options["warm_up"])
        loss = (error + options["beta"] * warm * divergence) / x[0].numel()
        _descend([(net, optimizer)], loss, rate * options["rate"])
        average.follow(number)
        off = (made - x).square().mean().detach()
        return {"error": off, "psnr": -10 * torch.log10(off / 4), "kl": divergence.detach()}

    def show() -> Tensor:
        torch.manual_seed(0)
        return average.net.pictures(torch.randn((SHOWN, options["latents"]), device=stickers.device))

    return Lesson(step, lambda: {"net": average.net.state_dict()}, show)


def _against(
    stickers: Stickers,
    options: Mapping[str, Any],
    generator: nn.Module,
    discriminator: nn.Module,
    make: Callable[[nn.Module, Tensor], Tensor],
    r1: float,
    r1_every: int,
) -> Lesson:
    """The game of `studio.train.gan`, with R1 on real pictures every so many updates."""
    generator, discriminator = generator.to(stickers.device), discriminator.to(stickers.device)
    average = Follower(generator, 0.999)
    betas = (options["momentum"], 0.99)
    rate, loss = options["rate"], LOSSES["non-saturating"]
    g_optimizer, d_optimizer = _adam(generator, rate, betas), _adam(discriminator, rate, betas)

    def noise() -> Tensor:
        return torch.randn((options["batch"], options["noise"]), device=stickers.device)

    def step(number: int, share: float) -> Mapping[str, Tensor]:
        real, _ = stickers.draw(options["batch"])
        with torch.no_grad():
            fake = make(generator, noise())
        discriminator.requires_grad_(True)
        scores, others = discriminator(shifted(real)).scores, discriminator(shifted(fake)).scores
        wrong_d = loss.discriminator(scores, others, 0.0)
        total = wrong_d
        if number % r1_every == 0:
            total = total + real_penalty(discriminator, real) * (r1 / 2 * r1_every)
        _descend([(discriminator, d_optimizer)], total, share * rate)
        discriminator.requires_grad_(False)
        wrong_g = loss.generator(discriminator(shifted(make(generator, noise()))).scores)
        _descend([(generator, g_optimizer)], wrong_g, share * rate)
        average.follow(number)
        told = {
            "loss_d": wrong_d,
            "loss_g": wrong_g,
            "d_real": scores.sigmoid().mean(),
            "d_fake": others.sigmoid().mean(),
            # How alike the generator's pictures are: 0 as different as real ones, 1 all the same.
            "sameness": 1 - fake.std(0).mean() / real.std(0).mean(),
        }
        return {name: value.detach() for name, value in told.items()}

    def show() -> Tensor:
        torch.manual_seed(0)
        made: Tensor = average.net(torch.randn((SHOWN, options["noise"]), device=stickers.device))
        return made

    def parts() -> dict[str, dict[str, Tensor]]:
        return {"average": average.net.state_dict(), "discriminator": discriminator.state_dict()}

    return Lesson(step, parts, show)


def shifted(pictures: Tensor) -> Tensor:
    """DiffAugment's shift (`gan_losses`), with chance from the pictures' device."""
    batch, _, height, width = pictures.shape
    reach, device = height // 8, pictures.device
    rows, columns = torch.randint(0, 2 * reach + 1, (2, batch), device=device)
    padded = F.pad(pictures, (reach,) * 4, mode="replicate").permute(0, 2, 3, 1)
    down = torch.arange(height, device=device)[None, :, None] + rows[:, None, None]
    right = torch.arange(width, device=device)[None, None, :] + columns[:, None, None]
    return padded[torch.arange(batch, device=device)[:, None, None], down, right].permute(0, 3, 1, 2)


def dcgan(stickers: Stickers, options: Mapping[str, Any]) -> Lesson:
    sizes = {name: options[name] for name in ("size", "width")}
    return _against(
        stickers,
        options,
        ConvGenerator(noise=options["noise"], **sizes),
        ConvDiscriminator(norm=options["norm"], **sizes),
        lambda net, z: net(z),
        r1=0.5,
        r1_every=8,
    )


def stylegan(stickers: Stickers, options: Mapping[str, Any]) -> Lesson:
    sizes = {name: options[name] for name in ("size", "width")}
    generator = StyleGenerator(noise=options["noise"], style=options["style"], **sizes)
    discriminator = ResidualDiscriminator(**sizes)

    def make(net: nn.Module, z: Tensor) -> Tensor:
        """Some rows switch to another style from a random layer on; all noise is new."""
        assert isinstance(net, StyleGenerator)
        w, other = net.mapping(z), net.mapping(torch.randn_like(z))
        net.mapping.follow(w.detach(), 0.998)
        count = net.synthesis.count
        switch = torch.randint(1, count, (len(z),), device=z.device)
        first = torch.where(torch.rand(len(z), device=z.device) < options["mixing"], switch, count)[:, None, None]
        after = torch.arange(count, device=z.device)[None, :, None] >= first
        styles = torch.where(after, other[:, None], net.styles(w))
        x, picture = net.synthesis.constant.expand(len(z), -1, -1, -1), None
        for i, layer in enumerate(net.synthesis.layers):
            x = layer(x, styles[:, i], torch.randn((len(z), 1, layer.side, layer.side), device=z.device))
            if i % 2 == 0:
                added = net.synthesis.rgb[i // 2](x, styles[:, i])
                picture = added if picture is None else _enlarged(picture) + added
        assert picture is not None
        return picture + net.synthesis.shade[:, None, None]

    return _against(stickers, options, generator, discriminator, make, r1=options["r1"], r1_every=options["r1_every"])


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def ddpm(stickers: Stickers, options: Mapping[str, Any]) -> Lesson:
    config = Config("ddpm", options["size"], stickers.names, options["width"], classifier=True)
    net = Denoiser(config).to(stickers.device)
    average = Follower(net, 0.999)
    optimizer = _adam(net, options["rate"], (0.9, 0.99))
    kept = torch.from_numpy(config.noise_schedule().kept.astype(np.float32)).to(stickers.device)
    count, none = options["batch"], len(stickers.names)

    def step(number: int, rate: float) -> Mapping[str, Tensor]:
        clean, labels = stickers.draw(count)
        told = torch.where(torch.rand(count, device=clean.device) < options["label_dropout"], none, labels)
        u = (torch.arange(count, device=clean.device) + torch.rand(count, device=clean.device)) / count
        level = (u * len(kept)).long().clamp(max=len(kept) - 1)
        signal = kept[level][:, None, None, None]
        noise = torch.randn_like(clean)
        x, time = signal.sqrt() * clean + (1 - signal).sqrt() * noise, (level + 1) / len(kept)
        error = (net(x, time, told) - noise).square().mean()
        assert net.classifier is not None
        wrong = F.cross_entropy(net.classifier(x, time), labels)
        _descend([(net, optimizer)], error + 0.1 * wrong, rate * options["rate"])
        average.follow(number)
        return {"error": error.detach(), "classifier": wrong.detach()}

    def show() -> Tensor:
        shown = [k * none // SHOWN for k in range(SHOWN)]
        start, rng = reverse.start((SHOWN, 3, config.size, config.size), 0)
        walk = reverse.ddim(average.net.predictor(shown, guidance=2.0), start, config.noise_schedule(), WALK, rng)
        return torch.from_numpy([moment.x for moment in walk][-1])

    return Lesson(step, lambda: {"average": average.net.state_dict()}, show)


def _adam(net: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    on_gpu = next(net.parameters()).device.type == "cuda"
    return torch.optim.Adam(net.parameters(), lr=rate, betas=betas, fused=on_gpu)


def _descend(pairs: list[tuple[nn.Module, torch.optim.Optimizer]], loss: Tensor, rate: float) -> None:
    """One step down; gradients longer than 1 (10 in a game, whose losses are sums) are shortened, NaN takes none."""
    for _, optimizer in pairs:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for net, optimizer in pairs:
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


@dataclass(frozen=True)
class Starter:
    """A recipe: how it is taught, on which pictures, with which options, and the trainee that exports it."""

    teach: Callable[[Stickers, Mapping[str, Any]], Lesson]
    recipe: str
    """Name in `studio.train.recipes`."""
    group: str
    options: Mapping[str, Any]
    watched: str
    """The number that must fall below `trivial`, or below the pictures' own variance (see `budget.Guard`)."""
    trivial: float | None


STARTERS: Mapping[str, Starter] = {
    "vae": Starter(vae, "vae", "smileys", {
        "size": 64, "width": 32, "latents": 24, "batch": 128, "rate": 1e-3, "ema": 0.999, "beta": 1.0,
        "deviation": 0.25, "warm_up": 500,
    }, "error", None),
    "dcgan": Starter(dcgan, "dcgan", "smileys", {
        "size": 64, "width": 24, "noise": 64, "batch": 96, "rate": 3e-4, "ema": 0.999, "momentum": 0.5, "norm": "layer",
    }, "sameness", 0.5),
    "stylegan": Starter(stylegan, "stylegan2", "smileys", {
        "size": 64, "width": 24, "noise": 64, "style": 64, "batch": 64, "rate": 3e-3, "ema": 0.999, "momentum": 0.0,
        "mixing": 0.3, "r1": 0.5, "r1_every": 8,
    }, "sameness", 0.5),
    "ddpm": Starter(ddpm, "ddpm", "favourites", {
        "size": 64, "width": 48, "batch": 192, "rate": 1e-3, "ema": 0.999, "label_dropout": 0.15,
    }, "error", 1.0),
    "ddpm-32": Starter(ddpm, "ddpm", "favourites", {
        "size": 32, "width": 48, "batch": 192, "rate": 1e-3, "ema": 0.999, "label_dropout": 0.15,
    }, "error", 1.0),
}  # fmt: skip


def train(starter: Starter, given: Any) -> Path:
    """Trains as `budget.arguments` says and writes `out`/NAME.pt and a sheet of samples."""
    device = budget.prepare(given.device, given.seed)
    journal, path = budget.Journal(given.out / f"{given.name}.log"), given.out / f"{given.name}.pt"
    options = {**starter.options, **({"batch": 4} if given.tiny else {})}
    stickers = Stickers(starter.group, options["size"], device)
    lesson = starter.teach(stickers, options)
    # What the mean picture leaves, where nothing else is trivial.
    trivial = starter.trivial or float(stickers.draw(64)[0].var(0).mean())
    plan, guard = budget.Budget(given.seconds, warmup=200, steps=given.steps), budget.Guard(given.name, trivial)
    step, told_at, kept_at = 0, time.monotonic(), time.monotonic()
    while (progress := plan.progress(step)) < 1:
        told = lesson.step(step, plan.scale(step, progress))
        guard.see(float(told[starter.watched]), progress)
        step += 1
        if time.monotonic() - told_at > 20:
            told_at = time.monotonic()
            journal(f"step {step} " + " ".join(f"{name} {float(value):.4f}" for name, value in told.items()))
        if time.monotonic() - kept_at > plan.keep_s:
            kept_at = time.monotonic()
            keep(starter, lesson, path, step)
    keep(starter, lesson, path, step)
    journal(f"done: {step} steps")
    return path


@torch.no_grad()
def keep(starter: Starter, lesson: Lesson, path: Path, step: int) -> None:
    """Weights in half precision (running statistics in full), and a sheet of samples beside them."""
    parts = {part: budget.half(state) for part, state in lesson.parts().items()}
    budget.save({"parts": parts, "options": dict(starter.options), "steps": step}, path)
    with torch.random.fork_rng():
        made = lesson.show().clamp(-1, 1).cpu()
    side, rows = made.shape[2], math.isqrt(len(made))
    sheet = made.add(1).mul(127.5).round().byte().reshape(rows, rows, 3, side, side).permute(0, 3, 1, 4, 2)
    Image.fromarray(sheet.reshape(rows * side, rows * side, 3).numpy()).save(path.with_suffix(".png"))


def export(starter: Starter, saved: Path, folder: Path, seed: int = 0) -> dict[str, Any]:
    """A model's folder from what `train` saved, written by the lab's own trainee; returns its facts, measured anew."""
    import importlib

    from studio.train import data as datasets
    from studio.train import recipes

    state = torch.load(saved, weights_only=True, map_location="cpu")
    recipe = recipes.find(starter.recipe)
    options = recipe.options.made({**recipe.preset, **state["options"]})
    module, _, name = recipe.target.partition(":")
    source = f"stickers:{starter.group}"
    pictures = datasets.load(source, state["options"]["size"], seed)
    trainee: Any = getattr(importlib.import_module(module), name)(options, pictures, seed)
    parts = {part: {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
             for part, weights in state["parts"].items()}  # fmt: skip
    for part, weights in parts.items():
        trainee.parts()[part].load_state_dict(weights)
    if "net" in parts:
        trainee.average.load_state_dict(parts["net"])
    measured = {k: round(float(v), 4) for k, v in trainee.validate().items()}
    facts = {**trainee.export(folder), "steps": state["steps"], "metrics": measured, "licence": "Apache-2.0"}
    (folder / "facts.json").write_text(json.dumps(facts, indent=1, default=float) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    parser = budget.arguments(__doc__)
    parser.add_argument("name", choices=STARTERS)
    parser.add_argument("--export", type=Path, help="write the model of OUT/NAME.pt into this folder and stop")
    given = parser.parse_args()
    if given.export is not None:
        found = export(STARTERS[given.name], given.out / f"{given.name}.pt", given.export)
        print(json.dumps(found, indent=1))  # noqa: T201 - a command's answer
        return
    train(STARTERS[given.name], given)


if __name__ == "__main__":
    main()
