"""The views of the VAE lab that walk through code space. Each takes the pictures at hand and the checked arguments."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.engines.arguments import Arguments
from studio.engines.base import Result
from studio.engines.vae_model import Axes, Model, Pixels
from studio.engines.vae_pictures import Pictures
from studio.errors import InvalidTask
from studio.ops.films import sheet
from studio.ops.spheres import between

MOST_SEED = 2**32 - 1
WAYS = ("linear", "spherical")
FITTED = "This network has no prior: codes are drawn from a normal distribution fitted to those of held-out pictures."


def about(seen: Pictures, args: Arguments) -> Result:
    """The model, the axes of its natural space by weight, and its held-out pictures as a sheet."""
    model = seen.model
    axes = model.axes(model.space)
    order = axes.weight.argsort(descending=True).tolist()
    columns = 16
    return Result(
        (sheet(model.points, columns),),
        data={
            "network": model.network,
            "size": model.size,
            "numbers": model.net.code_size,
            "space": model.space,
            "axes": order,
            "weights": [round(float(axes.weight[k]), 4) for k in order],
            "reach": 3.0,
            "names": list(model.names),
            "conditional": model.is_conditional,
            "labels": model.labels.tolist(),
            "points": len(model.points),
            "columns": columns,
            "has_prior": model.net.draw(1, torch.Generator()) is not None,
            "facts": dict(model.facts),
        },
    )


def encode(seen: Pictures, args: Arguments) -> Result:
    """ "values": the picture's place on every axis, in deviations."""
    _, axes = seen.space(args)
    found = seen.named(args, "a", "image")
    values = seen.model.coordinates(found.code[0], axes)
    label = None if found.label is None else seen.model.names[found.label]
    return Result((found.picture,), data={"values": _rounded(values), "label": label})


def decode(seen: Pictures, args: Arguments) -> Result:
    """The picture at a place."""
    _, axes = seen.space(args)
    code, label = seen.place(args, axes)
    return Result((seen.model.decode(code, seen.model.told(label, 1))[0],))


def traverse(seen: Pictures, args: Arguments) -> Result:
    """A sheet: for each of `rows` axes (those that matter most by default) `steps` pictures from -reach to reach."""
    _, axes = seen.space(args)
    steps, reach = args.whole("steps", 3, 21, 9), args.number("reach", 0.5, 10, 3)
    code, label = seen.place(args, axes)
    first = axes.weight.argsort(descending=True)[:8].tolist()
    rows = args.wholes("rows", 0, len(axes.steps) - 1, first, 32)
    values = torch.linspace(-reach, reach, steps)
    now = seen.model.coordinates(code[0], axes)
    codes = torch.cat([code + (values - now[row])[:, None] * axes.steps[row] for row in rows])
    made = seen.model.decode(codes, seen.model.told(label, len(codes)))
    return Result((sheet(made, steps),), data={"rows": rows, "columns": steps, "values": _rounded(values)})


def map_(seen: Pictures, args: Arguments) -> Result:
    """The held-out pictures as points on two axes, their thumbnails, and a sheet of what lies on the plane between.

    The plane goes through the middle of the codes, or through the code of `base`. "points" are [x, y, label] in
    deviations.
    """
    model = seen.model
    space, axes = seen.space(args)
    order = axes.weight.argsort(descending=True).tolist()
    count = len(axes.steps)
    x, y = args.whole("x", 0, count - 1, order[0]), args.whole("y", 0, count - 1, order[min(1, count - 1)])
    if x == y:
        raise InvalidTask("A map needs two different axes.", "Choose another one for one of them.")
    places = torch.stack([model.coordinates(code, axes)[[x, y]] for code in model.codes])
    reach = args.number("reach", 0.5, 10, float(np.clip(np.quantile(places.abs().numpy(), 0.985) * 1.15, 1.5, 6)))
    side = args.whole("side", 0, 21, 11)
    images: tuple[Pixels, ...] = (sheet(model.points, 16),)
    if side:
        images = (*images, _plane(model, axes, (x, y), reach, side, seen.place(args, axes)))
    shares = axes.weight / axes.weight.sum().clamp_min(1e-9)
    return Result(
        images,
        data={
            "space": space,
            "x": x,
            "y": y,
            "shares": [round(float(shares[x]), 4), round(float(shares[y]), 4)],
            "reach": round(reach, 3),
            "points": [[round(float(a), 3), round(float(b), 3), int(label_)]
                       for (a, b), label_ in zip(places.tolist(), model.labels, strict=True)],
            "columns": 16,
            "side": side,
        },
    )  # fmt: skip


def _plane(
    model: Model, axes: Axes, pair: tuple[int, int], reach: float, side: int, through: tuple[Tensor, int | None]
) -> Pixels:
    """side x side pictures over -reach..reach, the largest y in the first row."""
    code, label = through
    now = model.coordinates(code[0], axes)[list(pair)]
    middles = (torch.arange(side) + 0.5) / side * 2 * reach - reach
    y, x = torch.meshgrid(middles.flip(0), middles, indexing="ij")
    codes = code + (torch.stack([x.flatten(), y.flatten()], dim=1) - now) @ axes.steps[list(pair)]
    return sheet(model.decode(codes, model.told(label, len(codes))), side)


def samples(seen: Pictures, args: Arguments) -> Result:
    """A sheet of new pictures. A conditional network paints `label`, or one label after the other."""
    model = seen.model
    count, seed = args.whole("count", 1, 64, 32), args.whole("seed", 0, MOST_SEED, 0)
    temperature = args.number("temperature", 0, 3, 1)
    generator = torch.Generator().manual_seed(seed)
    codes = model.net.draw(count, generator, temperature)
    note = None
    if codes is None:
        axes, note = model.axes("directions"), FITTED
        codes = axes.origin + temperature * torch.randn((count, len(axes.steps)), generator=generator) @ axes.steps
    label = args.label(model.names) if model.is_conditional else None
    told = model.told(label, count)
    if told is not None and label is None:
        told = torch.randperm(model.net.classes, generator=generator).repeat(-(-count // model.net.classes))[:count]
    columns = min(count, 8)
    labels = None if told is None else [model.names[k] for k in told.tolist()]
    return Result(
        (sheet(model.decode(codes, told), columns),), data={"columns": columns, "labels": labels, "note": note}
    )


def interpolate(seen: Pictures, args: Arguments) -> Result:
    """A strip from picture a to picture b; with `film` also a GIF that goes there and back, as a data URL."""
    model = seen.model
    a, b = seen.named(args, "a", "image", 0), seen.named(args, "b", "other", 1)
    steps, way = args.whole("steps", 3, 32, 9), args.choice("way", WAYS, "spherical")
    # Around the middle of the codes: for a VAE that is about 0, for others a sphere around 0 means nothing.
    middle = model.axes(model.space).origin
    codes = between(a.code[0] - middle, b.code[0] - middle, torch.linspace(0, 1, steps), way) + middle
    told = None
    if model.is_conditional and a.label is not None and b.label is not None:
        told = torch.tensor([a.label if k < steps / 2 else b.label for k in range(steps)])
    made = model.decode(codes, told)
    film = _gif(made) if args.flag("film", False) else None
    lengths = codes.sub(middle).norm(dim=1)
    return Result(
        (a.picture, b.picture, sheet(made, steps)),
        data={"columns": steps, "gif": film, "lengths": _rounded(lengths)},
    )


def arithmetic(seen: Pictures, args: Arguments) -> Result:
    """A - B + C: the three pictures, and what `strength` times the difference makes of A."""
    model = seen.model
    a, b, c = (
        seen.named(args, name, field, k)
        for k, (name, field) in enumerate(zip("abc", ("image", "other", "third"), strict=True))
    )
    strength = args.number("strength", -3, 3, 1)
    code = a.code + strength * (c.code - b.code)
    made = model.decode(code, model.told(a.label, 1))[0]
    own = [model.decode(one.code, model.told(one.label, 1))[0] for one in (a, b, c)]
    return Result((a.picture, b.picture, c.picture, *own, made))


def _gif(pictures: Pixels) -> str:
    """There and back, 12 pictures a second, enlarged to at least 128 px without smoothing."""
    scale = max(1, -(-128 // pictures.shape[1]))
    large = pictures.repeat(scale, axis=1).repeat(scale, axis=2)
    frames = [Image.fromarray(one) for one in np.concatenate([large, large[-2:0:-1]])]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=83, loop=0)
    return "data:image/gif;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _rounded(values: Tensor) -> list[Any]:
    found: list[Any] = [round(float(value), 4) for value in values]
    return found
