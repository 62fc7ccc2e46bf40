"""An opened autoencoder: its network, its code as numbers one can turn, and the held-out pictures it came with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from studio.nets import coders
from studio.ops import fitting
from studio.train import sources

Pixels = NDArray[np.uint8]
Space = Literal["latents", "directions"]
SPACES: tuple[Space, ...] = ("latents", "directions")
NATURAL: Mapping[str, Space] = {"vae": "latents", "hvae": "latents"}
"""Networks whose latents are pulled towards independent normals, so that one alone means something. Others are shown
along the principal directions of their codes."""
LAB = "lab."
STAND_INS = 48
BATCH = 64


@dataclass(frozen=True)
class Axes:
    """Directions in code space that can be turned one by one: code = origin + sum of value * step.

    Attributes:
        origin: (L,).
        steps: (K, L); a value of 1 is one deviation.
        weight: (K,) how much each matters, for their order: KL in nats, or variance.
    """

    origin: Tensor
    steps: Tensor
    weight: Tensor


class Model:
    """Pictures in and out are RGB uint8; codes are float (B, L) on the network's device, which is the CPU.

    Attributes:
        network: its name in `studio.nets.coders.NETWORKS`, or "autoencoder-tiny".
        points: held-out pictures (N, S, S, 3) with their labels (N,) and codes (N, L).
    """

    def __init__(self, net: coders.Coder, config: Mapping[str, Any], lab: Mapping[str, Tensor]) -> None:
        self.net, self.config = net, config
        self.network = str(config["network"])
        self.names: tuple[str, ...] = tuple(config.get("names", ()))
        self.facts: Mapping[str, Any] = config.get("facts", {})
        self.points: Pixels = lab["pictures"].numpy()
        self.labels: NDArray[np.int64] = lab["labels"].numpy()
        self.codes: Tensor = lab["codes"].float()
        self.mean: Tensor = lab["mean"].float()
        self.deviation: Tensor = lab["deviation"].float()
        self.directions: Tensor = lab["directions"].float()
        self.direction_deviations: Tensor = lab["direction_deviations"].float()
        self.error_quantiles: NDArray[np.float32] = lab["error_quantiles"].numpy()
        self.heat_top = float(config.get("heat_top", 0.05))
        self.space: Space = NATURAL.get(self.network, "directions")

    @property
    def size(self) -> int:
        return self.net.size

    @property
    def is_conditional(self) -> bool:
        return self.net.classes > 0

    def axes(self, space: Space) -> Axes:
        """What can be turned in `space`: the network's latents, or the principal directions of its codes."""
        if space == "directions":
            deviations = self.direction_deviations
            return Axes(self.mean, self.directions * deviations[:, None], deviations.square())
        own = self.network in NATURAL
        count = self.net.latents
        unit = torch.ones(count) if own else self.deviation[:count].clamp_min(1e-6)
        steps = torch.zeros(count, len(self.mean))
        steps[:, :count] = torch.diag(unit)
        known = self.facts.get("kl_per_latent")
        weight = torch.tensor(known) if own and known else self.deviation[:count].square()
        return Axes(torch.zeros_like(self.mean) if own else self.mean, steps, weight)

    def coordinates(self, code: Tensor, axes: Axes) -> Tensor:
        """A code (L,) as values along the axes (K,)."""
        return (axes.steps @ (code - axes.origin)) / axes.steps.square().sum(dim=1).clamp_min(1e-12)

    # ── pictures and codes ───────────────────────────────────────────────────

    def fit(self, picture: Pixels) -> Pixels:
        """The middle square at the network's size."""
        return fitting.cover(np.ascontiguousarray(picture), self.size, self.size)

    def encode(self, pictures: Pixels, labels: Tensor | None = None) -> Tensor:
        """uint8 (B, S, S, 3) -> codes (B, L)."""
        x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        parts = zip(x.split(BATCH), _split(labels, len(x)), strict=True)
        return torch.cat([self.net.codes(some, told) for some, told in parts])

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Pixels:
        """Codes (B, up to L) -> uint8 (B, S, S, 3)."""
        parts = zip(codes.split(BATCH), _split(labels, len(codes)), strict=True)
        made = torch.cat([self.net.pictures(some, told) for some, told in parts])
        found = made.nan_to_num(0).clamp_(-1, 1).add_(1).mul_(127.5).round_().byte().permute(0, 2, 3, 1)
        return np.ascontiguousarray(found.numpy())

    def told(self, label: int | None, count: int) -> Tensor | None:
        """The label for each of `count` pictures, for a conditional network; None for others."""
        return torch.full((count,), label if label is not None else 0) if self.is_conditional else None

    def best_label(self, picture: Pixels) -> int | None:
        """For a conditional network: the label with which it reconstructs (S, S, 3) best."""
        if not self.is_conditional:
            return None
        every = torch.arange(self.net.classes)
        many = np.repeat(picture[None], len(every), axis=0)
        made = self.decode(self.encode(many, every), every).astype(np.float32)
        return int(np.square(made - picture).mean(axis=(1, 2, 3)).argmin())


def open_model(folder: Path) -> Model:
    """The model in `folder`. Raises OSError, ValueError, KeyError and what torch and safetensors raise."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    torch.set_num_threads(1)  # a drag decodes one small picture: threads that meet cost more than they save
    kind = "tiny" if config.get("_class_name") == "AutoencoderTiny" else "lab"
    return _OPENERS[kind](folder, config)


def _open_lab(folder: Path, config: dict[str, Any]) -> Model:
    tensors = load_file(str(folder / "model.safetensors"))
    lab = {name.removeprefix(LAB): value for name, value in tensors.items() if name.startswith(LAB)}
    net = coders.build(config["network"], config["arguments"])
    own = {name: value for name, value in tensors.items() if not name.startswith(LAB)}
    net.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in own.items()})
    net.eval().requires_grad_(False)
    if "pictures" not in lab:
        lab |= _stand_ins(net)
        config = config if net.classes else {**config, "names": ["sticker"]}
    return Model(net.to(memory_format=torch.channels_last), config, lab)


def _stand_ins(net: coders.Coder) -> dict[str, Tensor]:
    """Shipped stickers and their codes, where a model travels without pictures of its data."""
    pictures = torch.from_numpy(sources.stickers(net.size, limit=STAND_INS).pictures)
    labels = torch.zeros(len(pictures), dtype=torch.long)
    with torch.inference_mode():
        x = pictures.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        codes = net.codes(x, labels if net.classes else None)
    return {"pictures": pictures, "labels": labels, "codes": codes}


def _open_tiny(folder: Path, config: dict[str, Any]) -> Model:
    from studio.engines import vae_tiny

    return Model(*vae_tiny.load(folder, config))


_OPENERS: dict[str, Callable[[Path, dict[str, Any]], Model]] = {"lab": _open_lab, "tiny": _open_tiny}


def _split(labels: Tensor | None, count: int) -> list[Tensor | None]:
    if labels is None:
        return [None] * max(1, -(-count // BATCH))
    return list(labels.split(BATCH))
