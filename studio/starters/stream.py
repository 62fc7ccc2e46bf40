"""Scenes and their tokens without end, thought up by processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from studio.starters.scenes import Batch, Style, draw, facts

Read = Callable[[Sequence[str]], NDArray[np.integer[Any]]]
"""Texts -> tokens (N, L)."""
Chunk = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], NDArray[np.integer[Any]]]


class _Chunks(torch.utils.data.IterableDataset[Chunk]):
    def __init__(self, reader: Callable[[], Read], style: Style, count: int, seed: int) -> None:
        self.reader, self.style, self.count, self.seed = reader, style, count, seed

    def __iter__(self) -> Iterator[Chunk]:
        info = torch.utils.data.get_worker_info()
        rng, read = np.random.default_rng([self.seed, info.id if info else 0]), self.reader()
        while True:
            scenes = [draw(rng, self.style) for _ in range(self.count)]
            yield *Batch.of(scenes), facts(scenes), read([scene.caption for scene in scenes])


class Stream:
    """Args:
    reader: makes the tokenizer, in each process anew.
    style: of the scenes.
    workers: processes; 0 draws in this one.
    count: scenes that a process hands over at a time.
    """

    def __init__(
        self, reader: Callable[[], Read], style: Style, *, workers: int = 0, count: int = 512, seed: int = 0
    ) -> None:
        self._chunks: Iterator[Chunk] = iter(
            torch.utils.data.DataLoader(
                _Chunks(reader, style, count, seed),
                batch_size=None,
                collate_fn=_same,
                num_workers=workers,
                multiprocessing_context="spawn" if workers else None,
                prefetch_factor=4 if workers else None,
            )
        )
        self._rest: list[Chunk] = []

    def take(self, count: int) -> tuple[Batch, NDArray[np.int32], NDArray[np.integer[Any]]]:
        """So many scenes, their facts and their tokens."""
        have = sum(len(chunk[0]) for chunk in self._rest)
        while have < count:
            self._rest.append(next(self._chunks))
            have += len(self._rest[-1][0])
        sprites, grounds, told, tokens = (np.concatenate(part) for part in zip(*self._rest, strict=True))
        self._rest = [(sprites[count:], grounds[count:], told[count:], tokens[count:])]
        return Batch(sprites[:count], grounds[:count]), told[:count], tokens[:count]


def _same(chunk: Chunk) -> Chunk:
    return chunk
