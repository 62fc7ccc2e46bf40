"""Results as files and as new pictures."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from apps import files, routes
from studio.config import Config
from studio.engines.base import Result
from studio.errors import InvalidTask, NotFound
from studio.exports import File
from studio.library import Artifact
from studio.studio import Studio
from studio.tasks import make_task
from tests.fakes import DEVICE


@pytest.fixture
def studio(config: Config) -> Iterator[Studio]:
    made = Studio(config, DEVICE)
    yield made
    made.close()


@pytest.fixture
def client(studio: Studio) -> TestClient:
    app = FastAPI()
    routes.add_handlers(app)
    app.include_router(routes.router(studio))
    return TestClient(app)


def scene(studio: Studio, name: str = "two dogs.jpg") -> str:
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[10:30, 20:50] = 200
    return studio.library.add_image(pixels, name).id


def square(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def segmented(studio: Studio, *masks: np.ndarray, everything: bool = True) -> Artifact:
    task = make_task("segment", {"image": scene(studio), "everything": everything})
    data = {
        "width": 80, "height": 60, "scores": [0.9 - 0.1 * k for k in range(len(masks))],
        "areas": [int(mask.sum()) for mask in masks], "boxes": [[0, 0, 1, 1]] * len(masks), "seconds": {},
    }  # fmt: skip
    return studio.library.add(task, "classic-grabcut", "", Result(masks=masks, data=data), kept=False)


def test_one_file_stays_itself_and_several_become_a_zip() -> None:
    assert files.bundle([File(".json", b"{}")], "dogs-coco") == ("dogs-coco.json", b"{}")
    name, data = files.bundle([File(".png", b"1"), File(".png", b"2")], "dogs")
    assert name == "dogs.zip"
    assert zipfile.ZipFile(io.BytesIO(data)).namelist() == ["dogs-1.png", "dogs-2.png"]


def test_a_crop_is_clipped_to_the_picture(studio: Studio) -> None:
    asset = files.crop(studio, scene(studio), "60.4,-5,200,20.2")
    assert (asset.width, asset.height) == (20, 21)
    for wrong in ("1,2,3", "a,b,c,d", "nan,0,1,1", "70,50,10,10", "100,100,120,120"):
        with pytest.raises(InvalidTask):
            files.crop(studio, scene(studio), wrong)


def test_a_cut_out_needs_the_mask_of_its_picture(studio: Studio) -> None:
    mask = studio.library.add_mask(np.ones((5, 5), bool)).id
    with pytest.raises(InvalidTask, match="another picture"):
        files.cut_out(studio, scene(studio), mask, 0, crop=True)


def test_the_map_of_segments_names_each_pixel_with_small_ones_on_top(studio: Studio) -> None:
    artifact = segmented(studio, square(10, 10, 70, 50), square(20, 20, 30, 30))
    numbers = np.asarray(Image.open(io.BytesIO(files.segment_map(studio, artifact))))
    assert numbers[15, 15].tolist() == [1, 0, 0]
    assert numbers[25, 25].tolist() == [2, 0, 0]
    assert numbers[0, 0].tolist() == [0, 0, 0]


def test_a_result_without_segments_has_no_map(studio: Studio) -> None:
    with pytest.raises(NotFound):
        files.segment_map(studio, segmented(studio))


def test_a_kept_cut_out_is_in_the_library_and_exports_by_its_transparency(studio: Studio) -> None:
    artifact = segmented(studio, square(20, 10, 50, 30))
    kept = files.keep_cut_out(studio, artifact, artifact.outputs[0].id, 0.0)
    assert [found.id for found in studio.library.list()] == [kept.id]
    assert (kept.outputs[0].width, kept.outputs[0].height) == (30, 20)


def test_downloads_have_safe_names_and_are_attachments(client: TestClient, studio: Studio) -> None:
    picture = studio.library.add_image(np.zeros((8, 8, 3), np.uint8), 'hä"ß\r\n/../x.jpg').id
    mask = studio.library.add_mask(np.ones((8, 8), bool)).id
    answer = client.get(f"/face/cut/{picture}/{mask}/polygons")
    header = answer.headers["content-disposition"]
    assert answer.status_code == 200
    assert header.startswith("attachment")
    assert "\r" not in header
    assert ".." not in header.split("filename=")[1].split(";")[0]
    assert json.loads(answer.content)["width"] == 8


@pytest.mark.parametrize("format", ["mask", "cut-out", "cropped", "polygons", "coco"])
def test_every_format_of_a_cut_out_downloads(client: TestClient, studio: Studio, format: str) -> None:
    artifact = segmented(studio, square(20, 10, 50, 30))
    path = f"/face/cut/{artifact.parents[0].id}/{artifact.outputs[0].id}/{format}?feather=3&score=0.9"
    assert client.get(path).status_code == 200


def test_exporting_all_segments_and_keeping(client: TestClient, studio: Studio) -> None:
    artifact = segmented(studio, square(10, 10, 70, 50), square(20, 20, 30, 30))
    answer = client.get(f"/face/export/{artifact.id}/coco")
    assert len(answer.json()["annotations"]) == 2
    assert studio.library.list() == []
    assert client.post(f"/face/keep/{artifact.id}").status_code == 200
    assert [found.id for found in studio.library.list()] == [artifact.id]


def test_an_output_chosen_a_thousand_times_is_written_once(client: TestClient, studio: Studio) -> None:
    artifact = segmented(studio, square(10, 10, 70, 50), square(20, 20, 30, 30))
    answer = client.get(f"/face/export/{artifact.id}/mask", params={"chosen": ",".join(["0"] * 1000)})
    once = client.get(f"/face/export/{artifact.id}/mask", params={"chosen": "0"})
    assert answer.content == once.content


@pytest.mark.parametrize(
    "path", ["/face/export/nothing/coco", "/face/example/..%2Fapp.py", "/face/example/none.jpg", "/face/segments/x.png"]
)
def test_what_is_not_there_says_so(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "message" in answer.json() or answer.json()["detail"]


def test_an_unknown_format_is_refused_with_what_there_is(client: TestClient, studio: Studio) -> None:
    artifact = segmented(studio, square(10, 10, 70, 50))
    answer = client.get(f"/face/export/{artifact.id}/docx")
    assert answer.status_code == 400
    assert "coco" in answer.json()["hint"]


def test_examples_are_pictures_with_readable_labels(tmp_path: Path) -> None:
    for name in ("two-dogs.jpg", "sticker-park.png", "make.py", "LICENSES.md"):
        (tmp_path / name).write_bytes(b"")
    found = files.examples(tmp_path)
    assert [path.name for path in found] == ["sticker-park.png", "two-dogs.jpg"]
    assert files.offers(found)[1] == {"label": "Two dogs", "image": "face/example/two-dogs.jpg"}
    assert files.examples(tmp_path / "nowhere") == []
