"""A variant of a model in a process of its own, for as long as it is measured. Light: only the child loads networks."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.cards import Card
from studio.config import ROOT
from studio.errors import StudioError, Unsupported
from studio.intake.child import said

Answer = Mapping[str, NDArray[Any]]  # what one sample was made into, see `studio.compress.measuring.keep`


@dataclass(frozen=True)
class Subject:
    """One variant to measure: the card whose options say what to run, its engine, and the bytes of its files.

    Attributes:
        layers: relative error of each layer's weights, where they are stored in fewer bits.
    """

    name: str
    card: Card
    engine: str
    folder: Path
    bytes: int
    notes: tuple[str, ...] = ()
    layers: Mapping[str, float] = field(default_factory=dict)

    @property
    def head(self) -> dict[str, Any]:
        """What a row says before anything is measured."""
        runtime, _, precision = self.name.partition("-")
        return {"card": self.card.id, "runtime": runtime, "precision": precision, "bytes": self.bytes}


class Running:
    """The process, loaded and run once when this returns.

    Args:
        out: a folder for what it makes; made here.
        cores: threads it may use.
        compared: samples its quality is judged on.
        own: the user's pictures instead of scenes.
        asked: the folder of the variant that this one is compared with; None for that one itself.
    Raises what loading raises.
    """

    def __init__(
        self, subject: Subject, out: Path, cores: int, compared: int, own: Sequence[Path], asked: Path | None = None
    ) -> None:
        self.subject = subject
        self._out = out
        out.mkdir(parents=True)
        spec = {
            "card": subject.card.model_dump(mode="json"),
            "folder": str(subject.folder),
            "engine": subject.engine,
            "samples": compared,
            "own": [str(file.resolve()) for file in own],
            "out": str(out),
            "asked": str(asked or ""),
            "cores": cores,
        }
        file = out / "spec.json"
        file.write_text(json.dumps(spec), encoding="utf-8")
        self._errors = (out / "errors").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "studio.compress.measuring", str(file)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        )
        self._times: list[float] = []
        self._numbers: dict[str, float] = {}
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def run(self) -> None:
        """One timed run. Raises what a run raises."""
        self._write("run")
        self._times.append(self._read()["ms"])

    def compare(self) -> list[Answer]:
        """What it makes of the samples. Raises what a run raises."""
        self._write("compare")
        self._read()
        found: list[Answer] = []
        for file in sorted(self._out.glob("[0-9]*.npz")):
            with np.load(file, allow_pickle=False) as arrays:
                found.append({name: arrays[name] for name in arrays.files})
        return found

    @property
    def numbers(self) -> dict[str, float]:
        """What is known by now: MB, seconds to load, milliseconds a run (median, and between quartiles), how many."""
        found = {name: round(value, 3) for name, value in self._numbers.items()}
        if not self._times:
            return found
        low, _, high = statistics.quantiles(self._times, n=4) if len(self._times) > 1 else (self._times[0],) * 3
        median = statistics.median(self._times)
        timed = {"median_ms": median, "spread_ms": high - low, "per_second": 1000 / median}
        return {**found, **{name: round(value, 3) for name, value in timed.items()}, "runs": len(self._times)}

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, float] = json.loads(line)
                self._numbers |= {name: value for name, value in found.items() if name != "ms"}
                return found
        raise self._died()

    def _died(self) -> StudioError:
        self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace")
        died = Unsupported(f"The process that ran {self.subject.name} ended; most often memory ran out.", "")
        return said(text, died)
