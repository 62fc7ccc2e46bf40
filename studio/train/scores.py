"""The segmenter's last lesson: how good its own masks are, once they no longer change.

While the masks are still learning, the head that predicts their IoU chases a moving target, and a click is answered by
the mask that it rates best. So at the end everything else is frozen: the network answers clicks and boxes at its full
picture size, and the head alone learns from what those answers were worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.train.asking import Question, answer, around, clicks, innermost, normalised, overlap, sized
from studio.train.regions import Regions

KINDS = {"scatter": 0.8, "leaves": 0.12, "photo": 0.08}
"""The chances of the pictures it learns from: things more often than textures."""
ASKED = 8
"""Regions asked for per picture, each in three ways."""
SHARPNESS = 10.0
"""Of the comparison between a click's three masks: a tenth of IoU is worth a factor of e."""
COMPARED = 0.02
"""Weight of that comparison beside the squared error."""


def teach_scores(sam: Any, drawn: Iterable[Regions], *, seed: int = 0, epochs: int = 80, rate: float = 1e-3) -> float:
    """Trains `sam.mask_decoder.iou_prediction_head` on the pictures `drawn`. Returns the mean error of its IoU."""
    sam.eval().requires_grad_(False)
    tokens, worth, is_click = _collected(sam, drawn, np.random.default_rng([seed, 5]))
    head = sam.mask_decoder.iou_prediction_head.requires_grad_(True)
    chance = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=1e-3)
    steps = max(1, epochs * len(tokens) // 256)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        picks = torch.randint(len(tokens), (256,), generator=chance)
        loss = score_loss(head(tokens[picks]), worth[picks], is_click[picks])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    head.requires_grad_(False)
    return float((head(tokens) - worth).abs().mean())


def score_loss(predicted: Tensor, worth: Tensor, is_click: Tensor) -> Tensor:
    """Squared error of the IoU (B, 4), and for clicks the cross-entropy of which of masks 1 to 3 is worth most."""
    wanted = (worth[:, 1:] * SHARPNESS).softmax(1)
    compared = F.cross_entropy(predicted[:, 1:] * SHARPNESS, wanted, reduction="none")
    return F.mse_loss(predicted, worth) + COMPARED * (compared * is_click).mean()


@torch.no_grad()
def _collected(sam: Any, drawn: Iterable[Regions], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """What the head saw (N, C), the IoU of the four masks (N, 4), and whether one click asked (N,)."""
    seen: list[Tensor] = []
    head: nn.Module = sam.mask_decoder.iou_prediction_head
    listener = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    worth, is_click = list[Tensor](), list[Tensor]()
    try:
        for one in drawn:
            sized(sam, one.picture.shape[0])
            embedding = sam.image_encoder(
                normalised(sam, torch.from_numpy(one.picture)[None], [(one.height, one.width)])
            )
            masks = one.masks[rng.permutation(len(one.masks))[:ASKED]]
            truth = F.avg_pool2d(torch.from_numpy(masks).float()[:, None], 2)
            labels = torch.ones(len(masks), 1)
            deep = np.stack([innermost(mask) for mask in masks])[:, None]  # (P, 1, 2)
            for question in (
                Question(points=torch.from_numpy(clicks(masks, 1, rng)), labels=labels),
                Question(points=torch.from_numpy(deep), labels=labels),
                Question(boxes=torch.from_numpy(around(masks, rng))),
            ):
                logits, _ = answer(sam, embedding, sam.prompt_encoder.get_dense_pe(), question)
                worth.append(overlap(logits, truth))
                is_click.append(torch.full((len(masks),), float(question.points is not None)))
    finally:
        listener.remove()
    return torch.cat(seen), torch.cat(worth), torch.cat(is_click)
