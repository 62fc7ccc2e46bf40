"""Which safetensors files of a folder hold a network's weights."""

from __future__ import annotations

import json
from pathlib import Path

from studio.errors import IntegrityError


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the shards that an index names, else the full-precision ones, else all."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise IntegrityError(f"{index.name} cannot be read: {error}.", "Download the model again.") from error
        return [folder / Path(str(name)).name for name in sorted(set(names))]
    files = sorted(folder.glob("*.safetensors"))
    return [file for file in files if ".fp16." not in file.name] or files
