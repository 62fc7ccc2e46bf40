"""The starter segmenter: a small Segment Anything network trained from scratch, by the paper's recipe, on `regions`.

Kirillov et al., 2023, section A: three masks of which only the best one learns, by cross-entropy (theirs: focal loss)
and dice, and squared error for the predicted IoU; a step asks with one click, a box, several clicks, or a click that
corrects the network's own last mask.

    metrics = train(Path("models/starter-segmenter"), minutes=60, seed=0)
    evaluate(Path("models/starter-segmenter"))                              # on scenes never trained on
    evaluate_photographs(Path("models/starter-segmenter"), Path("bsds500"))  # against people's segmentations
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from studio import files
from studio.nets.sam import STARTER, build_sam
from studio.ops.refine import cut_out, to_edges
from studio.train.asking import Masks, answer, around, ask, clicks, correct, innermost, normalised, overlap, sized
from studio.train.loop import Plan, Report, fit
from studio.train.photographs import photographs
from studio.train.regions import Regions, regions
from studio.train.scores import KINDS, teach_scores
from studio.train.world import scene

FIRST_TRAINING_SCENE = 1_000_000
FIRST_EVALUATION_SCENE = 500_000
FIRST_SCORED_SCENE = 1_500_000_000
SCORED_SHARE = 0.1
"""Pictures for the predicted IoU for each picture the masks learned from; one takes as long as the other."""


@dataclass(frozen=True)
class Recipe:
    """The numbers that made the shipped weights."""

    stages: tuple[tuple[int, tuple[int, ...]], ...] = ((0, (128,)), (430, (192,)))
    """From which step on each batch has which of these picture sizes, by chance; the network is built for 256."""
    batch: int = 12
    asked: int = 4
    """Regions asked for per picture."""
    rate: float = 2e-3
    muon_rate: float | None = 0.02
    weight_decay: float = 0.01
    warmup: int = 30
    ema: float = 0.99
    questions: tuple[tuple[str, float], ...] = (("click", 0.4), ("box", 0.25), ("clicks", 0.15), ("correct", 0.2))
    """How a picture's regions are asked for, and the chance of each way."""
    scored: int = 1600
    """Pictures, at most, from which the predicted IoU learns once the masks are done; nine minutes on one core."""


RECIPE = Recipe()


@dataclass(frozen=True)
class Lesson:
    """A batch: pictures uint8 (B, S, S, 3) of which (height, width) is picture, the rest padding; P masks of each."""

    pictures: Tensor
    frames: list[tuple[int, int]]
    masks: Tensor
    """bool (B, P, S, S)."""


def lesson(step: int, recipe: Recipe, seed: int) -> Lesson:
    """The pictures of one training step, the same for the same step and seed."""
    rng = np.random.default_rng([seed, step])
    size = int(rng.choice([sizes for first, sizes in recipe.stages if step >= first][-1]))
    first = FIRST_TRAINING_SCENE + (seed * 1_000_000 + step) * recipe.batch
    drawn = [regions(first + i, size=size) for i in range(recipe.batch)]
    chosen = [_choose(r, recipe.asked, rng) for r in drawn]
    return Lesson(
        pictures=torch.from_numpy(np.stack([r.picture for r in drawn])),
        frames=[(r.height, r.width) for r in drawn],
        masks=torch.from_numpy(np.stack(chosen)),
    )


def _choose(drawn: Regions, count: int, rng: np.random.Generator) -> Masks:
    picks = rng.choice(len(drawn.masks), count, replace=len(drawn.masks) < count)
    return drawn.masks[picks]  # (count, S, S)


def mask_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy and dice for each mask: logits (P, M, h, w), truth in 0..1 (P, 1, h, w) -> (P, M).

    The mask and what surrounds it weigh the same in the cross-entropy. With the paper's 20 focal + 1 dice, a run as
    short as ours never leaves the empty answer.
    """
    chance, truth = logits.sigmoid(), truth.expand_as(logits)
    share = truth.mean((2, 3), keepdim=True).clamp(1e-3, 1 - 1e-3)
    weight = 0.5 * truth / share + 0.5 * (1 - truth) / (1 - share)
    surprise = F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="none").mean((2, 3))
    dice = 1 - (2 * (chance * truth).sum((2, 3)) + 1) / (chance.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return surprise + dice


def losses(sam: Any, taught: Lesson, recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one lesson, and to watch: IoU of the best mask, of the single one, error of the predicted IoU."""
    size = taught.pictures.shape[1]
    sized(sam, size)
    embeddings = sam.image_encoder(normalised(sam, taught.pictures, taught.frames))
    position = sam.prompt_encoder.get_dense_pe()
    names, chances = zip(*recipe.questions, strict=True)
    total, watched = embeddings.new_zeros(()), dict[str, list[Tensor]]()
    for i in range(len(taught.pictures)):
        masks = taught.masks[i].numpy()
        kind = str(rng.choice(names, p=chances))
        question = ask(str(rng.choice(["click", "box"])) if kind == "correct" else kind, masks, rng)
        if kind == "correct":
            with torch.no_grad():
                logits, predicted = answer(sam, embeddings[i : i + 1].detach(), position, question)
            best = logits[torch.arange(len(masks)), 1 + predicted[:, 1:].argmax(1)][:, None]
            question = correct(question, best, masks, rng)
        logits, predicted = answer(sam, embeddings[i : i + 1], position, question)
        truth = F.avg_pool2d(taught.masks[i].float()[:, None], 2)  # (P, 1, S/2, S/2)
        each, real = mask_losses(logits, truth), overlap(logits.detach(), truth)
        three, best = each[:, 1:].min(1)
        single = 0.3 if kind == "click" else 1.0  # one click leaves open what is meant; Sam answers with three masks
        total = total + (three + single * each[:, 0]).mean() + F.mse_loss(predicted, real)
        watched.setdefault(f"{kind} iou", []).append(real[:, 1:].gather(1, best[:, None]).mean())
        watched.setdefault("single iou", []).append(real[:, 0].mean())
        watched.setdefault("iou error", []).append((predicted.detach() - real).abs().mean())
    return total / len(taught.pictures), {name: torch.stack(values).mean() for name, values in watched.items()}


class Lessons:
    """The lessons of steps 0, 1, 2, ... drawn ahead by one worker process, from any step on."""

    def __init__(self, recipe: Recipe, *, seed: int, workers: int) -> None:
        self.recipe = recipe
        self.seed = seed
        self.workers = workers
        self._ahead: Iterator[Lesson] | None = None

    def at(self, step: int) -> Lesson:
        """Steps are asked for in order; their successors are already being drawn."""
        if self.workers == 0:
            return lesson(step, self.recipe, self.seed)
        if self._ahead is None:
            from torch.utils.data import DataLoader

            steps = _Steps(lambda s: lesson(s, self.recipe, self.seed), range(step, step + 10_000_000))
            self._ahead = iter(DataLoader(steps, batch_size=None, num_workers=self.workers))
        return next(self._ahead)


class _Steps:
    """A map-style dataset over the steps of a run."""

    def __init__(self, draw: Callable[[int], Lesson], steps: range) -> None:
        self.draw = draw
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Lesson:
        cv2.setNumThreads(1)
        return self.draw(self.steps[index])


def train(
    folder: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    resume: bool = True,
    report: Report | None = None,
    recipe: Recipe = RECIPE,
    config: Mapping[str, Any] = STARTER,
    workers: int = 1,
) -> dict[str, float]:
    """Trains for `steps` or `minutes`, keeping a checkpoint in `folder`, and exports the result there.

    Of the minutes a part is kept for the predicted IoU, which learns last (`studio.train.scores`).
    Returns the last training metrics. Raises Unsupported without an emoji font.
    """
    torch.manual_seed(seed)
    sam = build_sam(config)
    sam.image_encoder.to(memory_format=torch.channels_last)
    lessons = Lessons(recipe, seed=seed, workers=workers)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Any]]:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        return losses(sam, lessons.at(step), recipe, rng)

    plan = Plan(
        steps=steps,
        minutes=None if minutes is None else minutes / (1 + SCORED_SHARE),
        rate=recipe.rate,
        muon_rate=recipe.muon_rate,
        weight_decay=recipe.weight_decay,
        warmup=recipe.warmup,
        ema=recipe.ema,
    )
    metrics = fit(sam, loss, plan, checkpoint=folder / "checkpoint.pt", seed=seed, resume=resume, report=report)
    first = FIRST_SCORED_SCENE + seed * 1_000_000
    count = max(1, min(recipe.scored, round(SCORED_SHARE * recipe.batch * metrics["steps"])))
    drawn = (regions(first + i, size=int(config["image_size"]), kinds=KINDS) for i in range(count))
    metrics["score error"] = teach_scores(sam, drawn, seed=seed)
    export(sam, folder, config=config)
    return metrics


def export(sam: nn.Module, folder: Path, *, config: Mapping[str, Any] = STARTER) -> Path:
    """Writes `folder`/model.safetensors (fp16) and config.json, from which `load` makes the network again."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().half().contiguous()
        for name, value in sam.state_dict().items()
        if value.is_floating_point()
    }
    with files.whole(folder / "model.safetensors") as part:
        save_file(weights, str(part), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder / "model.safetensors"


def load(folder: Path) -> Any:
    """The exported network as a float32 `Sam` in eval mode."""
    from safetensors.torch import load_file

    sam = build_sam(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    weights = {name: value.float() for name, value in load_file(str(folder / "model.safetensors")).items()}
    missing, unknown = sam.load_state_dict(weights, strict=False)
    if unknown or [name for name in missing if not name.endswith("num_batches_tracked")]:
        raise ValueError(f"{folder} holds another network: missing {missing}, unknown {unknown}")
    return sam


def evaluate(
    folder: Path, *, scenes: int = 150, first: int = FIRST_EVALUATION_SCENE, size_px: int = 256
) -> dict[str, Any]:
    """Mean IoU of the exported network on things in scattered scenes that no training sees.

    Every thing is asked for by one click (its innermost pixel), by one click anywhere in it, and by its exact box.
    Returns "click_iou" (the mask of the highest predicted IoU), "best_of_3_iou" (the best of the click's three masks),
    "random_click_iou", "box_iou" (the single mask); "refined_..." are the same masks after `studio.ops.refine`, as the
    studio shows them; "cut_in_box_iou" is what that refinement makes of a box without any network; "..._small" is for
    things below 1 % of the picture.
    """
    rng = np.random.default_rng(first)
    drawn = (scene(first + i, mode="scatter", size=size_px, photos=photographs()) for i in range(scenes))
    found = _answers(load(folder), ((d.picture, d.masks) for d in drawn), rng)
    small = found["share"] < 0.01
    figures = {name: float(values.mean()) for name, values in found.items() if name.endswith("iou")}
    figures |= {f"{name}_small": float(found[name][small].mean()) for name in list(figures) if small.any()}
    return {**figures, "things": len(small), "things_small": int(small.sum()), "scenes": scenes, "size_px": size_px}


def evaluate_photographs(folder: Path, bsds: Path, *, pictures: int = 100, smallest: float = 0.01) -> dict[str, Any]:
    """Mean IoU of the exported network with people's regions in the photographs of BSDS500 (Arbelaez et al., 2011).

    `bsds` holds pictures `*.jpg` and segmentations `*.mat` of the same names, anywhere below. Of each photograph the
    first person's connected regions of at least `smallest` of the picture are asked for, as in `evaluate`.
    """
    from scipy.io import loadmat
    from scipy.ndimage import label

    truths = {path.stem: path for path in sorted(bsds.rglob("*.mat"))}
    photos = [path for path in sorted(bsds.rglob("*.jpg")) if path.stem in truths][:pictures]

    def cases() -> Iterator[tuple[NDArray[np.uint8], Masks]]:
        for path in photos:
            people = loadmat(truths[path.stem])["groundTruth"][0]
            numbers = people[0][0, 0]["Segmentation"]
            parts = [label(numbers == number)[0] for number in np.unique(numbers)]
            masks = [part == k for part in parts for k in range(1, part.max() + 1)]
            picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            yield picture, np.stack([m for m in masks if m.mean() >= smallest])

    found = _answers(load(folder), cases(), np.random.default_rng(0))
    figures = {name: float(values.mean()) for name, values in found.items() if name.endswith("iou")}
    return {**figures, "regions": len(found["share"]), "pictures": len(photos)}


def _answers(
    sam: Any, cases: Iterable[tuple[NDArray[np.uint8], Masks]], rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """IoU with each mask of each picture by the ways of asking, and the mask's share of the picture, in parallel."""
    from segment_anything import SamPredictor

    predictor, rows = SamPredictor(sam), dict[str, list[float]]()
    for picture, masks in cases:
        predictor.set_image(picture)
        for mask in masks:
            one = np.ones(1, int)
            logits, scores, _ = predictor.predict(innermost(mask)[None], one, return_logits=True)
            any_three, any_scores, _ = predictor.predict(clicks(mask[None], 1, rng, central=0)[0], one)
            box = around(mask[None], rng, jitter=0)[0]
            boxed, _, _ = predictor.predict(box=box, multimask_output=False, return_logits=True)
            each = [_iou(found > 0, mask) for found in logits]
            here, corners = innermost(mask)[None], (box[0], box[1], box[2], box[3])
            refined = [_iou(cut_out(picture, found, clicks=here), mask) for found in logits]
            row = {
                "click_iou": each[int(scores.argmax())],
                "best_of_3_iou": max(each),
                "random_click_iou": _iou(any_three[int(any_scores.argmax())], mask),
                "box_iou": _iou(boxed[0] > 0, mask),
                "refined_click_iou": refined[int(scores.argmax())],
                "refined_best_of_3_iou": max(refined),
                "refined_box_iou": _iou(cut_out(picture, boxed[0], box=corners), mask),
                "cut_in_box_iou": _iou(to_edges(picture, np.ones_like(mask), box=corners), mask),
                "share": float(mask.mean()),
            }
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _iou(first: Masks, second: Masks) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))
