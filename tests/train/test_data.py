import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from studio.errors import Cancelled, InvalidTask, NotFound, UnsafeFile
from studio.library import Library
from studio.train import augment, data, sources


def png(colour=(200, 30, 30), size=(40, 30), mode="RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of mixed sizes and modes in two classes, one broken file, one text."""
    for k in range(10):
        place = tmp_path / "mine" / ("cats" if k % 2 else "dogs")
        place.mkdir(parents=True, exist_ok=True)
        mode = ("RGB", "L", "P", "RGBA", "LA")[k % 5]
        (place / f"{k}.png").write_bytes(png((20 * k, 99, 7), (30 + k, 20 + 3 * k), mode))
    (tmp_path / "mine" / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "mine" / "notes.txt").write_text("not a picture")
    return tmp_path / "mine"


def zipped(folder, names=None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.writestr((names or {}).get(file.name, file.relative_to(folder).as_posix()), file.read_bytes())
    return buffer.getvalue()


def test_stickers_are_the_same_every_time_and_split_by_the_seed():
    first, again, other = (data.load("stickers:nature", 16, seed) for seed in (3, 3, 4))
    assert first.key == again.key != other.key
    assert np.array_equal(first.pictures, other.pictures)
    assert not np.array_equal(first.valid, other.valid)
    assert len(first.pictures) > 2000
    assert first.classes == len(first.names)
    assert sorted([*first.train, *first.valid]) == list(range(len(first.pictures)))
    assert first.pictures[:50].std(axis=0).mean() > 20, "they vary"


def test_digits_are_ten_classes_white_on_black():
    found = data.load("digits", 16)
    assert found.pictures.shape == (1797, 16, 16, 3)
    assert found.names == tuple("0123456789")
    assert found.pictures[:, 0, 0].max() < 60
    assert found.pictures.max() > 200


def test_a_folder_gives_squares_of_one_size_and_names_what_is_broken(folder):
    found = data.load(str(folder), 32)
    assert found.pictures.shape == (10, 32, 32, 3)
    assert found.names == ("cats", "dogs")
    assert [line.split(":")[0] for line in found.broken] == ["cats/broken.jpg"]


def test_a_zip_gives_the_same_as_its_folder(folder, tmp_path):
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped(folder))
    assert data.load(str(path), 32).key == data.load(str(folder), 32).key


def test_names_in_a_zip_lead_nowhere(folder, tmp_path):
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped(folder, {"0.png": "../../../outside.png", "1.png": "/etc/outside.png"}))
    before = sorted(tmp_path.rglob("*"))
    assert len(data.load(str(path), 16).pictures) == 10
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_that_unpacks_to_too_much_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ZIP_BYTES", 100)
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped(folder))
    with pytest.raises(UnsafeFile):
        data.load(str(path), 16)


def test_a_small_zip_of_huge_pictures_is_refused_before_one_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(8):
            archive.writestr(f"{k}.png", png((0, 0, 0), (2000, 2000), "L"))
    monkeypatch.setattr(sources.border, "decode", lambda data: pytest.fail("a picture was decoded"))
    with pytest.raises(UnsafeFile, match="megapixels"):
        sources.archive(path, 16, most_pixels=20_000_000)


def test_reading_a_zip_can_be_ended_between_two_pictures(folder, tmp_path):
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped(folder))
    looks = []

    def check():
        looks.append(1)
        if len(looks) > 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        sources.archive(path, 16, check=check)


@pytest.mark.parametrize("share", [r"\\elsewhere\share", "//elsewhere/share", "a\0b"])
def test_a_network_share_is_never_looked_at(share, monkeypatch):
    monkeypatch.setattr(sources.Path, "is_dir", lambda self: pytest.fail("the path was touched"))
    with pytest.raises(InvalidTask):
        sources.read(share, 16)


def test_what_is_no_zip_is_said(tmp_path):
    path = tmp_path / "mine.zip"
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(NotFound, match="not a zip"):
        data.load(str(path), 16)


@pytest.mark.parametrize(("count", "words"), [(0, "0 pictures"), (1, "1 picture "), (3, "3 pictures")])
def test_too_few_pictures_say_how_many_are_needed(tmp_path, count, words):
    for k in range(count):
        (tmp_path / f"{k}.png").write_bytes(png())
    with pytest.raises(data.TooFew, match=words) as caught:
        data.load(str(tmp_path), 16)
    assert f"at least {data.FEWEST}" in caught.value.message


def test_a_class_with_one_example_is_a_class(folder):
    lone = folder / "lone"
    lone.mkdir()
    (lone / "one.png").write_bytes(png())
    found = data.load(str(folder), 16)
    assert found.names == ("cats", "dogs", "lone")
    assert (found.labels == 2).sum() == 1


def test_the_library_gives_its_pictures_and_no_masks(tmp_path):
    library = Library(tmp_path)
    for k in range(9):
        library.add_image(png((k * 20, 5, 5)))
    library.add_mask(np.eye(20, dtype=bool))
    assert len(data.load("library", 16, home=tmp_path).pictures) == 9
    with pytest.raises(data.TooFew):
        data.load("library", 16, home=tmp_path, owner="another")


def test_an_upload_is_found_by_its_id_only(tmp_path, folder):
    path = sources.upload_path(tmp_path, "abc123")
    path.parent.mkdir()
    path.write_bytes(zipped(folder))
    assert len(data.load("upload:abc123", 16, home=tmp_path).pictures) == 10
    with pytest.raises(InvalidTask):
        data.load("upload:../../secret", 16, home=tmp_path)


def test_what_is_not_there_is_said():
    with pytest.raises(NotFound, match="no pictures at"):
        data.load("/nowhere/at/all", 16)
    with pytest.raises(InvalidTask, match="no stickers"):
        data.load("stickers:cars-that-fly", 16)


def test_batches_are_in_minus_one_to_one_and_drawn_by_the_generator():
    found = data.load("stickers:food", 16)
    pictures, labels = found.draw(8, torch.Generator().manual_seed(1), ("flip", "mixup"))
    again, _ = found.draw(8, torch.Generator().manual_seed(1), ("flip", "mixup"))
    assert pictures.shape == (8, 3, 16, 16)
    assert labels.dtype == torch.int64
    assert -1 <= float(pictures.min()) < float(pictures.max()) <= 1
    assert torch.equal(pictures, again)
    whole = found.batch([0])
    assert np.array_equal(((whole[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), found.pictures[0])


@pytest.mark.parametrize("name", [*augment.CHANGES, "mixup"])
def test_every_augmentation_changes_pictures_and_keeps_their_shape(name):
    found = data.load("stickers:nature", 16)
    pictures = found.pictures[::100]
    changed = augment.augmented(pictures, (name,), np.random.default_rng(0))
    assert changed.shape == pictures.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, pictures)
    assert np.array_equal(changed, augment.augmented(pictures, (name,), np.random.default_rng(0)))


def test_the_preview_begins_each_row_with_the_picture_itself():
    found = data.load("digits", 16)
    grid = augment.preview(found.pictures[:3], ("rotate",), columns=5)
    assert grid.shape == (48, 80, 3)
    assert np.array_equal(grid[:16, :16], found.pictures[0])
    with pytest.raises(InvalidTask, match="no augmentation"):
        augment.preview(found.pictures[:3], ("explode",))
