"""Masks, run lengths and polygons: what goes in comes out, against pycocotools and against themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from studio.ops import masks as ops
from studio.ops import polygons, rle

MASKS = npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


def disc(size: int = 64, radius: float = 20, centre: tuple[float, float] = (32, 32)) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.hypot(x - centre[0], y - centre[1]) <= radius


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_run_lengths_agree_with_pycocotools(mask):
    coco = pytest.importorskip("pycocotools.mask")
    counts = rle.encode(mask)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.compress(counts) == theirs["counts"].decode()
    assert rle.decompress(theirs["counts"].decode()) == counts
    assert (rle.decode(counts, *mask.shape) == mask).all()


@given(st.lists(st.integers(0, 2**31 - 1), max_size=30))
def test_compressed_counts_come_back(counts):
    assert rle.decompress(rle.compress(counts)) == counts


@pytest.mark.parametrize("text", ["o", "é", "0\x7f", "0 "])
def test_broken_strings_are_refused(text):
    with pytest.raises(ValueError, match="run-length string"):
        rle.decompress(text)


def test_counts_must_fill_the_picture():
    with pytest.raises(ValueError, match="cover 5 pixels"):
        rle.decode([2, 3], 2, 2)
    with pytest.raises(ValueError, match="cover"):
        rle.decode([5, -1], 2, 2)


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_polygons_lose_nothing(mask):
    parts = polygons.from_mask(mask)
    assert (polygons.to_mask(parts, *mask.shape) == mask).all()
    assert sum(polygons.signed_area(ring) for part in parts for ring in part) == pytest.approx(mask.sum())
    assert all(polygons.signed_area(part[0]) > 0 for part in parts)
    assert all(polygons.signed_area(hole) < 0 for part in parts for hole in part[1:])


def test_a_hole_belongs_to_the_ring_around_it():
    mask = np.zeros((20, 30), bool)
    mask[1:15, 1:15] = True
    mask[3:13, 3:13] = False
    mask[5:11, 5:11] = True  # an island in the hole
    mask[7:9, 7:9] = False  # with a hole of its own
    mask[2:6, 20:24] = True
    assert [[polygons.signed_area(ring) for ring in part] for part in polygons.from_mask(mask)] == [
        [196, -100],
        [36, -4],
        [16],
    ]


@pytest.mark.parametrize("tolerance", [1.0, 2.0])
def test_simpler_rings_stay_close(tolerance):
    mask = disc(200, 80, (100, 100))
    ring = polygons.from_mask(mask, tolerance)[0][0]
    assert len(ring) < 0.35 * len(polygons.from_mask(mask)[0][0])
    distance = np.abs(np.hypot(*(ring - 100.5).T) - 80)
    assert distance.max() < 1.5
    assert ops.iou(polygons.to_mask([[ring]], 200, 200), mask) > 0.96


def test_box_and_area():
    mask = np.zeros((10, 20), bool)
    mask[2:5, 7:9] = True
    assert ops.box(mask).tolist() == [7, 2, 9, 5]
    assert ops.area(mask) == 6
    assert ops.boxes([mask, np.zeros_like(mask)]).tolist() == [[7, 2, 9, 5], [0, 0, 0, 0]]
    assert ops.boxes([]).shape == (0, 4)


def test_union_and_iou():
    a, b = disc(centre=(24, 32)), disc(centre=(40, 32))
    assert (ops.union([a, b]) == (a | b)).all()
    assert ops.iou(a, a) == 1
    assert ops.iou(np.zeros_like(a), np.zeros_like(a)) == 1


@pytest.mark.parametrize("radius", [1, 3, 7.5])
def test_grow_and_shrink_move_the_edge_by_the_radius(radius):
    assert np.sqrt(ops.area(ops.grow(disc(), radius)) / np.pi) == pytest.approx(20 + radius, abs=0.7)
    assert np.sqrt(ops.area(ops.shrink(disc(), radius)) / np.pi) == pytest.approx(20 - radius, abs=0.7)


@pytest.mark.parametrize("change", [ops.grow, ops.shrink])
@pytest.mark.parametrize("value", [True, False])
def test_a_mask_without_an_edge_stays(change, value):
    assert (change(np.full((5, 6), value), 2) == value).all()


def test_shrinking_leaves_the_pictures_border_alone():
    mask = np.zeros((10, 10), bool)
    mask[:, :6] = True
    assert ops.shrink(mask, 2)[:, :4].all()
    assert not ops.shrink(mask, 2)[:, 4:].any()


def test_feather_rises_across_the_edge():
    mask = np.zeros((20, 20), bool)
    mask[:, 10:] = True
    alpha = ops.feather(mask, 4)
    assert alpha.dtype == np.float32
    assert (np.diff(alpha, axis=1) >= 0).all()
    assert alpha[0, 9] == pytest.approx(0.375)
    assert alpha[0, 10] == pytest.approx(0.625)
    assert (ops.feather(mask, 0) == mask).all()


def test_holes_and_specks():
    mask = disc()
    mask[30:33, 30:33] = False  # 9 pixels
    mask[2, 2] = True
    assert ops.area(ops.fill_holes(mask)) == ops.area(mask) + 9
    assert ops.area(ops.fill_holes(mask, 8)) == ops.area(mask)
    assert ops.area(ops.remove_specks(mask, 2)) == ops.area(mask) - 1
    assert not ops.fill_holes(np.zeros((4, 4), bool)).any()
    assert not ops.remove_specks(np.zeros((4, 4), bool), 1).any()
    assert ops.remove_specks(np.ones((4, 4), bool), 1).all()


def test_stability_is_the_iou_of_two_thresholds():
    logits = np.zeros((3, 4, 4), np.float32)
    logits[0, :2] = 5  # sure
    logits[0, 2:] = -5
    logits[1] = np.array([5, 0.5, -0.5, -5])[:, None]  # unsure in the middle
    logits[2] = -9  # nothing
    assert ops.stability(logits).tolist() == pytest.approx([1, 1 / 3, 0])


def test_nms_keeps_the_best_of_each_heap():
    found = np.stack([disc(centre=(20, 32)), disc(centre=(21, 32)), disc(centre=(44, 32)), disc(centre=(44, 32))])
    assert ops.nms(found, np.array([0.5, 0.9, 0.7, 0.7]), 0.7).tolist() == [1, 2]
    assert ops.nms(found[:0], np.zeros(0), 0.7).tolist() == []
    assert sorted(ops.nms(found, np.ones(4), 1.0).tolist()) == [0, 1, 2, 3]


def test_a_cut_out_is_exact_and_hides_the_rest():
    image = np.random.default_rng(0).integers(1, 255, (64, 64, 3), np.uint8)
    made = ops.cut_out(image, disc())
    assert (made[..., 3] == disc() * 255).all()
    assert (made[disc(), :3] == image[disc()]).all()
    assert not made[~disc(), :3].any()
    assert ops.cut_out(image, disc(), crop=True).shape == (41, 41, 4)
    assert ops.cut_out(image, disc(), crop=True, feather_px=4).shape[0] > 41
    assert ops.cut_out(image, np.zeros((64, 64), bool), crop=True).shape == (64, 64, 4)


def test_drawing_tints_and_outlines_inside():
    image = np.full((64, 64, 3), 128, np.uint8)
    made = ops.draw(image, [disc()], edge_px=1)
    assert (made[~disc()] == 128).all()
    assert made[32, 12].tolist() == list(ops.colour(0))  # the leftmost pixel of the disc
    assert made[32, 32].tolist() not in ([128] * 3, list(ops.colour(0)))
    assert (image == 128).all()
    assert (ops.draw(image, []) == image).all()
    assert (ops.draw(image, [np.zeros((64, 64), bool)]) == image).all()


def test_neighbouring_colours_differ():
    colours = [ops.colour(i) for i in range(60)]
    assert len(set(colours)) == 60
    assert all(0 <= value <= 255 for colour in colours for value in colour)
