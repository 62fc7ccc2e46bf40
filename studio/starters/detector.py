"""The starter detector's recipe: YOLO11n (Jocher & Qiu, 2024) on scenes composed on the training device.

Stickers lie among pieces of photographs and textured shapes that are nothing, and every fifth scene holds no sticker at
all: a photograph is background, at whatever confidence. The network and its loss are ultralytics' own.

    python -m studio.starters.detector --seconds 480 --out OUT --atlas atlas.zip --start models/starter-detector
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from studio.starters import budget
from studio.starters.atlas import read
from studio.starters.composer import WORLD, Composer, Mixture, Scenes
from studio.train.detector import decode, network
from studio.train.world import DETECTOR_CLASSES

SCENES = Mixture(
    count=(1, 10), plain=0.45, empty=0.2, cutouts=0.25, blobs=0.12, labelled=0.75, photo=0.6, developed=0.4
)


@dataclass(frozen=True)
class Recipe:
    """The numbers that made the shipped weights."""

    batch: int = 256
    """Pictures of 192 px; fewer of larger ones."""
    sizes: tuple[int, ...] = (160, 192, 192, 224, 256, 320)
    """Of the pictures, px, one for each batch."""
    rate: float = 2e-3
    muon_rate: float | None = 0.015
    ema: float = 0.998
    class_gain: float = 1.5
    """Of the class loss; three times ultralytics', because names are harder here than places."""
    scenes: Mixture = SCENES


CALM = Recipe(
    batch=16, sizes=(192,), rate=4e-4, muon_rate=None, ema=0.98, class_gain=1.0,
    scenes=Mixture(
        count=(1, 8), plain=0.9, empty=0.45, cutouts=0.3, blobs=0.1, labelled=0.7, photo=0.6, developed=0.25
    ),
)  # fmt: skip
"""Some minutes on a processor that teach trained weights what a photograph is."""


def batch_of(scenes: Scenes) -> dict[str, Tensor]:
    """Scenes as ultralytics' loss wants them: "img" (B, 3, S, S), "batch_idx" (M,), "cls" (M, 1), "bboxes" (M, 4) as
    x y width height in 0..1."""
    there = scenes.seen & (scenes.classes >= 0)
    owners, _ = there.nonzero(as_tuple=True)
    x0, y0, x1, y1 = (scenes.boxes[there] / scenes.pictures.shape[-1]).unbind(1)
    return {
        "img": scenes.pictures.contiguous(memory_format=torch.channels_last),
        "batch_idx": owners.float(),
        "cls": scenes.classes[there].float()[:, None],
        "bboxes": torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1),
    }


@torch.no_grad()
def start(net: nn.Module, file: Path, pictures: Tensor) -> int:
    """Takes over the weights of a shipped .onnx file, whose batch norms are folded into its convolutions.

    A batch norm that changes nothing is put behind each: it measures its own input on `pictures` and undoes what it
    does to it. Returns how many convolutions there were.
    """
    import onnx
    from onnx import numpy_helper

    arrays = {i.name.removesuffix(".half"): numpy_helper.to_array(i) for i in onnx.load(str(file)).graph.initializer}
    stored = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    listeners, count = [], 0

    def neutral(norm: Any, inputs: tuple[Tensor], _: Tensor) -> Tensor:
        x = inputs[0].float()
        mean, spread = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        shift = norm.bias.clone()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(spread)
        norm.weight.copy_((spread + norm.eps).sqrt())
        norm.bias.copy_(shift + mean)
        return x + shift[:, None, None]

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            folded = name.endswith(".conv") and f"{name}.bias" in stored and module.bias is None
            module.weight.copy_(stored[f"{name}.weight"])
            if module.bias is not None:
                module.bias.copy_(stored[f"{name}.bias"])
            if folded:
                norm = net.get_submodule(name.removesuffix("conv") + "bn")
                norm.bias.copy_(stored[f"{name}.bias"])  # type: ignore[operator, union-attr]
                listeners.append(norm.register_forward_hook(neutral))
            count += 1
    net.eval()
    net(pictures)
    for listener in listeners:
        listener.remove()
    return count


def floats(value: Any) -> Any:
    """The same nest of lists and dictionaries with all tensors in float32."""
    if isinstance(value, Tensor):
        return value.float()
    if isinstance(value, Mapping):
        return {name: floats(part) for name, part in value.items()}
    return type(value)(floats(part) for part in value) if isinstance(value, (list, tuple)) else value


class Trial:
    """Scenes never trained on, the same each time, and how well the network does on them."""

    def __init__(self, composer: Composer, count: int, size: int) -> None:
        empty = Mixture(count=(0, 4), plain=0, empty=1.0, cutouts=0.5, blobs=0.2, photo=1.0, developed=0.3)
        self._scenes = [composer.draw(16, size, WORLD) for _ in range(max(1, count // 16))]
        self._empty = [composer.draw(16, size, empty) for _ in range(max(1, count // 32))]

    @torch.no_grad()
    def __call__(self, net: nn.Module) -> str:
        truths, found = [], list[tuple[int, int, NDArray[np.float32], float]]()
        for part, scenes in enumerate(self._scenes):
            for i, raw in enumerate(_raw(net, scenes.pictures)):
                number = 16 * part + i
                there = scenes.seen[i] & (scenes.classes[i] >= 0)
                own = scenes.classes[i][there].tolist(), scenes.boxes[i][there].cpu().numpy()
                truths += [(number, label, box) for label, box in zip(*own, strict=True)]
                boxes, scores, labels = decode(raw, confidence=0.01)
                found += [(number, int(c), b, float(s)) for c, b, s in zip(labels, boxes, scores, strict=True)]
        false = [len(decode(raw, confidence=0.25)[0]) for scenes in self._empty for raw in _raw(net, scenes.pictures)]
        return (
            f"stickers: AP50 {precision(truths, found, 0.5):.3f} AP75 {precision(truths, found, 0.75):.3f}  "
            f"false boxes: {sum(false)} in {len(false)} pictures without a sticker"
        )


def _raw(net: nn.Module, pictures: Tensor) -> NDArray[np.float32]:
    out: Tensor = net(pictures.contiguous(memory_format=torch.channels_last))[0]
    return out.float().cpu().numpy()


def precision(
    truths: list[tuple[int, int, NDArray[np.float32]]],
    found: list[tuple[int, int, NDArray[np.float32], float]],
    least: float,
) -> float:
    """Average precision at an IoU of `least`, averaged over the classes; COCO's is in `studio.train.detector`."""
    classes, values = sorted({label for _, label, _ in truths}), []
    for label in classes:
        own: dict[int, list[NDArray[np.float32]]] = {}
        for picture, kind, box in truths:
            if kind == label:
                own.setdefault(picture, []).append(box)
        total, taken, hits = sum(map(len, own.values())), set[tuple[int, int]](), []
        for picture, _, box, _ in sorted((f for f in found if f[1] == label), key=lambda f: -f[3]):
            overlaps = [_iou(box, other) for other in own.get(picture, [])]
            best = int(np.argmax(overlaps)) if overlaps else -1
            hit = best >= 0 and overlaps[best] >= least and (picture, best) not in taken
            taken |= {(picture, best)} if hit else set()
            hits.append(hit)
        right = np.cumsum(hits) if hits else np.zeros(0)
        exact = np.maximum.accumulate((right / np.arange(1, len(hits) + 1))[::-1])[::-1] if hits else np.zeros(0)
        values.append(float(exact[np.array(hits, bool)].sum() / total) if hits else 0.0)
    return float(np.mean(values)) if values else 0.0


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, float(wide)) * max(0.0, float(high))
    return both / float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def save(net: nn.Module, path: Path) -> None:
    """Writes the weights, batch norms and all, and the names of the classes."""
    weights = {k: v.detach().float().cpu() for k, v in net.state_dict().items() if v.is_floating_point()}
    budget.save({"weights": weights, "names": list(DETECTOR_CLASSES)}, path)


def train(given: Any, recipe: Recipe = Recipe()) -> Path:
    """Trains as `budget.arguments` says, from the weights in `start` where given, and writes `out`/detector.pt."""
    device = budget.prepare(given.device, given.seed)
    journal, path, tiny, folder = (
        budget.Journal(given.out / "detector.log"),
        given.out / "detector.pt",
        given.tiny,
        given.start,
    )
    net = network(class_gain=recipe.class_gain).to(device).to(memory_format=torch.channels_last)
    composer = Composer(read(given.atlas), DETECTOR_CLASSES, device, seed=given.seed + 2)
    trial = Trial(composer.seeded(998), *((16, 96) if tiny else (128 if recipe is CALM else 384, 192)))
    file = folder / "model.onnx" if folder is not None else None
    if file is not None and file.is_file():
        pictures = torch.cat([composer.draw(16, 192, recipe.scenes).pictures for _ in range(1 if tiny else 16)])
        journal(f"convolutions taken over: {start(net, file, pictures)}")
    else:
        journal("from nothing")
    save(net, path)
    net.eval()
    journal(f"before: {trial(net)}")

    def loss(progress: float, share: float) -> tuple[Tensor, Mapping[str, Tensor], int]:
        size = recipe.sizes[int(torch.randint(len(recipe.sizes), (1,)))]
        count = max(2, round((4 if tiny else recipe.batch) * share * (192 / size) ** 2))
        batch = batch_of(composer.draw(count, size, recipe.scenes))
        with budget.fast(device):
            answers = net(batch["img"])
        parts, watched = net.loss(batch, floats(answers))  # type: ignore[operator]
        named = watched if isinstance(watched, Mapping) else dict(zip(("box", "class", "dfl"), watched, strict=False))
        return parts.sum() / count, named, count

    plan = budget.Budget(
        given.seconds, keep_s=120 if recipe is CALM else 60, rate=recipe.rate, muon_rate=recipe.muon_rate, clip=10.0,
        ema=recipe.ema, steps=given.steps,
    )  # fmt: skip
    # Trained weights need not get better at once, only stay finite.
    guard = budget.Guard("detector", None if file is None else math.inf)
    budget.descend(net, loss, plan, journal, lambda: save(net, path), lambda: trial(net), guard=guard)
    return path


def main() -> None:
    parser = budget.arguments(__doc__)
    parser.add_argument("--calm", action="store_true", help="fine-tune trained weights on a processor")
    given = parser.parse_args()
    train(given, CALM if given.calm else Recipe())


if __name__ == "__main__":
    main()
