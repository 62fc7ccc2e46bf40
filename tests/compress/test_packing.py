"""Packing: bytes as promised, errors within bounds, nothing changes the second time, nonsense is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from studio.compress import schemes
from studio.compress.packing import pack, round_trip, stored_bytes, unpack
from studio.compress.schemes import BF16, F16, F32, Scheme, asymmetric, parse, symmetric
from studio.errors import IntegrityError, InvalidTask, StudioError

FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
WEIGHTS = arrays(np.float32, array_shapes(min_dims=0, max_dims=4, max_side=9), elements=FLOATS)
GROUPED = st.one_of(
    st.builds(symmetric, st.integers(1, 8), st.sampled_from([2, 16, 32, 128])),
    st.builds(asymmetric, st.integers(2, 8), st.sampled_from([2, 16, 32, 128])),
)
PALETTES = st.builds(Scheme, st.just("palette"), st.integers(1, 8))
PRUNED = st.one_of(
    st.builds(Scheme, st.sampled_from(["sparse", "rows"]), st.integers(1, 99)), st.just(Scheme("n-of-m", 2, 4))
)
quick = settings(max_examples=120, deadline=None)


def steps(array, scheme):
    """How far a weight of each group may be from its code, without clipping."""
    flat = array.reshape(-1)
    groups = np.pad(flat, (0, -flat.size % scheme.group), mode="edge").reshape(-1, scheme.group).astype(np.float64)
    if scheme.kind == "asymmetric":
        width = np.maximum(groups.max(1), 0) - np.minimum(groups.min(1), 0)
        return groups, width / (2**scheme.bits - 1)
    return groups, np.abs(groups).max(1) / (
        (2**scheme.bits - 1) / 2 if scheme.bits <= 3 else 2 ** (scheme.bits - 1) - 1
    )


@quick
@given(WEIGHTS, GROUPED)
def test_groups_stay_within_half_a_step_and_what_a_scale_in_fp16_loses(array, scheme):
    back = round_trip(array, scheme)
    assert back.shape == array.shape
    assert back.dtype == np.float32
    if array.size == 0 or scheme.bits == 1:
        return
    groups, step = steps(array, scheme)
    again, _ = steps(back, scheme)
    again = np.pad(back.reshape(-1), (0, -back.size % scheme.group), mode="edge").reshape(groups.shape)
    error = np.sqrt(np.square(again - groups).mean(1))  # in the mean, since ranges may be clipped for it
    assert (error <= step * (0.5 + 2.0 ** (scheme.bits - 10)) + np.abs(array).max() * 2.0**-20).all()


@quick
@given(WEIGHTS, st.one_of(GROUPED, PALETTES, PRUNED, st.sampled_from([F32, F16, BF16])))
def test_what_is_quantized_stays_as_it_is(array, scheme):
    once = round_trip(array, scheme)
    assert np.array_equal(round_trip(once, scheme), once)


@quick
@given(WEIGHTS, st.one_of(GROUPED, st.builds(Scheme, st.just("palette"), st.integers(1, 8)), st.just(F16)))
def test_the_bytes_are_those_of_the_arithmetic(array, scheme):
    packed = pack(array, scheme)
    assert packed.bytes == stored_bytes(array.shape, scheme)


def test_one_bit_is_the_closed_form_optimum():
    row = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
    back = round_trip(row, symmetric(1, 64))
    scale = np.abs(row).mean()
    assert np.allclose(back, np.sign(row) * scale, rtol=1e-3)
    best = np.square(row - back).sum()
    assert all(np.square(row - np.sign(row) * scale * f).sum() >= best * 0.9999 for f in (0.9, 0.98, 1.02, 1.1))


@pytest.mark.parametrize(("wide", "narrow"), [(8, 6), (6, 5), (5, 4), (4, 3), (3, 2), (2, 1)])
def test_more_bits_err_less(wide, narrow):
    weights = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32)
    errors = [np.square(round_trip(weights, symmetric(width)) - weights).mean() for width in (wide, narrow)]
    assert errors[0] < errors[1] * 0.6


def test_fewer_bits_are_fewer_bytes():
    weights = np.ones((64, 4096), np.float32)
    ratios = {width: pack(weights, symmetric(width)).bytes / weights.nbytes for width in (8, 4, 2, 1)}
    assert ratios == {8: 0.265625, 4: 0.140625, 2: 0.078125, 1: 0.046875}


def test_zero_stays_zero_where_a_code_means_it():
    weights = np.random.default_rng(2).normal(1, 1, (8, 32)).astype(np.float32)
    weights[:, ::3] = 0
    for scheme in (symmetric(4), symmetric(8), asymmetric(2), asymmetric(4), Scheme("sparse", 50)):
        assert (round_trip(weights, scheme)[:, ::3] == 0).all(), scheme


def test_the_smallest_weights_go():
    weights = np.arange(1, 101, dtype=np.float32).reshape(10, 10)
    assert np.count_nonzero(round_trip(weights, Scheme("sparse", 30))) == 70
    assert (round_trip(weights, Scheme("rows", 30))[:3] == 0).all()
    assert (round_trip(weights, Scheme("rows", 30))[3:] == weights[3:]).all()
    pattern = round_trip(weights.reshape(25, 4), Scheme("n-of-m", 2, 4))
    assert (pattern[:, :2] == 0).all()
    assert (pattern[:, 2:] > 0).all()


def test_sparse_bytes_are_a_bitmap_and_what_stays():
    assert pack(np.random.default_rng(0).normal(size=(100, 80)), Scheme("sparse", 75)).bytes == 1000 + 2 * 2000


@pytest.mark.parametrize("value", [0, 17, "four", 4.5, -1, None, True, float("nan"), float("inf"), [4], 9])
def test_impossible_bits_are_refused(value):
    with pytest.raises(StudioError, match="cannot be stored"):
        schemes.bits(value)


def test_bits_as_text_are_a_number():
    assert schemes.bits("4") == 4


@pytest.mark.parametrize(
    "text", ["", "s0g32", "s17g32", "x4", "s4", "s4g1", "a1g32", "z0", "z100", "n4m2", "f12", "p9"]
)
def test_impossible_schemes_are_refused(text):
    with pytest.raises(InvalidTask):
        parse(text)


@pytest.mark.parametrize(
    "scheme", [F32, F16, BF16, symmetric(4), asymmetric(2), Scheme("n-of-m", 2, 4), Scheme("rows", 25)]
)
def test_a_scheme_is_read_back(scheme):
    assert parse(str(scheme)) == scheme


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scheme", [symmetric(4), F16, Scheme("palette", 4), Scheme("sparse", 50)])
def test_no_number_is_refused_by_name(bad, scheme):
    weights = np.ones((32, 32), np.float32)
    weights[3, 4] = bad
    with pytest.raises(IntegrityError, match=r"mid\.conv holds NaN"):
        pack(weights, scheme, "mid.conv")


def test_too_few_bytes_are_refused():
    packed = pack(np.ones((4, 32), np.float32), symmetric(4))
    with pytest.raises(IntegrityError):
        unpack(type(packed)(packed.scheme, (400, 32), packed.data))
