"""The Detect tab's functions, without a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps import detect
from studio.config import Config
from studio.engines.base import Result
from studio.errors import InvalidTask
from studio.library import Artifact
from studio.ops import detections
from studio.studio import Studio
from studio.tasks import make_task
from tests.fakes import DEVICE


@pytest.fixture
def studio(config: Config) -> Iterator[Studio]:
    made = Studio(config, DEVICE)
    yield made
    made.close()


def found(studio: Studio, count: int = 2, **more: Any) -> Artifact:
    image = studio.library.add_image(np.zeros((40, 60, 3), np.uint8), "street.jpg")
    task = make_task("detect", {"image": image.id})
    data = {
        "width": 60, "height": 40, "boxes": [[k, 1, k + 10, 20] for k in range(count)],
        "scores": [0.9 - 0.001 * k for k in range(count)], "labels": ["dog" if k % 2 else "cat" for k in range(count)],
        "model_classes": ["cat", "dog"], "seconds": {}, **more,
    }  # fmt: skip
    return studio.library.add(task, "classic-faces", "", Result(data=data))


def test_without_a_picture_it_says_what_to_do() -> None:
    with pytest.raises(InvalidTask, match="no picture") as caught:
        detect.task_fields({}, 0.25, 0.45, [], 300)
    assert "example" in caught.value.hint


def test_the_form_becomes_a_task() -> None:
    fields = detect.task_fields({"id": "a" * 64}, 0, 0.5, ["dog"], 10)
    task = make_task("detect", fields)
    assert (task.confidence, task.iou, task.classes, task.max_detections) == (0, 0.5, ("dog",), 10)


def test_a_class_has_the_colour_of_the_exported_picture(studio: Studio) -> None:
    shown = detect.show_found(studio, found(studio))
    red, green, blue = detections.colours(["cat", "dog"])["cat"]
    assert shown["boxes"][0] == {
        "box": [0, 1, 10, 20],
        "label": "cat",
        "score": 0.9,
        "hue": f"#{red:02x}{green:02x}{blue:02x}",
    }


def test_a_result_offers_every_format_and_the_picture_with_boxes(studio: Studio) -> None:
    artifact = found(studio)
    paths = [item["path"] for item in detect.show_found(studio, artifact)["exports"]]
    assert paths == [f"export/{artifact.id}/{name}" for name in ("json", "yolo", "coco", "voc", "drawn")]


def test_codes_carry_their_text(studio: Studio) -> None:
    shown = detect.show_found(studio, found(studio, texts=["https://example.org", ""]))
    assert [one["text"] for one in shown["boxes"]] == ["https://example.org", ""]


def test_many_boxes_and_none(studio: Studio) -> None:
    assert len(detect.show_found(studio, found(studio, 200))["boxes"]) == 200
    empty = detect.show_found(studio, found(studio, 0))
    assert empty["boxes"] == []
    assert empty["pictures"][0]["width"] == 60


def test_the_classes_of_a_model_that_says_nothing_are_unknown_until_it_ran(studio: Studio) -> None:
    assert detect.known_classes(studio, "classic-faces") == []
    assert detect.known_classes(studio, None) == []
    assert detect.known_classes(studio, "gone") == []


def test_an_example_is_given_to_the_model_it_is_made_for(studio: Studio) -> None:
    assert detect.fitting_card(studio, Path("astronaut.jpg"), "other") == "classic-faces"
    assert detect.fitting_card(studio, Path("qr-code.jpg"), "classic-faces") == "classic-faces"  # none reads codes here


def test_the_filter_does_not_go_along_to_another_model() -> None:
    values = (0.25, 0.45, ["dog"], 300)
    assert detect.without_classes(values, same=True) == [0.25, 0.45, ["dog"], 300]
    assert detect.without_classes(values, same=False) == [0.25, 0.45, [], 300]


def test_where_nothing_was_found_the_model_says_what_it_knows(tmp_path: Path) -> None:
    studio = Studio(Config(home=tmp_path / "home", cache=tmp_path / "cache", prewarm=False), DEVICE)
    nothing = detect.show_found(studio, found(studio, 0))["nothing"]
    assert nothing["text"].startswith("This model finds faces of at least 30 px")
    assert nothing["text"].endswith("Fetch D-FINE nano (15 MB), or lower the confidence.")
    assert (nothing["go"], nothing["label"]) == ("Models", "Fetch D-FINE nano (15 MB)")
    assert "drawn stickers, not photographs" in detect.advice(studio, "starter-detector")["text"]
    assert detect.advice(studio, "yolo11n")["text"] == "Lower the confidence, or choose another model."
    assert detect.show_found(studio, found(studio))["nothing"] is None
    studio.close()
