"""What each precision costs in bytes and quality, on every starter model. Run by hand:

    python -m tests.bench.compress_quality [--models detector,...] [--precisions int4,...] [--out FOLDER] [--save FILE]

Prints one JSON line per model and precision: bytes on disk against fp32 (a packed file, scales and header included),
the relative error of the network's output on inputs that decided nothing, and the quality against fp32 and the truth.
"adaptive-N" and "hierarchical-N" are given at most the bytes of the uniform one; the last lines compare them with it.
With --out the pictures of every precision are saved side by side; with --save the rows are merged into a JSON file
(assets/compress/measured.json is what the Compress tab shows). Values are the same on every machine; no time is
measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from studio.compress import allocate, precisions, quality
from studio.compress.allocate import Option
from studio.compress.packed import read_packed, uniform, write_packed
from studio.compress.precisions import Precision
from studio.compress.schemes import Scheme
from tests.bench.compress_subjects import SUBJECTS, Subject

UNIFORM = ("fp16", "bf16", "int8-weights", "int4-asym", "int4", "int2", "int1", "palette-256", "palette-16",
           "palette-4", "pruned-25", "pruned-50", "pruned-2of4", "pruned-rows-25")  # fmt: skip
GGUF = ("gguf-q8_0", "gguf-q6_k", "gguf-q4_1", "gguf-q4_0")
MIXED = ("adaptive-4", "hierarchical-4", "adaptive-2", "hierarchical-2")


class Bench:
    """One starter model and what was measured of it."""

    def __init__(self, subject: Subject, out: Path | None) -> None:
        self.subject, self.out = subject, out
        self.full = 4 * sum(array.size for array in subject.weights.values())
        self.reference = {kind: subject.outputs(kind) for kind in ("calibrate", "judge")}
        self.best, shown = subject.quality()
        self.rows: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, list[Option]]] = {}
        self._save("fp32", shown)

    def loss(self, changed: allocate.Weights) -> float:
        """Squared relative error on the calibration inputs."""
        self.subject.put(changed)
        try:
            return self._error("calibrate") ** 2
        finally:
            self.subject.restore(list(changed))

    def _error(self, inputs: str) -> float:
        """The relative errors of all outputs, their root mean square."""
        answers = self.subject.outputs(inputs)
        each = [quality.output_error(a, b) for a, b in zip(self.reference[inputs], answers, strict=True)]
        return float(np.sqrt(np.mean(np.square(each))))

    def measure(self, id_: str) -> dict[str, Any]:
        """One precision: written, read back, put in, measured."""
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            size, back = self._stored(precisions.find(id_), Path(folder))
        self.subject.put(back)
        try:
            error = self._error("judge")
            measured, shown = self.subject.quality()
        finally:
            self.subject.restore(list(back))
        self._save(id_, shown)
        self.rows[id_] = {
            "model": self.subject.name, "precision": id_, "bytes": size, "ratio": round(size / self.full, 4),
            "output_error": round(error, 5), **{name: round(value, 4) for name, value in measured.items()},
            "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip
        return self.rows[id_]

    def _stored(self, precision: Precision, folder: Path) -> tuple[int, dict[str, NDArray[np.float32]]]:
        if precision.family == "gguf":
            from studio.compress.gguf_file import read_gguf, write_gguf

            written = write_gguf(folder / "w.gguf", self.subject.weights, precision.gguf, architecture="sd1", fold=True)
            return written.bytes, read_gguf(folder / "w.gguf")
        plan = self._mixed(precision) if precision.family == "mixed" else uniform(self.subject.weights, precision)
        return write_packed(folder / "w", self.subject.weights, plan), read_packed(folder / "w")

    def _mixed(self, precision: Precision) -> dict[str, Scheme]:
        """Bits by layer or block within the bytes of the uniform one."""
        kind, number = precision.id.split("-")
        like = precisions.find({"4": "int4", "2": "int2", "8": "int8-weights"}[number]).matrix
        assert like is not None
        divide: Callable[[allocate.Weights], dict[str, list[str]]]
        divide = allocate.layers if kind == "adaptive" else allocate.blocks
        units = divide(self.subject.weights)
        if kind not in self.tables:
            self.tables[kind] = allocate.sensitivity(self.subject.weights, units, self.loss, allocate.candidates())
        budget = allocate.uniform_bytes(self.subject.weights, like)
        chosen = allocate.settle(self.subject.weights, units, self.loss, self.tables[kind], budget)
        return allocate.plan(chosen, units, self.subject.weights)

    def _save(self, id_: str, shown: list[NDArray[np.uint8]]) -> None:
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.hstack(shown)).save(self.out / f"{self.subject.name}-{id_}.png")

    def compared(self) -> list[dict[str, Any]]:
        """Mixed widths beside the uniform one of the same bytes."""
        found = []
        for id_, row in self.rows.items():
            kind, _, number = id_.partition("-")
            like = self.rows.get({"4": "int4", "2": "int2"}.get(number, ""))
            if kind in ("adaptive", "hierarchical") and like is not None:
                found.append({
                    "model": row["model"], "precision": id_, "bytes_ratio": round(row["bytes"] / like["bytes"], 4),
                    "error_ratio": round(row["output_error"] / like["output_error"], 4),
                    "less_error": row["bytes"] <= like["bytes"] and row["output_error"] < like["output_error"],
                })  # fmt: skip
        return found


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def save(file: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of the same model and precision are replaced, others stay."""
    old = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    merged = {(row["model"], row["precision"]): row for row in [*old, *rows]}
    order = {id_: number for number, id_ in enumerate(("fp32", *UNIFORM, *GGUF, *MIXED))}
    kept = sorted(
        merged.values(), key=lambda row: (list(SUBJECTS).index(row["model"]), order.get(row["precision"], 99))
    )
    lines = ",\n".join(json.dumps({k: v for k, v in row.items() if k != "seconds"}) for row in kept)
    file.parent.mkdir(parents=True, exist_ok=True)
    about = "python -m tests.bench.compress_quality --save assets/compress/measured.json"
    file.write_text(f'{{"made_by": {json.dumps(about)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(SUBJECTS))
    parser.add_argument("--precisions", default=",".join((*UNIFORM, *GGUF, *MIXED)))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models.split(","):
        bench = Bench(SUBJECTS[name](), options.out)
        say({"model": name, "precision": "fp32", "bytes": bench.full, "ratio": 1.0, **bench.best})
        for id_ in options.precisions.split(","):
            say(bench.measure(id_))
        for line in bench.compared():
            say(line)
        if options.save is not None:
            whole = {"model": name, "precision": "fp32", "bytes": bench.full, "ratio": 1.0, **bench.best}
            save(options.save, [whole, *bench.rows.values()])


if __name__ == "__main__":
    main()
