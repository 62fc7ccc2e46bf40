"""Comparisons fill while they are read, and survive what others write."""

import numpy as np
import pytest

from studio.compress import claims, precisions
from studio.compress.comparisons import Comparisons
from studio.errors import InvalidTask, NotFound

ROW = {"card": "yolo", "runtime": "torch", "precision": "fp32", "bytes": 10, "median_ms": 5.0,
       "spread_ms": float("nan"),
       "quality": {"psnr": float("inf")}}  # fmt: skip


def test_rows_come_one_by_one_and_replace_their_elders(tmp_path):
    store = Comparisons(tmp_path)
    assert store.read("yolo") is None
    store.begin("yolo", "f1", {"name": "cpu"})
    store.put("yolo", ROW, pictures=[np.zeros((4, 4, 3), np.uint8)], layers={"a": 0.1})
    store.put("yolo", {**ROW, "precision": "int8"})
    store.put("yolo", {**ROW, "bytes": 20})
    data = store.read("yolo")
    assert [(one["precision"], one["bytes"]) for one in data["rows"]] == [("fp32", 20), ("int8", 10)]
    assert data["rows"][0]["spread_ms"] is None
    assert [one.key for one in store.rows("yolo")] == ["torch-fp32", "torch-int8"]
    assert store.cards() == ["yolo"]
    assert store.picture("yolo", "torch-fp32-0.png").is_file()


def test_a_row_that_fills_keeps_its_pictures_and_layers(tmp_path):
    store = Comparisons(tmp_path)
    store.begin("yolo", "f1", {})
    store.put("yolo", {"card": "yolo", "runtime": "torch", "precision": "int4", "bytes": 10}, layers={"a": 0.1})
    store.put("yolo", {**ROW, "precision": "int4"}, pictures=[np.zeros((4, 4, 3), np.uint8)])
    store.put("yolo", {**ROW, "precision": "int4", "median_ms": 4.0})
    (row,) = store.read("yolo")["rows"]
    assert (row["median_ms"], row["layers"], row["pictures"]) == (4.0, {"a": 0.1}, ["torch-int4-0.png"])


def test_other_weights_begin_anew(tmp_path):
    store = Comparisons(tmp_path)
    store.begin("yolo", "f1", {})
    store.put("yolo", ROW)
    store.begin("yolo", "f1", {})
    assert len(store.read("yolo")["rows"]) == 1
    store.begin("yolo", "f2", {})
    assert store.read("yolo")["rows"] == []
    store.forget("yolo")
    assert store.cards() == []


@pytest.mark.parametrize("card", ["..", "", "a/b", ".hidden", "a" * 200])
def test_no_way_out_of_the_folder(card, tmp_path):
    with pytest.raises(NotFound):
        Comparisons(tmp_path).begin(card, "", {})
    with pytest.raises(NotFound):
        Comparisons(tmp_path).picture(card, "torch-fp32-0.png")


@pytest.mark.parametrize("name", ["../x.png", "x.txt", "", "/etc/passwd", ".lock"])
def test_only_pictures_are_given_out(name, tmp_path):
    with pytest.raises(NotFound):
        Comparisons(tmp_path).picture("yolo", name)


def test_what_is_no_measurement_is_refused(tmp_path):
    with pytest.raises(InvalidTask):
        Comparisons(tmp_path).put("yolo", {"card": "yolo"})


def test_claims_name_precisions_that_exist_and_their_errors():
    for claim in claims.CLAIMS:
        assert all(precisions.find(id_) for id_ in claim.measured)
    one_bit = next(claim for claim in claims.CLAIMS if claim.technique == "1 bit")
    assert "2 bits" in one_bit.error
    assert one_bit.theory[0] * claims.BASELINE_BYTES == 8.75e9
    assert len(claims.errors()) == 3
