"""Networks on torch: the reference that the others are compared with.

Its file is a small JSON, {"card": {...}, "folder": "...", "part": "unet"}, because a torch network is code and weights;
`studio.engines.torch_parts` knows how to build it. With "weights" a packed file beside it replaces the weights.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from studio.cards import Card
from studio.errors import IntegrityError, OutOfMemory, Unsupported
from studio.runtimes.base import Arrays, Port, Settings, first_line, is_out_of_memory

SUFFIX = ".torch.json"
BUILDER = "studio.engines.torch_parts"  # found by name, as engines are


def compute_in_bf16(module: nn.Module) -> None:
    """Turns a module's weights into bf16, in place; what goes in and comes out stays as it is around it.

    Numbers without a picture's axes (time steps: 981 would become 980) go in untouched.
    """

    def before(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        return tuple(_as_bf16(one) for one in args), {name: _as_bf16(one) for name, one in named.items()}

    module.to(torch.bfloat16)
    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(lambda module, args, answer: _as_fp32(answer))


def _as_bf16(value: Any) -> Any:
    is_picture = isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1
    return value.to(torch.bfloat16) if is_picture else value


def _as_fp32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):  # what transformers and diffusers answer with is one
        for name, one in value.items():
            value[name] = _as_fp32(one)
        return value
    return tuple(_as_fp32(one) for one in value) if isinstance(value, tuple) else value


class TorchSession:
    """A module in memory, on the CPU."""

    def __init__(self, module: Any, file: Path) -> None:
        self._part = module
        self._file = file
        self.inputs = tuple(Port(name, (), "float32") for name in module.inputs)
        self.outputs = tuple(Port(name, (), "float32") for name in module.outputs)
        self.metadata: Mapping[str, str] = {}

    def run(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        tensors = [torch.from_numpy(feed[name].copy()) for name in self._part.inputs]
        try:
            with torch.inference_mode():
                found = self._part.module(*tensors)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise OutOfMemory(f"{self._file.name} does not fit into memory.", "Use a smaller model.") from error
            raise Unsupported(f"{self._file.name} stopped on torch: {first_line(error)}.", "") from error
        values = found if isinstance(found, tuple) else (found,)
        return {name: value.numpy() for name, value in zip(self._part.outputs, values, strict=True)}

    def rest(self) -> None:
        """torch lets go by itself."""

    def close(self) -> None:
        del self._part


class TorchRuntime:
    name = "torch"
    suffixes = (SUFFIX,)

    def load(self, file: Path, settings: Settings, data: Callable[[], bytes] | None = None) -> TorchSession:
        """See `Runtime.load`. Raises IntegrityError where the description cannot be read."""
        torch.set_num_threads(max(1, settings.threads))
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            card, folder, name = Card.model_validate(facts["card"]), Path(facts["folder"]), str(facts["part"])
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(f"{file.name} cannot be read: {first_line(error)}.", "Convert it again.") from error
        torch_parts = importlib.import_module(BUILDER)
        part = torch_parts.build(card, folder, name)
        if facts.get("weights"):
            torch_parts.replace_weights(part, file.parent / str(facts["weights"]))
        if settings.precision == "bf16":
            compute_in_bf16(part.module)
        return TorchSession(part, file)


def describe(card: Card, folder: Path, part: str, weights: str = "") -> str:
    """The text of a part's file."""
    return json.dumps({"card": card.model_dump(mode="json"), "folder": str(folder), "part": part, "weights": weights})
