"""The table of precisions."""

import pytest

from studio.compress import precisions, quantize
from studio.compress.schemes import F16
from studio.errors import InvalidTask


def test_every_id_finds_itself_and_says_something():
    for one in precisions.offered():
        assert precisions.find(one.id) == one
        assert one.sentence.endswith(".")
        assert 0 < one.ratio <= 1
    ids = [one.id for one in precisions.offered()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "id", ["", "int17", "int0", "palette-", "palette-5", "palette-four", "pruned-0", "pruned-100", "pruned-4of2",
           "adaptive-0", "adaptive-17", "adaptive-four", "palette-4of2", None, 4, "int4 "]
)  # fmt: skip
def test_what_is_not_there_is_refused(id):
    with pytest.raises(InvalidTask):
        precisions.find(id)


def test_families_take_other_numbers():
    assert precisions.find("palette-8").bits == 3
    assert precisions.find("pruned-1of4").bits == 5
    assert precisions.find("adaptive-3").bits == 3.5


def test_vectors_and_small_arrays_keep_fp16():
    int4 = precisions.find("int4")
    assert int4.scheme((64,)) == F16
    assert int4.scheme((8, 8)) == F16
    assert str(int4.scheme((64, 64))) == "s4g32"
    with pytest.raises(InvalidTask):
        precisions.find("int8").scheme((64, 64))


def test_what_is_packed_says_so_and_what_a_runtime_computes_with_does_not():
    told = {one.id for one in precisions.offered() if one.in_memory == "fp32 in memory"}
    assert {"int4", "int4-asym", "int2", "gguf-q4_0", "palette-16", "adaptive-4", "pruned-50"} <= told
    assert not told & {"fp32", "fp16", "bf16", "int8", "int8-weights", "int4-weights"}


def test_every_native_way_is_made():
    made = {(runtime, id_) for runtime, id_ in precisions.NATIVE if runtime != "torch"}
    assert made == set(quantize.WAYS)


def test_floats_are_computed_in_what_the_variant_is_called():
    assert precisions.arithmetic("openvino", "bf16") == precisions.arithmetic("torch", "bf16") == "bf16"
    for name in ("openvino-fp32", "openvino-int8", "openvino-fp16", "onnxruntime-bf16", "torch-fp32"):
        assert precisions.arithmetic(*name.split("-")) == "fp32", name
