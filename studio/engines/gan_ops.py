"""What one can ask of a trained GAN: one function per operation, its arguments as a checked class.

Every function takes the `Player` and its arguments and answers pictures as one sheet, row by row and edge to edge,
with "columns", "rows" and "side" (px) in the data, so that a page cuts it up or shows it whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from studio.engines.base import Result
from studio.engines.gan_player import Player, floats, probability, rounded, sheet, vector
from studio.errors import InvalidTask, Unsupported
from studio.nets.pix2pix import sobel
from studio.tasks import Seed
from studio.train.gan import Observation

MOST = 64
"""Pictures of one answer."""
Band = Literal["coarse", "middle", "fine"]
BANDS: Mapping[str, tuple[float, float]] = {"coarse": (0, 8), "middle": (9, 16), "fine": (17, 1e9)}
"""Sides in px of the layers that take the other style. The paper has 4-8, 16-32 and the rest, of 1024."""


class Args(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Look(Args):
    """What most operations share."""

    truncation: float = Field(1.0, ge=0, le=1.5)
    label: int | None = Field(None, ge=0)
    codes: list[float] | None = Field(None, max_length=8)


class Samples(Look):
    seed: Seed = 0
    count: int = Field(16, ge=1, le=MOST)
    columns: int = Field(8, ge=1, le=16)


def samples(player: Player, args: Samples) -> Result:
    """`count` pictures; picture k uses seed + k."""
    if player.kind == "pix2pix":
        return examples(player, args)
    seeds = [args.seed + k for k in range(args.count)]
    pictures = player.make(player.noise(seeds), player.condition(seeds, args.label, args.codes), args.truncation)
    scores = probability(player, pictures, player.condition(seeds, args.label, args.codes))
    return sheet(pictures, min(args.columns, args.count), seeds=seeds, scores=scores)


class At(Look):
    z: list[float] | None = Field(None, max_length=512)
    w: list[float] | None = Field(None, max_length=512)
    seed: Seed = 0


def at(player: Player, args: At) -> Result:
    """The picture at a point: z, or (StyleGAN2) w, or that of a seed. Answers the point too."""
    if args.w is not None:
        if player.style is None:
            raise Unsupported("Only StyleGAN2 has styles w.", "Give z instead.")
        w = vector(args.w, player.style.mapping.mean.shape[0], "w")
        return sheet(player.paint(w[None], args.truncation), 1, w=args.w)
    z = player.noise([args.seed])
    if args.z is not None:
        z = vector(args.z, z.shape[1], "z")[None]
    answer: dict[str, Any] = {"z": rounded(z[0])}
    if player.style is not None:
        with torch.inference_mode():
            answer["w"] = rounded(player.style.mapping(z)[0])
    return sheet(player.make(z, player.condition([args.seed], args.label, args.codes), args.truncation), 1, **answer)


class Interpolate(Look):
    first: Seed = 0
    last: Seed = 1
    count: int = Field(9, ge=2, le=MOST)
    space: Literal["z", "w"] = "z"
    way: Literal["linear", "spherical"] = "spherical"


def interpolate(player: Player, args: Interpolate) -> Result:
    """From the picture of one seed to that of another, through z or through w; one row."""
    shares = torch.linspace(0, 1, args.count)
    ends = player.noise([args.first, args.last])
    if args.space == "w":
        if player.style is None:
            raise Unsupported("Only StyleGAN2 has styles w to walk through.", "Walk through z instead.")
        with torch.inference_mode():
            ends = player.style.mapping(ends)
    between = BLENDS[args.way](ends[0], ends[1], shares)
    if args.space == "w":
        return sheet(player.paint(between, args.truncation), args.count)
    here, there = (player.condition([seed], args.label, args.codes) for seed in (args.first, args.last))
    condition = None if here is None or there is None else _linear(here[0], there[0], shares)
    return sheet(player.make(between, condition, args.truncation), args.count)


def _linear(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    return a + shares[:, None] * (b - a)


def _spherical(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """Along the arc between the directions, lengths in between: normal noise lies near a sphere (White 2016)."""
    cosine = torch.dot(a, b) / (a.norm() * b.norm()).clamp(min=1e-9)
    angle = torch.arccos(cosine.clamp(-1, 1))
    if float(angle.sin()) < 1e-4:  # the same or opposite directions: no arc is shorter than another
        return _linear(a, b, shares)
    return (((1 - shares) * angle).sin()[:, None] * a + (shares * angle).sin()[:, None] * b) / angle.sin()


BLENDS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"linear": _linear, "spherical": _spherical}


class StyleMix(Args):
    rows: list[Seed] = Field([0, 1, 2], min_length=1, max_length=8)
    columns: list[Seed] = Field([10, 11, 12, 13], min_length=1, max_length=8)
    band: Band = "coarse"
    truncation: float = Field(0.8, ge=0, le=1.5)


def style_mix(player: Player, args: StyleMix) -> Result:
    """Row pictures at the left, column pictures on top; inside, each row's picture with one band of the column's.

    "coarse" are the layers up to 8 px, "middle" those of 16, "fine" all finer ones.
    """
    net = player.style
    if net is None:
        raise Unsupported("Only StyleGAN2 has styles to mix.", "Train the recipe stylegan2, or open the starter.")
    low, high = BANDS[args.band]
    with torch.inference_mode():
        w = net.mapping(player.noise([*args.columns, *args.rows]))
        columns, rows = w[: len(args.columns)], w[len(args.columns) :]
        takes = torch.tensor([low <= side <= high for side in net.synthesis.sides()])[:, None]
        mixed = [torch.where(takes, c[None], r[None]) for r in rows for c in columns]  # (layers, W) each
    blank = torch.ones(1, 3, player.trainee.options.size, player.trainee.options.size)
    tops, lefts = player.paint(columns, args.truncation), player.paint(rows, args.truncation)
    inside = player.paint(torch.stack(mixed), args.truncation)
    wide = len(args.columns)
    lines = [blank, tops]
    for k in range(len(args.rows)):
        lines += [lefts[k : k + 1], inside[k * wide : (k + 1) * wide]]
    layers = [side for side, take in zip(net.synthesis.sides(), takes[:, 0].tolist(), strict=True) if take]
    return sheet(torch.cat(lines), wide + 1, layers=layers)


class Codes(Args):
    seed: Seed = 0
    vary: int | None = Field(None, ge=0)
    count: int = Field(7, ge=2, le=16)
    label: int = Field(0, ge=0)


def codes(player: Player, args: Codes) -> Result:
    """InfoGAN: a category a row, one continuous code from -2 to 2 along it (it was trained on -1..1)."""
    if player.kind != "infogan":
        raise Unsupported("Only InfoGAN has codes.", "Train the recipe infogan.")
    free = int(getattr(player.trainee.options, "continuous", 0))
    if args.vary is not None and args.vary >= free:
        raise InvalidTask(f"This model has {free} continuous codes.", f"Vary one of 0 to {free - 1}.")
    kinds = min(player.categories, 10)
    rows = torch.zeros(kinds * args.count, player.categories + free)
    rows[:, :kinds] = torch.eye(kinds).repeat_interleave(args.count, 0)
    if args.vary is not None and free:
        rows[:, player.categories + args.vary] = torch.linspace(-2, 2, args.count).repeat(kinds)
        noise = player.noise([args.seed]).expand(len(rows), -1)
    else:
        noise = player.noise([args.seed + k for k in range(args.count)]).repeat(kinds, 1)
    return sheet(player.make(noise, rows), args.count, continuous=free)


class Classes(Args):
    seed: Seed = 0
    first: int = Field(0, ge=0)
    count: int = Field(8, ge=1, le=16)
    rows: int = Field(4, ge=1, le=8)


def classes(player: Player, args: Classes) -> Result:
    """Conditional GAN: a class a column from `first` on, a noise a row."""
    if player.kind != "cgan":
        raise Unsupported("Only the conditional GAN knows classes.", "Train the recipe cgan.")
    total = player.categories
    first = min(args.first, total - 1)
    chosen = torch.arange(first, min(first + args.count, total))
    noise = player.noise([args.seed + k for k in range(args.rows)]).repeat_interleave(len(chosen), 0)
    condition = torch.eye(total)[chosen].repeat(args.rows, 1)
    names = [player.names[k] for k in chosen.tolist()]
    return sheet(player.make(noise, condition), len(chosen), names=names, classes=total)


# ── pix2pix ──────────────────────────────────────────────────────────────────


class Translate(Args):
    drawn: bool = False
    threshold: float = Field(0.35, gt=0.01, le=1)
    example: int | None = Field(None, ge=0)


def translate(player: Player, args: Translate) -> Result:
    """Edges and what is made of them: of the task's picture, or the picture itself where it is `drawn` lines."""
    if player.kind != "pix2pix":
        raise Unsupported("Only pix2pix turns edges into a picture.", "Train the recipe pix2pix.")
    if args.example is not None:
        real = player.trainee.data.batch([args.example % len(player.trainee.data.pictures)])
    elif "image" in player.pictures:
        real = floats(player.pictures["image"], player.trainee.options.size)
    else:
        raise InvalidTask("There is no picture yet.", "Choose or draw one, or take an example.")
    edges = real.mean(1, keepdim=True) if args.drawn else sobel(real, args.threshold)
    made = player.trainee.pictures(torch.zeros(1, 1), edges)
    return sheet(torch.cat([edges.expand(-1, 3, -1, -1), made, real]), 3)


def examples(player: Player, args: Samples) -> Result:
    """Edges, made and true, of pictures that travelled with the model."""
    data = player.trainee.data
    count = min(args.count, 8, len(data.pictures))
    real = data.batch([(args.seed * count + k) % len(data.pictures) for k in range(count)])
    edges = sobel(real, getattr(player.trainee.options, "threshold", 0.35))
    made = player.trainee.pictures(torch.zeros(count, 1), edges)
    return sheet(torch.cat([edges.expand(-1, 3, -1, -1), made, real]), count, rows_are=["edges", "made", "true"])


# ── both players ─────────────────────────────────────────────────────────────


class Step(Args):
    reset: bool = False
    count: int = Field(1, ge=1, le=50)
    rate: float = Field(0.1, ge=0, le=10)
    show: int = Field(8, ge=1, le=16)


def step(player: Player, args: Step) -> Result:
    """One update of D and one of G in memory (`count` times; the last is shown), on the pictures inside the model.

    Three rows: the real pictures, what G made of its noise before, and after. It goes on from the averaged generator
    with fresh optimizers, whose first steps move every weight by `rate` times the recipe's rate, and without
    DiffAugment, so that both learn from just the pictures that are shown. The model itself stays as it is.
    """
    if args.reset or player.stepped is None:
        player.stepped, player.steps = copy.deepcopy(player.trainee), 0
        player.stepped.options = player.trainee.options.model_copy(update={"soften": ()})
    player.stepped.set_rate(args.rate)
    for _ in range(args.count):
        seen = player.stepped.observe(player.steps, torch.Generator().manual_seed(player.steps))
        player.steps += 1
    count = min(args.show, len(seen.real))
    rows = [player.trainee.full(x[:count]) for x in (seen.real, seen.fake, seen.fake_after)]
    return sheet(torch.cat(rows), count, step=player.steps, **_told(seen, count, player.trainee.loss.critic))


def _told(seen: Observation, count: int, critic: bool) -> dict[str, Any]:
    """An observation as JSON: D's answers, probabilities or a critic's scores, of the pictures shown and the means."""
    named = {
        "real_before": seen.real_before,
        "real_after": seen.real_after,
        "fake_before": seen.fake_before,
        "fake_after_d": seen.fake_after_d,
        "fake_after_g": seen.fake_after_g,
    }
    values = {name: score if critic else score.sigmoid() for name, score in named.items()}
    return {
        "critic": critic,
        "shown": {name: rounded(value[:count]) for name, value in values.items()},
        "means": {name: round(float(value.mean()), 4) for name, value in values.items()},
        "metrics": {name: round(float(value), 5) for name, value in seen.metrics.items()},
    }


class Scores(Args):
    label: int | None = Field(None, ge=0)


def scores(player: Player, args: Scores) -> Result:
    """What D says of the task's picture, beside real pictures and made ones."""
    if player.kind == "pix2pix":
        raise Unsupported("This discriminator judges a picture together with its edges.", "Open another GAN.")
    if "image" not in player.pictures:
        raise InvalidTask("There is no picture yet.", "Choose, drop or paste one.")
    picture = floats(player.pictures["image"], player.trainee.options.size)
    data = player.trainee.data
    labels = torch.from_numpy(data.labels)
    seeds = list(range(32))
    condition = player.condition(seeds, args.label)
    real = player.trainee.conditions(data.batch(data.train), labels)
    own = None if condition is None else condition[:1]
    answers = {
        "own": probability(player, picture, own),
        "real": probability(player, data.batch(data.train), real),
        "made": probability(player, player.make(player.noise(seeds), condition), condition),
    }
    return sheet(picture, 1, critic=player.trainee.loss.critic, **answers)


class Operation(NamedTuple):
    args: type[Args]
    run: Callable[[Player, Any], Result]


OPERATIONS: Mapping[str, Operation] = {
    "samples": Operation(Samples, samples),
    "at": Operation(At, at),
    "interpolate": Operation(Interpolate, interpolate),
    "style_mix": Operation(StyleMix, style_mix),
    "codes": Operation(Codes, codes),
    "classes": Operation(Classes, classes),
    "translate": Operation(Translate, translate),
    "step": Operation(Step, step),
    "scores": Operation(Scores, scores),
}
