"""The finished model of the VAE lab as files: weights in half precision, and what the lab's views need of the data.

model.safetensors holds the network's weights and, under "lab.", some held-out pictures with their codes and labels (the
points of the map), the principal directions of the codes, and the error quantiles behind the anomaly threshold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from studio.ops import heat
from studio.train.data import Data
from studio.train.sheets import pixels

POINT_BYTES = 1_500_000
POINTS_MOST = 256
DIRECTIONS = 16
SEEN_MOST = 256
QUANTILES = np.linspace(0, 1, 101)
HOT = 0.995
"""The share of held-out pixels whose error is below the top of the heat-map's scale."""

Told = Callable[[Tensor], Tensor | None]


@torch.no_grad()
def export(
    net: Any,
    network: str,
    arguments: Mapping[str, Any],
    data: Data,
    folder: Path,
    facts: Mapping[str, Any],
    *,
    told: Told,
) -> Mapping[str, Any]:
    """Writes model.safetensors and config.json into `folder`; returns the facts.

    Args:
        net: in evaluation, with the weights to keep.
        told: labels as the network wants them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = data.valid[np.random.default_rng(0).permutation(len(data.valid))[:SEEN_MOST]]
    x, labels = data.batch(seen), torch.from_numpy(data.labels[seen])
    parts = [_passed(net, some, told(those)) for some, those in zip(x.split(64), labels.split(64), strict=True)]
    codes, made = (torch.cat(each) for each in zip(*parts, strict=True))
    lab, errors = _lab(data, seen, codes, labels), _errors(x, made)
    lab["error_quantiles"] = torch.tensor(np.quantile(errors["picture"], QUANTILES), dtype=torch.float32)
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in net.state_dict().items()}
    save_file(
        {name: value.contiguous() for name, value in {**tensors, **{f"lab.{k}": v for k, v in lab.items()}}.items()},
        folder / "model.safetensors",
    )
    own: nn.Module = net
    found = {
        **facts,
        "network": network,
        "parameters": sum(p.numel() for p in own.parameters()),
        "pictures": len(data.pictures),
        "classes": list(data.names),
        "psnr_db": round(float(_psnr(x, made)), 2),
    }
    config = {
        "network": network,
        "arguments": dict(arguments),
        "names": list(data.names),
        "heat_top": float(np.quantile(errors["pixels"], HOT)),
        "facts": dict(facts),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def _passed(net: Any, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    codes = net.codes(x, labels)
    return codes, net.pictures(codes, labels)


def _lab(data: Data, seen: Any, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    shown = max(2, min(POINTS_MOST, len(seen), POINT_BYTES // (3 * data.size**2)))
    mean, directions, deviations = principal(codes)
    return {
        "pictures": torch.from_numpy(data.pictures[seen[:shown]]),
        "labels": labels[:shown],
        "codes": codes[:shown].half(),
        "mean": mean,
        "deviation": codes.std(dim=0),
        "directions": directions.half(),
        "direction_deviations": deviations,
    }


def principal(codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), principal directions (K, D) of length 1 and the deviations (K,) along them, largest first.

    The sign of a direction is chosen such that its largest entry is positive, so that maps do not flip.
    """
    mean = codes.mean(dim=0)
    _, values, directions = torch.linalg.svd(codes - mean, full_matrices=False)
    count = min(DIRECTIONS, len(values))
    directions, values = directions[:count], values[:count]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return mean, directions * torch.where(largest < 0, -1.0, 1.0), values / max(1, len(codes) - 1) ** 0.5


def _errors(x: Tensor, made: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    pairs = list(zip(pixels(x), pixels(made), strict=True))
    each = [np.square((a.astype(np.float64) - b) / 255).mean() for a, b in pairs]
    return {"picture": np.array(each), "pixels": np.stack([heat.error_map(a, b) for a, b in pairs])}


def _psnr(x: Tensor, made: Tensor) -> Tensor:
    error = ((made.clamp(-1, 1) - x) / 2).square().mean(dim=(1, 2, 3))
    return (-10 * torch.log10(error + 1e-10)).mean()
