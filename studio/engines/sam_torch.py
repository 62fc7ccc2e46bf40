"""Segment Anything on torch: for weights that were not converted, and for GPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studio.cards import Card
from studio.compress.networks import torch_precision
from studio.device import Device
from studio.engines import sam_weights
from studio.engines.sam_nets import Floats, Prompt
from studio.errors import OutOfMemory
from studio.runtimes.torch_runtime import compute_in_bf16


class TorchSam:
    """A network of `studio.nets.sam`; see `SamNet`."""

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        self._card = card
        self._where = torch.device("cuda" if device.accelerator == "auto" and torch.cuda.is_available() else "cpu")
        file, config = sam_weights.find(folder), sam_weights.read_config(card, folder)
        with _memory_errors(card):
            self.model: Any = sam_weights.load(file, config).to(self._where)
        precision = torch_precision(card, device)
        if precision == "bf16":  # the decoder takes milliseconds as it is
            compute_in_bf16(self.model.image_encoder)
        self.digest = sam_weights.digest(file, config) + ("" if precision == "fp32" else f"-{precision}")
        self.size = int(self.model.image_encoder.img_size)
        self.threshold = float(self.model.mask_threshold)
        self.notes: list[str] = []
        with torch.inference_mode():
            self._positions = self.model.prompt_encoder.get_dense_pe()  # (1, C, h, w)
        self.channels = int(self._positions.shape[1])

    def encode(self, pixels: Floats) -> Floats:
        with _memory_errors(self._card), torch.inference_mode():
            picture = self.model.preprocess(torch.from_numpy(pixels).to(self._where))
            found: Tensor = self.model.image_encoder(picture[None])[0]
        features: Floats = found.float().cpu().numpy()
        return features

    def decode(self, features: NDArray[np.float16], prompt: Prompt) -> tuple[Floats, Floats]:
        points = boxes = None
        if prompt.points is not None:
            points = self._tensor(prompt.points), self._tensor(prompt.labels)
        if prompt.boxes is not None:
            boxes = self._tensor(prompt.boxes)
        is_one = len(next(rows for rows in prompt if rows is not None)) == 1
        with _memory_errors(self._card), torch.inference_mode(), _one_thread(is_one):
            sparse, dense = self.model.prompt_encoder(points=points, boxes=boxes, masks=None)
            logits, scores = self.model.mask_decoder.predict_masks(
                image_embeddings=self._tensor(features).float()[None],  # (1, C, h, w)
                image_pe=self._positions,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
            return logits.float().cpu().numpy(), scores.float().cpu().numpy()

    def close(self) -> None:
        del self.model
        if self._where.type == "cuda":
            torch.cuda.empty_cache()

    def _tensor(self, array: NDArray[Any] | None) -> Tensor:
        return torch.as_tensor(array, device=self._where)


@contextlib.contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """For a click's hundred tiny operations: threads that meet after each cost more than they save, and on a machine
    that is busy otherwise twenty times as much (measured: 45 ms with one, 900 ms with two).
    """
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _memory_errors(card: Card) -> Iterator[None]:
    """Says what torch means when memory ends: its own error on a GPU, a bare RuntimeError on the CPU."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise OutOfMemory(
            f"{card.title} needs more memory than is left.", "Choose a smaller model, or close other programs."
        ) from error
