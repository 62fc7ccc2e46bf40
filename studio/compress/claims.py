"""Memory reduction as it is usually told for a model of 70 billion weights, with what is wrong about it. Data.

The table starts from 140 GB, which is fp16; the 280 GB that are often named beside it are fp32. `measured` names our
precisions whose sizes and losses stand beside each claim.
"""

from __future__ import annotations

from dataclasses import dataclass

PARAMETERS = 70e9
BASELINE_BYTES = 140e9  # fp16


@dataclass(frozen=True)
class Claim:
    """One row.

    Attributes:
        said: the claimed reduction, as it is told.
        gigabytes: the claimed size, most and least; empty where none is given.
        theory: the true share of fp16, most and least.
        measured: ids of ours that do it.
        error: what is wrong with the claim; empty where it holds.
        note: what has to be known to read the row.
    """

    technique: str
    said: str
    gigabytes: tuple[float, ...]
    theory: tuple[float, ...]
    measured: tuple[str, ...]
    error: str = ""
    note: str = ""


CLAIMS = (
    Claim("16 bit", "", (), (1.0,), ("fp16", "bf16"), note="What all other rows are compared with; half of fp32."),
    Claim("8 bit", "2×, minimal loss", (70,), (0.5,), ("int8-weights", "gguf-q8_0"),
          note="With scales 8.125 to 8.5 bits: 1.97× to 1.88×."),
    Claim("4 bit", "4×, more loss", (35,), (0.25,), ("int4", "int4-asym", "gguf-q4_0", "gguf-q4_1"),
          error="4× only without scales: 4.5 to 5 bits make it 3.6× to 3.2×."),
    Claim("2 bit", "", (), (0.125,), ("int2",), note="8× without scales, 6.4× with one for each 32 weights."),
    Claim("1 bit", "8×, significant loss", (17.5,), (0.0625,), ("int1",),
          error="17.5 GB is the size of 2 bits. 1 bit is 16× (8.75 GB) against fp16 and 32× against fp32."),
    Claim("Pruning, moderate", "20–30 %", (112, 98), (0.8, 0.7), ("pruned-25", "pruned-50"),
          error="Only where the gaps are stored for nothing: a bitmap costs one bit a weight, 6 % of fp16."),
    Claim("Knowledge distillation", "70–90 %", (14, 42), (0.1, 0.3), (),
          note="Another, smaller network: what is lost depends on its training. None of the shipped models is a "
               "student of a larger one, so nothing is measured here."),
    Claim("Model parallelism", "less per device", (), (1.0,), (),
          note="Divides the memory among devices and saves none."),
    Claim("Adaptive quantization", "up to 3×", (47, 56), (1 / 3, 0.4), ("adaptive-4", "adaptive-2"),
          error="56 GB is 2.5×, not 3×. It is no size of its own: it makes any size lose less."),
    Claim("Hierarchical quantization", "3×–5×", (28, 47), (0.2, 1 / 3), ("hierarchical-4", "hierarchical-2"),
          note="As adaptive, one width for each block of the network."),
    Claim("Sparsification of transformers", "20–40 %", (84, 112), (0.6, 0.8),
          ("palette-16", "palette-256", "pruned-rows-25", "pruned-2of4"),
          error="Weight clustering saves more than that: a palette of 16 values is 4 bits, 75 % of fp16.",
          note="Weight clustering and structured pruning."),
)  # fmt: skip


def errors() -> list[str]:
    """What is wrong with the table as a whole, one sentence each."""
    return [
        "It circulates in talks and articles without a named source. It starts from 140 GB, which is fp16, while "
        "70 billion weights at 4 bytes are 280 GB: ratios against fp32 are twice as large.",
        "It counts weights only: activations, caches and the runtime come on top.",
        "It counts ideal bits: scales, zero points, palettes, bitmaps and what is kept in fp16 come on top.",
    ]
