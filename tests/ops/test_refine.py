import numpy as np
import pytest

from studio.ops.refine import cut_out, is_degenerate, to_edges, touching


def disc(size, x, y, radius):
    rows, columns = np.mgrid[:size, :size]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.fixture
def scene():
    """A red disc on green, both a little noisy, and its true mask."""
    truth = disc(160, 80, 70, 34)
    noise = np.random.default_rng(0).integers(-12, 12, (160, 160, 3))
    picture = np.where(truth[..., None], [200, 40, 40], [60, 150, 70]) + noise
    return picture.clip(0, 255).astype(np.uint8), truth


def test_a_coarse_mask_finds_the_edge(scene):
    picture, truth = scene
    coarse = disc(160, 86, 74, 26)
    click = np.array([[80, 70]], np.float32)
    assert iou(coarse, truth) < 0.65
    assert iou(to_edges(picture, coarse, clicks=click), truth) > 0.95
    assert iou(to_edges(picture, coarse, box=(46, 36, 115, 105)), truth) > 0.95


def test_in_a_box_a_timid_answer_is_enough_and_a_sure_no_is_kept(scene):
    picture, truth = scene
    box = (46, 36, 115, 105)
    timid = np.full(truth.shape, -0.5, np.float32)
    assert iou(cut_out(picture, timid, box=box), truth) > 0.95
    timid[70:] = -9
    upper = cut_out(picture, timid, box=box)
    assert iou(upper[:68], truth[:68]) > 0.7
    assert upper[72:].mean() < 0.02


def test_a_box_is_never_left(scene):
    picture, _ = scene
    found = to_edges(picture, np.ones((160, 160), bool), box=(60, 50, 90, 90))
    outside = np.ones((160, 160), bool)
    outside[50:90, 60:90] = False
    assert not (found & outside).any()


def test_where_the_thing_surely_is_not_the_cut_does_not_go(scene):
    picture, truth = scene
    never = np.zeros_like(truth)
    never[:, 90:] = True  # a part of the red disc, though its colour is the thing's
    found = to_edges(picture, truth & ~never, clicks=np.array([[70, 70]], np.float32), never=never)
    assert not found[:, 91:].any()
    assert found[70, 60]


def test_a_click_chooses_its_part_and_keeps_its_word(scene):
    picture, truth = scene
    stray = truth | disc(160, 140, 140, 10)
    off = np.array([[80, 70], [70, 60]], np.float32)
    found = to_edges(picture, stray, clicks=off, labels=np.array([1, 0]))
    assert not found[140, 140]
    assert found[70, 80]
    assert not found[60, 70]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 3)])
@pytest.mark.parametrize("value", [0, 1])
def test_pictures_with_nothing_to_go_by_keep_their_mask(shape, value):
    mask = np.full(shape, bool(value))
    picture = np.zeros((*shape, 3), np.uint8)
    click = np.zeros((1, 2), np.float32)
    assert to_edges(picture, mask, clicks=click).shape == shape
    assert to_edges(picture, mask, box=(0, 0, shape[1], shape[0])).shape == shape


def test_large_pictures_are_cut_small_and_come_back_whole(scene):
    picture, truth = scene
    picture, truth = (np.repeat(np.repeat(a, 12, 0), 12, 1) for a in (picture, truth))
    found = to_edges(picture, disc(1920, 1000, 880, 300), clicks=np.array([[960, 840]], np.float32))
    assert iou(found, truth) > 0.94


def test_the_same_cut_twice(scene):
    picture, _ = scene
    first, second = (to_edges(picture, disc(160, 86, 74, 26), box=(40, 30, 120, 110)) for _ in range(2))
    assert (first == second).all()


def test_touching_keeps_all_where_no_click_hits():
    mask = disc(50, 10, 10, 5)
    assert (touching(mask, np.array([[40, 40]], np.float32)) == mask).all()
    assert (touching(mask, np.zeros((0, 2), np.float32)) == mask).all()


def test_a_cut_that_loses_the_thing_is_not_believed(scene, monkeypatch):
    picture, truth = scene
    box, click = (46, 36, 115, 105), np.array([[80, 70]], np.float32)

    def nothing_but_a_dot(colours, trimap, *_):
        trimap[:] = 0
        trimap[trimap.shape[0] // 2, trimap.shape[1] // 2] = 1

    monkeypatch.setattr("studio.ops.refine.cv2.grabCut", nothing_but_a_dot)
    for found in (to_edges(picture, truth, box=box), to_edges(picture, truth, clicks=click)):
        assert iou(found, truth) > 0.95


def test_a_box_in_which_the_network_sees_nothing_is_cut_by_its_colours(scene):
    picture, truth = scene
    box = (46, 36, 115, 105)
    dot = np.full(truth.shape, -3.0, np.float32)
    for dot[70, 80] in (-3.0, 3.0):  # nothing at all, and a single pixel
        assert iou(cut_out(picture, dot, box=box), truth) > 0.9


def test_what_shows_nothing():
    one = np.zeros((4, 4), bool)
    assert is_degenerate(one)
    one[1, 1] = True
    assert is_degenerate(one)
    one[1, 2] = True
    assert not is_degenerate(one)
    assert not is_degenerate(np.ones((1, 1), bool))
