"""What an image encoder made of a picture, kept on disk: the first click pays, all later ones only decode.

Everything in the folder can be computed again, so nothing here fails: what is damaged or gone counts as not there,
and what cannot be written is not kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studio import files
from studio.errors import StudioError

MAX_FILES = 200
MAX_BYTES = 2**30
SUFFIX = ".embedding.npz"


@dataclass(frozen=True)
class Embedding:
    """`features` float16 (C, h, w) of a picture of `height` x `width` pixels."""

    features: NDArray[np.float16]
    height: int
    width: int


class EmbeddingCache:
    """Files by key, the least recently used leave first.

    Args:
        folder: made when first written to.
        max_files: keep at most this many files,
        max_bytes: and at most this many bytes; the newest always stays.
    """

    def __init__(self, folder: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes

    def read(self, key: str, channels: int) -> Embedding | None:
        """The embedding kept under `key`, or None where there is none that is whole and has that many channels."""
        file = self._folder / (key + SUFFIX)
        try:
            with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:  # checks the zip's CRC
                features, (height, width) = arrays["features"], arrays["size"].tolist()
        except (OSError, ValueError, KeyError, EOFError, TypeError, NotImplementedError, zipfile.BadZipFile):
            return None
        if features.dtype != np.float16 or features.ndim != 3 or len(features) != channels or min(height, width) < 1:
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # now the most recently used
        return Embedding(features, height, width)

    def write(self, key: str, embedding: Embedding) -> None:
        """Keeps the embedding, in one step: a reader sees all of it or nothing."""
        size = np.array([embedding.height, embedding.width])
        place = self._folder / (key + SUFFIX)
        with contextlib.suppress(StudioError), files.whole(place) as part, part.open("wb") as out:
            np.savez(out, features=embedding.features, size=size)
        with contextlib.suppress(OSError):
            self._prune()

    def _prune(self) -> None:
        files = sorted(
            ((file.stat(), file) for file in self._folder.glob("*" + SUFFIX)), key=lambda f: -f[0].st_mtime_ns
        )
        total = 0
        for position, (stat, file) in enumerate(files):
            total += stat.st_size
            if position and (position >= self._max_files or total > self._max_bytes):
                file.unlink(missing_ok=True)
