"""SRVGGNetCompact, the small enlarger of Real-ESRGAN (Wang et al. 2021): plain convolutions, then pixels are shuffled.

Keys are those of the published weights (body.N.weight), so they load unchanged. Pictures are float (B, 3, H, W) in
0..1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SrvggCompact(nn.Module):
    """(B, 3, H, W) -> (B, 3, scale H, scale W): what the enlarged input lacks.

    Args:
        width: channels between the convolutions.
        layers: convolutions between the first and the last.
    """

    def __init__(self, *, scale: int = 4, width: int = 64, layers: int = 16) -> None:
        super().__init__()
        self.scale = scale
        body: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(layers):
            body += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        body.append(nn.Conv2d(width, 3 * scale**2, 3, padding=1))
        self.body = nn.ModuleList(body)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.body:
            y = layer(y)
        return F.pixel_shuffle(y, self.scale).to(x.dtype) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


def sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The arguments of the network that these weights belong to. Raises KeyError where they are none of it."""
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("body.") and name.endswith(".weight"))
    width = int(weights["body.0.weight"].shape[0])
    scale = round((weights[f"body.{last}.weight"].shape[0] / 3) ** 0.5)
    return {"scale": scale, "width": width, "layers": (last - 2) // 2}


def build(weights: Mapping[str, Tensor]) -> SrvggCompact:
    """The network with its weights, in evaluation. Raises KeyError or RuntimeError where they do not fit."""
    net = SrvggCompact(**sizes(weights))
    net.load_state_dict({name: torch.as_tensor(value).float() for name, value in weights.items()})
    return net.eval()
