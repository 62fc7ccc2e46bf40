"""A picture in tiles is the picture at once, where the decoder looks no further than a tile."""

import itertools

import numpy as np
import pytest

from studio.ops import tiles


def enlarge(latents):
    """A decoder that looks at one latent at a time: (1, C, h, w) -> (1, 3, 4 h, 4 w)."""
    return latents[:, :3].repeat(4, axis=2).repeat(4, axis=3)


@pytest.mark.parametrize("size", [(8, 8), (20, 20), (16, 37), (9, 5), (33, 8)])
def test_tiles_make_the_same_picture(size):
    latents = np.random.default_rng(0).standard_normal((1, 4, *size)).astype(np.float32)
    seen = []

    def run(part):
        seen.append(part.shape[2:])
        return enlarge(part)

    np.testing.assert_allclose(tiles.decode(run, latents, 8), enlarge(latents), atol=1e-5)
    assert set(seen) == {(min(8, size[0]), min(8, size[1]))}  # one shape: a network is compiled once


def test_tiles_overlap_and_reach_the_end():
    for length, side in ((64, 16), (65, 16), (17, 16), (16, 16)):
        found = tiles.starts(length, side)
        assert found[0] == 0
        assert found[-1] == length - side
        assert all(b - a <= side * 0.8 for a, b in itertools.pairwise(found))


def test_no_seam_shows_where_tiles_disagree():
    """Each tile answers another brightness: between them it fades, it does not jump."""
    latents = np.zeros((1, 4, 8, 40), np.float32)
    count = iter(range(100))
    picture = tiles.decode(lambda part: np.full_like(enlarge(part), next(count)), latents, 8)
    assert np.abs(np.diff(picture[0, 0, 0])).max() < 0.5
