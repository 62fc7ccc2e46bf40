"""The networks of a model on a runtime, wherever their files are: a converted variant, or graphs that ship with it.

A shipped model keeps `graphs/<part>.onnx` beside its safetensors files; the two are put together when it is loaded.
Where a runtime cannot run a part, ONNX Runtime does, and `notes` says so.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio.cards import Card
from studio.compress import precisions
from studio.compress.variants import FACTS, PartFile
from studio.device import Device
from studio.errors import IntegrityError, Unsupported
from studio.runtimes.base import TITLES, Session, Settings, runtime

GRAPHS = "graphs"
ZIPPED = ".gz"
FALLBACK = "onnxruntime"
# Where in a diffusers folder the weights of a shipped graph are; "" is the folder itself.
SOURCES: Mapping[str, str] = {"text_encoder": "text_encoder", "unet": "unet", "decoder": "vae", "encoder": "vae"}


@dataclass(frozen=True)
class Place:
    """Where a worker finds the networks it was told to run; a card's `options["fast"]`.

    Attributes:
        runtime, precision: what to run; "torch" runs the model's own files.
        folder: the converted variant, None for the graphs that ship with the model.
        cache: folder for compiled networks, None for none.
    """

    runtime: str
    precision: str
    folder: Path | None = None
    cache: Path | None = None

    def to_option(self) -> dict[str, str]:
        paths = {"folder": str(self.folder or ""), "cache": str(self.cache or "")}
        return {"runtime": self.runtime, "precision": self.precision, **paths}

    @classmethod
    def of(cls, card: Card) -> Place | None:
        """What the card was told, None where it was told nothing."""
        option = card.options.get("fast")
        if not isinstance(option, Mapping):
            return None
        folder, cache = (Path(str(option[name])) if option.get(name) else None for name in ("folder", "cache"))
        return cls(str(option.get("runtime", FALLBACK)), str(option.get("precision", "fp32")), folder, cache)


def torch_precision(card: Card, device: Device) -> str:
    """What torch was told to compute that card in on a CPU: "fp32" or "bf16". Raises Unsupported where it cannot."""
    place = Place.of(card)
    precision = place.precision if place is not None else "fp32"
    if not device.computes(precision):
        raise Unsupported(f"This processor does not compute in {precision}.", "Run the model in fp32.")
    return precision


class Networks:
    """Opens parts by name.

    Args:
        engine: the card's engine, for where weights are.
        folder: the model's folder.
        place: which files on which runtime.
        settings: threads; the cache is taken from `place`.
    """

    def __init__(self, engine: str, folder: Path, place: Place, settings: Settings) -> None:
        self._engine = engine
        self._folder = folder
        self._place = place
        self._settings = replace(settings, cache=place.cache)
        self._parts = _parts(place.folder) if place.folder is not None else {}
        self.notes: list[str] = []

    def has(self, name: str) -> bool:
        """Whether there is such a part."""
        return name in self._parts or (self._place.folder is None and self._graph(name).is_file())

    def open(self, name: str) -> Session:
        """The part, loaded. Raises IntegrityError where it is missing or damaged, OutOfMemory, Unsupported."""
        if self._place.folder is None:
            file, stamp = self._graph(name), self._stamp(name)
            return self._load(self._place.runtime, "fp32", file, lambda: self._shipped(name), stamp)
        if name not in self._parts:
            raise IntegrityError(f"The converted model lacks its {name}.", "Convert it again.")
        part = self._parts[name]
        file = self._place.folder / part.file
        if part.note:
            self.notes.append(part.note)
        if part.weights:
            weights = self._place.folder / part.weights
            return self._load(part.runtime, part.precision, file, lambda: assembled(file, weights), None)
        zipped = (lambda: gzip.decompress(file.read_bytes())) if file.suffix == ZIPPED else None
        return self._load(part.runtime, part.precision, file, zipped, "")

    def _load(
        self, name: str, precision: str, file: Path, data: Callable[[], bytes] | None, key: str | None
    ) -> Session:
        """`key` None: nothing may be cached, because the point of the file is to be small."""
        cache = self._settings.cache if key is not None else None
        plain = replace(self._settings, key=key or "", cache=cache)
        settings = replace(plain, precision=precisions.arithmetic(name, precision))
        try:
            return runtime(name).load(file, settings, data)
        except Unsupported as error:
            if name == FALLBACK or ".onnx" not in file.suffixes:
                raise
            self.notes.append(f"{TITLES[name]} cannot run {file.stem}; {TITLES[FALLBACK]} does. {error.message}")
            return runtime(FALLBACK).load(file, plain, data)

    def _graph(self, name: str) -> Path:
        return self._folder / GRAPHS / f"{name}.onnx"

    def _weights(self, name: str) -> Path:
        return self._folder / SOURCES[name] if self._engine == "diffusion" else self._folder

    def _shipped(self, name: str) -> bytes:
        from studio.compress import graphs

        bare = graphs.read(self._graph(name))
        return graphs.assemble(bare, graphs.stored_weights(self._weights(name))).SerializeToString()

    def _stamp(self, name: str) -> str:
        """Changes with the weights, so that what was compiled from others is not used."""
        files = sorted(self._weights(name).glob("*.safetensors"))
        return " ".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)


def assembled(file: Path, weights: Path) -> bytes:
    """A bare graph with its weights, packed or GGUF, as floats again. Raises IntegrityError."""
    from studio.compress import graphs

    return graphs.assemble(graphs.read(file), _READERS[weights.suffix](weights)).SerializeToString()


def _read_packed(file: Path) -> Mapping[str, Any]:
    from studio.compress.packed import read_packed

    return read_packed(file)


def _read_gguf(file: Path) -> Mapping[str, Any]:
    from studio.compress.gguf_file import read_gguf

    return read_gguf(file)


_READERS: Mapping[str, Callable[[Path], Mapping[str, Any]]] = {".safetensors": _read_packed, ".gguf": _read_gguf}


def _parts(folder: Path) -> dict[str, PartFile]:
    try:
        facts: Any = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return {name: PartFile(**row) for name, row in facts["parts"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError("The converted model is not whole.", "Convert it again.") from error
