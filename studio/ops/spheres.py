"""Ways between two codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PARALLEL = 1e-4  # radians: below, the two ways are the same and the formula divides by nothing


def between(a: Tensor, b: Tensor, shares: Tensor, way: str = "spherical") -> Tensor:
    """Codes (T, L) at `shares` (T,) of the way from a (L,) to b (L,).

    "linear" passes nearer to the middle than normal codes ever lie; "spherical" turns from one to the other (Shoemake
    1985), its length changing evenly.
    """
    t = shares[:, None]
    straight = a + t * (b - a)
    lengths = a.norm(), b.norm()
    if way == "linear" or float(min(lengths)) < 1e-6:
        return straight
    angle = ((a / lengths[0]) @ (b / lengths[1])).clamp(-1, 1).acos()
    if not PARALLEL < float(angle) < 3.14159 - PARALLEL:
        return straight
    turned = ((1 - t) * angle).sin() / angle.sin() * a / lengths[0] + (t * angle).sin() / angle.sin() * b / lengths[1]
    return turned * (lengths[0] + t * (lengths[1] - lengths[0]))
