"""The table of precisions: what each is called, what it stores, and what to expect of it. Data and a few lookups.

An id is a fixed name ("int4"), or a family with a number: "palette-16", "pruned-50", "pruned-2of4",
"pruned-rows-25", "adaptive-4", "hierarchical-4".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from studio.compress import schemes
from studio.compress.schemes import Scheme
from studio.errors import InvalidTask

Family = Literal["float", "integer", "activations", "gguf", "palette", "pruned", "mixed"]
KEEP_BELOW = 1024  # smaller arrays, and vectors (biases, norms), stay in fp16: they are few bytes and matter much


@dataclass(frozen=True)
class Precision:
    """One way to store a whole model.

    Attributes:
        bits: per weight of a large array, everything counted (scales, zero points, palettes aside).
        stored: one half-sentence for the table: what is in the file.
        sentence: what to expect, for a tooltip.
        matrix: the scheme of arrays with two and more axes; None where a runtime (activations), GGUF, or a plan by
            layer (mixed) decides.
        gguf: name of the ggml type.
    """

    id: str
    title: str
    family: Family
    bits: float
    stored: str
    sentence: str
    matrix: Scheme | None = None
    gguf: str = ""

    @property
    def ratio(self) -> float:
        """Ideal bytes against fp32."""
        return self.bits / 32

    @property
    def in_memory(self) -> str:
        """PACKED where no runtime computes from what is stored, so that only the disk gains; else ""."""
        return "" if any(self.id == precision for _, precision in NATIVE) else PACKED

    def scheme(self, shape: tuple[int, ...]) -> Scheme:
        """How an array of that shape is stored. Raises InvalidTask where no single scheme says it."""
        if self.matrix is None:
            raise InvalidTask(f"{self.title} has no one scheme for all layers.", "Convert the model to it instead.")
        if self.matrix.kind == "float" or is_matrix(shape):
            return self.matrix
        return schemes.F16


def is_packed(runtime: str, precision: str) -> bool:
    """Whether those weights are small on the disk only."""
    return (runtime, precision) not in NATIVE and precision != "fp32"


def arithmetic(runtime: str, precision: str) -> str:
    """What a runtime is told to compute floats in, those between 8-bit layers too: "fp32" or "bf16"."""
    return "bf16" if precision == "bf16" and (runtime, precision) in NATIVE else "fp32"


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether an array of that shape is compressed at all, rather than kept in fp16."""
    return len(shape) >= 2 and math.prod(shape) >= KEEP_BELOW


def _float(id: str, title: str, scheme: Scheme, sentence: str) -> Precision:
    return Precision(id, title, "float", scheme.bits, "floats as they are", sentence, scheme)


def _groups(id: str, title: str, scheme: Scheme, sentence: str) -> Precision:
    zero = scheme.bits if scheme.kind == "asymmetric" else 0
    about = "codes, scale and zero point" if zero else "codes and a scale"
    bits = scheme.bits + (16 + zero) / scheme.group
    return Precision(id, title, "integer", bits, f"{about} per {scheme.group} weights", sentence, scheme)


def _gguf(id: str, kind: str, bits: float, stored: str, sentence: str) -> Precision:
    return Precision(id, f"GGUF {kind}", "gguf", bits, stored, sentence, gguf=kind)


FIXED: tuple[Precision, ...] = (
    _float("fp32", "fp32", schemes.F32, "The reference: every other one is measured against it."),
    _float("fp16", "fp16", schemes.F16, "Half the bytes, no visible change. Most processors compute in fp32 anyway."),
    _float("bf16", "bf16", schemes.BF16, "Half the bytes, the range of fp32, three digits. torch and OpenVINO "
           "compute in it where the processor does, and are faster then."),
    _groups("int8-weights", "int8 weights", schemes.symmetric(8, 128), "A quarter of the bytes on disk and no visible "
            "change. Computed in fp32, so it is not faster; in memory only OpenVINO's matrix products stay small."),
    _groups("int4-weights", "int4 weights", schemes.symmetric(4, 32), "The weights of matrix products in 4 bits, in "
            "memory too. Convolutions are computed in fp32: for networks of attention and long texts."),
    Precision("int8", "int8", "activations", 8, "codes; one scale per channel", "Weights and activations in 8 bits, "
              "calibrated on pictures. The one that is faster, where the processor has VNNI."),
    _groups("int4", "int4", schemes.symmetric(4, 32), "A seventh of the bytes on disk; small details change."),
    _groups("int4-asym", "int4 asymmetric", schemes.asymmetric(4, 32), "As int4 with a zero point: better where "
            "weights are lopsided, 3 % larger."),
    _groups("int2", "int2", schemes.symmetric(2, 32), "Four values per weight. Most networks suffer visibly."),
    _groups("int1", "int1", schemes.symmetric(1, 32), "Only signs and one scale. Networks that were not trained for "
            "it stop working: here to be seen, not used."),
    _gguf("gguf-f16", "F16", 16, "floats", "fp16 in the file format of llama.cpp and stable-diffusion.cpp."),
    _gguf("gguf-q8_0", "Q8_0", 8.5, "w = d q, 32 weights", "8 bits, type 0. Close to lossless."),
    _gguf("gguf-q6_k", "Q6_K", 6.5625, "16 scales of 8 bits per 256 weights", "6 bits; hardly to be told from Q8_0."),
    _gguf("gguf-q5_1", "Q5_1", 6, "w = d q + m, 32 weights", "5 bits, type 1."),
    _gguf("gguf-q5_0", "Q5_0", 5.5, "w = d q, 32 weights", "5 bits, type 0."),
    _gguf("gguf-q4_1", "Q4_1", 5, "w = d q + m, 32 weights", "4 bits, type 1."),
    _gguf("gguf-q4_k", "Q4_K", 4.5, "8 scales and minima of 6 bits per 256 weights", "4 bits, better than Q4_0 at its "
          "size; rows of 256 weights only."),
    _gguf("gguf-q4_0", "Q4_0", 4.5, "w = d q, 32 weights", "4 bits, type 0."),
)  # fmt: skip

# (runtime, precision) that the runtime itself understands; all others are weights packed on disk, unpacked to fp32 as
# they are loaded: they save no memory and no time.
NATIVE = (
    *(("onnxruntime", id_) for id_ in ("fp32", "fp16", "int8", "int4-weights")),
    *(("openvino", id_) for id_ in ("fp32", "fp16", "bf16", "int8", "int8-weights", "int4-weights")),
    *(("torch", id_) for id_ in ("fp32", "bf16")),
)
PACKED = "fp32 in memory"

# Offered beside the fixed ones; any other number works too.
OFFERED = ("palette-256", "palette-16", "palette-4", "pruned-25", "pruned-50", "pruned-2of4", "pruned-rows-25",
           "adaptive-4", "hierarchical-4")  # fmt: skip

_NUMBERED = re.compile(r"(palette|pruned-rows|pruned|adaptive|hierarchical)-(\w+?)(?:of(\w+))?")


def _palette(number: int, of: int) -> Precision:
    if number not in (2, 4, 8, 16, 32, 64, 128, 256):
        raise InvalidTask(f"A palette of {number} values is not possible.", "Choose 2, 4, 8, 16, 32, 64, 128 or 256.")
    bits = number.bit_length() - 1
    scheme = Scheme("palette", bits)
    return Precision(f"palette-{number}", f"Palette of {number}", "palette", bits, f"{bits}-bit indices, {number} "
                     "fp16 values per layer", "Weight clustering: k-means gives each layer its own few values.",
                     scheme)  # fmt: skip


def _pruned(number: int, of: int) -> Precision:
    scheme = Scheme("n-of-m", number, of) if of else Scheme("sparse", number)
    schemes.check(scheme)
    kept = number / of if of else 1 - number / 100
    title = f"Pruned {number}:{of}" if of else f"Pruned {number} %"
    sentence = (f"The {number} largest of every {of} weights stay, a pattern that sparse hardware runs." if of
                else "The smallest weights go; a bitmap says which, the rest is fp16.")  # fmt: skip
    id_ = f"pruned-{number}of{of}" if of else f"pruned-{number}"
    return Precision(id_, title, "pruned", 1 + 16 * kept, "bitmap, fp16 of what stays", sentence, scheme)


def _rows(number: int, of: int) -> Precision:
    scheme = Scheme("rows", number)
    schemes.check(scheme)
    sentence = ("Whole channels of least length go where no other layer is tied to them, so often less than was asked; "
                "attention heads stay. The only pruning every runtime gains by, and without training afterwards most "
                "networks lose much: a detector may find nothing at 25 %.")  # fmt: skip
    return Precision(f"pruned-rows-{number}", f"Pruned rows {number} %", "pruned", 16 * (1 - number / 100),
                     "fp16 of the rows that stay", sentence, scheme)  # fmt: skip


def _mixed(id: str, title: str, number: int, per: str, sentence: str) -> Precision:
    like = uniform(number)
    text = f"{sentence} Together the bytes of {like.title}."
    return Precision(f"{id}-{number}", f"{title} {number} bit", "mixed", like.bits, f"2 to 8 bits by {per}", text)


def _adaptive(number: int, of: int) -> Precision:
    return _mixed("adaptive", "Adaptive", number, "layer", "Bits go where the output suffers most without them.")


def _hierarchical(number: int, of: int) -> Precision:
    sentence = "One width for each block of the network, by what the output suffers."
    return _mixed("hierarchical", "Hierarchical", number, "block", sentence)


_FAMILIES = {
    "palette": _palette, "pruned": _pruned, "pruned-rows": _rows, "adaptive": _adaptive, "hierarchical": _hierarchical,
}  # fmt: skip


def uniform(number: int) -> Precision:
    """So many bits for every layer, 1 to 8: what a mixed precision is named after. Raises InvalidTask."""
    bits = schemes.bits(number)
    known = {2: "int2", 4: "int4", 8: "int8-weights"}
    if bits in known:
        return find(known[bits])
    scheme = schemes.symmetric(bits, 32)
    return replace(find("int4"), id=f"int{bits}", title=f"int{bits}", bits=bits + 0.5, matrix=scheme)


def find(id: Any) -> Precision:
    """The precision of that id. Raises InvalidTask, naming what there is."""
    fixed = next((one for one in FIXED if one.id == id), None)
    if fixed is not None:
        return fixed
    found = _NUMBERED.fullmatch(id) if isinstance(id, str) else None
    known = f"Choose one of: {', '.join(one.id for one in FIXED)}, {', '.join(OFFERED)}."
    if found is None or (found[3] is not None and found[1] != "pruned"):
        raise InvalidTask(f"There is no precision {id!r}.", known)
    if not (found[2].isdecimal() and (found[3] is None or found[3].isdecimal())):
        raise InvalidTask(f"There is no precision {id!r}: a number is missing.", known)
    return _FAMILIES[found[1]](int(found[2]), int(found[3] or 0))


def offered() -> tuple[Precision, ...]:
    """All that is offered, from most to fewest bits within each family."""
    return (*FIXED, *(find(id_) for id_ in OFFERED))
