import pytest
import torch

from studio.nets.gan import ConvDiscriminator, ConvGenerator, DenseDiscriminator, DenseGenerator, levels
from studio.nets.pix2pix import PatchDiscriminator, UNet, sobel


@pytest.mark.parametrize("size", [16, 32, 64])
def test_shapes(size):
    noise = torch.randn(4, 8)
    for generator in (
        DenseGenerator(size=size, noise=8, width=4),
        ConvGenerator(size=size, noise=8, width=4),
    ):
        pictures = generator(noise)
        assert pictures.shape == (4, 3, size, size)
        assert pictures.abs().max() <= 1
        for discriminator in (DenseDiscriminator(size=size, width=4), ConvDiscriminator(size=size, width=4)):
            assert discriminator(pictures).scores.shape == (4,)


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "none"])
def test_the_condition_changes_picture_and_score(norm):
    torch.manual_seed(0)
    generator = ConvGenerator(size=16, noise=8, width=8, norm=norm, conditions=3).eval()
    discriminator = ConvDiscriminator(size=16, width=8, norm=norm, conditions=3, codes=5).eval()
    noise, (one, two) = torch.randn(1, 8), torch.eye(3)[:2, None]
    a, b = generator(noise, one), generator(noise, two)
    assert not torch.equal(a, b)
    assert not torch.equal(discriminator(a, one).scores, discriminator(a, two).scores)
    assert discriminator(a, one).codes.shape == (1, 5)


def test_an_emphasised_condition_moves_a_picture_as_far_as_other_noise_does():
    torch.manual_seed(0)
    generator = ConvGenerator(size=16, noise=64, width=8, conditions=3, emphasis=64**0.5)
    noise, classes = torch.randn(32, 64), torch.eye(3)[torch.arange(32) % 3]
    start = generator(noise, classes)
    by_class = (generator(noise, classes.roll(1, 0)) - start).square().mean()
    by_noise = (generator(noise.roll(3, 0), classes) - start).square().mean()
    assert by_class > 0.5 * by_noise


def test_one_group_is_layer_normalisation():
    features = torch.randn(2, 8, 4, 4) * 3 + 1
    norm = ConvDiscriminator(size=16, width=8, norm="layer").blocks[3]
    assert torch.allclose(
        norm(torch.cat([features, features], 1)).flatten(1).mean(1), norm.bias.mean().expand(2), atol=0.05
    )


def test_a_side_that_doubling_does_not_reach():
    with pytest.raises(ValueError, match="picture side"):
        levels(48)


def test_pix2pix_shapes():
    edges = torch.rand(2, 1, 32, 32) * 2 - 1
    pictures = UNet(size=32, width=8)(edges)
    assert pictures.shape == (2, 3, 32, 32)
    assert PatchDiscriminator(width=8)(pictures, edges).scores.shape == (2, 8, 8)
    with pytest.raises(ValueError, match="edges"):
        PatchDiscriminator(width=8)(pictures)


def test_sobel_draws_the_border_and_nothing_else():
    picture = -torch.ones(1, 3, 16, 16)
    picture[..., 8:] = 1
    for turned in (False, True):
        edges = sobel(picture.mT if turned else picture)[0, 0]
        edges = edges.mT if turned else edges
        dark = (edges == -1).all(0)
        assert int(dark.sum()) == 1, "a line is one pixel wide"
        assert int(dark.nonzero()) in (7, 8)
        assert torch.equal(edges[:, ~dark], torch.ones(16, 15))
    assert torch.equal(sobel(torch.zeros(1, 3, 8, 8)), torch.ones(1, 1, 8, 8))
