"""The trainee of pix2pix (Isola et al. 2017): from the lines of a picture back to the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.nets.gan import Verdict
from studio.nets.pix2pix import PatchDiscriminator, UNet, sobel
from studio.train.gan import COLUMNS, Batch, Gan, some
from studio.train.options_gan import Pix2PixOptions
from studio.train.sheets import grid
from studio.train.trainee import Pixels


class Pix2Pix(Gan):
    """The condition is everything: the generator's input are the edges, and there is no noise."""

    watched = "l1"
    kind = "pix2pix"
    options: Pix2PixOptions

    def networks(self) -> tuple[nn.Module, nn.Module]:
        o = self.options
        return UNet(size=o.size, width=o.width), PatchDiscriminator(width=o.width)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The edges of held-out pictures: what is looked at while it trains."""
        chosen = self.data.batch(some(self.data.valid, count))
        return torch.zeros((len(chosen), 1)), sobel(chosen, self.options.threshold)

    def batch(self, generator: torch.Generator) -> Batch:
        real, _ = self.data.draw(self.options.batch, generator, self.options.augment)
        edges = sobel(real, self.options.threshold)
        return Batch(real, edges, torch.zeros((len(real), 1)), edges)

    def make(
        self, net: nn.Module, noise: Tensor, condition: Tensor | None, generator: torch.Generator | None = None
    ) -> Tensor:
        return net(condition)

    def g_extra(
        self, step: int, batch: Batch, fake: Tensor, verdict: Verdict, generator: torch.Generator
    ) -> tuple[Tensor | None, dict[str, float]]:
        difference = F.l1_loss(fake, batch.real)
        return self.options.l1 * difference, {"l1": float(difference.detach())}

    def validate(self) -> Mapping[str, float]:
        """L1 and PSNR (dB) on held-out pictures, beside the kernel distance of what is made from their edges."""
        edges = sobel(self.held_out, self.options.threshold)
        made = self.pictures(torch.zeros((len(edges), 1)), edges)
        error = float((made - self.held_out).square().mean()) / 4  # in parts of full scale
        return {
            **super().validate(),
            "l1": float(F.l1_loss(made, self.held_out)),
            "psnr": -10 * float(torch.log10(torch.tensor(max(error, 1e-10)))),
        }

    def samples(self) -> Mapping[str, Pixels]:
        """Rows of three: the edges of held-out pictures, what is made of them, the pictures themselves."""
        real = self.data.batch(some(self.data.valid, 2 * COLUMNS))
        edges = sobel(real, self.options.threshold)
        made = self.pictures(torch.zeros((len(edges), 1)), edges)
        kinds = (edges.expand(-1, 3, -1, -1), made, real)
        rows = [kind[start : start + COLUMNS] for start in range(0, len(real), COLUMNS) for kind in kinds]
        return {"samples": grid(torch.cat(rows), min(COLUMNS, len(real)))}

    def more_config(self) -> dict[str, Any]:
        return {"edges": "sobel"}
