"""Turns a torch pickle into safetensors, once, in a process of its own: `python -m studio.intake.child ... IN OUT`.

The opcodes are read first and must name nothing but plain tensors; then torch's restricted unpickler reads the file.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.errors import IntegrityError, StudioError, UnsafeFile, Unsupported
from studio.intake import pickles
from studio.intake.child import fail

WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "string_to_param", "model", "module")


class Table:
    """Stands in for torch's ParameterDict, in which the first textual inversions were saved; has no behaviour."""

    def __setstate__(self, state: Any) -> None:
        self.found: Mapping[Any, Any] = state.get("_parameters") or {} if isinstance(state, Mapping) else {}


def convert(source: Path, out: Path) -> None:
    """Writes the tensors of `source` to `out`. Raises UnsafeFile, IntegrityError, Unsupported."""
    pickles.refuse_globals(source.name, pickles.globals_of(pickles.read_opcodes(source)))
    if pickles.is_archive(source):
        with zipfile.ZipFile(source) as archive:
            if (bad := archive.testzip()) is not None:
                raise IntegrityError(f"{source.name} is damaged at {bad!r}.", "Copy or download it again.")
    import torch
    from safetensors.torch import save_file

    try:
        with torch.serialization.safe_globals([(Table, "torch.nn.modules.container.ParameterDict")]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFile(
            f"{source.name} holds more than weights: {pickles.reason(error)}.", "Do not use this file."
        ) from error
    except (RuntimeError, EOFError, TypeError, AttributeError, ValueError, KeyError) as error:
        raise IntegrityError(f"{source.name} is damaged: {_first(error)}.", "Copy or download it again.") from error
    seen: set[int] = set()
    tensors: dict[str, Any] = {}
    for name, value in _unwrap(content).items():
        if isinstance(value, torch.Tensor) and value.layout == torch.strided:
            shared = value.untyped_storage().data_ptr() in seen
            seen.add(value.untyped_storage().data_ptr())
            tensors[str(name)] = value.detach().clone() if shared else value.detach().contiguous()
    if not tensors:
        raise Unsupported(f"{source.name} holds no named tensors.", "Import a file of model weights.")
    save_file(tensors, out, metadata={"format": "pt"})


def _unwrap(content: Any) -> Mapping[Any, Any]:
    """The table of tensors inside the usual wrappings, or of a list of LoRA matrices as cloneofsimo's code wrote it."""
    if isinstance(content, list) and len(content) % 2 == 0:
        return _numbered(content)
    for _ in range(4):
        content = getattr(content, "found", {}) if isinstance(content, Table) else content
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping | Table)), None)
        if inner is None:
            return content
        content = inner
    return {}


def _numbered(matrices: list[Any]) -> Mapping[str, Any]:
    """[up 0, down 0, up 1, ...] by the names of the same code's later format; {} for another list.

    The first layer of Stable Diffusion's UNet reads 320 numbers, that of its text encoders more.
    """
    shapes = [tuple(getattr(one, "shape", ())) for one in matrices]
    pairs = list(zip(shapes[::2], shapes[1::2], strict=True))
    if not pairs or any(len(up) != 2 or len(down) != 2 or up[1] != down[0] for up, down in pairs):
        return {}
    part = "unet" if pairs[0][1][1] == 320 else "text_encoder"
    return {f"{part}:{i // 2}:{('up', 'down')[i % 2]}": one for i, one in enumerate(matrices)}


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def main(argv: list[str]) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        convert(Path(argv[0]), Path(argv[1]))
    except StudioError as error:
        return fail(error)
    except MemoryError:
        return fail(Unsupported("The file needs more memory than an import may take.", "Use the .safetensors version."))
    sys.stdout.write(json.dumps({"ok": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
