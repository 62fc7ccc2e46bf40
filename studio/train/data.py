"""The pictures a training learns from: loaded once, split by a fixed seed, handed out in batches.

    data = load("stickers", size=32, seed=0)
    pictures, labels = data.draw(64, generator, augment=("flip",))   # (64, 3, 32, 32) in -1..1, (64,)
    held_out = data.batch(data.valid[:16])

Everything is decided by (source, size, seed) and the generator of the step, never by a clock or a global generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studio.errors import StudioError
from studio.train import sources
from studio.train.augment import augmented

if TYPE_CHECKING:
    import torch

FEWEST = 8
"""Pictures that a training needs: fewer cannot be split into some to learn from and some to judge by."""
VALID_SHARE = 0.1
VALID_MOST = 512


class TooFew(StudioError):
    """There are not enough pictures to learn from."""


@dataclass(frozen=True)
class Data:
    """Attributes:
    pictures: uint8 RGB (N, S, S, 3).
    labels: int64 (N,), an index into `names`.
    names: of the classes.
    train, valid: int64 indices, disjoint, together all.
    key: hash of all of the above; a run continues only on the same data.
    broken: files that could not be read, as "name: why".
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    key: str
    broken: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return int(self.pictures.shape[1])

    @property
    def classes(self) -> int:
        return len(self.names)

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """The pictures as they are: float (B, 3, S, S) in -1..1."""
        return _floats(self.pictures[np.asarray(indices, dtype=np.int64)])

    def draw(
        self, count: int, generator: torch.Generator, augment: Sequence[str] = ()
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` training pictures by chance, augmented, (B, 3, S, S) in -1..1, and their labels int64 (B,)."""
        import torch

        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        rng = np.random.default_rng(seed)
        chosen = self.train[rng.integers(len(self.train), size=count)]
        pictures = augmented(self.pictures[chosen], tuple(augment), rng)
        return _floats(pictures), torch.from_numpy(self.labels[chosen]).to(torch.get_default_device())


def load(source: str, size: int, seed: int = 0, *, home: Path | None = None, owner: str | None = None) -> Data:
    """Pictures (size, size) of a source, split into training and validation by `seed`.

    Args:
        source: "stickers" or "stickers:GROUP" (see `sources.groups`), "digits", "library" (needs `home`),
            "upload:ID" (what the page took in, needs `home`), else the path of a folder or zip; its sub-folders are the
            classes.
        owner: whose pictures of the library; None is everybody's.

    Raises: TooFew, NotFound, UnsafeFile, InvalidTask.
    """
    found = sources.read(source, size, home=home, owner=owner)
    count = len(found.pictures)
    if count < FEWEST:
        broken = f" {len(found.broken)} files could not be read: {'; '.join(found.broken[:3])}." if found.broken else ""
        there = "There is 1 picture" if count == 1 else f"There are {count} pictures"
        raise TooFew(
            f"{there} to learn from; a training needs at least {FEWEST}.{broken}",
            "Add pictures, or choose the stickers; a few hundred pictures give a good result.",
        )
    order = np.random.default_rng(seed).permutation(count)
    held = min(VALID_MOST, max(2, round(VALID_SHARE * count)))
    digest = hashlib.sha256(f"{found.pictures.shape}{found.names}{seed}".encode())
    digest.update(np.ascontiguousarray(found.pictures).tobytes())
    digest.update(found.labels.tobytes())
    return Data(
        found.pictures,
        found.labels,
        found.names,
        np.sort(order[held:]),
        np.sort(order[:held]),
        digest.hexdigest(),
        found.broken,
    )


def describe(data: Data) -> Mapping[str, Any]:
    """What the record of a run says about its pictures."""
    return {
        "pictures": len(data.pictures),
        "train": len(data.train),
        "valid": len(data.valid),
        "classes": data.classes,
        "names": list(data.names[:300]),
        "broken": list(data.broken[:50]),
        "key": data.key,
    }


def _floats(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (B, S, S, 3) -> float (B, 3, S, S) in -1..1."""
    import torch

    found = torch.from_numpy(np.ascontiguousarray(pictures)).to(torch.get_default_device())
    return found.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
