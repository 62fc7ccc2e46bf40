"""Where each word of a prompt looked: cross-attention maps of a text-to-image pipeline (Hertz et al. 2022).

In every cross-attention layer each position of the picture spreads its attention, a probability, over the tokens of
the prompt. What is shown for a word is that share, averaged over heads, layers, steps and then sizes of map, of the
guided half of the batch only. It says where the word was read, which is a hint at, and no proof of, what it caused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studio.engines.arguments import Arguments
from studio.engines.base import Report, Result
from studio.errors import InvalidTask, Unsupported
from studio.tasks import Explore

Pixels = NDArray[np.uint8]

MOST_WORDS = 24
MOST_SIDE = 512
"""Probabilities are kept for every position, so the picture is not large."""


class KeepingProcessor:
    """A cross-attention processor that does what diffusers' does, and adds up the probabilities on the way.

    Attributes:
        sums: the kept half's probabilities by number of positions, averaged over heads: (positions, tokens).
        counts: how many were added to each.
    """

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}
        self.counts: dict[int, int] = {}

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        residual, shape = hidden_states, hidden_states.shape
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        if hidden_states.ndim == 4:
            hidden_states = hidden_states.flatten(2).mT  # (N, h w, C)
        told = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            told = attn.norm_encoder_hidden_states(told)
        mask = attn.prepare_attention_mask(attention_mask, told.shape[1], len(hidden_states))
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.mT).mT
        query, key, value = (
            attn.head_to_batch_dim(part) for part in (attn.to_q(hidden_states), attn.to_k(told), attn.to_v(told))
        )
        odds = attn.get_attention_scores(query, key, mask)  # (N heads, positions, tokens), sums to 1 over tokens
        self._keep(odds, len(hidden_states))
        result = attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(torch.bmm(odds, value))))
        if len(shape) == 4:
            result = result.mT.reshape(shape)
        result = result + residual if attn.residual_connection else result
        return result / attn.rescale_output_factor

    def _keep(self, odds: Tensor, batch: int) -> None:
        # With guidance the batch holds the unconditional half first.
        by_picture = odds.detach().float().reshape(batch, -1, *odds.shape[1:]).mean(1)  # (N, positions, tokens)
        kept, positions = by_picture[-1].cpu(), by_picture.shape[1]
        self.sums[positions] = self.sums.get(positions, torch.zeros_like(kept)) + kept
        self.counts[positions] = self.counts.get(positions, 0) + 1


@contextmanager
def keeping(unet: Any) -> Iterator[KeepingProcessor]:
    """Within the block all cross-attention of `unet` is kept; afterwards its processors are the old ones again."""
    before = dict(unet.attn_processors)
    processor = KeepingProcessor()
    cross = {name for name in before if ".attn2." in name}
    if not cross:
        raise Unsupported("This model has no cross-attention to look at.", "Choose another text-to-image model.")
    unet.set_attn_processor({name: processor if name in cross else old for name, old in before.items()})
    try:
        yield processor
    finally:
        unet.set_attn_processor(before)


def attention(pipe: Any, defaults: Mapping[str, Any], task: Explore, report: Report) -> Result:
    """Paints {prompt, steps, guidance, seed, side} and returns the picture, then for each word its heat-map laid over
    the picture.

    data.words: [{"word", "share", "peak": [x, y] as parts of the sides}] in the order of the prompt; "share" is the
    word's part of all attention that went to words. data.to_words: how much of all attention went to words (0..1); the
    rest went to the marks at the prompt's ends and its padding, which a text encoder fills with the whole sentence, so
    a word with next to no share may still have been followed.
    """
    args = Arguments(task.args)
    prompt = args.text("prompt", 500).strip()
    words = spans(pipe.tokenizer, prompt)
    if not words:
        raise InvalidTask("There are no words to look for.", "Write what the picture shows.")
    native = int(defaults.get("width", 512))
    steps, side = args.whole("steps", 1, 100, int(defaults.get("steps", 20))), args.whole("side", 64, MOST_SIDE, native)
    side = side // pipe.vae_scale_factor * pipe.vae_scale_factor
    guidance = args.number("guidance", 0, 20, float(defaults.get("guidance_scale", 5.0)))

    def on_step(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        report.progress(index + 1, steps, "step")
        return tensors

    with keeping(pipe.unet) as kept, torch.inference_mode():
        painted = pipe(
            prompt,
            width=side,
            height=side,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator("cpu").manual_seed(args.whole("seed", 0, 2**32 - 1, 0)),
            output_type="np",
            callback_on_step_end=on_step,
        ).images[0]
    picture = np.rint(np.nan_to_num(painted) * 255).clip(0, 255).astype(np.uint8)
    maps = word_maps(kept, [tokens for _, tokens in words], side)  # (words, side, side)
    total = float(maps.mean(axis=(1, 2)).sum())
    facts = [
        {
            "word": word,
            "share": round(float(one.mean()) / max(total, 1e-9), 4),
            "peak": [round(float(v) / side, 3) for v in np.unravel_index(int(one.argmax()), one.shape)[::-1]],
        }
        for (word, _), one in zip(words, maps, strict=True)
    ]
    layers = {f"{int(n**0.5)}×{int(n**0.5)}": count for n, count in sorted(kept.counts.items())}
    # Each map in its own range: attention differs more between words than between places.
    shown = tuple(laid_over(picture, one) for one in maps)
    told = {"words": facts, "to_words": round(min(total, 1.0), 4), "maps": layers, "side": side, "steps": steps}
    return Result((picture, *shown), data=told)


def spans(tokenizer: Any, prompt: str) -> list[tuple[str, list[int]]]:
    """Each word of a prompt with the positions of its tokens, at most MOST_WORDS; words that were cut off are left out.

    CLIP's tokenizers end a word with "</w>", so the tokens are read until one does.
    """
    ids = tokenizer(prompt, truncation=True, max_length=tokenizer.model_max_length).input_ids
    special = set(tokenizer.all_special_ids)
    found: list[tuple[str, list[int]]] = []
    held: list[int] = []
    for position, id_ in enumerate(ids):
        if id_ in special:
            continue
        held.append(position)
        text = str(tokenizer.convert_ids_to_tokens(id_))
        if text.endswith("</w>"):
            word = tokenizer.decode([ids[k] for k in held]).strip()
            if re.search(r"\w", word):
                found.append((word, held))
            held = []
    return found[:MOST_WORDS]


def word_maps(kept: KeepingProcessor, words: list[list[int]], side: int) -> NDArray[np.float32]:
    """Mean attention of every pixel to each word: (words, side, side). A word's tokens are added up.

    Each size of map counts the same, however many layers have it: otherwise the coarsest would drown the others.
    """
    maps: NDArray[np.float32] = np.zeros((len(words), side, side), np.float32)
    for positions, odds in kept.sums.items():
        edge = round(positions**0.5)
        grid = odds.reshape(edge, edge, -1).numpy()
        for k, tokens in enumerate(words):
            one = np.ascontiguousarray(grid[..., tokens].sum(-1), np.float32)
            maps[k] += cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) / kept.counts[positions]
    return maps / np.float32(max(1, len(kept.sums)))


def laid_over(picture: Pixels, one: NDArray[np.float32]) -> Pixels:
    """The picture, lit and glowing where the word was read most, dim where it was least; the map in its own range."""
    share = ((one - one.min()) / max(float(np.ptp(one)), 1e-9))[..., None]  # (side, side, 1)
    lit = picture * (0.2 + 0.8 * share)
    glow = np.array((255, 196, 64), np.float32)
    return np.clip(lit * (1 - 0.4 * share) + glow * 0.4 * share, 0, 255).astype(np.uint8)
