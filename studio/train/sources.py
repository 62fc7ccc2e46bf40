"""Where pictures come from, by name: the shipped stickers, scikit-learn's digits, the library, a folder or a zip.

A source answers with whatever it could read and the names of what it could not; nothing here is fatal but a source
that is not there.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.errors import InvalidImage, InvalidTask, NotFound, UnsafeFile
from studio.ops import pictures as border

Pixels = NDArray[np.uint8]

STICKERS = Path(__file__).resolve().parent.parent.parent / "assets" / "stickers"
APART = ("smileys",)
"""Groups that are not drawn unless they are asked for."""
WANTED = 4000
"""Pictures drawn of the stickers, over all things."""
PICTURES_MOST = 20_000
ZIP_BYTES = 2 * 2**30
"""Most bytes that a zip may unpack to."""
HEAD_BYTES = 2**16
"""In which a picture says how large it is."""
UPLOADS = "datasets"
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
BACKGROUNDS = (
    (205, 52, 56), (240, 140, 40), (250, 214, 74), (84, 170, 88), (64, 124, 214), (136, 84, 184), (244, 168, 198),
    (128, 88, 60), (142, 146, 150), (250, 250, 250),
)  # fmt: skip
"""RGB, those of the starter world."""

_UNREADABLE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, zlib.error)


@dataclass(frozen=True)
class Found:
    """pictures uint8 (N, S, S, 3), labels int64 (N,) into `names`, and what could not be read."""

    pictures: Pixels
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    broken: tuple[str, ...] = ()


def read(
    source: str, size: int, *, home: Path | None = None, owner: str | None = None, limit: int = PICTURES_MOST
) -> Found:
    """The pictures of a source at that size, at most about `limit`. Raises NotFound, InvalidTask, UnsafeFile."""
    kind, _, rest = source.partition(":")
    if kind == "stickers":
        return stickers(size, rest, limit)
    if source == "digits":
        return digits(size)
    if source == "library":
        return library(size, _needed(home, source), owner, limit)
    if kind == "upload":
        return archive(upload_path(_needed(home, source), rest), size, limit)
    if source.startswith(("\\\\", "//")) or "\0" in source:  # looking at a share makes Windows log in there
        raise InvalidTask("Pictures are not read from network shares.", "Copy them to this device first.")
    path = Path(source).expanduser()
    if path.is_dir():
        return folder(path, size, limit)
    if path.is_file():
        return archive(path, size, limit)
    raise NotFound(
        f"There are no pictures at {source!r}.",
        "Choose stickers, digits, library, or give the path of a folder or zip.",
    )


def uploads(home: Path) -> Path:
    """The folder of the zips that were brought in."""
    return home / UPLOADS


def upload_path(home: Path, id_: str) -> Path:
    """Where the page keeps an uploaded zip. Raises InvalidTask for what is no id."""
    if not id_.isalnum():
        raise InvalidTask("There is no such upload.", "Choose the zip again.")
    return uploads(home) / f"{id_}.zip"


# ── the shipped stickers ─────────────────────────────────────────────────────


@dataclass(frozen=True)
class Atlas:
    """stickers uint8 RGBA (T, 64, 64, 4), their names and groups, and sets of names from several groups."""

    stickers: Pixels
    names: tuple[str, ...]
    groups: tuple[str, ...]
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def members(self, group: str) -> list[int]:
        """Which stickers a group or set holds; "" is all but those apart. Raises InvalidTask."""
        if group in self.sets:
            return [k for k, own in enumerate(self.names) if own in self.sets[group] and self.groups[k] not in APART]
        if group and group not in self.groups:
            raise InvalidTask(f"There are no stickers called {group!r}.", f"Choose one of: {', '.join(groups())}.")
        return [k for k, own in enumerate(self.groups) if own == group or (not group and own not in APART)]


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """All shipped stickers. Raises NotFound where they were taken away."""
    try:
        index = json.loads((STICKERS / "index.json").read_text(encoding="utf-8"))
        with Image.open(STICKERS / "stickers.webp") as image:
            sheet = np.asarray(image.convert("RGBA"))
    except (OSError, ValueError) as error:
        raise NotFound("assets/stickers is missing or damaged.", "Reinstall the studio.") from error
    side, columns = int(index["side"]), sheet.shape[1] // int(index["side"])
    tiles = [
        sheet[side * (k // columns) :, side * (k % columns) :][:side, :side] for k in range(len(index["stickers"]))
    ]
    entries = index["stickers"]
    sets = {name: tuple(members) for name, members in index.get("sets", {}).items()}
    return Atlas(np.stack(tiles), tuple(one["name"] for one in entries), tuple(one["group"] for one in entries), sets)


def groups() -> tuple[str, ...]:
    """Names for "stickers:GROUP"."""
    return (*dict.fromkeys(atlas().groups), *atlas().sets)


def stickers(size: int, group: str = "", limit: int = PICTURES_MOST) -> Found:
    """Every thing many times: on each background, a little turned, moved and scaled; the same pictures every time."""
    found = atlas()
    chosen = found.members(group)
    each = max(10, WANTED // len(chosen))
    if limit < len(chosen):  # for a look at them
        chosen, each = chosen[:: len(chosen) // limit][:limit], 1
    rng = np.random.default_rng(20_261_121)
    drawn = [
        _placed(found.stickers[k], BACKGROUNDS[(n + label) % len(BACKGROUNDS)], size, rng)
        for label, k in enumerate(chosen)
        for n in range(each)
    ]
    labels = np.repeat(np.arange(len(chosen), dtype=np.int64), each)
    return Found(np.stack(drawn), labels, tuple(found.names[k] for k in chosen))


def _placed(sticker: Pixels, background: tuple[int, int, int], size: int, rng: np.random.Generator) -> Pixels:
    """The sticker (64, 64, 4) on a plain colour, drawn at twice the size and averaged down."""
    side, fine = sticker.shape[0], 2 * size
    matrix = cv2.getRotationMatrix2D(
        ((side - 1) / 2, (side - 1) / 2), float(rng.uniform(-8, 8)), float(rng.uniform(0.82, 0.92)) * fine / side
    )
    matrix[:, 2] += (fine - side) / 2 + rng.uniform(-0.03, 0.03, 2) * fine
    # Premultiplied, so that no dark seam appears where the sticker ends.
    alpha = sticker[..., 3:].astype(np.float32) / 255
    cut = np.concatenate([sticker[..., :3] * alpha, alpha], axis=2)
    moved = cv2.warpAffine(cut, matrix, (fine, fine), flags=cv2.INTER_LINEAR)
    laid = moved[..., :3] + (1 - moved[..., 3:]) * np.asarray(background, np.float32)
    return np.clip(cv2.resize(laid, (size, size), interpolation=cv2.INTER_AREA).round(), 0, 255).astype(np.uint8)


# ── digits ───────────────────────────────────────────────────────────────────


def digits(size: int) -> Found:
    """scikit-learn's 1,797 handwritten digits (8 × 8, 16 greys), enlarged smoothly, white on black."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise NotFound("scikit-learn, which has the digits, is not installed.", "Run `make setup`.")
    # The file that load_digits reads; importing the library for it would take seconds.
    rows = np.loadtxt(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    grey = [
        np.clip(cv2.resize(np.float32(one) * (255 / 16), (size, size), interpolation=cv2.INTER_CUBIC), 0, 255)
        for one in rows[:, :-1].reshape(-1, 8, 8)
    ]
    pictures = np.repeat(np.stack(grey).round().astype(np.uint8)[..., None], 3, axis=3)
    return Found(pictures, rows[:, -1].astype(np.int64), tuple("0123456789"))


# ── the user's own ───────────────────────────────────────────────────────────


def library(size: int, home: Path, owner: str | None = None, limit: int = PICTURES_MOST) -> Found:
    """All pictures and cut-outs of the studio's library, newest first."""
    from studio.library import Library  # a training on stickers runs where the studio is not installed

    found = [
        (f"{asset.name or asset.id[:8]}", asset.path.read_bytes()) for asset in Library(home).pictures(owner, limit)
    ]
    return _decoded(((name, "library", data) for name, data in found), size)


def folder(path: Path, size: int, limit: int = PICTURES_MOST) -> Found:
    """Every picture under a folder; with two or more sub-folders that hold pictures, they are the classes."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
    names = [file.relative_to(path) for file in files[:limit]]
    return _decoded(((str(name), _class_of(name.parts), (path / name).read_bytes()) for name in names), size)


def archive(
    path: Path,
    size: int,
    limit: int = PICTURES_MOST,
    *,
    most_pixels: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Found:
    """The same of a zip. Nothing is written to disk, so no name in it can lead anywhere.

    Args:
        most_pixels: that all pictures together may have, by their heads; None: any number.
        check: called before each picture; what it raises ends the reading.

    Raises UnsafeFile where it would unpack to more than ZIP_BYTES or `most_pixels`, NotFound where there is no zip.
    """
    try:
        with zipfile.ZipFile(path) as zipped:
            entries = [one for one in zipped.infolist() if _is_picture(one)]
            if most_pixels is not None and _pixels(zipped, entries[:limit], most_pixels, check) > most_pixels:
                raise UnsafeFile(
                    f"The pictures have more than {most_pixels // 10**6:,} megapixels together.",
                    "Choose fewer, or scale them down.",
                )
            total = sum(one.file_size for one in entries)
            if total > ZIP_BYTES:
                raise UnsafeFile(
                    f"The zip unpacks to {total / 2**30:.1f} GB; {ZIP_BYTES >> 30} GB is the most.", "Make it smaller."
                )
            return _decoded(_entries(zipped, entries[:limit]), size, check)
    except FileNotFoundError as error:
        raise NotFound("The pictures of this training are no longer here.", "Choose them again.") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise NotFound(f"{path.name} is not a zip that can be opened: {error}.", "Choose a zip of pictures.") from error


def _is_picture(entry: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(entry.filename)
    return not entry.is_dir() and name.suffix.lower() in ENDINGS and "__MACOSX" not in name.parts


def _pixels(zipped: zipfile.ZipFile, entries: list[zipfile.ZipInfo], most: int, check: Callable[[], None]) -> int:
    """Pixels of all pictures by their heads; not counted on once there are more than `most`."""
    total = 0
    for entry in entries:
        check()
        with suppress(*_UNREADABLE), zipped.open(entry) as file:
            total += border.pixels_of(file.read(HEAD_BYTES))
        if total > most:
            break
    return total


def _entries(zipped: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> Iterator[tuple[str, str, bytes]]:
    for entry in sorted(entries, key=lambda one: one.filename):
        data = b""
        if entry.file_size <= border.MAX_BYTES:  # what is larger is refused by the border, without being unpacked
            try:
                with zipped.open(entry) as file:
                    data = file.read(border.MAX_BYTES + 1)  # the header may lie about the size
            except _UNREADABLE:
                data = b""
        yield entry.filename, _class_of(PurePosixPath(entry.filename).parts), data


def _class_of(parts: tuple[str, ...]) -> str:
    return parts[-2] if len(parts) > 1 else "pictures"


def _decoded(files: Iterator[tuple[str, str, bytes]], size: int, check: Callable[[], None] = lambda: None) -> Found:
    """(name, class, bytes) of each file, through the border that all pictures cross, as squares."""
    found: list[Pixels] = []
    classes: list[str] = []
    broken: list[str] = []
    for name, label, data in files:
        check()
        try:
            found.append(square(border.decode(data), size))
            classes.append(label)
        except InvalidImage as error:
            broken.append(f"{name}: {error.message}")
    names = tuple(sorted(set(classes)))
    labels = np.array([names.index(label) for label in classes], dtype=np.int64)
    shape = (0, size, size, 3)
    return Found(np.stack(found) if found else np.zeros(shape, np.uint8), labels, names, tuple(broken))


def square(picture: Pixels, size: int) -> Pixels:
    """The middle square of RGB (H, W, 3), as (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    cut = np.ascontiguousarray(picture[y : y + side, x : x + side])
    way = cv2.INTER_AREA if side >= size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(cut, (size, size), interpolation=way), dtype=np.uint8)


def _needed(home: Path | None, source: str) -> Path:
    if home is None:
        raise InvalidTask(f"The source {source!r} belongs to a studio's home.", "Give the home's folder.")
    return home
