"""GGUF files: written with the `gguf` package, read back by it, by diffusers and by stable-diffusion.cpp.

Matrices whose rows fill whole blocks are quantized, the rest is F16 or F32. What a matrix is depends on the reader:
diffusers runs quantized linear layers only, so convolutions stay in F16 there; with `fold` they are stored as
(out, in * h * w), with their real shape under "comfy.gguf.orig_shape.<name>" as ComfyUI-GGUF does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studio import files
from studio.compress import kquants
from studio.compress.precisions import KEEP_BELOW
from studio.errors import IntegrityError, InvalidTask

if TYPE_CHECKING:
    import gguf

SHAPE_KEY = "comfy.gguf.orig_shape."
# What takes the place of a K-quant where a row is no multiple of 256, as llama.cpp does it.
INSTEAD = {"Q6_K": "Q8_0", "Q4_K": "Q5_0"}
KINDS = ("F16", "Q8_0", "Q6_K", "Q5_1", "Q5_0", "Q4_1", "Q4_K", "Q4_0")
NOT_LINEAR = ("_embedding.weight", "embeddings.weight", "pos_embed")  # tables, which diffusers looks up in


@dataclass(frozen=True)
class Written:
    """What a file holds: bytes, and how many arrays of each ggml type."""

    bytes: int
    kinds: Mapping[str, int]


def write_gguf(
    file: Path,
    weights: Mapping[str, ArrayLike],
    kind: str,
    *,
    architecture: str,
    fold: bool = False,
    tick: Callable[[int, int], None] | None = None,
) -> Written:
    """Writes weights as one GGUF file that appears only when it is whole.

    Args:
        kind: one of KINDS.
        architecture: the file's `general.architecture`, e.g. "sd1".
        fold: quantize convolutions too; see the module.
        tick: called with arrays done, of how many; may raise to cancel.

    Raises: InvalidTask (kind), IntegrityError (NaN; names the layer), DiskFull, and what `tick` raises.
    """
    import gguf

    if kind not in KINDS:
        raise InvalidTask(f"There is no GGUF type {kind!r} here.", f"Choose one of: {', '.join(KINDS)}.")
    counts: dict[str, int] = {}
    with files.whole(file) as part:
        writer = gguf.GGUFWriter(part, architecture)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{_file_type(kind)}"].value)
        for number, (name, array) in enumerate(weights.items(), 1):
            values = np.asarray(array, np.float32)
            chosen = _kind_of(name, values, kind, fold)
            counts[chosen] = counts.get(chosen, 0) + 1
            if values.ndim > 2 and chosen not in ("F16", "F32"):
                writer.add_array(SHAPE_KEY + name, [int(side) for side in values.shape])
                values = values.reshape(len(values), -1)
            writer.add_tensor(name, _encode(values, chosen, name), raw_dtype=gguf.GGMLQuantizationType[chosen])
            if tick is not None:
                tick(number, len(weights))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return Written(file.stat().st_size, counts)


def read_gguf(file: Path) -> dict[str, NDArray[np.float32]]:
    """All arrays as float32, in the shapes they had. Raises IntegrityError for what is no whole GGUF file."""
    import gguf

    try:
        reader = gguf.GGUFReader(file)
        return {tensor.name: _decode(reader, tensor) for tensor in reader.tensors}
    except (OSError, ValueError, IndexError, KeyError, NotImplementedError) as error:
        raise IntegrityError(f"{file.name} cannot be read as GGUF.", "Convert the model again.") from error


def _kind_of(name: str, values: NDArray[np.float32], kind: str, fold: bool) -> str:
    """The type one array gets."""
    if values.ndim < 2:
        return "F32"  # few bytes, and what every reader expects of norms and biases
    is_matrix = (values.ndim == 2 or fold) and not name.endswith(NOT_LINEAR)
    if kind == "F16" or not is_matrix or values.size < KEEP_BELOW:
        return "F16"
    row = values.size // len(values)
    for one, block in ((kind, 256 if kind.endswith("_K") else 32), (INSTEAD.get(kind, kind), 32)):
        if row % block == 0:
            return one
    return "F16"


def _encode(values: NDArray[np.float32], kind: str, name: str) -> NDArray[Any]:
    """Raises IntegrityError for numbers that the type cannot hold."""
    import gguf

    if not np.isfinite(values).all():
        raise IntegrityError(f"{name} holds NaN or infinity and cannot be compressed.", "Get the weights again.")
    own = kquants.WRITERS.get(kind)
    with np.errstate(over="ignore"):
        if own is not None:
            data: NDArray[Any] = own(values.reshape(-1, kquants.BLOCK)).reshape(*values.shape[:-1], -1)
        else:
            data = gguf.quantize(np.ascontiguousarray(values), gguf.GGMLQuantizationType[kind])
        back = gguf.dequantize(data, gguf.GGMLQuantizationType[kind])
    if not np.isfinite(back).all():
        raise IntegrityError(f"{name} has weights that are too large for {kind}.", "Choose fp32 or bf16.")
    return data


def _decode(reader: gguf.GGUFReader, tensor: gguf.ReaderTensor) -> NDArray[np.float32]:
    import gguf

    values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
    field = reader.get_field(SHAPE_KEY + tensor.name)
    shape = tuple(field.contents()) if field is not None else tuple(int(side) for side in reversed(tensor.shape))
    return np.array(values).reshape(shape)  # a copy: the reader maps the file


def _file_type(kind: str) -> str:
    return {"Q4_K": "Q4_K_S"}.get(kind, kind)
