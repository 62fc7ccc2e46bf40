"""How much is lost: what a variant makes, against what fp32 makes of the same input. Numpy; no network is run here.

Every measure is a plain number with a name that the bench writes down; MEASURES says what it means and which way is
better, so that tables, plots and verdicts need no list of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studio.errors import InvalidTask, Unsupported
from studio.ops.boxes import iou_matrix
from studio.ops.metrics import Found, Truth, mean_average_precision

Picture = NDArray[np.uint8]  # (H, W, 3) or (H, W)
Mask = NDArray[np.bool_]  # (H, W)
T = TypeVar("T")

PERFECT_DB = 100.0  # what two equal pictures get, so that a mean of decibels stays a number
SSIM_SIDE = 11
SSIM_SIGMA = 1.5


@dataclass(frozen=True)
class Measure:
    """What a number means.

    Attributes:
        points: told as "0.4 points": hundredths.
        best: what fp32 gets against itself; None where it is measured against the truth.
        tolerable: how much of it may be lost before a variant is advised against; None: it is shown, and decides
            nothing.
    """

    title: str
    unit: str
    higher_is_better: bool
    sentence: str
    best: float | None
    tolerable: float | None

    @property
    def points(self) -> bool:
        return not self.unit and self.higher_is_better

    def lost(self, reference: float, value: float) -> float:
        """How much worse `value` is; negative where it is better."""
        return reference - value if self.higher_is_better else value - reference


MEASURES: dict[str, Measure] = {
    # Two paintings of one seed part within some steps, and both may be right: pixels say how far, not how good.
    "mse": Measure("MSE", "", False, "Mean squared difference of pixels to the fp32 picture, 0..255.", 0.0, None),
    "psnr": Measure("PSNR", "dB", True, "Likeness to the fp32 picture; above 40 dB no eye tells them apart.",
                    PERFECT_DB, None),
    "ssim": Measure("SSIM", "", True, "Likeness of structures to the fp32 picture, 1 for the same.", 1.0, None),
    "right_thing": Measure("right thing", "", True, "Share of pictures in which an independent judge sees what was "
                           "asked for.", None, 0.15),
    "step_error": Measure("step error", "", False, "Error of single denoising steps, each from the same noisy picture "
                          "as fp32, over the length of its answer.", 0.0, 0.2),
    "sharpness": Measure("sharpness", "", True, "Strength of edges against that of the fp32 picture, 1 for the same.",
                         1.0, 0.15),
    "structure": Measure("structure", "", True, "Likeness to the fp32 picture at 16 px, where only masses and colours "
                         "are left; 1 for the same.", 1.0, 0.4),
    "agreement": Measure("agreement", "", True, "Boxes that this and fp32 have in common (F1 at IoU 0.5).", 1.0, 0.2),
    "map50": Measure("mAP50", "", True, "Average precision against the truth, at IoU 0.5.", None, 0.01),
    "box_iou": Measure("box IoU", "", True, "Overlap of boxes in common with fp32.", 1.0, 0.1),
    "mask_iou": Measure("mask IoU", "", True, "Overlap with the masks of fp32.", 1.0, 0.15),
    "true_iou": Measure("IoU", "", True, "Overlap of masks with the truth.", None, 0.01),
    "coder_psnr": Measure("PSNR", "dB", True, "Likeness of a decoded picture to the picture coded.", None, 0.5),
    "output_error": Measure("output error", "", False, "Length of the error over that of fp32's output.", 0.0, 0.2),
}  # fmt: skip
# Which number stands for the quality of a model where one has to: the first that was measured.
LEADING = ("map50", "agreement", "true_iou", "mask_iou", "step_error", "ssim", "coder_psnr", "psnr", "output_error")


def leading(quality: Mapping[str, float]) -> str:
    """The name of the measure that stands for all; "" where none was made."""
    return next((name for name in LEADING if name in quality), "")


# ── numbers ──────────────────────────────────────────────────────────────────


def output_error(reference: ArrayLike, answer: ArrayLike) -> float:
    """Relative error |answer - reference| / |reference|; inf where the answer is no number.

    Raises InvalidTask for different shapes.
    """
    wanted, got = _pair(reference, answer)
    if not np.isfinite(got).all():
        return math.inf
    scale = float(np.linalg.norm(wanted))
    distance = float(np.linalg.norm(got - wanted))
    return distance / scale if scale else (0.0 if distance == 0 else math.inf)


def layer_errors(weights: Mapping[str, ArrayLike], stored: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Relative error of each array's own values, by name: which layers a precision hurts."""
    return {name: output_error(array, stored[name]) for name, array in weights.items() if name in stored}


def refuse_nan(values: ArrayLike, what: str) -> None:
    """Raises Unsupported where an output holds NaN or infinity: such a variant is never offered."""
    if not np.isfinite(np.asarray(values)).all():
        raise Unsupported(f"{what} produced NaN in this precision.", "Choose more bits.")


# ── pictures ─────────────────────────────────────────────────────────────────


def mse(reference: Picture, answer: Picture) -> float:
    """Mean squared difference, 0..65025. Raises InvalidTask for different sizes."""
    wanted, got = _pair(reference, answer)
    return float(np.square(got - wanted).mean())


def psnr(reference: Picture, answer: Picture) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit pictures; PERFECT_DB for equal ones."""
    error = mse(reference, answer)
    return PERFECT_DB if error == 0 else min(PERFECT_DB, 10 * math.log10(255**2 / error))


def ssim(reference: Picture, answer: Picture) -> float:
    """Structural similarity (Wang 2004): Gaussian window of 11 px, sigma 1.5; 1 for equal pictures."""
    wanted, got = _pair(reference, answer)
    if min(wanted.shape[:2]) < SSIM_SIDE:
        raise InvalidTask("The pictures are too small to compare structures.", f"Use {SSIM_SIDE} px and more.")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _blur(wanted), _blur(got)
    var_a = _blur(wanted * wanted) - mean_a**2
    var_b = _blur(got * got) - mean_b**2
    both = _blur(wanted * got) - mean_a * mean_b
    parts = ((2 * mean_a * mean_b + c1) * (2 * both + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(parts.mean())


def difference(reference: Picture, answer: Picture, gain: float = 4.0) -> Picture:
    """Where two pictures differ: the largest channel difference times `gain`, uint8 (H, W), 0 for none."""
    wanted, got = _pair(reference, answer)
    apart = np.abs(got - wanted)
    return np.clip((apart.max(axis=2) if apart.ndim == 3 else apart) * gain, 0, 255).astype(np.uint8)


def pictures(reference: Sequence[Picture], answers: Sequence[Picture]) -> dict[str, float]:
    """MSE, PSNR and SSIM, each the mean over pairs. Raises InvalidTask without pictures."""
    pairs = _pairs(reference, answers)
    measures: dict[str, Callable[[Picture, Picture], float]] = {"mse": mse, "psnr": psnr, "ssim": ssim}
    return {name: float(np.mean([of(a, b) for a, b in pairs])) for name, of in measures.items()}


def paintings(reference: Sequence[Picture], answers: Sequence[Picture]) -> dict[str, float]:
    """Sharpness and structure, each the mean over pairs of (H, W, 3). Raises InvalidTask without pictures."""
    pairs = _pairs(reference, answers)
    measures = {"sharpness": sharpness, "structure": structure}
    return {name: float(np.mean([of(a, b) for a, b in pairs])) for name, of in measures.items()}


def sharpness(reference: Picture, answer: Picture) -> float:
    """How alike the edges of two pictures are in strength, 0..1: less for a blurred one, and for a noisy one. Strength
    is the length of all differences of neighbours: a soft edge has less of it than a hard one of the same height."""
    first, second = (
        math.hypot(*(float(np.linalg.norm(np.diff(one, axis=axis))) for axis in (0, 1)))
        for one in _pair(reference, answer)
    )
    return min(first, second) / max(first, second) if max(first, second) else 1.0


def structure(reference: Picture, answer: Picture) -> float:
    """Correlation of two pictures (H, W, 3) scaled to 16 px, 0..1."""
    small, other = (_coarse(one) for one in _pair(reference, answer))
    first, second = (one - one.mean(axis=(0, 1)) for one in (small, other))
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    if not lengths:
        return 1.0 if np.allclose(small, other, atol=1) else 0.0
    return max(0.0, float((first * second).sum()) / lengths)


def steps(reference: Sequence[ArrayLike], answers: Sequence[ArrayLike]) -> dict[str, float]:
    """The relative error of a UNet's answers to the same questions, root mean square. Raises InvalidTask for none."""
    errors = [output_error(a, b) for a, b in _pairs(reference, answers)]
    return {"step_error": float(np.sqrt(np.mean(np.square(errors))))}


def coder(originals: Sequence[Picture], decoded: Sequence[Picture]) -> dict[str, float]:
    """What an autoencoder keeps of pictures: the mean PSNR against the originals."""
    return {"coder_psnr": float(np.mean([psnr(a, b) for a, b in _pairs(originals, decoded)]))}


# ── boxes and masks ──────────────────────────────────────────────────────────


def boxes(reference: Sequence[Found], answers: Sequence[Found], truths: Sequence[Truth] = ()) -> dict[str, float]:
    """How far two detectors agree, and how right the second is where the truth is known.

    Returns: agreement (F1 of boxes in common: same label, IoU at least 0.5, one to one), box_iou of those, and map50.
    """
    pairs = _pairs(reference, answers)
    overlaps = [overlap for a, b in pairs for overlap in _in_common(a, b)]
    counted = sum(len(a.labels) + len(b.labels) for a, b in pairs)
    result = {
        "agreement": 2 * len(overlaps) / counted if counted else 1.0,
        "box_iou": float(np.mean(overlaps)) if overlaps else (0.0 if counted else 1.0),
    }
    if truths:
        result["map50"] = mean_average_precision(truths, answers)[0]
    return result


def masks(reference: Sequence[Mask], answers: Sequence[Mask], truths: Sequence[Mask] = ()) -> dict[str, float]:
    """The mean overlap with the masks of fp32, and with the true ones where they are known."""
    result = {"mask_iou": float(np.mean([mask_iou(a, b) for a, b in _pairs(reference, answers)]))}
    if truths:
        result["true_iou"] = float(np.mean([mask_iou(a, b) for a, b in _pairs(truths, answers)]))
    return result


def mask_iou(first: Mask, second: Mask) -> float:
    """Intersection over union, 0..1; two empty masks agree."""
    _same_shape(first, second)
    union = int(np.logical_or(first, second).sum())
    return int(np.logical_and(first, second).sum()) / union if union else 1.0


def _in_common(first: Found, second: Found, least: float = 0.5) -> list[float]:
    """Overlaps of pairs with one label, best first, each box once."""
    if not len(first.labels) or not len(second.labels):
        return []
    overlap = iou_matrix(np.asarray(first.boxes, np.float32), np.asarray(second.boxes, np.float32)).copy()
    overlap[np.asarray(first.labels)[:, None] != np.asarray(second.labels)[None]] = 0
    found = []
    while (best := float(overlap.max())) >= least:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        found.append(best)
        overlap[row], overlap[:, column] = 0, 0
    return found


# ── inside ───────────────────────────────────────────────────────────────────


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian window, only where it lies wholly inside."""
    at = np.arange(SSIM_SIDE) - SSIM_SIDE // 2
    kernel = np.exp(-(at**2) / (2 * SSIM_SIGMA**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        count = values.shape[axis] - SSIM_SIDE + 1
        values = sum(weight * np.take(values, range(k, k + count), axis) for k, weight in enumerate(kernel))  # type: ignore[assignment]
    return values


def _coarse(picture: NDArray[np.float64], side: int = 16) -> NDArray[np.float64]:
    """Means of side x side equal fields of (H, W, 3); of fewer where the picture is smaller."""
    for axis in (0, 1):
        bounds = np.linspace(0, picture.shape[axis], min(side, picture.shape[axis]) + 1).astype(int)
        fields = [picture.take(range(a, b), axis).mean(axis) for a, b in pairwise(bounds)]
        picture = np.stack(fields, axis)
    return picture


def _pair(reference: ArrayLike, answer: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wanted, got = np.asarray(reference, np.float64), np.asarray(answer, np.float64)
    _same_shape(wanted, got)
    return wanted, got


def _same_shape(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.shape != second.shape or not first.size:
        raise InvalidTask(f"{first.shape} and {second.shape} cannot be compared.", "Use results of one size.")


def _pairs(reference: Sequence[T], answers: Sequence[T]) -> list[tuple[T, T]]:
    if not len(reference) or len(reference) != len(answers):
        raise InvalidTask(
            f"{len(reference)} and {len(answers)} results cannot be compared.", "Give as many of each, at least one."
        )
    return list(zip(reference, answers, strict=True))
