"""The detector engine on graphs of a few nodes, one for each way of writing down boxes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from studio.cards import Card, Source
from studio.device import Device
from studio.engines.yolo import Preprocess, Yolo
from studio.errors import CardError, IntegrityError, InvalidTask, Unsupported
from studio.ops.boxes import letterbox, stretch
from studio.tasks import Detect, Generate
from tests.fakes import FakeReport

ID = "0" * 64
SIDE = 64
CELLS = 64 + 16 + 4
DEVICE = Device("test", 1, 2**33, "cpu")
NAMES = ["cat", "dog", "bird"]


def write_model(path, outputs, shape=(1, 3, SIDE, SIDE), meta=None, dtype=TensorProto.FLOAT, extra=None):
    """A graph that answers the same arrays whatever the picture: constant + 0 * mean(picture)."""
    inputs = [helper.make_tensor_value_info("images", dtype, shape)]
    nodes = [
        helper.make_node("Cast", ["images"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0), "zero")]
    if extra is not None:
        inputs.append(helper.make_tensor_value_info(extra, TensorProto.INT64, [1, 2]))
    for name, value in outputs.items():
        weights.append(numpy_helper.from_array(value, f"{name}_value"))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        nodes.append(helper.make_node("Cast", ["nothing"], [f"{name}_nothing"], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_value", f"{name}_nothing"], [name]))
    results = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in outputs.items()
    ]
    graph = helper.make_graph(nodes, "constant", inputs, results, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {key: str(value) for key, value in (meta or {}).items()})
    onnx.save(model, path)


def load(folder, **options):
    card = Card(
        id="tiny",
        title="Tiny",
        tasks=("detect",),
        engine="yolo",
        licence="MIT",
        source=Source(kind="none"),
        options=options,
    )
    return Yolo(card, folder, DEVICE)


def detect(engine, size=(SIDE, SIDE), **fields):
    report = FakeReport({ID: np.zeros((*size, 3), np.uint8)})
    return engine.run(Detect(image=ID, **fields), report).data


def columns(boxes, classes=3, cells=CELLS):
    """(1, 4 + C, N) of rows (cx, cy, w, h, class, score)."""
    table = np.zeros((1, 4 + classes, cells), np.float32)
    for i, (x, y, w, h, label, score) in enumerate(boxes):
        table[0, :4, i] = x, y, w, h
        table[0, 4 + label, i] = score
    return table


def columns_turned(classes, cells=CELLS):
    return {"output0": columns([], classes, cells).transpose(0, 2, 1).copy()}


def objectness():
    table = np.zeros((1, 3 * CELLS, 8), np.float32)
    table[0, 7] = 32, 32, 20, 10, 0.9, 0, 1, 0
    table[0, 8] = 32, 32, 20, 10, 0.5, 0, 0.2, 0  # 0.1 is below the confidence
    return {"output0": table}


def yolox(classes=3, decoded=False):
    """One box 22, 27, 42, 37 in the fourth column of the second row of the grid of 16 px, as its network writes it."""
    table = np.zeros((1, CELLS, 5 + classes), np.float32)
    cell = 64 + 1 * 4 + 3
    x, y, w, h = 32 / 16 - 3, 32 / 16 - 1, np.log(20 / 16), np.log(10 / 16)
    table[0, cell, : 5 + 2] = *((32, 32, 20, 10) if decoded else (x, y, w, h)), 0.9, 0, 1
    table[0, 5, :6] = 0, 0, 3, 3, 0.2, 1  # a large box below the confidence
    return {"output": table}


def final():
    table = np.zeros((1, 300, 6), np.float32)
    table[0, 0] = 22, 27, 42, 37, 0.9, 1
    return {"output0": table}


def query_rows():
    table = np.zeros((1, 300, 7), np.float32)
    table[0, 5] = 0.5, 0.5, 20 / SIDE, 10 / SIDE, 0, 0.9, 0
    return {"output0": table}


def query_final():
    table = np.zeros((1, 300, 6), np.float32)
    table[0, 5] = 0.5, 0.5, 20 / SIDE, 10 / SIDE, 0.9, 1
    return {"output0": table}


def query_pair(width=3):
    logits, boxes = np.full((1, 30, width), -9, np.float32), np.zeros((1, 30, 4), np.float32)
    logits[0, :, 3:] = 9
    logits[0, 2] = [-9, np.log(9), -9, *[0] * (width - 3)]  # sigmoid 0.9
    boxes[0, 2] = 0.5, 0.5, 20 / SIDE, 10 / SIDE
    return {"logits": logits, "pred_boxes": boxes}


def grid_pair():
    scores, boxes = np.zeros((1, 4420, 4), np.float32), np.zeros((1, 4420, 4), np.float32)
    scores[0, :, 0] = 1
    for i in (3, 4):  # a repeat that must go
        scores[0, i] = 0.1, 0, 0.9, 0
        boxes[0, i] = np.array([22, 27, 42, 37]) / SIDE
    return {"scores": scores, "boxes": boxes}


def labelled():
    labels, boxes, scores = np.zeros((1, 9), np.int64), np.zeros((1, 9, 4), np.float32), np.zeros((1, 9), np.float32)
    labels[0, 4], scores[0, 4], boxes[0, 4] = 1, 0.9, (22, 27, 42, 37)
    return {"labels": labels, "boxes": boxes, "scores": scores}


HEADS = {
    "objectness": (objectness(), {}),
    "yolox": (yolox(), {}),
    "yolox decoded inside": (yolox(decoded=True), {}),
    "columns": ({"output0": columns([(32, 32, 20, 10, 1, 0.9), (33, 32, 20, 10, 1, 0.6)])}, {}),
    "columns turned": ({"output0": columns([(32, 32, 20, 10, 1, 0.9)]).transpose(0, 2, 1).copy()}, {}),
    "final": (final(), {}),
    "query rows": (query_rows(), {}),
    "query final": (query_final(), {"meta": {"head": "RTDETRDecoder"}}),
    "query pair": (query_pair(), {}),
    "query pair with nothing": (query_pair(4), {}),
    "grid pair": (grid_pair(), {}),
    "labelled": (labelled(), {"extra": "orig_target_sizes"}),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [(SIDE, SIDE), (32, SIDE), (256, 128)])
def test_layouts(tmp_path, name, size):
    outputs, more = HEADS[name]
    write_model(tmp_path / "m.onnx", outputs, **more)
    data = detect(load(tmp_path, names=NAMES), size)
    fit = letterbox(size, (SIDE, SIDE)) if name != "query final" else stretch(size, (SIDE, SIDE))
    expected = fit.to_source(np.array([[22, 27, 42, 37]], np.float32))
    assert data["labels"] == ["dog"]
    np.testing.assert_allclose(data["boxes"], expected, atol=0.02)
    assert data["scores"] == pytest.approx([0.9], abs=0.02)
    assert (data["height"], data["width"], data["model_classes"]) == (*size, NAMES)
    assert set(data["seconds"]) == {"prepare", "network", "boxes"}


@pytest.mark.parametrize("size", [(SIDE, SIDE), (32, SIDE), (64, 32)])
def test_yolox_stands_in_the_corner(tmp_path, size):
    write_model(tmp_path / "m.onnx", yolox())
    data = detect(load(tmp_path, names=NAMES, padding="corner", bgr=True, std=1.0), size)
    scale = max(size) / SIDE
    expected = np.clip(np.array([22, 27, 42, 37]) * scale, 0, [size[1], size[0]] * 2)
    np.testing.assert_allclose(data["boxes"], [expected], atol=0.02)


def test_a_table_of_yolox_is_read_by_its_80_classes_or_by_names_but_never_guessed(tmp_path):
    write_model(tmp_path / "m.onnx", yolox(80))
    assert load(tmp_path).reading[:3] == ("yolox", 80, 0)
    write_model(tmp_path / "m.onnx", columns_turned(80, 2000))
    assert load(tmp_path).reading[:3] == ("columns", 80, 0)
    write_model(tmp_path / "m.onnx", yolox(3))
    assert load(tmp_path, names=NAMES).reading.layout == "yolox"
    assert load(tmp_path, names=[*NAMES, "fish"]).reading.layout == "columns"
    with pytest.raises(Unsupported, match=r"3 classes with an objectness, or of 4 classes.*names of its classes"):
        load(tmp_path)


@pytest.mark.parametrize("count", [1, 2])
def test_few_classes_are_not_taken_for_another_layout(tmp_path, count):
    names = NAMES[:count]
    write_model(tmp_path / "m.onnx", {"o": columns([(32, 32, 20, 10, 0, 0.9)], count)}, meta={"names": names})
    assert detect(load(tmp_path))["labels"] == ["cat"]


def test_end_to_end_head_with_one_class(tmp_path):
    outputs = final()
    outputs["output0"][0, 0, 5] = 0
    write_model(tmp_path / "m.onnx", outputs, meta={"names": {0: "cat"}})
    assert detect(load(tmp_path))["labels"] == ["cat"]


@pytest.mark.parametrize("meta", [{0: "cat", 1: "dog", 2: "it's"}, '["cat", "dog", "it\'s"]'])
def test_names_from_the_file(tmp_path, meta):
    write_model(tmp_path / "m.onnx", {"o": columns([])}, meta={"names": meta})
    assert detect(load(tmp_path))["model_classes"] == ["cat", "dog", "it's"]


def test_names_that_are_code_are_not_run(tmp_path):
    trap = tmp_path / "ran"
    write_model(tmp_path / "m.onnx", {"o": columns([])}, meta={"names": f"open({str(trap)!r}, 'w')"})
    assert detect(load(tmp_path))["model_classes"] == ["class 0", "class 1", "class 2"]
    assert not trap.exists()


def test_names_from_facts(tmp_path):
    write_model(tmp_path / "m.onnx", {"o": columns([])})
    (tmp_path / "facts.json").write_text(json.dumps({"names": NAMES}), encoding="utf-8")
    assert detect(load(tmp_path))["model_classes"] == NAMES


def test_wrong_number_of_names(tmp_path):
    write_model(tmp_path / "m.onnx", {"o": final()["output0"][:, :, [0, 1, 2, 3, 4, 5, 5, 5, 5, 5]]})
    with pytest.raises(CardError, match="names"):
        load(tmp_path, names=NAMES, layout="objectness")


def test_dynamic_input_is_cut_to_the_picture(tmp_path):
    write_model(tmp_path / "m.onnx", {"o": columns([(32, 16, 20, 10, 1, 0.9)])}, shape=(1, 3, "height", "width"))
    engine = load(tmp_path, names=NAMES, imgsz=SIDE)
    np.testing.assert_allclose(detect(engine, (50, 100))["boxes"], [[34.375, 17.19, 65.625, 32.81]], atol=0.02)


def test_half_precision_input(tmp_path):
    write_model(tmp_path / "m.onnx", {"o": columns([(32, 32, 20, 10, 1, 0.9)])}, dtype=TensorProto.FLOAT16)
    assert detect(load(tmp_path, names=NAMES))["labels"] == ["dog"]


def test_fields_of_the_task(tmp_path):
    rows = [(20, 20, 10, 10, 0, 0.9), (22, 20, 10, 10, 0, 0.8), (20, 20, 10, 10, 1, 0.7), (50, 50, 10, 10, 2, 0.2)]
    write_model(tmp_path / "m.onnx", {"o": columns(rows)})
    engine = load(tmp_path, names=NAMES)
    assert detect(engine)["labels"] == ["cat", "dog"]
    assert detect(engine, confidence=0.1)["labels"] == ["cat", "dog", "bird"]
    assert detect(engine, iou=0.9)["labels"] == ["cat", "cat", "dog"]
    assert detect(engine, classes=["dog"])["labels"] == ["dog"]
    assert detect(engine, max_detections=1)["labels"] == ["cat"]
    assert detect(engine, confidence=1)["boxes"] == []
    assert len(detect(engine, confidence=0, max_detections=1000)["boxes"]) == 3  # empty boxes are no boxes
    with pytest.raises(InvalidTask, match="bird"):
        detect(engine, classes=["brid"])
    with pytest.raises(InvalidTask):
        engine.run(Generate(), FakeReport())
    engine.close()


def test_boxes_stay_in_the_picture(tmp_path):
    write_model(tmp_path / "m.onnx", {"o": columns([(0, 0, 50, 50, 0, 0.9), (500, 500, 9, 9, 1, 0.9)])})
    assert detect(load(tmp_path, names=NAMES))["boxes"] == [[0.0, 0.0, 25.0, 25.0]]


def test_not_finite_boxes_are_left_out(tmp_path):
    write_model(tmp_path / "m.onnx", {"o": columns([(np.nan, 1, 2, 3, 0, 0.9), (np.inf, 1, 2, 3, 0, 0.9)])})
    assert detect(load(tmp_path, names=NAMES))["boxes"] == []


def test_broken_files(tmp_path):
    with pytest.raises(IntegrityError, match=r"no \.onnx"):
        load(tmp_path)
    with pytest.raises(IntegrityError, match="missing"):
        load(tmp_path, file="gone.onnx")
    whole = tmp_path / "m.onnx"
    write_model(whole, {"o": columns([])})
    content = whole.read_bytes()
    for wrong in (b"", b"not a network", content[: len(content) // 2]):
        whole.write_bytes(wrong)
        with pytest.raises(IntegrityError, match=r"m\.onnx"):
            load(tmp_path)


def test_two_files_need_a_choice(tmp_path):
    for name in ("a.onnx", "b.onnx"):
        write_model(tmp_path / name, {"o": columns([])})
    with pytest.raises(CardError, match=r"2 \.onnx"):
        load(tmp_path)
    assert load(tmp_path, file="b.onnx")


def test_networks_that_are_no_detectors(tmp_path):
    write_model(tmp_path / "m.onnx", {"probabilities": np.zeros((1, 1000), np.float32)})
    with pytest.raises(Unsupported, match="probabilities"):
        load(tmp_path)
    write_model(tmp_path / "m.onnx", {"o": columns([])}, shape=(1, 17))
    with pytest.raises(Unsupported, match="picture"):
        load(tmp_path)


@pytest.mark.parametrize("options", [{"mean": "grey"}, {"std": 0}, {"stride": -1}, {"imgsz": 0}, {"imgsz": [1, 2, 3]}])
def test_wrong_options(tmp_path, options):
    write_model(tmp_path / "m.onnx", {"o": columns([])}, shape=(1, 3, "height", "width"))
    with pytest.raises(CardError, match="tiny: "):
        load(tmp_path, names=NAMES, **options)


def test_preprocessing_of_yolox():
    image = np.zeros((2, 4, 3), np.uint8)
    image[..., 0] = 255
    prepared = Preprocess(size=(4, 4), std=(1, 1, 1), bgr=True, corner=True)
    tensor = prepared.tensor(image, prepared.fit(2, 4))
    np.testing.assert_array_equal(tensor[0, :, 0, 0], [0, 0, 255])
    np.testing.assert_array_equal(tensor[0, :, 3, 3], [114, 114, 114])


def test_preprocessing():
    image = np.zeros((2, 4, 3), np.uint8)
    image[..., 0], image[..., 2] = 255, 51
    prepared = Preprocess(size=(4, 4))
    tensor = prepared.tensor(image, prepared.fit(2, 4))
    np.testing.assert_allclose(tensor[0, :, 1, 0], [1, 0, 0.2], atol=1e-6)
    np.testing.assert_allclose(tensor[0, :, 0, 0], 114 / 255, atol=1e-6)
    plain = Preprocess(size=(2, 4), letterbox=False, mean=(127, 127, 127), std=(128, 128, 64), bgr=True)
    tensor = plain.tensor(image, plain.fit(2, 4))
    np.testing.assert_allclose(tensor[0, :, 0, 0], [(51 - 127) / 128, -127 / 128, 2], atol=1e-6)
