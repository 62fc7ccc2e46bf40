import contextlib
import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from studio.errors import InvalidImage
from studio.ops import pictures

RGB = np.array([[[200, 10, 30]] * 40] * 30, np.uint8)  # 40 wide, 30 high


def save(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A valid PNG of that size in a few kB: rows of zeros compress a thousandfold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = b"\0" * (width // 8 + 2)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"hello, I am a text file named .png", "not a picture"),
        (b"\x89PNG\r\n\x1a\n", "not a picture"),
        (save(Image.fromarray(RGB))[:60], "cut short"),
        (save(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")[:700], "cut short"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "not a picture"),
        (bomb(12_000, 12_000), "12000 × 12000"),
        (bomb(20_000, 20_000), "pixels"),
        (save(Image.new("1", (1, 20_000))), "1 × 20000"),
        (b"\0" * (pictures.MAX_BYTES + 1), "MB"),
    ],
    ids=["empty", "text", "signature only", "cut png", "cut jpeg", "svg", "bomb", "big bomb", "1x20000", "huge file"],
)
def test_what_is_no_picture_is_refused_with_a_way_out(data, word):
    before = time.perf_counter()
    with pytest.raises(InvalidImage, match=word) as caught:
        pictures.decode(data)
    assert caught.value.hint
    assert time.perf_counter() - before < 2


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90° clockwise to view
    assert pictures.decode(save(Image.fromarray(RGB), "JPEG", exif=exif)).shape == (40, 30, 3)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA", "I;16", "I", "F", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    grey = Image.new("L", (8, 5), 255)
    sixteen = Image.fromarray(np.full((5, 8), 65535, np.uint16))
    source = {"I;16": sixteen, "I": sixteen.convert("I")}.get(mode) or grey.convert("RGB").convert(mode)
    container = {"CMYK": "JPEG", "YCbCr": "JPEG", "F": None}.get(mode, "PNG")
    if container is None:
        pytest.skip("no allowed container holds float pixels")
    picture = pictures.decode(save(source, container))
    assert picture.dtype == np.uint8
    assert picture.shape == (5, 8, 3)
    assert picture.min() > 250


def test_transparent_is_white():
    assert (pictures.decode(save(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))) == 255).all()


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    data = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pictures.decode(data)[0, 0].tolist() == [255, 0, 0]


def test_one_pixel_is_a_picture():
    assert pictures.decode(save(Image.new("RGB", (1, 1), "blue"))).tolist() == [[[0, 0, 255]]]


def test_content_decides_not_the_name():
    assert pictures.decode(save(Image.fromarray(RGB), "WEBP", lossless=True)).shape == RGB.shape


def test_a_mask_is_alpha_or_lightness():
    alpha = np.zeros((4, 4, 4), np.uint8)
    alpha[1, 2, 3] = 255
    assert np.argwhere(pictures.decode_mask(save(Image.fromarray(alpha)))).tolist() == [[1, 2]]
    assert pictures.decode_mask(save(Image.new("L", (4, 4), 200))).all()


def test_png_keeps_pixels_and_text():
    data = pictures.encode_png(RGB, {"parameters": "ein Apfel\nSteps: 20, Größe: 1×2"})
    assert (pictures.decode(data) == RGB).all()
    assert pictures.read_text(data)["parameters"] == "ein Apfel\nSteps: 20, Größe: 1×2"
    assert pictures.read_text(b"no picture") == {}


def test_texts_are_read_without_pixels_and_within_bounds(monkeypatch):
    data = pictures.encode_png(RGB, {"parameters": "word " * 100_000})
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("pixels were decoded"))
    assert len(pictures.read_text(data)["parameters"]) == pictures.MAX_TEXT


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 400), st.binary(min_size=1, max_size=6))
def test_flipped_bytes_never_escape_as_another_error(position, noise):
    data = bytearray(save(Image.effect_noise((24, 24), 80)))
    data[position : position + len(noise)] = noise
    with contextlib.suppress(InvalidImage):
        assert pictures.decode(bytes(data)).ndim == 3


def test_a_mask_takes_a_bit_a_pixel_and_comes_back():
    mask = np.random.default_rng(0).random((100, 200)) > 0.5  # noise cannot be packed further
    data = pictures.encode_png(mask)
    assert len(data) < 1.2 * mask.size / 8
    assert np.array_equal(pictures.decode_mask(data), mask)


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ((8160, 6120), (4080, 3060)),
        ((6120, 8160), (3060, 4080)),
        ((5000, 5000), (5000, 5000)),
        ((12_000, 100), (6000, 50)),
    ],
)
def test_the_picture_of_a_phone_is_scaled_down_instead_of_refused(size, found):
    data = save(Image.new("RGB", size, (200, 40, 30)), "JPEG")
    picture = pictures.decode(data)
    assert picture.shape[1::-1] == found
    assert abs(picture[0, 0].astype(int) - [200, 40, 30]).max() <= 3


def test_a_large_phone_picture_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert pictures.decode(save(Image.new("L", (8160, 6120)), "JPEG", exif=exif)).shape == (4080, 3060, 3)
