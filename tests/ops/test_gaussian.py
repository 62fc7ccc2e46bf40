"""Seed for seed the same noise as torch's generator."""

import numpy as np
import pytest
import torch

from studio.ops.gaussian import Gaussian


@pytest.mark.parametrize("seed", [0, 1, 7, 12345, 2**32 - 1])
@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (16,), (17,), (1, 4, 9, 7), (3, 5, 31)])
def test_equals_torch(seed, shape):
    ours = Gaussian(seed).draw(shape)
    assert np.allclose(ours, torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy(), atol=2e-6)


def test_the_stream_goes_on_as_torchs_does():
    generator, stream = torch.Generator().manual_seed(3), Gaussian(3)
    for shape in [(1, 4, 8, 8), (5, 5), (64,)]:
        assert np.allclose(stream.draw(shape), torch.randn(shape, generator=generator).numpy(), atol=2e-6)


def test_too_few_numbers_are_refused():
    with pytest.raises(ValueError, match="16"):
        Gaussian(0).draw((15,))
