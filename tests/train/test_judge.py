"""The judge recognises what the world draws, and says so when it is something else."""

from __future__ import annotations

import numpy as np
import pytest

from studio.errors import Unsupported
from studio.train import judge, text_to_image, world


def has_font() -> bool:
    try:
        world.font_path()
    except Unsupported:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_font(), reason="the Noto Color Emoji font is not installed")


def test_it_recognises_portraits_even_noisy_ones():
    things, rng = world.THINGS[:12], np.random.default_rng(0)
    known = judge.templates(things)
    for i, thing in enumerate(things):
        colour = list(world.COLOURS)[i % len(world.COLOURS)]
        picture = world.portrait(thing, colour, rng).picture
        noisy = np.clip(picture + rng.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
        assert judge.background(noisy)[0] == colour
        assert judge.ranking(noisy, known)[0] == thing.name


def test_the_score_counts_things_and_backgrounds():
    things = world.THINGS[:8]
    known, rng = judge.templates(things), np.random.default_rng(1)
    pictures = [world.portrait(thing, "blue", rng).picture for thing in things]
    right = [(thing.name, "blue") for thing in things]
    wrong = [(thing.name, "red") for thing in things[4:] + things[:4]]
    assert text_to_image.score(pictures, right, known) == {
        "thing_top1_percent": 100.0,
        "thing_top5_percent": 100.0,
        "background_percent": 100.0,
    }
    assert text_to_image.score(pictures, wrong, known)["thing_top1_percent"] == 0.0
    assert text_to_image.score(pictures, wrong, known)["background_percent"] == 0.0


def test_held_out_pairs_are_held_out():
    pairs = text_to_image.held_out_pairs(100, 7)
    assert len(set(pairs)) == 100
    assert all(world.held_out(*pair) for pair in pairs)
