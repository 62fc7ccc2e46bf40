"""Reading a segment_anything network from its folder; whatever is wrong with the files is said by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from studio.cards import Card
from studio.errors import IntegrityError, Unsupported
from studio.nets.sam import CONFIGS, build_sam

OTHER_NAMES: Mapping[str, str] = {"mobile_sam": "mobile"}  # what the checkpoint is called -> what the network is
AGAIN = "Get the model again."


def find(folder: Path) -> Path:
    """The folder's weights: model.safetensors, or its only .safetensors file. Raises IntegrityError."""
    files = sorted(folder.glob("*.safetensors"))
    named = folder / "model.safetensors"
    if named in files:
        return named
    if len(files) != 1:
        found = f"{len(files)} .safetensors files" if files else "no .safetensors file"
        raise IntegrityError(f"{folder.name} holds {found}; one is needed.", AGAIN)
    return files[0]


def read_config(card: Card, folder: Path) -> Mapping[str, Any]:
    """The network's numbers: the published ones the card's option "architecture" names, else config.json's.

    Raises Unsupported for an architecture nobody here knows, IntegrityError for a file that cannot be read.
    """
    name = card.options.get("architecture")
    if name is not None:
        name = name if name in CONFIGS else OTHER_NAMES.get(name, name)
        if name not in CONFIGS:
            raise Unsupported(
                f"{card.title} is a {name!r} network, which is not in this studio.", f"Known: {', '.join(CONFIGS)}."
            )
        return CONFIGS[name]
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file.name} of {card.title} cannot be read: {error}.", AGAIN) from error
    if not isinstance(config, dict):
        raise IntegrityError(f"{file.name} of {card.title} is not a table of numbers.", AGAIN)
    return config


def load(file: Path, config: Mapping[str, Any]) -> Any:
    """A `segment_anything.modeling.Sam` with the file's weights, as float32 on the CPU. Raises IntegrityError."""
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{file.name} cannot be read: {error}.", AGAIN) from error
    try:
        model = build_sam(config)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise IntegrityError(f"The network's numbers are wrong: {error!r}.", AGAIN) from error
    weights, wanted = _without_counters(weights), _without_counters(model.state_dict())
    _check(file, weights, wanted)
    model.load_state_dict(weights, strict=False)  # strict but for the counters: just checked
    return model.eval().requires_grad_(False)


def digest(file: Path, config: Mapping[str, Any]) -> str:
    """Names the network for what was computed with it: SHA-256 over its numbers and its weights, in hex."""
    found = hashlib.sha256(json.dumps(config, sort_keys=True, default=dict).encode())
    with file.open("rb") as stream:
        while block := stream.read(2**22):
            found.update(block)
    return found.hexdigest()


def _without_counters(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Batch norm counts its training steps; nothing is computed from that, and some files leave it out."""
    return {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}


def _check(file: Path, weights: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    missing, foreign = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing or foreign:
        word, names = ("lacks", missing) if missing else ("has a foreign", foreign)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise IntegrityError(f"{file.name} does not fit its network: it {word} {names[0]!r}{more}.", AGAIN)
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            shapes = f"{tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
            raise IntegrityError(f"{file.name} does not fit its network: {name!r} is {shapes}.", AGAIN)
