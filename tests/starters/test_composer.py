"""Scenes composed on the training device say truly what is in them."""

import numpy as np
import pytest
import torch

from studio.starters.atlas import CELL, COUNTS, MARGIN, PHOTO, Atlas
from studio.starters.composer import WORLD, Composer, Mixture
from studio.starters.scenes import WILD, Batch, Ground, Scene, Sprite
from studio.starters.words import TINTS


@pytest.fixture(scope="module")
def composer():
    return Composer(small_atlas(), ("square", "bar"), torch.device("cpu"), seed=3)


def small_atlas() -> Atlas:
    """A red square, a blue bar, a green square without a class, and two photographs, one with regions."""
    stickers = np.zeros((3, CELL, CELL, 4), np.uint8)
    inner = slice(MARGIN, CELL - MARGIN)
    stickers[0, inner, inner] = 255, 0, 0, 255
    stickers[1, 48:80, inner] = 0, 0, 255, 255
    stickers[2, inner, inner] = 0, 255, 0, 255
    photographs = np.full((2, PHOTO, PHOTO, 3), 128, np.uint8)
    photographs[:, :, PHOTO // 3 :] = 40
    regions = np.zeros((2, len(COUNTS), PHOTO, PHOTO), np.uint8)
    regions[0, :, :, PHOTO // 3 :] = 1
    aspects = np.ones(2, np.float32)
    return Atlas(stickers, ("red", "blue", "green"), ("square", "bar", None), photographs, aspects, regions, 1)


def test_the_same_seed_draws_the_same(composer):
    first, again = (composer.seeded(5).draw(4, 64, Mixture()) for _ in range(2))
    assert torch.equal(first.pictures, again.pictures)
    assert torch.equal(first.owner, again.owner)


def test_boxes_surround_what_is_seen(composer):
    scenes = composer.seeded(1).draw(16, 64, WORLD)
    assert scenes.seen.any()
    for i, n in scenes.seen.nonzero().tolist():
        rows, columns = np.nonzero((scenes.owner[i] == n).numpy())
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert scenes.boxes[i, n].tolist() == box


def test_a_things_pixels_have_its_colour(composer):
    scenes = composer.seeded(2).draw(16, 64, WORLD)
    red = (scenes.classes == 0) & scenes.seen
    assert red.any()
    for i, n in red.nonzero().tolist():
        colours = scenes.pictures[i][:, scenes.owner[i] == n]
        assert colours[0].median() > 0.5
        assert colours[1:].median() < 0.2


def test_an_empty_scene_holds_nothing_with_a_class(composer):
    scenes = composer.seeded(3).draw(16, 64, Mixture(empty=1.0))
    assert (scenes.classes == -1).all()
    assert (scenes.kinds != 0).all()


def test_regions_of_a_photograph_lie_where_its_pixels_say(composer):
    mixture = Mixture(count=(0, 1), plain=0, empty=1.0, photo=1.0, mapped=True, developed=0.0)
    scenes = composer.seeded(4).draw(12, 64, mixture)
    assert scenes.mapped.all()
    layers = scenes.kinds.shape[1]
    for picture, owner in zip(scenes.pictures, scenes.owner, strict=True):
        light, dark = picture[0][owner == layers], picture[0][owner == layers + 1]
        for part, level in ((light, 128 / 255), (dark, 40 / 255)):
            if len(part):
                assert abs(float(part.median()) - level) < 0.05


def test_a_scene_is_painted_where_and_as_it_says(composer):
    plain = Ground((0, 0, 255), (0, 0, 255), (0, 0, 255))
    told = [
        Scene((Sprite(0, 0.25, 0.5, 0.25),), plain, "red on blue"),
        Scene((Sprite(0, 0.75, 0.5, 0.25, tint=TINTS.index("green")),), plain, "green on blue"),
        Scene((), Ground((0, 0, 0), (0, 255, 0), (255, 0, 0), 0.3, 0.6), "three bands"),
    ]
    first, second, third = composer.paint(Batch.of(told), 64)
    assert first[:, 32, 16].tolist() == pytest.approx([1, 0, 0], abs=0.05)
    assert first[:, 32, 48].tolist() == pytest.approx([0, 0, 1], abs=0.01)
    red, green, _ = second[:, 32, 48].tolist()
    assert green > 0.25
    assert red < 0.5
    assert third[:, [5, 30, 60], 10].argmax(0).tolist()[1:] == [1, 0]
    assert third[:, 5, 10].max() == 0


def test_wild_grounds_are_drawn_by_the_composer(composer):
    one, other = composer.seeded(9).paint(Batch.of([Scene((), WILD, "")] * 2), 32)
    assert not torch.equal(one, other)
