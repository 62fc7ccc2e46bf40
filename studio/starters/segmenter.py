"""The starter segmenter's recipe: a small Segment Anything network on scenes composed on the training device.

Kirillov et al., 2023, section A: every region is asked for by a click and by a box; then clicks where the answer is
wrong, half of them with the answer's own logits. Of three masks only the best one learns. At last all but the head of
the predicted IoU is frozen, and that learns what the averaged network's masks are worth.

    python -m studio.starters.segmenter --seconds 480 --out OUT --atlas atlas.zip --start models/starter-segmenter
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.sam import STARTER, build_sam
from studio.starters import budget
from studio.starters.atlas import read
from studio.starters.composer import WORLD, Composer, Mixture, Scenes
from studio.train.asking import overlap, sized
from studio.train.scores import score_loss

CONFIG: Mapping[str, Any] = {
    **STARTER,
    "encoder": {**STARTER["encoder"], "depths": [2, 3, 8]},
}
REGIONS = 64
"""Room for the regions of a photograph."""
SMALLEST = 0.0012
"""Regions below this share of the picture are not asked for."""


THINGS = Mixture(count=(1, 8), plain=0.55, cutouts=0.2, blobs=0.2, photo=0.5, developed=0.5)
PIECES = Mixture(count=(0, 6), plain=0.0, cutouts=0.35, blobs=0.35, photo=1.0, mapped=True, developed=0.7)


@dataclass(frozen=True)
class Recipe:
    """The numbers that made the shipped weights."""

    batch: int = 48
    """Pictures of 256 px; fewer of larger ones."""
    asked: int = 4
    rounds: int = 2
    """Clicks that correct, one after the other."""
    sizes: tuple[tuple[float, tuple[int, ...]], ...] = ((0.0, (256,)), (0.5, (256, 320, 384)))
    """From which part of the time on pictures have which sizes, px."""
    rate: float = 1.5e-3
    muon_rate: float = 0.015
    ema: float = 0.997
    photos: float = 0.4
    """Share of the pictures whose ground is a photograph with known regions, things lying on it or not."""
    scored: float = 0.12
    """Share of the time for the predicted IoU."""
    things: Mixture = THINGS
    pieces: Mixture = PIECES


# ── questions ────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Lesson:
    """Pictures normalised (B, 3, S, S), and P masks of each, bool (B P, S, S)."""

    pictures: Tensor
    masks: Tensor


def lesson(composer: Composer, sam: Any, count: int, size: int, recipe: Recipe) -> Lesson:
    """Scenes and regions of them, drawn by chance."""
    pieces = round(count * recipe.photos)
    parts = [
        _regions(composer, sam, composer.draw(number, size, mixture), recipe.asked)
        for number, mixture in ((count - pieces, recipe.things), (pieces, recipe.pieces))
        if number
    ]
    return Lesson(torch.cat([p.pictures for p in parts]), torch.cat([p.masks for p in parts]))


def _regions(composer: Composer, sam: Any, scenes: Scenes, asked: int) -> Lesson:
    count, layers, size = len(scenes.pictures), scenes.kinds.shape[1], scenes.pictures.shape[-1]
    owner, frame = scenes.owner, _frames(composer, count, size)
    outside = layers + REGIONS
    owner = torch.where(frame, owner.clamp(max=outside - 1), outside)
    numbers = owner + (outside + 1) * torch.arange(count, device=owner.device)[:, None, None]
    areas = torch.bincount(numbers.flatten(), minlength=count * (outside + 1)).view(count, outside + 1)
    odds = torch.full_like(areas, 0, dtype=torch.float32)
    odds[:, :layers] = torch.where(scenes.kinds == 0, 1.0, 0.7) * scenes.seen
    odds[:, layers:outside] = torch.where(scenes.mapped[:, None], 0.35, 0.1)
    odds = odds * (areas >= SMALLEST * size * size)
    largest = F.one_hot(areas[:, :outside].argmax(1), outside + 1).float()
    odds = torch.where(odds.sum(1, keepdim=True) > 0, odds, largest)
    picks = torch.multinomial(odds, asked, True, generator=composer.chance)  # (B, P)
    masks = owner[:, None] == picks[:, :, None, None]
    pictures = (scenes.pictures * 255 - sam.pixel_mean) / sam.pixel_std * frame[:, None]
    return Lesson(pictures, masks.flatten(0, 1))


def _frames(composer: Composer, count: int, size: int) -> Tensor:
    """Where the pictures proper are, bool (B, S, S): half of them square, else one side shorter."""
    short = (composer.uniform(count, low=0.55, high=1.0) * size).round()
    dice = composer.uniform(count)
    height, width = torch.where(dice < 0.25, short, size), torch.where((dice >= 0.25) & (dice < 0.5), short, size)
    steps = torch.arange(size, device=composer.device)
    return (steps[:, None] < height[:, None, None]) & (steps < width[:, None, None])


def depths(masks: Tensor) -> Tensor:
    """How deep inside each cell of 4x4 px lies, 0 to 1 of the deepest, for masks bool (N, S, S) -> (N, S/4, S/4)."""
    share = F.avg_pool2d(masks[:, None].float(), 4)
    depth, core = 0.3 * share, (share > 0.99).float()
    for _ in range(14):
        depth = depth + core
        core = 1 - F.max_pool2d(F.pad(1 - core, (1, 1, 1, 1), value=1.0), 3, 1)
    depth = depth[:, 0]
    return depth / depth.amax((1, 2), keepdim=True).clamp(min=1e-6)


def spots(masks: Tensor, sharpness: Tensor, chance: torch.Generator) -> Tensor:
    """A pixel x y in each mask bool (N, S, S), none empty -> (N, 2); the deeper inside the higher `sharpness` (N,)."""
    count, size = len(masks), masks.shape[-1]
    cells = size // 4
    share = F.avg_pool2d(masks[:, None].float(), 4)[:, 0]
    weights = (share * depths(masks) ** sharpness[:, None, None]).flatten(1) + 1e-12 * (share.flatten(1) > 0)
    cell = torch.multinomial(weights, 1, generator=chance)[:, 0]
    inner = masks.view(count, cells, 4, cells, 4).permute(0, 1, 3, 2, 4).reshape(count, cells * cells, 16)
    pixel = torch.multinomial(
        inner[torch.arange(count, device=masks.device), cell].float() + 1e-6, 1, generator=chance
    )[:, 0]
    return torch.stack([cell % cells * 4 + pixel % 4, cell // cells * 4 + pixel // 4], 1).float()


def around(masks: Tensor, jitter: Tensor, chance: torch.Generator) -> Tensor:
    """Boxes xyxy (N, 4) around masks (N, S, S), each side moved by `jitter` (N,) of the box, 20 px at most."""
    size = masks.shape[-1]
    steps = torch.arange(size, device=masks.device)
    rows, columns = masks.any(2), masks.any(1)
    box = torch.stack(
        [
            torch.where(columns, steps, size).amin(1), torch.where(rows, steps, size).amin(1),
            torch.where(columns, steps, -1).amax(1) + 1, torch.where(rows, steps, -1).amax(1) + 1,
        ], 1,
    ).float()  # fmt: skip
    extent = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    noise = torch.randn(box.shape, generator=chance, device=box.device)
    return (box + (noise * jitter[:, None] * extent).clamp(-20, 20)).clamp(0, size)


# ── the network on many pictures at once ─────────────────────────────────────


def embedded(sam: Any, points: Tensor, labels: Tensor) -> Tensor:
    """Points (N, K, 2) px with labels 0 and 1, corners of boxes 2 and 3, nothing -1 -> tokens (N, K, C)."""
    encoder = sam.prompt_encoder
    with torch.autocast(points.device.type, enabled=False):
        tokens = encoder.pe_layer.forward_with_coords(points + 0.5, encoder.input_image_size)
        tokens = tokens * (labels != -1)[..., None] + encoder.not_a_point_embed.weight * (labels == -1)[..., None]
        for number, kind in enumerate(encoder.point_embeddings):
            tokens = tokens + kind.weight * (labels == number)[..., None]
    return tokens


def decoded(sam: Any, features: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, C, h, w) and N prompts -> logits float (N, 4, 4h, 4w) and what the IoU head sees (N, C)."""
    decoder = sam.mask_decoder
    with torch.autocast(features.device.type, enabled=False):
        position = sam.prompt_encoder.get_dense_pe()
    count = len(features)
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None].expand(count, -1, -1)
    tokens = torch.cat([tokens, sparse.to(tokens.dtype)], 1)
    found, source = decoder.transformer(features + dense, position.expand(count, -1, -1, -1), tokens)
    source = source.transpose(1, 2).reshape(features.shape)
    large = decoder.output_upscaling(source)
    weights = torch.stack([mlp(found[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1)
    logits = (weights @ large.flatten(2)).view(count, -1, *large.shape[2:])
    return logits.float(), found[:, 0].float()


def mask_losses(logits: Tensor, truth: Tensor, plainness: float) -> Tensor:
    """Cross-entropy and dice for each mask: logits (N, M, h, w), truth in 0..1 (N, 1, h, w) -> (N, M).

    At `plainness` 0 the mask and what surrounds it weigh the same, which gets a new network off the empty answer; at 1
    it is the paper's focal loss, 20 times, though on both sides alike.
    """
    truth = truth.expand_as(logits)
    chance = logits.sigmoid()
    share = truth.mean((2, 3), keepdim=True).clamp(1e-3, 1 - 1e-3)
    surprise = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    even = 0.5 * truth / share + 0.5 * (1 - truth) / (1 - share)
    focal = 10 * (chance.detach() - truth) ** 2
    weight = (1 - plainness) * even + plainness * focal
    dice = 1 - (2 * (chance * truth).sum((2, 3)) + 1) / (chance.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return (surprise * weight).mean((2, 3)) + dice


@dataclass
class Answer:
    """One round: logits (N, 4, h, w), what the IoU head saw (N, C), IoU of the four masks (N, 4)."""

    logits: Tensor
    seen: Tensor
    worth: Tensor
    truth: Tensor
    one_click: Tensor


def conversation(
    sam: Any, taught: Lesson, recipe: Recipe, chance: torch.Generator, *, bf16: bool, learning: bool = True
) -> list[Answer]:
    """Every region asked for by a click and a box, then corrected `recipe.rounds` times from one of the two."""
    device, size = taught.masks.device, taught.masks.shape[-1]
    sized(sam, size)
    masks, count = taught.masks, len(taught.masks)
    truth = F.avg_pool2d(masks[:, None].float(), 2)

    def dice(*shape: int) -> Tensor:
        return torch.rand(shape, generator=chance, device=device)

    with torch.autocast(device.type, torch.bfloat16, enabled=bf16), torch.set_grad_enabled(learning):
        features = sam.image_encoder(taught.pictures.contiguous(memory_format=torch.channels_last))
        features = features.repeat_interleave(count // len(features), 0)  # (N, C, h, w)
        none = sam.prompt_encoder.no_mask_embed.weight[..., None, None]  # (1, C, 1, 1)
        sharpness = torch.tensor([0.0, 2.0, 8.0], device=device)[(dice(count) * 3).long()]
        click = spots(masks, sharpness, chance)
        box = around(masks, dice(count) * 0.1 * (dice(count) < 0.6), chance)
        points = torch.cat([torch.stack([click, torch.zeros_like(click)], 1), box.view(-1, 2, 2)])
        labels = torch.cat([torch.tensor([[1, -1]], device=device).expand(count, 2),
                            torch.tensor([[2, 3]], device=device).expand(count, 2)])  # fmt: skip
        both = torch.cat([truth, truth])
        logits, seen = decoded(sam, torch.cat([features, features]), embedded(sam, points, labels), none)
        is_click = torch.arange(2 * count, device=device) < count
        answers = [Answer(logits, seen, overlap(logits.detach(), both), both, is_click)]
        # From here on each region goes on from its click or from its box.
        start = torch.arange(count, device=device) + count * (dice(count) < 0.5)
        points, labels, logits, seen = points[start], labels[start], logits[start], seen[start]
        for _ in range(recipe.rounds):
            with torch.no_grad():
                guessed = sam.mask_decoder.iou_prediction_head(seen).float()
                best = logits[torch.arange(count, device=device), guessed.argmax(1)].detach()[:, None].float()
                now = F.interpolate(best, (size, size), mode="bilinear", align_corners=False)[:, 0] > 0
                wrong = masks ^ now
                wrong = torch.where(wrong.any((1, 2))[:, None, None], wrong, masks)
                sharpness = torch.tensor([0.0, 2.0, 8.0], device=device)[(dice(count) * 3).long()]
                click = spots(wrong, sharpness, chance)
                x, y = click.long().unbind(1)
                label = masks[torch.arange(count, device=device), y, x].long()
                points = torch.cat([click[:, None], points], 1)
                labels = torch.cat([label[:, None], labels], 1)
            dense = sam.prompt_encoder._embed_masks(best.clamp(-32, 32))
            dense = torch.where((dice(count) < 0.5)[:, None, None, None], dense, none)
            logits, seen = decoded(sam, features, embedded(sam, points, labels), dense)
            answers.append(Answer(logits, seen, overlap(logits.detach(), truth), truth, torch.zeros_like(label) > 0))
    return answers


def start(sam: nn.Module, folder: Path) -> tuple[int, int]:
    """Takes over the weights in `folder` that fit; blocks they lack begin as identities. How many, of all."""
    from safetensors.torch import load_file

    old = {name: value.float() for name, value in load_file(str(folder / "model.safetensors")).items()}
    own = sam.state_dict()
    linears = [f"{layer}.{kind}" for layer in ("position", "proj", "mlp.2") for kind in ("weight", "bias")]
    last = ("second.1.weight", *linears)
    fit = {name: value for name, value in old.items() if name in own and own[name].shape == value.shape}
    for name, value in own.items():
        block = name.rsplit(".", 2)[0]
        is_new = name.startswith("image_encoder.") and not any(key.startswith(block) for key in old)
        if is_new and name.endswith(last):
            fit[name] = torch.zeros_like(value)
    sam.load_state_dict(fit, strict=False)
    return len(fit), len(own)


# ── the recipe ───────────────────────────────────────────────────────────────


def save(sam: nn.Module, path: Path) -> None:
    """Writes the weights as fp16 with the numbers of their network."""
    weights = {k: v.detach().half().cpu() for k, v in sam.state_dict().items() if v.is_floating_point()}
    budget.save({"weights": weights, "config": copy.deepcopy(dict(CONFIG))}, path)


class Trial:
    """Scenes never trained on, the same each time, and how well the network does on them."""

    def __init__(self, composer: Composer, sam: Any, count: int, size: int) -> None:
        self._sets = {
            name: [_regions(composer, sam, composer.draw(count // 4, size, mixture), 4) for _ in range(4)]
            for name, mixture in (("stickers", WORLD), ("photos", PIECES))
        }

    @torch.no_grad()
    def __call__(self, sam: Any, bf16: bool) -> str:
        words = []
        for name, lessons in self._sets.items():
            sums = [conversation(sam, one, Recipe(rounds=0), _chance(one.masks.device, 7), bf16=bf16, learning=False)[0]
                    for one in lessons]  # fmt: skip
            click, best, box, error = [], [], [], []
            for answer in sums:
                guessed = sam.mask_decoder.iou_prediction_head(answer.seen).float()
                half = len(guessed) // 2
                pick = guessed[:half, 1:].argmax(1)
                click.append(answer.worth[:half, 1:].gather(1, pick[:, None]).mean())
                best.append(answer.worth[:half, 1:].amax(1).mean())
                box.append(answer.worth[half:, 0].mean())
                error.append((guessed - answer.worth).abs().mean())
            means = [float(torch.stack(values).mean()) for values in (click, best, box, error)]
            words.append(
                f"{name}: click {means[0]:.3f} (best of 3 {means[1]:.3f}) box {means[2]:.3f} iou error {means[3]:.3f}"
            )
        return "  ".join(words)


def _chance(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def train(given: Any, recipe: Recipe = Recipe()) -> Path:
    """Trains as `budget.arguments` says, from the weights in `start` where given; writes `out`/segmenter.pt."""
    from studio.train.world import DETECTOR_CLASSES

    device, folder, tiny, steps = budget.prepare(given.device, given.seed), given.start, given.tiny, given.steps
    journal, path, bf16 = budget.Journal(given.out / "segmenter.log"), given.out / "segmenter.pt", device.type == "cuda"
    began = time.monotonic()
    sam = build_sam(CONFIG)
    journal(f"{sum(p.numel() for p in sam.parameters()) / 1e6:.2f}M parameters on {device}")
    warm = folder is not None and (folder / "model.safetensors").is_file()
    if folder is not None and warm:
        journal("weights taken over: {} of {}".format(*start(sam, folder)))
    else:
        journal("from nothing")
    sam = sam.to(device)
    sam.image_encoder.to(memory_format=torch.channels_last)
    composer = Composer(read(given.atlas), DETECTOR_CLASSES, device, seed=given.seed + 1)
    trial = Trial(composer.seeded(999), sam, *((4, 128) if tiny else (192, 256)))
    save(sam, path)
    journal(f"before: {trial(sam, bf16)}")

    def batch_of(progress: float, share: float) -> Lesson:
        sizes = [sizes for first, sizes in recipe.sizes if progress >= first][-1]
        size = sizes[int(torch.randint(len(sizes), (1,)))]
        count = max(2, round((4 if tiny else recipe.batch) * share * (256 / size) ** 2))
        with torch.no_grad():
            return lesson(composer, sam, count, size, recipe)

    def loss(progress: float, share: float) -> tuple[Tensor, Mapping[str, Tensor], int]:
        taught = batch_of(progress, share)
        answers = conversation(sam, taught, recipe, composer.chance, bf16=bf16)
        plainness = min(1.0, progress / 0.3) if warm else min(1.0, max(0.0, (progress - 0.15) / 0.35))
        total, metrics = taught.pictures.new_zeros(()), dict[str, Tensor]()
        for number, answer in enumerate(answers):
            each = mask_losses(answer.logits, answer.truth, plainness)
            three, best = each[:, 1:].min(1)
            single = torch.where(answer.one_click, 0.3, 1.0)
            guessed = sam.mask_decoder.iou_prediction_head(answer.seen)
            total = total + (three + single * each[:, 0]).mean()
            total = total + score_loss(guessed, answer.worth, answer.one_click.float())
            worth = answer.worth[:, 1:].gather(1, best[:, None]).mean()
            metrics["asked" if number == 0 else f"corrected {number}"] = worth
        return total / len(answers), metrics, len(taught.pictures)

    plan = budget.Budget(
        (1 - recipe.scored) * given.seconds, rate=recipe.rate, muon_rate=recipe.muon_rate, ema=recipe.ema, steps=steps,
    )  # fmt: skip
    guard = budget.Guard("segmenter", math.inf if warm else None)
    budget.descend(sam, loss, plan, journal, lambda: save(sam, path), lambda: trial(sam, bf16), guard=guard)
    questions = functools.partial(batch_of, 1.0, 1.0)
    rest = given.seconds - (time.monotonic() - began)
    plan = budget.Budget(rest, rate=1e-3, weight_decay=1e-3, warmup=1, ema=0.99, steps=steps)
    teach_scores(sam, questions, recipe, composer.chance, plan, bf16=bf16, journal=journal)
    journal(f"at last: {trial(sam, bf16)}")
    save(sam, path)
    return path


def teach_scores(
    sam: Any, draw: Any, recipe: Recipe, chance: torch.Generator, plan: budget.Budget, *, bf16: bool, journal: Any
) -> None:
    """The head of the predicted IoU learns what the masks of the finished network are worth."""
    sam.eval().requires_grad_(False)
    head = sam.mask_decoder.iou_prediction_head.requires_grad_(True)

    def loss(progress: float, share: float) -> tuple[Tensor, Mapping[str, Tensor], int]:
        answers = conversation(sam, draw(), recipe, chance, bf16=bf16, learning=False)
        total = sum(score_loss(head(a.seen.clone()), a.worth, a.one_click.float()) for a in answers) / len(answers)
        return total, {}, len(answers[0].worth)

    budget.descend(head, loss, plan, journal, lambda: None, lambda: "scores", guard=budget.Guard("scores", math.inf))
    head.requires_grad_(False)


def main() -> None:
    train(budget.arguments(__doc__).parse_args())


if __name__ == "__main__":
    main()
