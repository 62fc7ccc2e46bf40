"""Gets a model's networks as ONNX files in full precision: the ones it has, the ones that ship, or exported by torch.

torch is needed for the last only, in a child process that ends with the export.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from studio.cards import Card
from studio.compress import graphs
from studio.compress.networks import GRAPHS, SOURCES
from studio.compress.parts import parts_of
from studio.config import ROOT
from studio.errors import IntegrityError, Unsupported
from studio.intake.child import said

MODULE = "studio.engines.torch_parts"  # found by name, as engines are
Step = Callable[[str], None]  # called with what is being done; may raise to cancel


def parts(card: Card, folder: Path, out: Path, step: Step | None = None) -> dict[str, Path]:
    """Writes `<part>.onnx` for every part of the model into `out` by exporting with torch.

    Raises Unsupported, IntegrityError, OutOfMemory as loading the model does, and what `step` raises.
    """
    description = out / "card.json"
    description.write_text(card.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", MODULE, str(description), str(folder), str(out)]
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, stdin=subprocess.DEVNULL)
        try:
            while True:
                try:
                    child.wait(0.25)
                    break
                except subprocess.TimeoutExpired:
                    if step is not None:
                        step("exporting with torch")
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        errors.seek(0)
        text = errors.read().decode("utf-8", "replace")
    if child.returncode != 0:
        raise said(
            text, Unsupported("The export ended unexpectedly; most often memory ran out.", "Close other models.")
        )
    description.unlink()
    return {file.stem: file for file in sorted(out.glob("*.onnx"))}


def full_precision(card: Card, folder: Path, out: Path, step: Step | None = None) -> dict[str, Path]:
    """ONNX files in fp32 for every part, in `out`. torch is used only where nothing else will do. Raises as `parts`."""
    names = parts_of(card.engine)
    if card.engine == "yolo":
        return {"network": _widened(_detector(card, folder), out)}
    if all((folder / GRAPHS / f"{name}.onnx").is_file() for name in names) and not card.options.get("lora"):
        try:
            return {name: _assembled(card, folder, name, out) for name in names}
        except IntegrityError:
            shutil.rmtree(out, ignore_errors=True)  # the graphs are of another architecture than the weights
            out.mkdir(parents=True)
    return parts(card, folder, out, step)


def _assembled(card: Card, folder: Path, name: str, out: Path) -> Path:
    bare = graphs.read(folder / GRAPHS / f"{name}.onnx")
    source = folder / SOURCES[name] if card.engine == "diffusion" else folder
    file = out / f"{name}.onnx"
    graphs.save(graphs.assemble(bare, graphs.stored_weights(source)), file)
    return file


def _widened(file: Path, out: Path) -> Path:
    """The file itself, or where it stores its weights as float16 a copy in `out` that stores float32."""
    model = graphs.read(file)
    if not graphs.is_narrow(model):
        return file
    graphs.save(graphs.widened(model), out / file.name)
    return out / file.name


def _detector(card: Card, folder: Path) -> Path:
    if "file" in card.options:
        return folder / str(card.options["file"])
    files = sorted(folder.glob("*.onnx"))
    if len(files) != 1:
        raise IntegrityError(f"{card.title} holds {len(files)} .onnx files; one is needed.", "Name it in the card.")
    return files[0]
