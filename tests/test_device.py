"""What a processor can, told from the system's own words."""

import pytest

from studio.device import Device, features_of, processor_name

AMX = "processor : 0\nmodel name : Xeon\nflags\t\t: fpu avx2 avx512_vnni avx512_bf16 amx_bf16 amx_int8\n"
PLAIN = "processor : 0\nmodel name : Core\nflags\t\t: fpu sse4_2 avx2\n"


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        (AMX, {"vnni", "amx", "bf16"}),
        (AMX.replace(" amx_bf16 amx_int8", ""), {"vnni", "bf16"}),
        ("flags : avx_vnni\n", {"vnni"}),
        (PLAIN, set()),
        ("", set()),
    ],
)
def test_features_of_a_processor(cpuinfo, features):
    assert features_of(cpuinfo) == features


def test_a_name_is_always_there():
    assert processor_name(AMX) == "Xeon"
    assert processor_name("")


def test_bf16_is_computed_where_the_processor_can():
    old, new = (Device("x", 2, 2**30, "cpu", features_of(text)) for text in (PLAIN, AMX))
    assert [old.computes(one) for one in ("fp32", "int8", "bf16")] == [True, True, False]
    assert all(new.computes(one) for one in ("fp32", "int8", "bf16"))
