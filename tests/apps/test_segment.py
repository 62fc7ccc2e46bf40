"""The Segment tab's functions, without a page."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from apps import segment
from apps.segment import Refine
from studio.config import Config
from studio.engines.base import Result
from studio.errors import InvalidTask
from studio.library import Artifact
from studio.studio import Studio
from studio.tasks import make_task
from tests.fakes import DEVICE

OWN = (16, 64, 100, 9)
IMAGE = "a" * 64


@pytest.fixture
def studio(config: Config) -> Iterator[Studio]:
    made = Studio(config, DEVICE)
    yield made
    made.close()


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[0:60, 0:80]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def result(studio: Studio, *masks: np.ndarray, **fields: object) -> Artifact:
    image = studio.library.add_image(np.zeros((60, 80, 3), np.uint8), "cup.jpg")
    task = make_task("segment", {"image": image.id, **(fields or {"points": ((40, 30, 1),)})})
    data = {
        "width": 80, "height": 60, "scores": [0.9 - 0.1 * k for k in range(len(masks))],
        "areas": [int(mask.sum()) for mask in masks], "boxes": [], "seconds": {},
    }  # fmt: skip
    return studio.library.add(task, "classic-grabcut", "", Result(masks=masks, data=data), kept=False)


def test_each_model_shows_its_own_settings_and_ways_to_mark(studio: Studio) -> None:
    marks, *settings = segment.adapted(studio, "classic-grabcut")
    assert marks == {"modes": ["click", "box"]}
    assert [setting["visible"] for setting in settings] == [False, False, False, True]
    assert segment.modes(studio, "a-sam-model") == ("click", "box", "all")


def test_marks_become_a_task_with_the_settings_the_model_knows(studio: Studio) -> None:
    marked = {"mode": "click", "points": [[1.5, 2, 1], [3, 4, 0]], "box": [0, 0, 9, 9]}
    fields = segment.task_fields(studio, "classic-grabcut", IMAGE, marked, OWN)
    task = make_task("segment", fields)
    assert task.points == ((1.5, 2, 1), (3, 4, 0))
    assert task.box == (0, 0, 9, 9)
    assert "brush" in fields
    assert "scale" not in fields


def test_everything_leaves_the_marks_aside(studio: Studio) -> None:
    marked = {"mode": "all", "points": [[1, 2, 1]], "box": None}
    fields = segment.task_fields(studio, "sam", IMAGE, marked, OWN)
    assert fields["everything"] is True
    assert "points" not in fields


@pytest.mark.parametrize(("image", "marked"), [(None, {"points": [[1, 1, 1]]}), (IMAGE, {}), (IMAGE, None)])
def test_nothing_to_go_by_says_what_to_do(studio: Studio, image: str | None, marked: object) -> None:
    with pytest.raises(InvalidTask) as caught:
        segment.task_fields(studio, "sam", image, marked, OWN)
    assert caught.value.hint


def test_a_newer_click_takes_the_place_of_one_that_waits(studio: Studio) -> None:
    image = studio.library.add_image(np.zeros((60, 80, 3), np.uint8))
    first = segment.draft(studio, "me", "classic-grabcut", {"image": image.id, "box": (1, 1, 9, 9)})
    second = segment.draft(studio, "me", "classic-grabcut", {"image": image.id, "box": (1, 1, 30, 30)})
    assert studio.jobs.get(first.id).state == "cancelled"
    assert studio.jobs.get(second.id).state == "queued"
    assert not second.kept


def test_the_chosen_mask_is_what_the_actions_are_about(studio: Studio) -> None:
    artifact = result(studio, disc(40, 30, 10), disc(40, 30, 20), disc(40, 30, 5))
    shown = segment.shown(studio, artifact, (1,))
    assert shown["subject"]["id"] == artifact.outputs[1].id
    assert shown["pictures"][0]["id"] == artifact.parents[0].id
    assert [one["score"] for one in shown["choices"]] == pytest.approx([0.9, 0.8, 0.7])
    assert shown["kept"] is False
    assert shown["marks"]["points"] == [[40, 30, 1]]


def test_repainting_sends_the_mask_and_its_picture_together(studio: Studio) -> None:
    artifact = result(studio, disc(40, 30, 10))
    first = segment.shown(studio, artifact, (0,))["sends"][0]
    assert first["parcels"] == [
        {"asset": artifact.outputs[0].id, "to": "mask"},
        {"asset": artifact.parents[0].id, "to": "start"},
    ]


def test_files_are_of_the_mask_as_it_is_refined(studio: Studio) -> None:
    artifact = result(studio, disc(40, 30, 10))
    shown = segment.shown(studio, artifact, (0,), Refine(grow=4, feather=2))
    assert shown["subject"]["id"] != artifact.outputs[0].id
    assert studio.library.mask(shown["subject"]["id"]).sum() > artifact.data["areas"][0]
    assert all(shown["subject"]["id"] in item["path"] and "feather=2" in item["path"] for item in shown["exports"])


def test_refining_fills_holes_and_drops_specks(studio: Studio) -> None:
    mask = disc(40, 30, 15) & ~disc(40, 30, 4) | disc(5, 5, 1)
    artifact = result(studio, mask)
    made = segment.mask_of(studio, artifact, (0,), Refine(holes=True, specks=20))
    assert made is not None
    assert np.array_equal(studio.library.mask(made.id), disc(40, 30, 15))


def test_shrinking_all_away_says_so_and_keeps_the_result(studio: Studio) -> None:
    shown = segment.shown(studio, result(studio, disc(40, 30, 5)), (0,), Refine(grow=-30))
    assert shown["subject"] is None
    assert shown["exports"] == []
    assert "nothing of the mask is left" in shown["notes"][0]


def test_of_everything_several_segments_become_one_mask(studio: Studio) -> None:
    artifact = result(studio, disc(20, 30, 10), disc(60, 30, 10), everything=True)
    none = segment.shown(studio, artifact, ())
    assert none["subject"] is None
    assert none["everything"] is True
    assert [item["path"] for item in none["exports"]] == [
        f"export/{artifact.id}/{name}" for name in ("polygons", "coco")
    ]
    both = segment.shown(studio, artifact, (0, 1))
    assert studio.library.mask(both["subject"]["id"]).sum() == sum(artifact.data["areas"])


def test_nothing_found_is_a_calm_note(studio: Studio) -> None:
    shown = segment.shown(studio, result(studio), (0,))
    assert shown["choices"] == []
    assert "Click somewhere else" in shown["notes"][0]


def test_the_page_cannot_choose_what_is_not_there() -> None:
    assert segment.numbers([0, 2, 2, 9, -1, "1", None], 3) == (0, 2)
    assert segment.numbers("0,1", 3) == ()


def test_an_example_is_clicked_or_boxed_in_its_own_pixels() -> None:
    sent = {"width": 200, "height": 100}
    assert segment.first_mark(sent, (0.5, 0.5), segment.ALL_MODES)["points"] == [[100, 50, 1]]
    assert segment.first_mark(sent, (0.1, 0.2, 0.5, 0.6), segment.ALL_MODES)["box"] == [20, 20, 100, 60]
