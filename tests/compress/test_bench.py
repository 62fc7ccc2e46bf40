"""Measuring, remembering, running what was chosen; and planning by memory."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from studio.cards import Card, Source, load_cards
from studio.compress import convert, measure, plan
from studio.compress.bench import Bench
from studio.compress.networks import Place, torch_precision
from studio.compress.verdicts import Choice
from studio.config import ROOT
from studio.device import Device
from studio.errors import Cancelled, InvalidTask, OutOfMemory, Unsupported
from studio.tasks import Explore, Generate
from tests.engines.tiny_pipeline import write_sd

MODELS = ROOT / "models"
HERE = Device("this processor", 1, 8 * 2**30, "cpu")


@pytest.fixture(scope="module")
def cards():
    return load_cards(MODELS)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "home", tmp_path / "cache", HERE)


def place(cards, id):
    return cards[id], MODELS / cards[id].source.path


def test_a_detector_is_measured_chosen_and_undone(bench, cards, monkeypatch):
    monkeypatch.setattr(measure, "refuse_busy", lambda: None)
    card, folder = place(cards, "starter-detector")
    rows = bench.compare(card, folder, "f", ["onnxruntime-fp16", "openvino-int3.5"], runs=2)
    by_name = {f"{row['runtime']}-{row['precision']}": row for row in rows}
    assert set(by_name) == {"onnxruntime-fp32", "onnxruntime-fp16", "openvino-int3.5"}
    own, half = by_name["onnxruntime-fp32"], by_name["onnxruntime-fp16"]
    for row in (own, half):
        assert row["resident_mb"] > 20
        assert row["peak_mb"] >= row["resident_mb"] * 0.8
        assert min(row["load_s"], row["first_ms"], row["median_ms"]) > 0
        assert row["verdict"]
    assert half["bytes"] <= own["bytes"]  # it ships with its weights stored as float16
    assert half["quality"]["agreement"] > 0.95
    assert "int3.5" in by_name["openvino-int3.5"]["error"]
    kept = bench.comparisons.read(card.id)
    assert kept["machine"]["name"] == HERE.name
    assert len(kept["rows"]) == 3
    json.dumps(rows)

    assert bench.applied(card, folder, "f") is card
    bench.verdicts.put(card.id, Choice("onnxruntime", "fp16", "f"))
    told = bench.applied(card, folder, "f")
    assert told.engine == "yolo"
    assert Place.of(told).folder.name == "onnxruntime-fp16"
    assert bench.applied(card, folder, "other weights") is card
    bench.verdicts.undo(card.id)
    assert bench.applied(card, folder, "f") is card


def test_shipped_graphs_run_until_something_else_is_chosen(bench, cards):
    card, folder = place(cards, "starter-text-to-image")
    if not (folder / "graphs" / "unet.onnx").is_file():
        pytest.skip("the graphs do not ship")
    told = bench.applied(card, folder, "f", Generate(prompt="a", seed=1))
    assert (told.engine, told.id) == ("fast-diffusion", card.id)
    assert bench.applied(card, folder, "f", Generate(prompt="a", seed=1, scheduler="Heun")) is card
    assert bench.applied(card, folder, "f", Explore(op="attention")) is card
    bench.verdicts.put(card.id, Choice("torch", "fp32", "f"))
    assert bench.applied(card, folder, "f", Generate(prompt="a", seed=1)) is card
    bench.verdicts.put(card.id, Choice("openvino", "int8", "f"))  # chosen once, not there any more
    assert bench.applied(card, folder, "f", Generate(prompt="a", seed=1)) is card


def test_a_plan_is_followed_and_can_be_undone(bench, cards):
    card, folder = place(cards, "starter-detector")
    wanted = plan.Plan("onnxruntime", "fp16", 640, 0, 1, peak=190 << 20, budget=200 << 20)
    bench.follow(card, folder, "f", wanted)
    assert Place.of(bench.applied(card, folder, "f")).folder.name == "onnxruntime-fp16"
    assert "fp16 on onnxruntime at 640 px" in bench.verdicts.get(card.id, "f").sentence
    bench.verdicts.undo(card.id)
    assert bench.applied(card, folder, "f") is card


def test_a_busy_machine_is_refused_and_named(monkeypatch):
    monkeypatch.setattr(measure, "load_of", lambda: (0.9, ["painter 80 %"]))
    with pytest.raises(Unsupported, match=r"painter 80 %"):
        measure.refuse_busy()


def test_measuring_can_be_cancelled(bench, cards):
    card, folder = place(cards, "starter-detector")

    def stop(step, total, phase):
        raise Cancelled

    with pytest.raises(Cancelled):
        bench.compare(card, folder, "f", ["openvino-int8"], anyway=True, on_step=stop)
    with pytest.raises(Unsupported, match="no network"):
        bench.compare(cards["classic-faces"], folder, "f", [])
    with pytest.raises(InvalidTask):
        bench.compare(card, folder, "f", ["abacus-int8"])


@pytest.mark.parametrize(("text", "size"), [("4 GB", 4e9), ("900MB", 9e8), ("3", 3 * 2**30), ("1.5 GiB", 1.5 * 2**30)])
def test_amounts_of_memory(text, size):
    assert plan.parse(text) == int(size)


@pytest.mark.parametrize("text", ["four", "", "-1 GB", "0", "4 apples"])
def test_what_is_no_amount(text):
    with pytest.raises(InvalidTask, match="memory"):
        plan.parse(text)


def sd15():
    parts = {"text_encoder": 123_000_000, "unet": 860_000_000, "vae": 84_000_000}
    return plan.Anatomy("diffusion", parts, 512, 8, 4.0 * 256 * 3, 8)


def test_a_budget_chooses_and_smaller_ones_choose_smaller():
    peaks = []
    for budget in (16 * 2**30, 8 * 2**30, 4 * 2**30, 3 * 2**30):
        made = plan.plan(sd15(), budget)
        assert made.peak <= budget
        assert str(made)
        peaks.append(made.peak)
    assert peaks == sorted(peaks, reverse=True)
    assert plan.plan(sd15(), 16 * 2**30, features={"vnni"}).precision == "int8"
    with pytest.raises(OutOfMemory, match="at least"):
        plan.plan(sd15(), 2**28)


def test_a_run_saves_no_more_than_it_must():
    large = 1024
    names = ("torch-fp32", "openvino-int8")
    free = [plan.saving(sd15(), name, large, 0) for name in names]
    assert free == [plan.Saving(), plan.Saving()]
    assert [plan.saving(sd15(), name, large, 1) for name in names] == [plan.Saving(512, 8), plan.Saving(512)]
    assert plan.saving(sd15(), "torch-fp32", 256, 1) == plan.Saving()  # a small picture has nothing to save
    enough = plan.predict(sd15(), "torch-fp32", large, 512)
    assert plan.saving(sd15(), "torch-fp32", large, enough).tile in (0, 512)
    made = plan.plan(sd15(), 8 * 2**30, large)
    assert made.slices == 1 or made.runtime == "torch"


def test_every_starter_model_can_be_planned(cards):
    for id_ in ("starter-detector", "starter-segmenter", "starter-text-to-image"):
        card, folder = place(cards, id_)
        assert plan.plan(plan.anatomy(card, folder), 4 * 10**9).peak < 4 * 10**9
    with pytest.raises(Unsupported):
        plan.anatomy(cards["classic-faces"], MODELS)


def test_a_painter_at_eight_bits_is_calibrated_by_painting(bench, tmp_path):
    folder = write_sd(tmp_path / "sd")
    fields = {"tasks": ("generate",), "engine": "diffusion", "licence": "Apache-2.0"}
    sizes = {"steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
    card = Card(id="tiny", title="Tiny", source=Source(kind="imported"), defaults=sizes, **fields)
    made = convert.make(card, folder, "f", "onnxruntime-int8", bench.variants)
    assert {"unet", "text_encoder", "decoder", "encoder"} <= set(made.parts)
    assert made.bytes < sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


OLD, NEW = (replace(HERE, features=frozenset(features)) for features in ((), ("vnni", "bf16")))


@pytest.mark.parametrize("id", ["starter-detector", "starter-segmenter", "starter-text-to-image"])
def test_bf16_is_offered_where_the_processor_computes_in_it(id, cards, tmp_path):
    old, new = (Bench(tmp_path, tmp_path, device) for device in (OLD, NEW))
    more = set(new.offered(cards[id])) - set(old.offered(cards[id]))
    with_torch = {"torch-bf16"} if id != "starter-detector" else set()
    assert more == {"openvino-bf16"} | with_torch
    assert more <= set(new.usual(cards[id]))
    assert not more & set(old.usual(cards[id]))
    card, folder = place(cards, id)
    with pytest.raises(Unsupported, match="processor"):
        old.compare(card, folder, "f", ["openvino-bf16"], anyway=True)


def test_torch_is_told_to_compute_in_bf16(cards, tmp_path):
    bench = Bench(tmp_path, tmp_path, NEW)
    card, folder = place(cards, "starter-text-to-image")
    bench.verdicts.put(card.id, Choice("torch", "bf16", "f"))
    told = bench.applied(card, folder, "f", Generate(prompt="a", seed=1))
    assert (told.engine, Place.of(told)) == (card.engine, Place("torch", "bf16"))
    assert torch_precision(told, NEW) == "bf16"
    with pytest.raises(Unsupported, match="does not compute in bf16"):
        torch_precision(told, OLD)


def measured(bench, card, ms=20, peak=200, **worth):
    """A comparison of int8, which is quick and of that quality, with fp32."""
    bench.comparisons.begin(card.id, "f", {})
    for name, median, most, quality in (
        ("onnxruntime-fp32", 60, 200, {"map50": 0.6}),
        ("openvino-int8", ms, peak, worth),
    ):
        runtime, _, precision = name.partition("-")
        row = {"card": card.id, "runtime": runtime, "precision": precision, "bytes": 9e6, "peak_mb": most, "load_s": 1}
        bench.comparisons.put(card.id, {**row, "first_ms": 90, "median_ms": median, "spread_ms": 1, "quality": quality})


def test_a_plan_asks_the_verdicts(cards, tmp_path):
    bench = Bench(tmp_path, tmp_path, NEW)
    card, folder = place(cards, "starter-detector")
    first = bench.planned(card, folder, "f", 8 * 2**30)
    assert (first.runtime, first.precision) == ("openvino", "int8")
    assert "not measured" in str(first)
    measured(bench, card, map50=0.6)
    assert str(bench.planned(card, folder, "f", 8 * 2**30)).endswith("no mAP50 lost: use it.")
    measured(bench, card, map50=0.4)
    other = bench.planned(card, folder, "f", 8 * 2**30)  # of what was measured the best is left, though int8 is untried
    assert (other.runtime, other.precision) == ("onnxruntime", "fp32")
    measured(bench, card, ms=58, map50=0.6, peak=900)  # as good and as fast, and takes more memory
    assert bench.planned(card, folder, "f", 8 * 2**30).precision == "fp32"
    assert bench.planned(card, folder, "other weights", 8 * 2**30) == first


def test_what_loses_too_much_is_not_followed(cards, tmp_path, monkeypatch):
    bench = Bench(tmp_path, tmp_path, replace(HERE, features=frozenset({"bf16"})))
    card, folder = place(cards, "starter-detector")
    asked = []

    def compare(card, folder, fingerprint, names, **options):
        asked.extend(names)
        measured(bench, card, map50=0.4)

    monkeypatch.setattr(bench, "compare", compare)
    monkeypatch.setattr(convert, "make", lambda *args: None)
    wanted = plan.Plan("openvino", "int8", 640, 0, 1, 1, 8 * 2**30, plan.unmeasured("int8"))
    followed = bench.follow(card, folder, "f", wanted)
    assert asked == ["openvino-int8"]
    assert followed.precision != "int8"
    assert bench.verdicts.get(card.id).precision == followed.precision


def test_a_choice_says_why(cards, bench):
    card, _ = place(cards, "starter-detector")
    measured(bench, card, map50=0.6)
    bench.choose(card, "f", "openvino-int8")
    assert bench.verdicts.get(card.id).sentence == "int8 on OpenVINO: 3.0× faster, as large, no mAP50 lost: use it."
