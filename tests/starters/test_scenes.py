"""What a caption states is so."""

import numpy as np
import pytest
import torch

from studio.starters import clip, scenes, words
from studio.train.world import held_out


@pytest.mark.parametrize("style", [scenes.PAINTED, scenes.SEEN])
def test_captions_name_what_is_there(style):
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = scenes.draw(rng, style)
        there = {sprite.thing for sprite in scene.sprites}
        assert scene.caption
        assert 1 <= len(scene.sprites) <= scenes.SLOTS
        for word in scene.said.words:
            assert there & set(scenes.lexicon()[word])
        if scene.said.ground:
            assert scene.said.ground == scene.colour


def test_held_out_pairs_are_never_drawn():
    rng = np.random.default_rng(1)
    for _ in range(500):
        scene = scenes.draw(rng, scenes.PAINTED)
        if scene.colour:
            assert not any(held_out(words.things()[s.thing].name, scene.colour) for s in scene.sprites)


def test_what_is_painted_comes_first_in_the_table():
    assert words.things()[: len(words.painted())] == words.painted()
    assert all(thing.name for thing in words.things())


def test_a_caption_fits_its_own_picture_and_not_one_of_other_things():
    rng = np.random.default_rng(2)
    drawn = [scenes.draw(rng, scenes.SEEN) for _ in range(40)]
    fits = clip.fitting(torch.from_numpy(scenes.facts(drawn)).long(), clip.members())
    for i, scene in enumerate(drawn):
        if not scene.said.relation:
            assert fits[i, i], scene
    assert fits.float().mean() < 0.2
