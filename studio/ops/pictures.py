"""The one border that pictures cross: bytes of any origin in, RGB uint8 (H, W, 3) out, or InvalidImage.

Decided by content, never by name. Limits are checked on the header, before a pixel is decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

from studio.errors import InvalidImage

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_BYTES = 40 * 2**20
MAX_PIXELS = 25_000_000
MAX_SIDE = 10_000
MAX_TEXT = 20_000  # letters of one text chunk
MAX_TEXTS = 32

_CHOOSE = "Choose a PNG, JPEG, WebP, GIF or BMP picture."
# What Pillow and the codecs beneath it raise on broken or hostile files.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    Image.DecompressionBombError,
)


def decode(data: bytes) -> NDArray[np.uint8]:
    """First frame of the file as RGB uint8 (H, W, 3): EXIF orientation applied, transparency laid on white.

    A JPEG larger than the limits comes scaled down to a half, a quarter or an eighth.

    Raises:
        InvalidImage: not a picture, truncated, or larger than the limits above.
    """
    image = _load(data)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))


def decode_mask(data: bytes) -> NDArray[np.bool_]:
    """The file as a mask (H, W): where it is opaque if it has transparency, else where it is lighter than mid grey."""
    image = _load(data)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            return alpha > 127
    return np.asarray(image.convert("L")) > 127


def pixels_of(head: bytes) -> int:
    """Width × height by the beginning of a file; 0 where it does not say."""
    try:
        with Image.open(io.BytesIO(head), formats=FORMATS) as image:
            return image.width * image.height
    except _BROKEN:
        return 0


def read_text(data: bytes) -> dict[str, str]:
    """Text chunks of a PNG ("parameters" is where generators keep their settings), MAX_TEXT letters of each at most;
    empty for anything else. No pixel is decoded, so what stands behind them is not read.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            texts = {key: value for key, value in image.info.items() if isinstance(value, str)}
    except _BROKEN:
        return {}
    return {str(key)[:80]: str(value)[:MAX_TEXT] for key, value in list(texts.items())[:MAX_TEXTS]}


def encode_png(picture: NDArray[np.generic], text: Mapping[str, str] | None = None) -> bytes:
    """PNG bytes of uint8 (H, W, 3), uint8 (H, W, 4) or bool (H, W), with text chunks.

    A mask takes one bit a pixel, which is packed in a third of the time: a click makes three.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()


def thumbnail(picture: NDArray[np.generic], side: int = 320) -> bytes:
    """WebP bytes, longer side at most `side` px."""
    pixels = picture.astype(np.uint8) * 255 if picture.dtype == np.bool_ else picture
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=2)
    return buffer.getvalue()


def _load(data: bytes) -> Image.Image:
    if not data:
        raise InvalidImage("The file is empty.", _CHOOSE)
    if len(data) > MAX_BYTES:
        raise InvalidImage(
            f"The file has {len(data) / 2**20:.0f} MB; {MAX_BYTES >> 20} MB is the most.", "Scale it down."
        )
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InvalidImage("The picture opens to far more pixels than fit.", "Scale it down and try again.") from error
    except _BROKEN as error:
        raise InvalidImage("This file is not a picture the studio can read.", _CHOOSE) from error
    _shrink(image)
    _check_size(*image.size)
    try:
        image.seek(0)
        image.load()
        image = ImageOps.exif_transpose(image)
    except _BROKEN as error:
        raise InvalidImage("The picture is cut short or damaged.", "Save or download it again.") from error
    return _to_8_bit(image)


def _shrink(image: Image.Image) -> None:
    """Has a JPEG that is too large (phones make 50 megapixels) decoded at a half, a quarter or an eighth of its size,
    for which its decoder needs no more memory than the small picture."""
    if image.format == "JPEG":
        scale = next((n for n in (1, 2, 4) if _fits(*(-(-side // n) for side in image.size))), 8)
        image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))


def _fits(width: int, height: int) -> bool:
    return width * height <= MAX_PIXELS and max(width, height) <= MAX_SIDE


def _check_size(width: int, height: int) -> None:
    if not _fits(width, height):
        raise InvalidImage(
            f"The picture is {width} × {height} px, which is more than the studio opens.",
            f"Scale it down to at most {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE} px a side.",
        )


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit greys to 8 bit by their range; everything else unchanged (Pillow reads 16-bit RGB as 8 bit itself)."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, dtype=np.float64)
    top = 65535.0 if values.max(initial=0) > 255 else 255.0
    return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8))
