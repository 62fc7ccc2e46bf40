import pytest
import torch

from studio.nets.equalised import double, halve
from studio.nets.progressive import GrowingDiscriminator, GrowingGenerator, stage


def networks():
    torch.manual_seed(0)
    return GrowingGenerator(size=32, noise=8, width=4), GrowingDiscriminator(size=32, width=4)


@pytest.mark.parametrize(("detail", "side"), [(0, 4), (0.5, 8), (1, 8), (1.01, 16), (3, 32)])
def test_sides(detail, side):
    generator, discriminator = networks()
    pictures = generator(torch.randn(4, 8), detail)
    assert pictures.shape == (4, 3, side, side)
    assert discriminator(pictures, detail).scores.shape == (4,)


@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_a_stage_begins_as_the_one_before_enlarged(coarse):
    """In the limit of alpha 0."""
    generator, discriminator = networks()
    noise = torch.randn(4, 8)
    before = generator(noise, coarse)
    begun = generator(noise, coarse + 1e-6)
    assert torch.allclose(begun, double(before), atol=1e-4)
    assert torch.allclose(halve(begun), before, atol=1e-4)
    verdicts = discriminator(begun, coarse + 1e-6).scores, discriminator(before, coarse).scores
    assert torch.allclose(*verdicts, atol=1e-3)


def test_a_stage_that_is_whole_no_longer_uses_the_one_before():
    generator, _ = networks()
    noise = torch.randn(2, 8)
    whole = generator(noise, 2)
    generator.rgb[1].weight.data.zero_()
    assert torch.equal(generator(noise, 2), whole)
    assert not torch.allclose(generator(noise, 1.5), networks()[0](noise, 1.5))


def test_stages():
    assert [stage(d) for d in (0.0, 0.25, 1.0, 1.25, 2.0)] == [(0, 1.0), (1, 0.25), (1, 1.0), (2, 0.25), (2, 1.0)]
