"""The starter world: the same seed draws the same scene, and what a scene says of itself is true."""

from __future__ import annotations

import numpy as np
import pytest

from studio.errors import Unsupported
from studio.train import world
from studio.train.world import COLOURS, DETECTOR_CLASSES, EXTRAS, MODES, THINGS, held_out, phrase, scene, sticker


def has_font() -> bool:
    try:
        world.font_path()
    except Unsupported:
        return False
    return True


needs_font = pytest.mark.skipif(not has_font(), reason="the Noto Color Emoji font is not installed")


def test_tables_are_consistent():
    everything = (*THINGS, *EXTRAS)
    assert len({t.name for t in everything}) == len({t.emoji for t in everything}) == len(everything)
    assert len(COLOURS) == 10
    assert 60 <= len(DETECTOR_CLASSES) <= 80
    assert all(t.coco in (None, t.detector) for t in everything)
    assert {t.detector for t in everything} - {None} == set(DETECTOR_CLASSES)


def test_about_a_tenth_of_the_pairs_is_held_out_and_no_thing_entirely():
    pairs = [[held_out(thing.name, colour) for colour in COLOURS] for thing in THINGS]
    assert 0.07 < np.mean(pairs) < 0.13
    assert max(map(sum, pairs)) <= 5


def test_phrase():
    assert [phrase(n) for n in ("owl", "pizza", "grapes", "unicorn")] == ["an owl", "a pizza", "grapes", "a unicorn"]


def test_missing_font_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv(world.FONT_ENV, str(tmp_path / "none.ttf"))
    with pytest.raises(Unsupported, match="fonts-noto-color-emoji"):
        world.font_path()


@needs_font
def test_sticker_is_cut_to_its_pixels():
    image = sticker("🍕", 64)
    assert image.mode == "RGBA"
    assert max(image.size) == 64
    assert image.getchannel("A").getbbox() == (0, 0, *image.size)


@needs_font
@pytest.mark.parametrize("mode", MODES)
def test_a_scene_is_its_seed_and_tells_the_truth(mode):
    for seed in range(20):
        one, two = scene(seed, mode=mode, size=96), scene(seed, mode=mode, size=96)
        assert one.picture.shape == (96, 96, 3)
        assert one.picture.dtype == np.uint8
        assert np.array_equal(one.picture, two.picture)
        assert one.caption == two.caption
        assert len(one.names) == len(one.classes) == len(one.boxes) == len(one.masks) >= 1
        assert one.masks.sum(0).max() <= 1, "what one thing covers is not another's"
        for box, mask in zip(one.boxes.astype(int), one.masks, strict=True):
            assert mask[box[1] : box[3], box[0] : box[2]].sum() == mask.sum()
        assert all(name in one.caption for name in one.names)


@needs_font
def test_training_scenes_show_no_held_out_pair():
    colours = {rgb: name for name, rgb in COLOURS.items()}
    for seed in range(150):
        for mode in ("portrait", "pair"):
            one = scene(seed, mode=mode, size=32)
            colour = colours[tuple(int(c) for c in one.picture[0, 0])]
            assert not any(held_out(name, colour) for name in one.names)


@needs_font
def test_scatter_uses_the_photos_it_is_given():
    photo = np.full((40, 60, 3), (1, 2, 3), np.uint8)
    scenes = [scene(seed, mode="scatter", size=48, photos=[photo]) for seed in range(20)]
    assert any((s.picture == (1, 2, 3)).all(-1).mean() > 0.2 for s in scenes)
