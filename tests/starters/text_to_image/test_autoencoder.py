"""The autoencoder begins as a thumbnail, so that it never starts from the mean picture."""

import pytest
import torch
import torch.nn.functional as F

from studio.starters.text_to_image import autoencoder


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return autoencoder.network(widths=(8, 8))


def blocks(count: int = 4) -> torch.Tensor:
    """Pictures of 128 px that are plain in each square of 32 px, and two grades of colour across them."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return F.interpolate(coarse, scale_factor=autoencoder.SHRINK, mode="nearest")


@torch.no_grad()
def test_it_begins_better_than_the_mean_picture(net):
    wanted = blocks()
    made = net.decoder(net.encoder(wanted))
    mean = wanted.mean(dim=(2, 3), keepdim=True).expand_as(wanted)
    assert autoencoder.psnr(made, wanted) > autoencoder.psnr(mean, wanted) + 8


def test_a_gradient_reaches_every_stage(net):
    net.zero_grad()
    autoencoder.loss(net, blocks()).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None]
    assert not silent
    last = [name for name, p in net.named_parameters() if name.endswith("conv.4.weight") and not p.grad.any()]
    assert not last


@torch.no_grad()
def test_standard_latents_give_the_same_pictures(net):
    wanted = blocks()
    latents = net.encoder(wanted)
    before = net.decoder(latents)
    autoencoder.standardise(net, latents)
    after = net.encoder(wanted)
    assert after.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert (after.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
    inner = (..., slice(48, 80), slice(48, 80))
    # The decoder squashes its latents first, by tanh: wide channels come back a little changed.
    assert (net.decoder(after)[inner] - before[inner]).abs().mean() < 0.2
