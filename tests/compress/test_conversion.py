"""Conversions are whole or not there, checked, and refused with words where they cannot be."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from studio.cards import Card, Source
from studio.compress import convert, graphs, quantize, samples
from studio.compress.conversion import _check, _part
from studio.compress.networks import Networks, Place
from studio.compress.parts import Part
from studio.compress.variants import FACTS, VERSION, PartFile, Variants, key_of, split_name
from studio.device import probe
from studio.errors import Cancelled, InvalidImage, InvalidTask, OutOfMemory, Unsupported
from studio.ops.pictures import encode_png
from studio.runtimes.base import Settings, runtime
from tests.compress.jobs import convolutional

ABOUT = Part("network", ("images",), ("output0",), tolerance8=0.2)


def card(engine="yolo", **options):
    return Card(
        id="small",
        title="Small",
        tasks=("detect",),
        engine=engine,
        licence="Apache-2.0",
        source=Source(kind="none"),
        options=options,
    )


def network(file, scale=1.0, wild=False):
    """Two convolutions and a product with a constant: (1, 3, 64, 64) -> (1, 6, 16, 16)."""
    rng = np.random.default_rng(0)

    def weights(name, *shape):
        values = rng.standard_normal(shape).astype(np.float32) * 0.2 * scale
        if wild:
            values[:] = np.inf
        return numpy_helper.from_array(values, name)

    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["images", "a"], ["x"], name="one", **window),
        helper.make_node("Relu", ["x"], ["y"], name="two"),
        helper.make_node("Conv", ["y", "b"], ["z"], name="three", **window),
        helper.make_node("Mul", ["z", "c"], ["output0"], name="four"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 16, 16])],
        [weights("a", 16, 3, 3, 3), weights("b", 6, 16, 3, 3), weights("c", 1, 6, 16, 16)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))
    return file


@pytest.fixture
def job(tmp_path):
    return convolutional("network", network(tmp_path / "network.onnx"), tmp_path)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("onnxruntime-fp32", 1e-6),
        ("onnxruntime-fp16", 1e-3),
        ("onnxruntime-int8", 0.1),
        ("openvino-fp32", 1e-4),
        ("openvino-fp16", 2e-3),
        ("onnxruntime-int8-weights", 0.02),
        ("openvino-int8-weights", 0.02),
        ("openvino-int4-weights", 0.2),
        ("onnxruntime-int4", 0.2),
        ("openvino-int4", 0.2),
        ("onnxruntime-int1", 1.0),
        ("onnxruntime-palette-16", 0.2),
        ("onnxruntime-pruned-50", 1.0),
        ("onnxruntime-pruned-2of4", 1.0),
        ("onnxruntime-gguf-q8_0", 0.02),
        ("onnxruntime-gguf-q4_0", 0.2),
        ("onnxruntime-adaptive-4", 0.2),
        ("onnxruntime-hierarchical-4", 0.2),
    ],
)
def test_every_way_makes_a_file_that_runs(job, name, limit):
    target, precision = split_name(name)
    made = _part(job, target, precision, ABOUT)
    assert (job.out / made.file).is_file()
    assert made.error <= limit
    assert (made.runtime, made.precision) == (target, precision)


def test_bf16_is_made_where_the_processor_computes_in_it(job):
    if not probe().computes("bf16"):
        with pytest.raises(Unsupported, match="does not compute in bf16 on this processor"):
            _part(job, "openvino", "bf16", ABOUT)
        return
    exact, rounded = (_part(job, "openvino", precision, ABOUT).error for precision in ("fp32", "bf16"))
    assert exact < 1e-5 < rounded < 0.02


def product(file):
    """A product with weights that are transposed first: (1, 4, 64) -> (1, 4, 96)."""
    weights = np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["images", "t"], ["output0"], name="product"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, width])
             for name, width in (("images", 64), ("output0", 96))]  # fmt: skip
    graph = helper.make_graph(nodes, "product", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))
    return file


@pytest.mark.parametrize("name", ["onnxruntime-int4-weights", "openvino-int4-weights"])
def test_four_bits_stay_four_bits_in_memory(name, job, tmp_path):
    source = product(tmp_path / "network.onnx")
    feeds = [{"images": np.random.default_rng(k).standard_normal((1, 4, 64)).astype(np.float32)} for k in range(4)]
    made = _part(job._replace(source=source, feeds=feeds), *split_name(name), ABOUT)
    assert (made.weights, made.note) == ("", "")  # no packed file that would be unpacked to fp32
    assert 0.001 < made.error < 0.2
    assert 0.01 < made.layers["w"] < 0.2


@pytest.mark.parametrize("name", ["onnxruntime-int8", "openvino-int8", "onnxruntime-fp32", "openvino-fp32"])
def test_a_squeezed_part_answers_the_same(name, job):
    made = _part(job, *split_name(name), ABOUT)
    before = [runtime(made.runtime).load(job.out / made.file, Settings()).run(feed) for feed in job.feeds[:2]]
    size = sum(file.stat().st_size for file in job.out.iterdir())
    squeezed = quantize.squeezed(job.out, made)
    facts = {
        "version": VERSION,
        "runtime": made.runtime,
        "precision": made.precision,
        "parts": {"network": vars(squeezed)},
    }
    (job.out / FACTS).write_text(json.dumps(facts))
    place = Place(made.runtime, made.precision, job.out)
    session = Networks("yolo", job.out, place, Settings()).open("network")
    for feed, wanted in zip(job.feeds, before, strict=False):
        assert np.allclose(session.run(feed)["output0"], wanted["output0"], atol=1e-5)
    assert sum(file.stat().st_size for file in job.out.iterdir() if file.name != FACTS) < size


def test_packed_files_are_small(job):
    whole = sum(array.nbytes for array in graphs.weights_of(graphs.read(job.source)).values())
    for precision, share in (("int8-weights", 0.35), ("int4", 0.25), ("int2", 0.22)):
        made = quantize.packed(job, "onnxruntime", precision)
        assert (job.out / made.weights).stat().st_size < share * whole + 1200, precision  # arrays too small to pack
        assert (job.out / made.file).stat().st_size < 2500


def test_what_is_quantized_is_not_quantized_again(job):
    quantize.onnx_int8(job)
    again = job._replace(source=job.out / "network.onnx", out=job.source.parent)
    for way in (quantize.onnx_int8, quantize.openvino_int8, lambda j: quantize.packed(j, "openvino", "int4")):
        with pytest.raises(Unsupported, match="already"):
            way(again)


def test_nan_is_refused(job, tmp_path):
    wild = job._replace(source=network(tmp_path / "network.onnx", wild=True))
    made = quantize.onnx_fp32(wild)
    with pytest.raises(Unsupported, match="NaN"):
        _check(wild, made, ABOUT, "fp32")


def test_more_than_the_tolerance_is_refused_or_done_gently(job):
    made = quantize.onnx_int8(job)
    strict = Part("network", ("images",), ("output0",), tolerance8=1e-6)
    with pytest.raises(Unsupported, match="tolerated"):
        _check(job, made, strict, "int8")
    gentle = _part(job, "onnxruntime", "int8", strict)
    assert gentle.precision == "int8-weights"
    assert "stays in int8-weights" in gentle.note


def test_bits_that_do_not_exist(tmp_path):
    for name in ("onnxruntime-int0", "onnxruntime-int17", "onnxruntime-four", "openvino-", "fast-int8", "int8"):
        with pytest.raises(InvalidTask):
            convert.make(card(), tmp_path, "x", name, Variants(tmp_path))
    with pytest.raises(InvalidTask, match="nothing to convert"):
        convert.make(card(), tmp_path, "x", "torch-fp32", Variants(tmp_path))
    with pytest.raises(Unsupported, match="no network"):
        convert.make(card(engine="classic"), tmp_path, "x", "openvino-int8", Variants(tmp_path))


def begin_and_stop(variants):
    with variants.stage("small", "k", "openvino-int8") as stage:
        (stage / "network.xml").write_text("half")
        raise Cancelled


def test_nothing_half_written_is_listed(tmp_path):
    variants = Variants(tmp_path)
    with pytest.raises(Cancelled):
        begin_and_stop(variants)
    assert variants.found("small", "k") == []
    assert not list((tmp_path / "variants" / "small" / "k").iterdir())
    with variants.stage("small", "k", "openvino-int8") as stage:
        (stage / "network.xml").write_text("whole")
        variants.describe(stage, "openvino-int8", {"network": PartFile("network.xml", "openvino", "int8")})
    found = variants.get("small", "k", "openvino-int8")
    assert found is not None
    assert (found.name, found.bytes) == ("openvino-int8", 5)
    (found.folder / "network.xml").unlink()
    assert variants.found("small", "k") == []


def test_cancelling_a_conversion_leaves_nothing(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    network(folder / "model.onnx")

    def stop(step, total, phase):
        raise Cancelled

    with pytest.raises(Cancelled):
        convert.make(card(), folder, "x", "onnxruntime-fp32", Variants(tmp_path), stop)
    assert Variants(tmp_path).found("small", key_of(card(), "x")) == []


def test_a_model_too_large_for_the_machine(monkeypatch, tmp_path):
    from studio.compress import conversion

    class Memory:
        available = 100

    monkeypatch.setattr(conversion.psutil, "virtual_memory", lambda: Memory)
    with pytest.raises(OutOfMemory, match="MB are free"):
        conversion._check_memory(card(), {"network": network(tmp_path / "n.onnx")})


def test_calibration_pictures(tmp_path):
    tiny = tmp_path / "tiny.png"
    tiny.write_bytes(encode_png(np.zeros((1, 1, 3), np.uint8)))
    with pytest.raises(InvalidImage, match="1×1"):
        samples.for_card(card(), tmp_path, 4, [tiny])
    with pytest.raises(InvalidImage, match="cannot be read"):
        samples.for_card(card(), tmp_path, 4, [tmp_path / "none.png"])
    odd = tmp_path / "odd.png"
    odd.write_bytes(encode_png(np.zeros((40, 300, 3), np.uint8)))
    assert len(samples.for_card(card(), tmp_path, 4, [odd])) == 1
    assert len(samples.for_card(card(), tmp_path, 3)) == 3  # none given: scenes, or the examples


def test_strip_and_assemble(job):
    model = graphs.read(job.source)
    weights = graphs.weights_of(model)
    bare = graphs.strip(model, set(weights))
    assert graphs.is_bare(bare)
    data = graphs.assemble(bare, weights).SerializeToString()
    session = runtime("onnxruntime").load(job.source, Settings(), lambda: data)
    whole = runtime("onnxruntime").load(job.source, Settings())
    assert np.array_equal(session.run(job.feeds[0])["output0"], whole.run(job.feeds[0])["output0"])
