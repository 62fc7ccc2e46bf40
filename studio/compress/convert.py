"""Converts a model to a runtime and a precision: once, in a child process, whole or not at all.

The child is `studio.compress.conversion`; this module is light, so that any process may ask for a conversion.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from studio.cards import Card
from studio.compress import precisions
from studio.compress.parts import parts_of
from studio.compress.variants import PartFile, Variant, Variants, key_of, split_name
from studio.config import ROOT
from studio.errors import InvalidTask, Unsupported
from studio.intake.child import said

# The engine that runs a model's converted networks.
FAST: dict[str, str] = {"diffusion": "fast-diffusion", "sam": "fast-sam", "yolo": "yolo"}
# What a runtime computes in by itself, then whatever ONNX Runtime's weights can be stored in.
OFFERED: tuple[str, ...] = (
    *(f"{runtime}-{id_}" for runtime, id_ in precisions.NATIVE if runtime != "torch"),
    *(f"onnxruntime-{one.id}" for one in precisions.offered() if precisions.is_packed("onnxruntime", one.id)),
)
OnStep = Callable[[int, int, str], None]  # step, total, phase; may raise to cancel


def make(
    card: Card,
    folder: Path,
    fingerprint: str,
    name: str,
    variants: Variants,
    on_step: OnStep | None = None,
    pictures: Sequence[Path] = (),
) -> Variant:
    """The variant of that name, made where it is not there yet.

    Args:
        folder: the model's verified files, with their `fingerprint`.
        name: "openvino-int8", ...
        on_step: told how far it is; may raise, which ends the child and leaves nothing behind.
        pictures: the user's, to calibrate on; scenes of the starter world where there are none.

    Raises InvalidTask (an unknown runtime or precision), Unsupported (quantized already, not convertible, NaN),
    InvalidImage, OutOfMemory, DiskFull, IntegrityError.
    """
    runtime, precision = split_name(name)
    precisions.find(precision)
    if runtime == "torch":
        raise InvalidTask("torch runs the model as it is; there is nothing to convert.", "Choose another runtime.")
    if card.engine not in FAST:
        parts_of(card.engine)
        raise Unsupported(f"{card.title} has no fast path yet.", "Run it as it is.")
    key = key_of(card, fingerprint)
    known = variants.get(card.id, key, name)
    if known is not None:
        return known
    with variants.stage(card.id, key, name) as stage:
        parts = _child(card, folder, stage, name, on_step, pictures)
        variants.describe(stage, name, parts)
    made = variants.get(card.id, key, name)
    if made is None:
        raise Unsupported(f"{name} vanished while it was made.", "Convert it again.")
    return made


def _child(
    card: Card, folder: Path, stage: Path, name: str, on_step: OnStep | None, pictures: Sequence[Path]
) -> dict[str, PartFile]:
    spec = {
        "card": card.model_dump(mode="json"),
        "folder": str(folder.resolve()),
        "out": str(stage.resolve()),
        "name": name,
        "engine": FAST[card.engine],
        "pictures": [str(file.resolve()) for file in pictures],
    }
    with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryFile() as errors:
        file = Path(temporary) / "spec.json"
        file.write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, "-m", "studio.compress.conversion", str(file)]
        env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True, env=env
        )
        assert child.stdout is not None
        parts = None
        try:
            for line in child.stdout:
                message = json.loads(line) if line.startswith("{") else {}
                if "parts" in message:
                    parts = {part: PartFile(**row) for part, row in message["parts"].items()}
                elif on_step is not None and "phase" in message:
                    on_step(message["step"], message["total"], message["phase"])
            child.wait()
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
            child.stdout.close()
        errors.seek(0)
        text = errors.read().decode("utf-8", "replace")
    if child.returncode != 0 or parts is None:
        last = (text.strip().splitlines() or ["no word"])[-1][:200]
        died = Unsupported(
            f"The conversion ended unexpectedly ({last}).", "Most often memory ran out: close other models."
        )
        raise said(text, died)
    return parts
