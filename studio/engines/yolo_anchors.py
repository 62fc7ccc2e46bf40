"""YOLOv5's own head with anchors, which ultralytics no longer has, on layers that it still builds.

Source: github.com/ultralytics/yolov5, models/yolo.py and models/common.py (AGPL-3.0), versions 6 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from studio.errors import Unsupported


class Anchored(nn.Module):
    """A detector: pictures (B, 3, H, W) in 0..1 -> (B, N, 5 + C) with cx, cy, w, h in px, objectness, class scores.

    Args:
        layers: the backbone and neck, each with `f`, the numbers of the layers it reads.
        sources: numbers of the layers that the heads read.
        heads: a convolution for each of them.
        anchors: (heads, anchors, 2), sides in cells.
        strides: px of a cell for each head.
    """

    def __init__(
        self, layers: nn.Sequential, sources: Sequence[int], heads: nn.ModuleList, anchors: Tensor, strides: list[float]
    ) -> None:
        super().__init__()
        self.layers = layers
        self.heads = heads
        self._sources = tuple(sources)
        self._strides = tuple(strides)
        self.register_buffer("anchors", anchors.float())

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for layer in self.layers:
            wanted = layer.f if isinstance(layer.f, list) else [layer.f]
            found = [x if number == -1 else seen[number] for number in wanted]
            x = layer(found if isinstance(layer.f, list) else found[0])
            seen.append(x)
        rows = [self._decode(number, head(seen[source])) for number, (source, head) in self._pairs()]
        return torch.cat(rows, 1)

    def _pairs(self) -> list[tuple[int, tuple[int, nn.Module]]]:
        return list(enumerate(zip(self._sources, self.heads, strict=True)))

    def _decode(self, number: int, raw: Tensor) -> Tensor:
        anchors, stride = self.anchors[number], self._strides[number]
        batch, _, height, width = raw.shape
        y = raw.view(batch, len(anchors), -1, height, width).permute(0, 1, 3, 4, 2).sigmoid()
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        cells = torch.stack((columns, rows), 2).to(y.dtype)  # (height, width, 2)
        centres = (2 * y[..., 0:2] - 0.5 + cells) * stride
        sides = (2 * y[..., 2:4]) ** 2 * anchors.view(1, -1, 1, 1, 2) * stride
        return torch.cat((centres, sides, y[..., 4:]), 4).flatten(1, 3)


def build(tasks: Any, plan: Mapping[str, Any], weights: Mapping[str, Tensor], strides: list[float]) -> Anchored:
    """The network of a checkpoint.

    Args:
        tasks: the module `ultralytics.nn.tasks`.
        plan: the description of the layers; its last row is the head.
        weights: by their names in the checkpoint, "model.<layer>....".
        strides: of the heads, in px.

    Raises Unsupported where the description has another head, and what torch raises where the weights do not fit.
    """
    *neck, (sources, _, name, _) = plan["head"]
    number = len(plan["backbone"]) + len(neck)
    if name != "Detect" or f"model.{number}.anchors" not in weights:
        raise Unsupported(f"The checkpoint ends in a {name}, not in a detector's head.", "Import an ONNX export of it.")
    layers, _ = tasks.parse_model({**plan, "head": neck}, int(plan.get("channels", plan.get("ch", 3))), verbose=False)
    for module in layers.modules():
        if type(module).__name__ == "SPPF":  # ultralytics left out its first activation since
            module.cv1.act = nn.SiLU()
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    own = f"model.{number}."
    heads = {name.removeprefix(f"{own}m."): value for name, value in weights.items() if name.startswith(f"{own}m.")}
    shapes = [heads[f"{k}.weight"].shape for k in range(len(sources))]
    convolutions = nn.ModuleList(nn.Conv2d(shape[1], shape[0], 1) for shape in shapes)
    convolutions.load_state_dict(heads)
    layers.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if not k.startswith(own)})
    return Anchored(layers, sources, convolutions, weights[f"{own}anchors"], strides).float().eval()


def write(network: Anchored, names: Mapping[int, str], out: Any, imgsz: int) -> None:
    """Writes the network as ONNX with dynamic height and width, its class names inside."""
    import onnx

    example = torch.zeros(1, 3, imgsz, imgsz)
    axes = {"images": {2: "height", 3: "width"}, "output0": {1: "boxes"}}
    asked = {"input_names": ["images"], "output_names": ["output0"], "dynamic_axes": axes, "opset_version": 17}
    torch.onnx.export(network, (example,), str(out), dynamo=False, **asked)
    model = onnx.load(str(out))
    onnx.helper.set_model_props(model, {"names": repr(dict(names)), "imgsz": repr([imgsz, imgsz]), "task": "detect"})
    onnx.save(model, str(out))
