"""Diffusers folders: which classes they may name, and which files each part needs. Reads JSON only, runs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from studio.errors import IntegrityError, UnsafeFile
from studio.weights.hubcache import safe_name

INDEX = "model_index.json"
MAX_JSON = 64 * 2**20  # bytes; tokenizers can be long

PIPELINES = {
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "LatentConsistencyModelPipeline",
}


class Part(NamedTuple):
    """What a class needs in its folder: all files of one of the `ways`, and weights called `weights` where that is
    given."""

    ways: tuple[tuple[str, ...], ...]
    weights: str = ""


_DIFFUSERS = Part((("config.json",),), "diffusion_pytorch_model")
_TRANSFORMERS = Part((("config.json",),), "model")
_TOKENIZER = Part((("tokenizer.json",), ("vocab.json", "merges.txt")))
_SCHEDULERS = (
    "DDIM DDPM DEISMultistep DPMSolverMultistep DPMSolverSinglestep EDMEuler EulerAncestralDiscrete EulerDiscrete "
    "FlowMatchEulerDiscrete HeunDiscrete KDPM2AncestralDiscrete KDPM2Discrete LCM LMSDiscrete PNDM TCD UniPCMultistep"
)
PARTS: dict[tuple[str, str], Part] = {
    ("diffusers", "UNet2DConditionModel"): _DIFFUSERS,
    ("diffusers", "AutoencoderKL"): _DIFFUSERS,
    ("diffusers", "AutoencoderTiny"): _DIFFUSERS,
    ("transformers", "CLIPTextModel"): _TRANSFORMERS,
    ("transformers", "CLIPTextModelWithProjection"): _TRANSFORMERS,
    ("transformers", "CLIPVisionModelWithProjection"): _TRANSFORMERS,
    ("stable_diffusion", "StableDiffusionSafetyChecker"): _TRANSFORMERS,
    ("transformers", "CLIPTokenizer"): _TOKENIZER,
    ("transformers", "CLIPTokenizerFast"): _TOKENIZER,
    ("transformers", "PreTrainedTokenizerFast"): Part((("tokenizer.json",),)),
    ("transformers", "CLIPFeatureExtractor"): Part((("preprocessor_config.json",),)),
    ("transformers", "CLIPImageProcessor"): Part((("preprocessor_config.json",),)),
    **{("diffusers", f"{name}Scheduler"): Part((("scheduler_config.json",),)) for name in _SCHEDULERS.split()},
}
OPTIONAL = {"safety_checker", "feature_extractor", "image_encoder"}  # the engine passes None where they are not there
_SINGLE_TAIL, _LIST_TAIL = (".safetensors", ".fp16.safetensors"), (".safetensors.index.json",)


def check_pipeline(folder: Path, pickles: bool = False) -> dict[str, str]:
    """The parts of a diffusers folder, {name: class}.

    Args:
        pickles: accept `.bin` weights where there are no safetensors; the caller converts them.

    Raises:
        UnsafeFile: it names a class that is not on the list, or points to code.
        IntegrityError: a part has no weights or no configuration; names the missing file.
    """
    index = read_json(folder / INDEX)
    asked = index.get("_class_name")
    if not isinstance(asked, str) or asked not in PIPELINES:
        raise UnsafeFile(
            f"{INDEX} asks for the pipeline {str(asked)[:60]!r}, which is not on the list.",
            f"The studio runs: {', '.join(sorted(PIPELINES))}.",
        )
    parts = {}
    for name, value in index.items():
        if isinstance(value, list) and name != "_name_or_path" and value != [None, None]:
            safe_name(name)
            parts[name] = _check_part(folder, name, value, pickles)
    return {name: kind for name, kind in parts.items() if kind}


def weights_of(folder: Path, part: Part, pickles: bool = False) -> list[str]:
    """Names of the files that hold the weights of a part in its folder; empty where there are none."""
    for tail in _SINGLE_TAIL:
        if (folder / f"{part.weights}{tail}").is_file():
            return [f"{part.weights}{tail}"]
    for tail in _LIST_TAIL:
        if (folder / f"{part.weights}{tail}").is_file():
            return _shards(folder, f"{part.weights}{tail}")
    old = "pytorch_model.bin" if part.weights == "model" else f"{part.weights}.bin"
    return [old] if pickles and (folder / old).is_file() else []


def _shards(folder: Path, index: str) -> list[str]:
    table = read_json(folder / index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise IntegrityError(f"{index} lists no weights.", "Download the model again.")
    names = sorted({safe_name(str(name)) for name in table.values()})
    missing = [name for name in names if not (folder / name).is_file() or not name.endswith(".safetensors")]
    if missing:
        raise IntegrityError(f"{folder.name}/{missing[0]} is missing.", "Copy or download the whole folder.")
    return names


def _check_part(folder: Path, name: str, value: list[Any], pickles: bool) -> str:
    kind = (str(value[0]), str(value[1])) if len(value) == 2 else ("?", "?")
    if kind not in PARTS:
        raise UnsafeFile(
            f"{INDEX} names {'.'.join(kind)[:80]!r} for {name}, which is not on the list.", "Use another version of it."
        )
    here, part = folder / name, PARTS[kind]
    is_whole = bool(weights_of(here, part, pickles)) if part.weights else any(_has(here, way) for way in part.ways)
    if name in OPTIONAL and not is_whole:
        return ""
    way = next((way for way in part.ways if _has(here, way)), part.ways[-1])
    for file in way:
        if not (here / file).is_file():
            raise IntegrityError(f"{name}/{file} is missing.", "Copy or download the whole folder.")
        if file.endswith(".json"):
            _refuse_code(here / file)
    if not is_whole:
        raise IntegrityError(f"{name}/{part.weights}.safetensors is missing.", "Copy or download the whole folder.")
    return kind[1]


def _has(folder: Path, files: tuple[str, ...]) -> bool:
    return all((folder / file).is_file() for file in files)


def _refuse_code(path: Path) -> None:
    """Raises UnsafeFile where a configuration points to code ("auto_map")."""
    config = read_json(path)
    if "auto_map" in config or "custom_pipelines" in config:
        raise UnsafeFile(f"{path.parent.name}/{path.name} points to code of its own.", "Use another model.")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON table. Raises IntegrityError."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError("it is too long")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{path.name} cannot be read ({error}).", "Copy or download it again.") from error
    if not isinstance(found, dict):
        raise IntegrityError(f"{path.name} is not a table.", "Copy or download it again.")
    return found
