"""The starter autoencoder's recipe: what its small parts promise."""

import pytest
import torch

from studio.train import autoencoder


@pytest.fixture
def net():
    torch.manual_seed(0)
    return autoencoder.network(width=8).eval()


def test_dead_branches_are_started_anew_and_the_picture_stays_the_same(net):
    latents = torch.randn(2, autoencoder.CHANNELS, 8, 8)
    branch = net.decoder.layers[3].conv
    with torch.no_grad():
        branch[2].bias.fill_(-100)  # far below its ReLU: no gradient comes back from there
        before = net.decoder(latents)
        assert autoencoder.revive(net.decoder, latents) == 1
        torch.testing.assert_close(net.decoder(latents), before)
    net.decoder(latents).square().mean().backward()
    assert branch[4].weight.grad.abs().sum() > 0
    assert autoencoder.revive(net.decoder, latents) == 0


def test_a_branch_that_works_is_left_alone(net):
    latents = torch.randn(2, autoencoder.CHANNELS, 8, 8)
    before = {name: value.clone() for name, value in net.decoder.state_dict().items()}
    assert autoencoder.revive(net.decoder, latents) == 0
    assert all(torch.equal(before[name], value) for name, value in net.decoder.state_dict().items())


def test_latents_are_standardised_and_decoded_pictures_unharmed(net):
    scenes = autoencoder.pool(6, seed=3)
    autoencoder.standardise(net, scenes)
    latents = autoencoder.encode(net, scenes)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(autoencoder.CHANNELS), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(autoencoder.CHANNELS), atol=1e-4, rtol=0)


def test_pictures_survive_the_way_to_tensors_and_back():
    scenes = autoencoder.pool(2, seed=3)
    assert (autoencoder.pictures(autoencoder.tensor(scenes)) == scenes).all()
    assert float(autoencoder.psnr(autoencoder.tensor(scenes), autoencoder.tensor(scenes)).min()) > 90
