"""What the Compress tab shows and does, without a page."""

import csv
import io
import json

import pytest

from apps import compress_data
from apps.compress_data import Compression
from studio.errors import InvalidTask, NotAllowed, NotFound
from studio.jobs import Jobs
from tests.apps.fake_compare import attach, fill
from tests.apps.fakes import fake_studio


@pytest.fixture
def studio(tmp_path):
    made = attach(fake_studio(tmp_path), 0)
    yield made
    made.close()


@pytest.fixture
def compression(studio):
    return Compression(studio)


def test_only_models_with_networks_are_offered(compression):
    about = compression.overview()
    assert [one["id"] for one in about["models"]] == ["starter", "finder", "cutter"]
    assert about["machine"]["name"] == "Test processor"
    with pytest.raises(NotFound):
        compression.comparison("none")


def test_nothing_measured_yet(compression):
    data = compression.comparison("finder")
    assert data["rows"] == []
    assert data["best"] == ""
    assert data["default"] is None
    assert {"key": "openvino-int8", "title": "int8 on OpenVINO"} in data["offered"]


def test_rows_come_with_front_verdict_and_marks(compression, studio):
    fill(studio, "finder")
    data = compression.comparison("finder")
    rows = {row["key"]: row for row in data["rows"]}
    assert data["best"] == "openvino-int8"
    assert rows["torch-fp32"]["reference"]
    assert rows["openvino-int8"]["front"]
    assert rows["openvino-int8"]["verdict"].endswith("0.4 points of mAP50 lost: use it.")
    assert not rows["onnxruntime-int4"]["tolerable"]
    assert rows["openvino-bf16"]["error"]
    assert compression.picture("finder", rows["openvino-int8"]["pictures"][0]).is_file()
    json.dumps(data, allow_nan=False)


def test_one_click_makes_it_the_default_and_one_undoes_it(compression, studio):
    fill(studio, "finder")
    compression.use("finder", "openvino-int8")
    assert compression.overview()["models"][1]["default"]["title"] == "int8 on OpenVINO"
    compression.use("finder", "openvino-fp32")
    compression.undo("finder")
    assert compression.comparison("finder")["default"]["key"] == "openvino-int8"
    compression.undo("finder")
    assert compression.comparison("finder")["default"] is None
    for key in ("openvino-bf16", "never-measured"):
        with pytest.raises(InvalidTask):
            compression.use("finder", key)


def test_a_comparison_is_a_job_of_known_variants(compression, studio, monkeypatch):
    asked = []
    monkeypatch.setattr(studio, "compare", lambda id_, names, owner, anyway: asked.append(names), raising=False)
    compression.compare("finder", ["openvino-int8", "openvino-int8", "rm -rf"], "local")
    assert asked == [["openvino-int8"]]
    with pytest.raises(InvalidTask, match="No variant"):
        compression.compare("finder", [], "local")
    assert isinstance(studio.jobs, Jobs)


def test_a_public_page_measures_and_changes_nothing(tmp_path):
    studio = attach(fake_studio(tmp_path, mode="space"), 0)
    fill(studio, "finder")
    compression = Compression(studio)
    for act in (
        lambda: compression.compare("finder", ["torch-fp32"], "x"),
        lambda: compression.use("finder", "torch-fp32"),
        lambda: compression.undo("finder"),
    ):
        with pytest.raises(NotAllowed):
            act()
    studio.close()


def test_exports(compression, studio):
    fill(studio, "finder")
    text, media = compression.export("finder", "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert media.startswith("text/csv")
    assert lines[3]["precision"] == "int8"
    assert float(lines[3]["map50"]) == 0.71
    data = json.loads(compression.export("finder", "json")[0])
    assert data["best"] == "openvino-int8"
    page, _ = compression.export("finder", "html")
    assert "<table>" in page
    assert "int8 on OpenVINO" in page
    assert "http" not in page
    with pytest.raises(NotFound):
        compression.export("finder", "exe")


def test_a_cell_is_no_formula_and_a_title_no_markup(compression, studio):
    fill(studio, "finder")
    data = compression.comparison("finder")
    data["title"] = "<script>alert(1)</script>"
    data["rows"][0]["verdict"] = "=cmd()"
    assert "<script>" not in compress_data.to_html(data)
    assert "'=cmd()" in compress_data.to_csv(data)


def test_the_calculator_knows_ideal_and_stored_bits():
    table = {one["id"]: one for one in compress_data.theory()["precisions"]}
    wanted = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "int1": 1, "gguf-q4_0": 4, "adaptive-4": 4}
    assert {id_: table[id_]["ideal"] for id_ in wanted} == wanted
    assert all(one["bits"] >= one["ideal"] > 0 for one in table.values())
    claims = {one["technique"]: one for one in compress_data.theory()["claims"]}
    assert "2 bits" in claims["1 bit"]["error"]


def test_the_shown_figures_keep_the_promises():
    """Bytes against fp32, and mixed widths that err less than one width at the same bytes, on all starter models."""
    rows = {(row["model"], row["precision"]): row for row in compress_data.measured()}
    models = {model for model, _ in rows}
    assert models == {"text-to-image", "autoencoder", "segmenter", "detector"}
    for model in models:
        for id_, limit in (("int8-weights", 0.27), ("int4", 0.16), ("int4-asym", 0.16), ("int2", 0.10), ("int1", 0.06)):
            assert rows[model, id_]["ratio"] <= limit
        for kind in ("adaptive", "hierarchical"):
            for width in (4, 2):
                mixed, uniform = rows[model, f"{kind}-{width}"], rows[model, f"int{width}"]
                assert mixed["bytes"] <= uniform["bytes"]
                assert mixed["output_error"] <= uniform["output_error"]
                assert width == 2 or mixed["output_error"] < uniform["output_error"]
