"""What every engine that paints decides before it begins, and says afterwards: sizes, steps, notes. No framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.cards import Card
from studio.compress.plan import Anatomy, Saving, saving
from studio.engines.base import Report, Result
from studio.errors import InvalidTask, StudioError
from studio.ops import fitting, infotext
from studio.ops.vocabulary import Vocabulary
from studio.ops.words import count
from studio.tasks import MAX_SEED, Generate

Pixels = NDArray[np.uint8]

STEPS = 25
GUIDANCE = 7.0
TINY_LATENTS = 32 * 32  # positions up to which a tiny autoencoder decodes fast enough to be the preview


@dataclass
class Plan:
    """A task with everything decided. Sizes in pixels, multiples of what the model needs."""

    task: Generate
    seed: int
    steps: int
    effective_steps: int  # what image-to-image really runs
    guidance: float
    width: int
    height: int
    start: Pixels | None = None  # (height, width, 3)
    mask: NDArray[np.bool_] | None = None  # (height, width), True is repainted
    notes: list[str] = field(default_factory=list)
    saving: Saving = field(default_factory=Saving)  # what keeps it within its memory

    @property
    def seeds(self) -> list[int]:
        """One a picture, whatever the count."""
        return [(self.seed + k) % (MAX_SEED + 1) for k in range(self.task.count)]


@dataclass(frozen=True)
class Canvas:
    """What planning needs to know of a loaded model.

    Attributes:
        native: its usual side in px.
        shrink: pixels per latent along a side.
        words_cut: how many words at the end of a text its tokenizer drops.
        vocabulary: what its training taught it to draw.
        is_inpaint_only: it needs a mask.
    """

    native: int
    shrink: int
    words_cut: Callable[[str], int]
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary({}))
    is_inpaint_only: bool = False


def plan(card: Card, task: Generate, report: Report, canvas: Canvas) -> Plan:
    """Decides everything the task left open. Raises InvalidTask."""
    start = report.asset(task.image) if task.image is not None else None
    width, height, notes = _size(card, task, start, canvas)
    steps = int(given(task.steps, card.defaults.get("steps"), STEPS))
    made = Plan(
        task,
        seed=int(given(task.seed, 0)),
        steps=steps,
        effective_steps=steps,
        guidance=float(given(task.guidance_scale, card.defaults.get("guidance_scale"), GUIDANCE)),
        width=width,
        height=height,
        notes=notes + _prompt_notes(task, canvas),
    )
    if start is not None:
        made.steps, made.effective_steps = image_steps(steps, task.strength)
        made.start = fitting.cover(start, width, height)
        made.notes += fitting.crop_note(start, width, height)
    if task.mask is not None and start is not None:
        made.mask = fitting.fit_mask(report.asset(task.mask), start, width, height)
    if made.mask is None and canvas.is_inpaint_only:
        raise InvalidTask(f"{card.title} only repaints.", "Give a picture and a mask of what to repaint.")
    return made


def spare(made: Plan, model: Anatomy, name: str, budget: int) -> None:
    """Settles how a picture is painted within `budget` bytes (0: no limit) by the variant of that name, and says so."""
    made.saving = saving(model, name, math.isqrt(made.width * made.height), budget)
    if str(made.saving):
        made.notes.append(f"Painted in {made.saving}, to stay within {budget / 2**30:.1f} GB.")


def result(card: Card, made: Plan, images: Sequence[Pixels], seconds: dict[str, float]) -> Result:
    """The pictures with what is said about them."""
    return Result(
        images=tuple(images),
        data={
            "seeds": made.seeds,
            "width": made.width,
            "height": made.height,
            "notes": made.notes,
            "seconds": {phase: round(value, 3) for phase, value in seconds.items()},
            "infotext": [_infotext(card, made, seed) for seed in made.seeds],
        },
    )


def image_steps(steps: int, strength: float) -> tuple[int, int]:
    """Steps to ask for, and how many of them image-to-image takes: at least one, however weak the change."""
    while int(steps * strength) < 1:
        steps += 1
    return steps, min(int(steps * strength), steps)


def given(*values: Any) -> Any:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


def overflowed() -> StudioError:
    """What to raise where the latents or the picture are not numbers."""
    return StudioError(
        "The model's numbers overflowed and there is no picture.",
        "Try the sampler 'default', less guidance, or weights in full precision.",
    )


def _size(card: Card, task: Generate, start: Pixels | None, canvas: Canvas) -> tuple[int, int, list[str]]:
    """Width, height and what to say about them."""
    width = given(task.width, card.defaults.get("width"))
    height = given(task.height, card.defaults.get("height"))
    if start is not None and width is None and height is None:
        ratio = (start.shape[1] / start.shape[0]) ** 0.5
        width, height = round(canvas.native * ratio), round(canvas.native / ratio)
    asked = int(given(width, canvas.native)), int(given(height, canvas.native))
    unit = max(8, canvas.shrink)
    got = max(unit, asked[0] // unit * unit), max(unit, asked[1] // unit * unit)
    said = task.width is not None and task.height is not None and got != asked
    note = f"The size was made {got[0]}×{got[1]}, a multiple of {unit} pixels, which this model needs."
    return got[0], got[1], [note] if said else []


def _prompt_notes(task: Generate, canvas: Canvas) -> list[str]:
    parts = (("prompt", task.prompt), ("negative prompt", task.negative_prompt))
    cuts = [(name, canvas.words_cut(text)) for name, text in parts]
    notes = [
        f"The {name} is longer than this model reads; the last {count(cut, 'word was', 'words were')} ignored."
        for name, cut in cuts
        if cut
    ]
    advice = canvas.vocabulary.advise(task.prompt)
    return [*notes, str(advice)] if advice else notes


def _infotext(card: Card, made: Plan, seed: int) -> str:
    used = {"seed": seed, "steps": made.steps, "guidance_scale": made.guidance}
    hashes = [value for name, value in card.sha256.items() if "unet" in name or len(card.sha256) == 1]
    task = made.task.model_copy(update=used)
    return infotext.write(task, card.title, hashes[0][:10] if hashes else "", (made.width, made.height))
