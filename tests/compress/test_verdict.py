"""The front, the sentences, the choice, and what a device remembers of them."""

import json

import pytest

from studio.compress.verdict import Row, choose, front, reference, row, verdicts
from studio.compress.verdicts import Choice, Verdicts
from studio.device import Device
from studio.errors import InvalidTask, Unsupported

DEVICE = Device("Test processor", 2, 2**30)


def made(runtime, precision, mb, ms, spread=0.5, peak=500.0, **quality):
    return Row("yolo", runtime, precision, mb * 2**20, 100, peak, 1, ms * 2, ms, spread, 0.0, quality or {"map50": 0.5})


PLAIN = made("torch", "fp32", 40, 120)
ORT = made("onnxruntime", "fp32", 40, 60)
INT8 = made("openvino", "int8", 10.8, 38.7, map50=0.496)
INT4 = made("onnxruntime", "int4", 6, 61, map50=0.45)
SLOW = made("onnxruntime", "int8", 10.8, 170, map50=0.498)
BROKEN = Row("yolo", "openvino", "bf16", error="This processor has no bf16.")
ROWS = [PLAIN, ORT, INT8, INT4, SLOW, BROKEN]


def test_the_reference_is_plain_torch():
    assert reference(ROWS) is PLAIN
    assert reference([ORT, INT8]) is ORT
    assert reference([BROKEN]) is None


def test_the_front_is_what_no_other_beats():
    assert front(ROWS) == {"onnxruntime-fp32", "openvino-int8", "onnxruntime-int4"}


def test_sentences_say_what_to_do():
    told = verdicts(ROWS, {"vnni"})
    assert told["openvino-int8"] == ("int8 on OpenVINO: 3.1× faster, 3.7× smaller, 0.4 points of mAP50 lost: use it.")
    assert told["torch-fp32"] == "fp32 on torch: the reference."
    assert told["onnxruntime-int4"].endswith("5.0 points of mAP50 lost: too much is lost.")
    assert told["onnxruntime-int8"].endswith("smaller, not faster: for when memory is short.")
    assert told["openvino-bf16"].endswith("This processor has no bf16.")
    assert verdicts([PLAIN, SLOW])["onnxruntime-int8"].endswith("no VNNI here; keep fp32.")
    assert verdicts([PLAIN, SLOW])["torch-fp32"] == "fp32 on torch: the reference, and the one to keep."


def test_within_the_spread_nothing_is_faster():
    near = made("openvino", "fp32", 40, 110, spread=30)
    assert "as fast, as large" in verdicts([PLAIN, near])["openvino-fp32"]


def test_pictures_are_told_as_likeness():
    base = made("torch", "fp32", 40, 120, psnr=100.0, step_error=0.0)
    other = made("openvino", "int8", 11, 40, psnr=38.2, step_error=0.1)
    assert "0.100 step error to fp32: use it." in verdicts([base, other])["openvino-int8"]
    bad = made("openvino", "int1", 2, 40, step_error=float("nan"))
    assert "produces NaN: too much is lost" in verdicts([base, bad])["openvino-int1"]


def test_another_picture_of_the_same_thing_is_no_loss():
    right = {"right_thing": 1.0, "sharpness": 0.97, "structure": 0.8}
    base = made("torch", "fp32", 40, 120, psnr=100.0, ssim=1.0, **{**right, "sharpness": 1.0}, step_error=0.0)
    parted = made("openvino", "int8", 11, 40, psnr=14.0, ssim=0.5, **right, step_error=0.12)
    assert verdicts([base, parted])["openvino-int8"].endswith("use it.")
    worse = {"right_thing": 0.6, "sharpness": 0.5, "structure": 0.4, "step_error": 0.4}
    for name, value in worse.items():
        lost = made("openvino", "int4", 6, 40, **{**right, "step_error": 0.12, name: value})
        assert verdicts([base, lost])["openvino-int4"].endswith("too much is lost."), name


def test_as_right_on_other_pictures_is_not_the_same():
    base = made("onnxruntime", "fp32", 40, 60, map50=0.617, agreement=1.0)
    other = made("onnxruntime", "int4", 6, 40, map50=0.617, agreement=0.73)
    assert verdicts([base, other])["onnxruntime-int4"].endswith("0.730 agreement with fp32: too much is lost.")
    assert choose([base, other]) is base


def test_a_budget_chooses():
    small = made("onnxruntime", "int8-weights", 10.4, 62, peak=180, map50=0.5)
    rows = [*ROWS, small]
    assert choose(rows) is INT8
    assert choose(rows, budget_mb=200) is small
    assert choose(rows, budget_ms=40) is INT8
    with pytest.raises(Unsupported, match="100 MB and 5 ms") as caught:
        choose(rows, 100, 5)
    assert "int8 weights on ONNX Runtime (fp32 in memory): 180 MB" in caught.value.hint
    with pytest.raises(Unsupported):
        choose([BROKEN])


def test_of_equals_the_smallest():
    small = made("openvino", "int8-weights", 10, 61)
    assert choose([PLAIN, ORT, small]) is small


def test_rows_are_read_from_json():
    text = json.dumps({"card": "a", "runtime": "torch", "precision": "fp32", "bytes": 5, "median_ms": None,
                       "quality": {"psnr": 40}, "unknown": 1})  # fmt: skip
    found = row(json.loads(text))
    assert (found.bytes, found.quality, found.is_measured) == (5, {"psnr": 40.0}, False)
    for bad in ({}, {"card": "a", "runtime": "b"}, {**json.loads(text), "bytes": "many"}):
        with pytest.raises(InvalidTask):
            row(bad)


def test_a_device_remembers_and_forgets(tmp_path):
    store = Verdicts(tmp_path, DEVICE)
    assert store.get("yolo") is None
    store.put("yolo", Choice("openvino", "int8", "f1", "use it"))
    store.put("yolo", Choice("onnxruntime", "fp32", "f1"))
    assert store.get("yolo").runtime == "onnxruntime"
    assert store.get("yolo").at > 0
    assert Verdicts(tmp_path, DEVICE).undo("yolo").precision == "int8"
    assert store.all() == {"yolo": store.get("yolo")}
    assert store.undo("yolo") is None
    assert store.undo("yolo") is None
    assert store.all() == {}


def test_another_processor_or_other_files_have_no_verdict(tmp_path):
    Verdicts(tmp_path, DEVICE).put("yolo", Choice("openvino", "int8", "f1"))
    assert Verdicts(tmp_path, Device("Other processor", 2, 2**30)).get("yolo") is None
    assert Verdicts(tmp_path, DEVICE).get("yolo", "f2") is None
    assert Verdicts(tmp_path, DEVICE).get("yolo", "f1") is not None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"Test processor, 2 cores": {"yolo": [5], "b": 7, "c": [{"x": 1}]}}'])
def test_a_spoilt_file_is_no_verdict(text, tmp_path):
    (tmp_path / "verdicts.json").write_text(text)
    store = Verdicts(tmp_path, DEVICE)
    assert store.all() == {}
    store.put("yolo", Choice("openvino", "int8"))
    assert store.get("yolo").precision == "int8"


def test_a_busy_machine_claims_little():
    """Slower twice, more memory, and a start of seconds: that was once called "as fast, use it"."""
    quality = {"map50": 0.5}
    base = Row("yolo", "onnxruntime", "fp32", 10.5e6, 90, 204, 0.3, 11, 10, 6, 0.8, quality)
    int8 = Row("yolo", "openvino", "int8", 3.6e6, 200, 374, 2.0, 2100, 12, 8, 0.8, quality)
    told = verdicts([base, int8], {"vnni"})["openvino-int8"]
    assert "int8 on OpenVINO: between 0.4× and 1.6× as fast (rough times)," in told
    assert "1.8× the memory" in told
    assert "starts in 4.1 s instead of 0.3 s" in told
    assert told.endswith("no gain; keep fp32 on ONNX Runtime.")
    assert choose([base, int8]) is base


def test_what_wins_on_a_busy_machine_is_to_be_measured_again():
    base, quick = (
        Row("yolo", "openvino", precision, 1e6, 90, 100, 1, 50, ms, 1, load, {"map50": 0.5})
        for precision, ms, load in (("fp32", 100, 0.9), ("int8", 20, 0.9))
    )
    told = verdicts([base, quick])["openvino-int8"]
    assert "5.0× faster (rough times)," in told
    assert told.endswith("measure again when the machine is quiet.")


def test_what_takes_more_memory_is_not_for_when_memory_is_short():
    base, slow = made("onnxruntime", "fp32", 10, 20, peak=200), made("openvino", "bf16", 5, 50, peak=290)
    assert verdicts([base, slow])["openvino-bf16"].endswith("1.4× the memory, no mAP50 lost: smaller, not faster: for "
                                                            "when the disk is short.")  # fmt: skip


def test_of_equal_times_memory_and_start_decide():
    slim = Row("yolo", "onnxruntime", "fp32", 40e6, 90, 100, 0.3, 11, 60, 0.5, 0.0, {"map50": 0.5})
    small = Row("yolo", "openvino", "int8", 10e6, 90, 400, 3.0, 2000, 60, 0.5, 0.0, {"map50": 0.5})
    assert choose([slim, small]) is slim


def test_packed_weights_say_that_they_save_no_memory():
    assert Row("yolo", "onnxruntime", "int4").title == "int4 on ONNX Runtime (fp32 in memory)"
    assert Row("yolo", "onnxruntime", "int4-weights").title == "int4 weights on ONNX Runtime"
    assert Row("yolo", "openvino", "bf16").title == "bf16 on OpenVINO"
