"""Lets `import torchvision` succeed where its compiled operators do not load.

A torchvision wheel built against another torch (CUDA instead of CPU, as on many edge boards) fails at import with
"operator torchvision::nms does not exist", and transformers, diffusers, ultralytics and segment-anything import it.
Call `install()` before any of them. Where the compiled operators are present it does nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import torch
from torch import Tensor

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def install() -> bool:
    """Makes torchvision importable; True where the guard had to act, False where torchvision is whole or absent."""
    if importlib.util.find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return False
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return False
    _forget("torchvision")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS.values():
        library.define(schema)
    library.impl("nms", nms, "CPU")
    library.impl("qnms", nms, "CPU")
    vision: Any = importlib.import_module("torchvision")
    vision._studio_guard = library  # the operators live as long as the module does
    extension = importlib.import_module("torchvision.extension")
    boxes = importlib.import_module("torchvision.ops.boxes")
    for module in (extension, boxes):
        _replace(module, "_has_ops", lambda: True)
        _replace(module, "_assert_has_ops", lambda: None)
    return True


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression: boxes float (N, 4) xyxy, scores (N,) -> kept indices int64, best score first."""
    order = scores.argsort(descending=True, stable=True)
    boxes = dets[order]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])  # (N,)
    alive = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    kept = []
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        kept.append(i)
        rest = boxes[i + 1 :]
        low, high = torch.maximum(boxes[i, :2], rest[:, :2]), torch.minimum(boxes[i, 2:], rest[:, 2:])
        inner = (high - low).clamp(min=0).prod(dim=1)  # (N - i - 1,)
        alive[i + 1 :] &= inner <= iou_threshold * (area[i] + area[i + 1 :] - inner)
    return order[torch.tensor(kept, dtype=torch.int64, device=dets.device)]


def _forget(package: str) -> None:
    for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
        del sys.modules[name]


def _replace(module: Any, name: str, value: Any) -> None:
    if hasattr(module, name):
        setattr(module, name, value)
