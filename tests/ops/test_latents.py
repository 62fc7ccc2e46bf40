"""Latents in numpy: estimates of the finished picture, and its cheap preview."""

import numpy as np
import pytest

from studio.ops import latents


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_an_exact_network_gives_the_finished_latents(prediction):
    clean, noise = np.random.default_rng(0).standard_normal((2, 1, 4, 8, 8))
    a, s = 0.3**0.5, 0.7**0.5
    outputs = {"epsilon": noise, "v_prediction": a * noise - s * clean, "sample": clean}
    estimate = latents.denoised(a * clean + s * noise, outputs[prediction], 0.3, prediction)
    np.testing.assert_allclose(estimate, clean, atol=1e-6)


def test_a_fitted_map_finds_a_linear_decoder():
    weight = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)

    def decode(x):
        rgb = np.einsum("nchw,cd->ndhw", x, weight) + 0.25
        return rgb.repeat(8, axis=2).repeat(8, axis=3)

    found = latents.fit(decode, 6)
    np.testing.assert_allclose(found.weight, weight, atol=1e-4)
    np.testing.assert_allclose(found.bias, 0.25, atol=1e-4)


def test_only_vaes_that_are_known_have_a_published_map():
    assert latents.published(0.18215, 4) is not None
    assert latents.published(0.18215, 16) is None
    assert latents.published(1.0, 4) is None


def test_a_mask_keeps_its_smallest_spot_at_the_size_of_latents():
    mask = np.zeros((64, 48), bool)
    mask[17, 40] = True
    small = latents.cover(mask, 8, 6)
    assert small.shape == (1, 1, 8, 6)
    assert np.argwhere(small[0, 0]).tolist() == [[2, 5]]


def test_what_is_no_number_is_shown_as_gray_and_not_as_an_error():
    assert latents.pixels(np.full((1, 1, 3), np.nan, np.float32)).tolist() == [[[128, 128, 128]]]
