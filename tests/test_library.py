import errno
import os
import time
from contextlib import contextmanager

import numpy as np
import pytest

from studio import files
from studio.engines.base import Result
from studio.errors import DiskFull, InvalidImage, NotFound, QueueFull
from studio.library import Library
from studio.limits import Limits
from studio.ops import pictures
from studio.tasks import Detect, Generate, Segment
from tests.fakes import FullDisk

RED = np.full((20, 30, 3), (200, 0, 0), np.uint8)
BLUE = np.full((20, 30, 3), (0, 0, 200), np.uint8)
HALF = np.arange(30)[None].repeat(20, 0) < 15


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path)


def generated(library, picture=RED, prompt="a red thing", **options):
    result = Result(images=(picture,), data={"infotext": [f"{prompt}\nSteps: 4"]})
    return library.add(Generate(prompt=prompt, seed=0), "starter", "abc", result, **options)


def test_the_same_picture_is_stored_once(library):
    first = library.add_image(pictures.encode_png(RED), "a.png")
    assert library.add_image(RED, "b.png").id == first.id
    assert (library.pixels(first.id) == RED).all()
    assert first.thumb.read_bytes()[8:12] == b"WEBP"


def test_a_mask_and_a_picture_of_the_same_pixels_are_two(library):
    mask = library.add_mask(HALF)
    assert mask.kind == "mask"
    assert (library.mask(mask.id) == HALF).all()


def test_a_generated_file_carries_its_settings(library):
    asset = generated(library).outputs[0]
    assert pictures.read_text(asset.path.read_bytes())["parameters"].startswith("a red thing")


def test_an_artifact_comes_back_as_it_went_in(library):
    artifact = generated(library)
    assert library.get(artifact.id) == artifact
    assert artifact.task == Generate(prompt="a red thing", seed=0)


def test_list_filters_by_kind_text_and_owner(library):
    picture = generated(library).outputs[0]
    found = Result(data={"labels": ["cat"], "scores": [0.9], "boxes": [[0, 0, 5, 5]]})
    library.add(Detect(image=picture.id), "yolo", "", found, owner="someone")
    generated(library, BLUE, "draft", kept=False)
    assert [a.task.kind for a in library.list()] == ["detect", "generate"]
    assert [a.task.kind for a in library.list(kind="generate")] == ["generate"]
    assert [a.card for a in library.list(text="cat")] == ["yolo"]
    assert library.list(text="100%") == []
    assert [a.owner for a in library.list(owner="local")] == ["local"]


def test_a_draft_is_listed_once_it_is_kept(library):
    draft = generated(library, kept=False)
    assert library.list() == []
    library.keep(draft.id)
    assert [a.id for a in library.list()] == [draft.id]


def test_drafts_go_with_time(library):
    draft = generated(library, kept=False)
    kept = generated(library, BLUE)
    library.tidy(draft.created + 100)
    with pytest.raises(NotFound):
        library.get(draft.id)
    assert library.get(kept.id)


def test_uploads_go_when_nobody_used_them(library):
    used, queued, unused = (library.add_image(np.full((4, 4, 3), shade, np.uint8)) for shade in (1, 2, 3))
    library.add(Detect(image=used.id), "yolo", "", Result(data={}))
    library.tidy(time.time() + 100, spared={queued.id})
    assert library.asset(used.id).path.is_file()
    assert library.asset(queued.id).path.is_file()
    assert not unused.path.exists()
    with pytest.raises(NotFound):
        library.asset(unused.id)


def test_a_picture_brought_in_again_is_new_again(library):
    picture = library.add_image(RED)
    middle = time.time()
    time.sleep(0.01)
    library.add_image(RED)
    library.tidy(middle)
    assert library.asset(picture.id).path.is_file()


def test_kept_results_go_only_where_asked(library):
    kept = generated(library)
    library.tidy(kept.created + 100, kept_before=kept.created - 100)
    assert library.get(kept.id)
    library.tidy(kept.created + 100, kept_before=kept.created + 100)
    with pytest.raises(NotFound):
        library.get(kept.id)
    assert not kept.outputs[0].path.exists()


def test_lineage_goes_back_to_what_was_brought_in(library):
    start = library.add_image(BLUE, "photo.jpg")
    result = Result(images=(RED,), data={})
    edited = library.add(Generate(prompt="redder", image=start.id, seed=1), "starter", "", result)
    cut = library.add(Segment(image=edited.outputs[0].id, points=((1, 1, 1),)), "sam", "", Result(masks=(HALF,)))
    ancestry = library.lineage(cut.id)
    ((parent, maker),) = ancestry.parents
    assert parent.id == edited.outputs[0].id
    assert maker.artifact.id == edited.id
    ((origin, nobody),) = maker.parents
    assert (origin.id, nobody) == (start.id, None)


def test_delete_takes_the_files_unless_something_else_uses_them(library):
    first = generated(library)
    picture = first.outputs[0]
    second = library.add(Detect(image=picture.id), "yolo", "", Result(data={}))
    library.delete(first.id)
    assert picture.path.exists()
    library.delete(second.id)
    library.delete(second.id)
    again = generated(library, BLUE)
    library.delete(again.id)
    assert not again.outputs[0].path.exists()


def test_a_full_disk_leaves_nothing_half_written(library, monkeypatch, tmp_path):
    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull, match="disk is full"):
            generated(library)
    assert not list(tmp_path.rglob("*.part"))
    assert library.list() == []
    assert generated(library).outputs


def test_bad_pictures_do_not_enter(library):
    with pytest.raises(InvalidImage):
        library.add_image(b"not a picture")


def test_two_apps_on_one_library(tmp_path):
    one, two = Library(tmp_path), Library(tmp_path)
    artifact = generated(one)
    assert two.get(artifact.id) == artifact


def test_two_owners_of_one_picture_each_have_a_name_of_their_own_for_it(library):
    asset = library.add_image(RED, "Anna's holiday.png", owner="anna")
    assert library.add_image(RED, "red.png", owner="ben").id == asset.id
    assert library.asset(asset.id, "anna").name == "Anna's holiday.png"
    assert library.asset(asset.id, "ben").name == "red.png"
    assert library.asset(asset.id, "carl").name == ""
    found = Result(data={"labels": [], "scores": [], "boxes": []})
    artifact = library.add(Detect(image=asset.id), "yolo", "", found, owner="ben")
    assert artifact.parents[0].name == "red.png"


def test_names_from_before_are_nobodys_but_the_one_who_lives_here(tmp_path):
    library = Library(tmp_path)
    asset = library.add_image(RED)
    made = generated(library, BLUE)
    with library._db.transaction() as db:  # as the version before kept it
        db.execute("DROP TABLE holding")
        db.execute("UPDATE asset SET name = 'mine.png' WHERE id = ?", (asset.id,))
        db.execute("PRAGMA user_version = 1")
    library = Library(tmp_path)
    assert library.asset(asset.id).name == "mine.png"
    assert library.asset(asset.id, "visitor").name == ""
    assert library.get(made.id).outputs[0].name == "generate"


def test_who_leaves_takes_along_what_nobody_else_has(library):
    shared, own = library.add_image(RED, owner="anna"), library.add_image(BLUE, owner="anna")
    library.add_image(RED, owner="ben")
    mask = library.add_mask(HALF, owner="anna")
    result = generated(library, np.full((20, 30, 3), (0, 200, 0), np.uint8), owner="anna")
    stays = generated(library, np.full((20, 30, 3), (9, 9, 9), np.uint8), owner="ben")
    library.leave("anna")
    assert library.asset(shared.id, "ben")
    for gone in (own, mask, result.outputs[0]):
        with pytest.raises(NotFound):
            library.asset(gone.id)
        assert not gone.path.exists()
        assert not gone.thumb.exists()
    assert [artifact.id for artifact in library.list()] == [stays.id]


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def test_an_owner_may_bring_in_so_many_and_so_much(tmp_path):
    library = Library(tmp_path, Limits(uploads_each=2, bytes_each=20_000, uploads=3))
    first, _ = (library.add_image(noise(seed), owner="anna") for seed in range(2))
    with pytest.raises(QueueFull, match="2 pictures"):
        library.add_image(noise(2), owner="anna")
    library.add_image(noise(0), owner="anna")  # what is there already
    library.add_image(noise(3))  # an example of the studio's own
    with pytest.raises(QueueFull, match="as many"):
        library.add_image(noise(4), owner="carl")
    assert len(list((tmp_path / "assets").glob("*/*.png"))) == 3  # the refused left no files
    library.leave("anna")
    library.add_image(noise(4), owner="carl")
    large = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    with pytest.raises(QueueFull):
        library.add_image(large, owner="dora")
    assert not first.path.exists()


def test_masks_that_are_refined_again_and_again_use_up_no_share(tmp_path):
    library = Library(tmp_path, Limits(uploads_each=1, uploads=1))
    library.add_image(noise(0), owner="anna")
    for width in range(1, 8):
        library.add_mask(np.arange(64).reshape(8, 8) < width, owner="anna")


def test_room_is_left_on_the_disk(tmp_path):
    library = Library(tmp_path, Limits(floor=2**60))
    with pytest.raises(DiskFull, match="stay free"):
        library.add_image(RED)
    assert not list(tmp_path.glob("assets/*/*"))


def test_nothing_is_half_there_when_the_disk_is_full(library, tmp_path, monkeypatch):
    disk = FullDisk(monkeypatch)
    disk.fill()
    with pytest.raises(DiskFull):
        library.add_image(RED)
    with pytest.raises(DiskFull):
        generated(library)
    disk.free()
    assert not list(tmp_path.glob("assets/*/*"))
    assert generated(library).outputs[0].path.exists()


def test_a_result_whose_picture_has_gone_meanwhile_is_kept_nevertheless(library):
    picture = library.add_image(RED, owner="anna")
    library.leave("anna")
    found = Result(data={"labels": [], "scores": [], "boxes": []})
    assert library.add(Detect(image=picture.id), "yolo", "", found).parents == ()


def test_files_are_on_the_disk_before_the_rows_that_name_them(library, monkeypatch):
    order = []
    write, transaction = files.write, library._db.transaction

    @contextmanager
    def watched():
        with transaction() as db:
            yield db
        order.append("commit")

    monkeypatch.setattr(files, "write", lambda path, data: (order.append(path.suffix), write(path, data)))
    monkeypatch.setattr(library._db, "transaction", watched)
    library.add_image(RED)
    assert order == [".png", ".webp", "commit"]
