"""Looks over a diffusers folder before anything in it is loaded. Reads JSON and file headers, imports no framework."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from studio.errors import IntegrityError, UnsafeFile, Unsupported
from studio.intake.safeheader import read_header
from studio.ops.vocabulary import Vocabulary

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")  # a third name would be code inside the folder
STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
SKIPPED = ("safety_checker", "feature_extractor", "image_encoder")  # not loaded
# What a component without weights needs: any of the sets of files.
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "scheduler": (("scheduler_config.json",),),
    "tokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")),
}


class Found(NamedTuple):
    """The pipeline's class name, and the variant ("fp16" or "") its weight files carry in their names."""

    pipeline: str
    variant: str


def inspect(folder: Path, variant: str = "") -> Found:
    """Checks that every part is there and whole.

    Raises:
        IntegrityError: a file is missing, truncated or unreadable; the message names it.
        UnsafeFile: a part exists only as a pickle, or names code of its own.
        Unsupported: the index names something that is not a pipeline.
    """
    index = _read_json(folder, folder / INDEX)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str):
        raise Unsupported(f"{INDEX} does not name a pipeline.", "Choose a folder in the diffusers format.")
    parts = {name: entry for name, entry in index.items() if not name.startswith("_") and _is_part(entry)}
    for name, (library, kind) in parts.items():
        if library not in LIBRARIES:
            raise UnsafeFile(
                f"The part {name!r} ({kind}) of this model is code of its own.",
                "Only models made of known parts are run.",
            )
    for name in [name for name in parts if _need(name)]:
        _check_small(folder, name)
    heavy = {name: STEMS[library] for name, (library, _) in parts.items() if _is_heavy(name, library)}
    chosen = variant or _only_variant(folder, heavy)
    pickled = [file for name, stem in heavy.items() for file in _check_weights(folder, name, stem, chosen)]
    if pickled:
        raise UnsafeFile(
            f"{_relative(folder, pickled[0])} is a pickle, which can run code when it is opened.",
            "Use the safetensors version of this model, or import it so that it is converted.",
        )
    return Found(pipeline, chosen)


def vocabulary(folder: Path) -> Vocabulary:
    """What the folder's facts.json says the model was taught to draw; everything where it says nothing."""
    try:
        table = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        table = {}
    return Vocabulary(table if isinstance(table, dict) else {})


def _is_part(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry)


def _need(name: str) -> tuple[tuple[str, ...], ...]:
    return next((need for start, need in NEEDS.items() if name.startswith(start)), ())


def _is_heavy(name: str, library: str) -> bool:
    return name not in SKIPPED and not _need(name) and library in STEMS


def _check_small(folder: Path, name: str) -> None:
    ways = _need(name)
    if not any(all((folder / name / file).is_file() for file in way) for way in ways):
        missing = next(file for file in ways[-1] if not (folder / name / file).is_file())
        raise _missing(folder, folder / name / missing)


def _only_variant(folder: Path, heavy: dict[str, str]) -> str:
    """ "fp16" where the network is there in half precision only."""
    stem = folder / "unet" / heavy.get("unet", "")
    plain = stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".safetensors.index.json")
    half = stem.with_name(stem.name + ".fp16.safetensors")
    return "fp16" if half.is_file() and not any(file.is_file() for file in plain) else ""


def _check_weights(folder: Path, name: str, stem: str, variant: str) -> list[Path]:
    """The pickles that stand where weights should; raises IntegrityError when there is nothing."""
    _read_json(folder, folder / name / "config.json")
    for marked in dict.fromkeys((f".{variant}" if variant else "", "")):
        single = folder / name / f"{stem}{marked}.safetensors"
        index = folder / name / f"{stem}.safetensors.index{marked}.json"
        if single.is_file():
            _check_file(folder, single)
            return []
        if index.is_file():
            shards = _read_json(folder, index).get("weight_map", {})
            for shard in sorted(set(shards.values())):
                _check_file(folder, folder / name / Path(str(shard)).name)
            return []
    pickles = sorted(file for file in (folder / name).iterdir() if file.suffix in PICKLES)
    if not pickles:
        raise _missing(folder, folder / name / f"{stem}.safetensors")
    return pickles


def _check_file(folder: Path, file: Path) -> None:
    if not file.is_file():
        raise _missing(folder, file)
    read_header(file)


def _read_json(folder: Path, file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise _missing(folder, file)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{_relative(folder, file)} is damaged: {error}.", "Download the model again.") from error
    return found if isinstance(found, dict) else {}


def _missing(folder: Path, file: Path) -> IntegrityError:
    return IntegrityError(f"{_relative(folder, file)} is missing.", "Download the model again, with all its files.")


def _relative(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()
