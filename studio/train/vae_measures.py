"""What shows that the VAE lab's networks do what they say, measured by small trainings; each a minute or two of a core.

    python -m studio.train.vae_measures anomaly [--data digits] [--held 0 4 7] [--recipe autoencoder] [--steps 600]
    python -m studio.train.vae_measures anomaly --data stickers:smileys --held animals food transport
    python -m studio.train.vae_measures beta [--steps 800]
    python -m studio.train.vae_measures drag [--model models/starter-vae]

anomaly: AUROC of the reconstruction error, one class (or group of stickers) held out of the training against held-out
pictures of the rest.
beta: KL, mutual information gap (Chen et al. 2018, "Isolating Sources of Disentanglement") and purity for β = 1, 4, 16
on pictures whose factors are known. drag: milliseconds from a place on the map to its picture.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from studio.train import data as pictures
from studio.train import sources
from studio.train.data import Data
from studio.train.options_vae import RECIPES_VAE

Floats = NDArray[np.float64]
BETAS = (1.0, 4.0, 16.0)
BINS = 20
USED = 0.05
"""Nats of KL from which a latent counts as used."""


def trained(recipe: str, data: Data, steps: int, seed: int = 0, **options: Any) -> Any:
    """A trainee of that recipe after `steps` steps with a cosine schedule, without course and record."""
    found = RECIPES_VAE[recipe]
    module, _, name = found.target.partition(":")
    made = found.options.made(found.preset, {"size": data.size, **options})
    one = getattr(importlib.import_module(module), name)(made, data, seed)
    for step in range(steps):
        one.set_rate(0.5 * (1 + math.cos(math.pi * step / steps)))
        one.step(step, torch.Generator().manual_seed(seed * 1_000_003 + step))
    return one


# ── anomaly ──────────────────────────────────────────────────────────────────


def auroc(usual: Floats, unusual: Floats) -> float:
    """How often an unusual score is above a usual one (ties half): the area under the ROC curve, 0..1."""
    ranks = np.searchsorted(np.sort(usual), unusual, "left") + np.searchsorted(np.sort(usual), unusual, "right")
    return float(ranks.mean() / (2 * len(usual)))


def without(data: Data, *labels: int) -> Data:
    """The same pictures, but neither learned from nor judged by where they show one of `labels`."""
    keep = {
        name: getattr(data, name)[~np.isin(data.labels[getattr(data, name)], labels)] for name in ("train", "valid")
    }
    return dataclasses.replace(data, **keep)


def parted(data: Data, name: str) -> tuple[Data, Data]:
    """What is usual, and what is unusual: the class of that name, or a whole group of stickers, there or not.

    Of the unusual all pictures are its `valid`. Raises InvalidTask for a name that is neither.
    """
    other = data if name in data.names else pictures.load(f"stickers:{name}", data.size)
    things = {name} if other is data else set(other.names)
    held = [label for label, own in enumerate(data.names) if own in things]
    shown = np.flatnonzero([other.names[label] in things for label in other.labels])
    return without(data, *held), dataclasses.replace(other, valid=shown)


@torch.no_grad()
def scores(one: Any, data: Data) -> Floats:
    """Mean squared reconstruction error of each of its `valid` pictures, with the averaged weights."""
    with one.average.applied(one.net):
        parts = [data.batch(data.valid[start : start + 128]) for start in range(0, len(data.valid), 128)]
        return np.concatenate([(one.reconstructed(x, None) - x).square().mean(dim=(1, 2, 3)).numpy() for x in parts])


def anomaly(
    source: str, held: Sequence[str], recipe: str, steps: int, size: int = 16, **options: Any
) -> dict[str, Any]:
    """AUROC for each held-out class or group, and their mean."""
    data = pictures.load(source, size)
    found = {}
    for name in held:
        usual, unusual = parted(data, name)
        one = trained(recipe, usual, steps, **options)
        found[name] = round(auroc(scores(one, usual), scores(one, unusual)), 4)
    return {
        "data": source,
        "recipe": recipe,
        "steps": steps,
        "auroc": found,
        "mean": round(float(np.mean([*found.values()])), 4),
    }


# ── β ────────────────────────────────────────────────────────────────────────

FACTORS = {"x": 9, "y": 9, "size": 4, "colour": 3}
GROUNDS = ((235, 90, 80), (90, 170, 235), (90, 200, 120))


def factors(size: int = 16) -> tuple[Data, NDArray[np.int64]]:
    """One sticker at 9 x 9 places in 4 sizes on 3 grounds, and the factor values (N, 4) of each picture."""
    atlas = sources.atlas()
    sticker = atlas.stickers[atlas.groups.index("smileys")]
    drawn, values = [], np.stack(np.meshgrid(*map(np.arange, FACTORS.values()), indexing="ij"), axis=-1).reshape(-1, 4)
    for x, y, scale, colour in values:
        side = size * (0.3 + 0.1 * scale)
        matrix = np.array([[side / 64, 0, x * size / 12], [0, side / 64, y * size / 12]])
        cut = cv2.warpAffine(sticker, 4 * matrix, (4 * size, 4 * size), flags=cv2.INTER_AREA).astype(np.float32)
        alpha = cut[..., 3:] / 255
        laid = cut[..., :3] * alpha + (1 - alpha) * np.float32(np.array(GROUNDS[colour]))
        drawn.append(cv2.resize(laid, (size, size), interpolation=cv2.INTER_AREA).round().astype(np.uint8))
    order = np.random.default_rng(0).permutation(len(values)).astype(np.int64)
    labels = np.zeros(len(values), np.int64)
    return Data(np.stack(drawn), labels, ("face",), np.sort(order[100:]), np.sort(order[:100]), "factors"), values


def information(codes: Floats, values: NDArray[np.int64]) -> Floats:
    """Mutual information in nats of every latent (D), cut into BINS bins, with every factor (F): (D, F)."""
    found = np.zeros((codes.shape[1], values.shape[1]))
    for d, code in enumerate(codes.T):
        cuts = np.quantile(code, np.linspace(0, 1, BINS + 1)[1:-1])
        binned = np.searchsorted(cuts, code)
        for f, value in enumerate(values.T):
            joint = np.histogram2d(binned, value, bins=(BINS, int(value.max()) + 1))[0] / len(code)
            apart = joint.sum(axis=1, keepdims=True) @ joint.sum(axis=0, keepdims=True)
            told = joint > 0
            found[d, f] = float((joint[told] * np.log(joint[told] / apart[told])).sum())
    return found


def purity(told: Floats, used: NDArray[np.bool_]) -> float:
    """Of all that a used latent tells about the factors, the share that is about its best one; their mean, 0..1."""
    own = told[used]
    return float((own.max(axis=1) / own.sum(axis=1).clip(1e-9)).mean()) if used.any() else 0.0


def gap(told: Floats, values: NDArray[np.int64]) -> float:
    """Mutual information gap: by how much the best latent knows a factor better than the second, in its entropies."""
    entropies = [-sum(p * math.log(p) for p in np.bincount(v) / len(v) if p) for v in values.T]
    best = np.sort(told, axis=0)[::-1]
    return float(((best[0] - best[1]) / entropies).mean())


@torch.no_grad()
def _codes(one: Any) -> tuple[Floats, Floats]:
    with one.average.applied(one.net):
        posterior = one.net.posterior(one.data.batch(np.arange(len(one.data.pictures))))
    from studio.nets.vae import kl_per_latent

    return posterior.mean.double().numpy(), kl_per_latent(posterior).mean(dim=0).double().numpy()


def beta(steps: int, betas: Sequence[float] = BETAS, **options: Any) -> list[dict[str, Any]]:
    """For each β: KL in nats per picture, latents in use, purity and mutual information gap."""
    data, values = factors()
    rows = []
    for weight in betas:
        one = trained("beta-vae", data, steps, beta=weight, **{"latents": 8, "width": 16, "deviation": 0.4, **options})
        codes, kl = _codes(one)
        told = information(codes, values)
        used = kl > USED
        rows.append(
            {
                "beta": weight,
                "kl": round(float(kl.sum()), 2),
                "used": int(used.sum()),
                "purity": round(purity(told, used), 3),
                "gap": round(gap(told, values), 3),
                "psnr": round(float(one.validate()["psnr"]), 2),
            }
        )
    return rows


# ── drags ────────────────────────────────────────────────────────────────────


def drag(folder: Path, count: int = 100) -> dict[str, float]:
    """Milliseconds of one decode at a place of the map, median and 95 % quantile, on one thread."""
    from safetensors.torch import load_file

    from studio.nets import coders

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    net = coders.build(config["network"], config["arguments"]).eval()
    weights = {k: v for k, v in load_file(str(folder / "model.safetensors")).items() if not k.startswith("lab.")}
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    net.to(memory_format=torch.channels_last)
    torch.set_num_threads(1)
    spent = []
    with torch.inference_mode():
        for _ in range(count):
            begin = time.perf_counter()
            net.pictures(torch.randn(1, net.code_size), torch.zeros(1, dtype=torch.long) if net.classes else None)
            spent.append(1000 * (time.perf_counter() - begin))
    return {"median_ms": round(float(np.median(spent)), 2), "p95_ms": round(float(np.quantile(spent, 0.95)), 2)}


def main(argv: Sequence[str]) -> int:
    """Prints one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m studio.train.vae_measures")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("anomaly")
    one.add_argument("--data", default="digits")
    one.add_argument("--held", nargs="+", default=["0", "4", "7"])
    one.add_argument("--recipe", default="autoencoder")
    one.add_argument("--latents", type=int, default=8)
    one.add_argument("--steps", type=int, default=600)
    two = verbs.add_parser("beta")
    two.add_argument("--steps", type=int, default=800)
    three = verbs.add_parser("drag")
    three.add_argument("--model", type=Path, default=Path("models/starter-vae"))
    args = parser.parse_args(argv)
    acts = {
        "anomaly": lambda: [anomaly(args.data, args.held, args.recipe, args.steps, latents=args.latents, width=16)],
        "beta": lambda: beta(args.steps),
        "drag": lambda: [drag(args.model)],
    }
    for row in acts[args.verb]():
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
