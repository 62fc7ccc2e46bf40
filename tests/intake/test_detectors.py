"""What an imported detector is taken for, what its classes are called, and what is refused instead of guessed."""

import numpy as np
import pytest

from studio.errors import CardError, InvalidTask, Unsupported
from studio.intake import convert
from studio.intake.detectors import COCO, parse_names
from tests.engines.test_yolo import CELLS, columns, grid_pair, query_pair, write_model, yolox


@pytest.fixture
def take(tmp_path):
    """Imports a network with those outputs."""
    out = tmp_path / "out"
    out.mkdir()

    def take(outputs, names=(), **more):
        write_model(tmp_path / "m.onnx", outputs, **more)
        return convert.bring(tmp_path / "m.onnx", out, names=names)

    return take


def test_yolox_is_recognised_with_its_own_preparation_and_its_classes_are_said_to_be_assumed(take):
    found = take(yolox(80))
    wanted = {"layout": "yolox", "bgr": True, "std": 1.0, "padding": "corner", "names": list(COCO)}
    assert wanted.items() <= found.options.items()
    assert found.summary == (
        "A detector in ONNX, read as YOLOX. Its file names no classes; its 80 are assumed to be COCO's."
    )


def test_names_of_the_user_count_before_the_assumption_and_must_fit(take):
    names = [f"thing {number}" for number in range(80)]
    found = take(yolox(80), names)
    assert found.options["names"] == names
    assert found.summary.endswith("It knows 80 classes by name.")
    with pytest.raises(CardError, match="80 classes apart, but 2 names"):
        take(yolox(80), ["cat", "dog"])
    with pytest.raises(CardError, match="3 classes apart, but 2 names"):
        take({"output0": columns([], 3)}, ["cat", "dog"])


def test_names_of_the_file_are_kept(take):
    found = take({"output0": columns([], 2)}, meta={"names": {0: "cat", 1: "dog"}})
    assert found.options["names"] == ["cat", "dog"]
    assert "assumed" not in found.summary


def test_a_detector_without_names_says_that_they_are_missing(take):
    found = take({"output0": columns([], 3)})
    assert "names" not in found.options
    assert found.summary.endswith("Its file names no classes, so its 3 are numbered until you name them.")


def test_what_can_be_read_in_two_ways_is_asked_about(take):
    with pytest.raises(Unsupported, match="Give the names"):
        take(yolox(3))
    assert take(yolox(3), ["cat", "dog", "bird"]).options["layout"] == "yolox"
    assert "layout" not in take(yolox(3), ["cat", "dog", "bird", "fish"]).options


def test_detectors_with_queries_see_stretched_pictures(take):
    assert take(query_pair(), ["cat", "dog", "bird"]).options["letterbox"] is False


def test_a_grid_whose_input_scale_nobody_knows_is_refused(take):
    with pytest.raises(Unsupported, match="scaled"):
        take(grid_pair(), ["cat", "dog", "bird"])


def test_the_face_detector_is_recognised_by_its_boxes(take):
    scores, boxes = np.zeros((1, 4420, 2), np.float32), np.zeros((1, 4420, 4), np.float32)
    found = take({"scores": scores, "boxes": boxes})
    assert {"mean": 127.0, "std": 128.0, "names": ["face"], "letterbox": False}.items() <= found.options.items()


def test_names_for_what_has_no_classes_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"*": np.zeros((2, 768), np.float32)}, tmp_path / "cat.safetensors")
    (tmp_path / "out").mkdir()
    with pytest.raises(Unsupported, match="no classes"):
        convert.bring(tmp_path / "cat.safetensors", tmp_path / "out", names=["cat"])


def test_names_are_read_from_lines_or_commas():
    assert parse_names("coco") == list(COCO)
    assert len(COCO) == 80
    assert parse_names("cat\n\n traffic light \n") == ["cat", "traffic light"]
    assert parse_names("cat, dog") == ["cat", "dog"]
    for text in ("", "\n", "cat,cat"):
        with pytest.raises(InvalidTask, match="class names"):
            parse_names(text)


def test_the_cells_of_the_helper_are_those_of_its_input():
    assert CELLS == 8 * 8 + 4 * 4 + 2 * 2
