"""Results as files other programs read: one table of formats per task kind."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from studio.errors import InvalidTask
from studio.library import Artifact, Library
from studio.ops import detections, pictures, segments


class File(NamedTuple):
    """One file to write: its name's ending and its bytes."""

    suffix: str
    data: bytes


class Format(NamedTuple):
    """`write` takes the library, the artifact and the numbers of the chosen outputs; none: the format's own choice."""

    label: str
    suffix: str
    write: Callable[[Library, Artifact, Sequence[int]], list[File]]


def _pictures(library: Library, artifact: Artifact, chosen: Sequence[int]) -> list[File]:
    outputs = [artifact.outputs[k] for k in chosen] if chosen else artifact.outputs
    return [File(".png", asset.path.read_bytes()) for asset in outputs]


def _boxes(name: str, library: Library, artifact: Artifact, chosen: Sequence[int]) -> list[File]:
    export = detections.EXPORTS[name]
    content = export.write(dict(artifact.data), artifact.parents[0].name if artifact.parents else "")
    return [File(export.suffix, _bytes(content, zipped=export.suffix == ".zip"))]


def _drawn_boxes(library: Library, artifact: Artifact, chosen: Sequence[int]) -> list[File]:
    picture = library.pixels(artifact.parents[0].id)
    return [File(".png", pictures.encode_png(detections.draw(picture, dict(artifact.data))))]


def _masks(name: str, library: Library, artifact: Artifact, chosen: Sequence[int]) -> list[File]:
    """The chosen masks; without a choice all segments of "everything", else the best of the candidates."""
    everything = bool(getattr(artifact.task, "everything", False))
    numbers = chosen or (range(len(artifact.outputs)) if everything else [0])
    masks = [library.mask(artifact.outputs[k].id) for k in numbers]
    scores = [float(artifact.data["scores"][k]) for k in numbers]
    export = segments.EXPORTS[name]
    return [File(export.suffix, export.write(library.pixels(artifact.parents[0].id), masks, scores))]


FORMATS: dict[str, dict[str, Format]] = {
    "generate": {"png": Format("PNG with settings", ".png", _pictures)},
    "detect": {
        **{name: Format(name.upper(), e.suffix, partial(_boxes, name)) for name, e in detections.EXPORTS.items()},
        "drawn": Format("Picture with boxes", ".png", _drawn_boxes),
    },
    "segment": {name: Format(e.label, e.suffix, partial(_masks, name)) for name, e in segments.EXPORTS.items()},
}


def export(library: Library, artifact: Artifact, format: str, chosen: Sequence[int] = ()) -> list[File]:
    """The artifact in that format; an output that is chosen twice is written once.

    Raises InvalidTask for a format or a choice its kind does not have.
    """
    formats = FORMATS.get(artifact.task.kind, {})
    chosen = tuple(dict.fromkeys(chosen))
    if format not in formats:
        raise InvalidTask(f"There is no format {format!r} for this.", f"Choose one of: {', '.join(formats)}.")
    if any(not 0 <= k < len(artifact.outputs) for k in chosen):
        raise InvalidTask(f"There are {len(artifact.outputs)} outputs.", "Choose one of them, counted from 0.")
    if artifact.task.kind == "segment" and not artifact.outputs:
        raise InvalidTask("Nothing was found, so there is nothing to export.", "Click somewhere else and try again.")
    return formats[format].write(library, artifact, chosen)


def format_for(kind: str, suffix: str) -> str:
    """The first format of that kind whose files end so; its first format where none does."""
    formats = FORMATS[kind]
    return next((name for name, format in formats.items() if format.suffix == suffix.lower()), next(iter(formats)))


def _bytes(content: str | dict[str, Any], *, zipped: bool) -> bytes:
    if not zipped:
        return (content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items() if isinstance(content, dict) else ():
            archive.writestr(name, text)
    return buffer.getvalue()
