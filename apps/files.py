"""Results as files and as new pictures: exports, cut-outs, crops, the map of segments, the example pictures.

Plain functions first, then the routes that call them. The pages of Detect and Segment link here.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, Response
from numpy.typing import NDArray
from PIL import Image

from apps.turns import Bulkhead, Owner, own_artifact
from apps.visitors import LOCAL
from studio.engines.base import Result
from studio.errors import InvalidTask, NotFound
from studio.exports import File
from studio.library import Artifact, Asset
from studio.ops import masks, pictures, segments
from studio.studio import Studio

EXAMPLES = Path(__file__).resolve().parent.parent / "assets" / "examples"
MAP_SIDE = 1200  # px; the map of segments is only looked at and pointed into
FEATHER = 64.0  # px at most
_MEDIA = {".png": "image/png", ".json": "application/json", ".xml": "application/xml", ".zip": "application/zip"}
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


# ── what the routes answer ───────────────────────────────────────────────────


def bundle(files: list[File], stem: str) -> tuple[str, bytes]:
    """Name and bytes of one download: the file itself, or a zip of several."""
    if len(files) == 1:
        return f"{stem}{files[0].suffix}", files[0].data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for number, file in enumerate(files, start=1):
            archive.writestr(f"{stem}-{number}{file.suffix}", file.data)
    return f"{stem}.zip", buffer.getvalue()


def stem_of(artifact: Artifact) -> str:
    """What a download of the result is called: after the picture it was made from."""
    name = artifact.parents[0].name if artifact.parents else ""
    return Path(name).stem or artifact.task.kind


def cut(
    studio: Studio, picture: str, mask: str, format: str, feather: float, score: float, owner: str = LOCAL
) -> tuple[str, bytes]:
    """A picture and a mask in one of the formats of segments. Raises InvalidTask, NotFound."""
    if format not in segments.EXPORTS:
        raise InvalidTask(f"There is no format {format!r} for this.", f"Choose one of: {', '.join(segments.EXPORTS)}.")
    export = segments.EXPORTS[format]
    stem = f"{Path(studio.library.asset(picture, owner).name).stem or 'picture'}-{format}"
    if format in ("cut-out", "cropped"):
        pixels = cut_out(studio, picture, mask, feather, crop=format == "cropped")
        return f"{stem}.png", pictures.encode_png(pixels)
    image, cover = _pair(studio, picture, mask)
    return f"{stem}{export.suffix}", export.write(image, [cover], [score])


def cut_out(studio: Studio, picture: str, mask: str, feather: float, *, crop: bool) -> NDArray[np.uint8]:
    """RGBA of what the mask covers. Raises InvalidTask where the two do not fit."""
    image, cover = _pair(studio, picture, mask)
    return masks.cut_out(image, cover, feather_px=min(max(feather, 0.0), FEATHER), crop=crop)


def keep_cut_out(studio: Studio, artifact: Artifact, mask: str, feather: float) -> Artifact:
    """The cropped cut-out as a result of its own in the library, made by the same task."""
    cover = studio.library.mask(mask)
    pixels = cut_out(studio, artifact.parents[0].id, mask, feather, crop=True)
    data = {
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "scores": [max(artifact.data.get("scores") or [0.0])],
        "areas": [masks.area(cover)],
        "boxes": [masks.box(cover).tolist()],
        "notes": ["A cut-out, cropped to what it shows."],
        "seconds": {},
    }
    return studio.library.add(
        artifact.task, artifact.card, artifact.fingerprint, Result(images=(pixels,), data=data), owner=artifact.owner
    )


def crop(studio: Studio, picture: str, box: str, owner: str = LOCAL) -> Asset:
    """The part of a picture within "x1,y1,x2,y2" as a picture of its own. Raises InvalidTask, NotFound."""
    image = studio.library.pixels(picture)
    height, width = image.shape[:2]
    left, top, right, bottom = _numbers(box)
    x1, y1 = max(0, int(left)), max(0, int(top))
    x2, y2 = min(width, int(np.ceil(right))), min(height, int(np.ceil(bottom)))
    if x1 >= x2 or y1 >= y2:
        raise InvalidTask("The box is empty or outside the picture.", "Choose another one.")
    name = f"{Path(studio.library.asset(picture, owner).name).stem or 'picture'} crop"
    return studio.library.add_image(np.ascontiguousarray(image[y1:y2, x1:x2]), name, owner=owner)


def segment_map(studio: Studio, artifact: Artifact) -> bytes:
    """PNG that names the segment under each pixel: number + 1 as red + 256 green, 0 for none. Smaller ones on top."""
    if artifact.task.kind != "segment" or not artifact.outputs:
        raise NotFound("There is no map of this result.", "Run it again.")
    first = artifact.outputs[0]
    scale = min(1.0, MAP_SIDE / max(first.width, first.height))
    size = max(1, round(first.width * scale)), max(1, round(first.height * scale))
    numbers = np.zeros((size[1], size[0]), np.uint16)
    areas = artifact.data["areas"]
    for k in sorted(range(len(artifact.outputs)), key=lambda k: -areas[k]):
        with Image.open(artifact.outputs[k].path) as image:
            small = np.asarray(image.convert("L").resize(size, Image.Resampling.NEAREST))
        numbers[small > 127] = k + 1
    channels = np.stack([numbers & 255, numbers >> 8, np.zeros_like(numbers)], axis=-1).astype(np.uint8)
    return pictures.encode_png(channels)


def examples(folder: Path = EXAMPLES) -> list[Path]:
    """The example pictures that ship with the studio, sticker scenes first."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in _ENDINGS) if folder.is_dir() else []
    return sorted(found, key=lambda path: not path.stem.startswith("sticker"))


def offers(paths: list[Path]) -> list[dict[str, str]]:
    """The example pictures as a stage's empty state shows them."""
    return [{"label": label_of(path), "image": f"face/example/{quote(path.name)}"} for path in paths]


def label_of(path: Path) -> str:
    """ "two-dogs.jpg" -> "Two dogs"."""
    return re.sub(r"[-_]+", " ", path.stem).strip().capitalize().replace("Qr ", "QR ")


def _pair(studio: Studio, picture: str, mask: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    image, cover = studio.library.pixels(picture), studio.library.mask(mask)
    if image.shape[:2] != cover.shape:
        raise InvalidTask("The mask belongs to another picture.", "Cut the thing out of this picture first.")
    return image, cover


def _numbers(box: str) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(part) for part in box.split(","))
    except ValueError as error:
        raise InvalidTask("The box is not four numbers.", "Give x1,y1,x2,y2.") from error
    if not np.isfinite([x1, y1, x2, y2]).all():
        raise InvalidTask("The box is not four numbers.", "Give x1,y1,x2,y2.")
    return x1, y1, x2, y2


# ── the routes ───────────────────────────────────────────────────────────────


def add_routes(face: APIRouter, studio: Studio) -> None:
    """Adds them to the page's own routes, under /face."""
    in_turn = [Depends(Bulkhead("files", places=3, waiting=24, each=8).turn)]  # each opens whole pictures

    @face.get("/export/{artifact}/{format}", dependencies=in_turn)
    def export(artifact: str, format: str, owner: Owner, chosen: str = "") -> Response:
        found = own_artifact(studio, artifact, owner)
        numbers = [int(part) for part in re.findall(r"\d{1,6}", chosen)]
        files = studio.export(artifact, format, numbers)
        return _attachment(*bundle(files, f"{stem_of(found)}-{format}"))

    @face.get("/cut/{picture}/{mask}/{format}", dependencies=in_turn)
    def cut_file(
        picture: str, mask: str, format: str, owner: Owner, feather: float = 0.0, score: float = 1.0
    ) -> Response:
        return _attachment(*cut(studio, picture, mask, format, feather, score, owner))

    @face.post("/cut/{picture}/{mask}", dependencies=in_turn)
    def cut_asset(picture: str, mask: str, owner: Owner, feather: float = 0.0) -> dict[str, Any]:
        name = f"{Path(studio.library.asset(picture, owner).name).stem or 'picture'} cut-out"
        pixels = cut_out(studio, picture, mask, feather, crop=True)
        return _asset(studio.library.add_image(pixels, name, owner=owner))

    @face.post("/crop/{picture}", dependencies=in_turn)
    def crop_asset(picture: str, box: str, owner: Owner) -> dict[str, Any]:
        return _asset(crop(studio, picture, box, owner))

    @face.get("/segments/{artifact}.png", dependencies=in_turn)
    def map_(artifact: str, owner: Owner) -> Response:
        png = segment_map(studio, own_artifact(studio, artifact, owner))
        return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=86400, immutable"})

    @face.post("/keep/{artifact}")
    def keep(artifact: str, owner: Owner) -> dict[str, Any]:
        studio.library.keep(own_artifact(studio, artifact, owner).id)
        return {"artifact": artifact}

    @face.post("/keep/{artifact}/cut-out/{mask}", dependencies=in_turn)
    def keep_cut(artifact: str, mask: str, owner: Owner, feather: float = 0.0) -> dict[str, Any]:
        made = keep_cut_out(studio, own_artifact(studio, artifact, owner), mask, feather)
        return {"artifact": made.id}

    @face.get("/example/{name}")
    def example(name: str) -> Response:
        path = next((path for path in examples() if path.name == name), None)
        if path is None:
            raise NotFound("There is no such example.")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=86400"})


def _asset(asset: Asset) -> dict[str, Any]:
    names = ("id", "kind", "width", "height", "name")
    return {name: getattr(asset, name) for name in names}


def _attachment(name: str, data: bytes) -> Response:
    """A download under a safe name: ASCII for old clients, the true letters for the others."""
    stem, _, ending = name.rpartition(".")
    plain = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:60] or "result"
    shown = re.sub(r"[\x00-\x1f\x7f/\\:*?\"<>|]+", "-", stem).strip(" .-")[:80] or "result"
    names = f"filename=\"{plain}.{ending}\"; filename*=UTF-8''{quote(f'{shown}.{ending}')}"
    headers = {"Content-Disposition": f"attachment; {names}", "Cache-Control": "no-store"}
    return Response(data, media_type=_MEDIA.get(f".{ending}", "application/octet-stream"), headers=headers)
