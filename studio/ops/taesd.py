"""Names in a TAESD decoder file, as its author numbers them, and as diffusers does."""

from __future__ import annotations

import re
from collections.abc import Iterable

_RAW = re.compile(r"^(?:decoder\.)?(?:layers\.)?(\d+)\.(.+)$")


def rename(names: Iterable[str]) -> dict[str, str]:
    """TAESD's names -> names inside diffusers' `AutoencoderTiny`, decoder only.

    The author's network begins with a layer that clamps; diffusers clamps in `forward`, so its numbers are one lower.
    Names that diffusers wrote ("decoder.layers.0.weight") are kept; those of an encoder are left out.
    Raises ValueError where a name belongs to neither.
    """
    found: dict[str, str] = {}
    wanted = [name for name in names if not name.startswith("encoder.")]
    is_diffusers = all(name.startswith("decoder.layers.") for name in wanted)
    for name in wanted:
        match = _RAW.match(name)
        if match is None or (int(match[1]) == 0 and not is_diffusers):
            raise ValueError(f"{name!r} is not part of a TAESD decoder")
        found[name] = f"decoder.layers.{int(match[1]) - (0 if is_diffusers else 1)}.{match[2]}"
    if not found:
        raise ValueError("there is no decoder in the file")
    return found
