"""The networks of the VAE lab: shapes, and the identities their losses must keep."""

import math

import pytest
import torch

from studio.nets.coders import NETWORKS, build
from studio.nets.hvae import HierarchicalVae
from studio.nets.vae import Posterior, bernoulli_kl, gaussian_constant, gaussian_error, kl_per_latent
from studio.nets.vqvae import Codebook, Prior, VqVae, perplexity

torch.set_num_threads(1)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [16, 32, 64])
def test_shapes(network, size):
    net = build(network, {"size": size, "width": 8})
    x = torch.rand(2, 3, size, size) * 2 - 1
    codes = net.codes(x)
    made = net.pictures(codes)
    assert codes.shape == (2, net.code_size)
    assert made.shape == x.shape
    assert made.abs().max() <= 1
    drawn = net.draw(3, torch.Generator().manual_seed(0))
    assert drawn is None or drawn.shape == (3, net.code_size)


def test_kl_of_the_prior_itself_is_0():
    zero = torch.zeros(5, 7)
    assert torch.equal(kl_per_latent(Posterior(zero, zero)), zero)


def test_kl_agrees_with_torch_and_sums_over_latents():
    mean, log_variance = torch.randn(6, 4), torch.randn(6, 4)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, (0.5 * log_variance).exp()), normal(0.0, 1.0))
    found = kl_per_latent(Posterior(mean, log_variance))
    assert torch.allclose(found, wanted, atol=1e-5)
    whole = torch.distributions.Independent(normal(mean, (0.5 * log_variance).exp()), 1)
    prior = torch.distributions.Independent(normal(torch.zeros(6, 4), torch.ones(6, 4)), 1)
    assert torch.allclose(found.sum(dim=1), torch.distributions.kl_divergence(whole, prior), atol=1e-4)


def test_the_decoder_likelihood_agrees_with_torch():
    made, wanted = torch.rand(3, 3, 4, 4), torch.rand(3, 3, 4, 4)
    density = torch.distributions.Normal(made, 0.3).log_prob(wanted).flatten(1).sum(dim=1)
    assert torch.allclose(-(gaussian_error(made, wanted, 0.3) + gaussian_constant(48, 0.3)), density, atol=1e-3)


def test_reparameterised_samples_carry_gradients_and_have_the_moments():
    mean, log_variance = torch.full((20000, 1), 2.0, requires_grad=True), torch.full((20000, 1), math.log(9.0))
    drawn = Posterior(mean, log_variance).sample(torch.Generator().manual_seed(0))
    assert float(drawn.detach().mean()) == pytest.approx(2, abs=0.1)
    assert float(drawn.detach().std()) == pytest.approx(3, abs=0.1)
    drawn.sum().backward()
    assert torch.equal(mean.grad, torch.ones_like(mean))


def test_sparsity_is_0_at_its_target_and_grows_away_from_it():
    assert float(bernoulli_kl(0.05, torch.tensor(0.05))) == pytest.approx(0, abs=1e-7)
    assert float(bernoulli_kl(0.05, torch.tensor(0.5))) > float(bernoulli_kl(0.05, torch.tensor(0.1))) > 0
    assert torch.isfinite(bernoulli_kl(0.05, torch.tensor([0.0, 1.0]))).all()


# ── VQ ───────────────────────────────────────────────────────────────────────


def test_the_gradient_goes_straight_through():
    book = Codebook(8, 4)
    features = torch.randn(2, 4, 3, 3, requires_grad=True)
    weights = torch.randn(2, 4, 3, 3)
    (book(features).values * weights).sum().backward()
    assert torch.equal(features.grad, weights)


def test_quantised_values_are_the_nearest_codewords():
    book = Codebook(16, 4)
    features = torch.randn(2, 4, 3, 3)
    found = book(features)
    flat = features.permute(0, 2, 3, 1).reshape(-1, 4)
    assert torch.equal(found.indices.flatten(), torch.cdist(flat, book.words).argmin(dim=1))
    assert torch.allclose(found.values, book.look_up(found.indices), atol=1e-6)


def test_codewords_move_to_what_chose_them_and_the_dead_restart():
    torch.manual_seed(0)
    book = Codebook(6, 2, decay=0.5)
    book.words.copy_(torch.tensor([[0.0, 0], [5, 5], [90, 0], [0, 90], [90, 90], [-90, 0]]))
    book.sums.copy_(book.words)
    cloud = torch.cat([torch.randn(40, 2) * 0.1, torch.randn(40, 2) * 0.1 + 5])
    features = cloud.T.reshape(1, 2, 8, 10)
    generator = torch.Generator().manual_seed(0)
    restarted = [book.follow(features, book.nearest(features), generator) for _ in range(6)]
    assert sum(restarted) >= 4
    assert (book.words.abs() < 10).all()
    assert torch.unique(book.nearest(features)).numel() >= 3


def test_perplexity_counts_words_in_even_use():
    assert float(perplexity(torch.zeros(50, dtype=torch.long), 8)) == pytest.approx(1)
    assert float(perplexity(torch.arange(8).repeat(5), 8)) == pytest.approx(8, rel=1e-4)


def test_the_prior_does_not_look_ahead():
    torch.manual_seed(0)
    prior = Prior(8, 9, width=16, layers=1).eval()
    words = torch.randint(8, (1, 9))
    changed = words.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 8
    with torch.no_grad():
        a, b = prior(words), prior(changed)
    assert torch.allclose(a[:, :5], b[:, :5], atol=1e-5)
    assert not torch.allclose(a[:, 5:], b[:, 5:], atol=1e-5)


def test_an_untrained_prior_needs_about_log_k_nats():
    torch.manual_seed(0)
    net = VqVae(size=16, width=8, words=32)
    assert float(net.prior.nats(torch.randint(32, (8, 4, 4))).detach()) == pytest.approx(math.log(32), abs=0.8)


# ── hierarchy ────────────────────────────────────────────────────────────────


def test_the_hierarchy_decodes_its_own_code():
    torch.manual_seed(0)
    net = HierarchicalVae(size=32, width=8, latents=6, channels=2).eval()
    for p in net.parameters():
        p.data.add_(0.02 * torch.randn_like(p))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        passed = net(x, sample=False)
        assert torch.allclose(net.pictures(passed.code), passed.made, atol=1e-5)
        assert passed.kl.shape == passed.code.shape == (2, net.code_size)
        assert net.pictures(passed.code[:, :6]).shape == x.shape


def test_its_kl_is_0_where_the_posterior_is_the_prior():
    net = HierarchicalVae(size=16, width=8, latents=4, channels=2)
    net.to_top.weight.data.zero_()
    net.to_top.bias.data.zero_()
    assert float(net(torch.rand(2, 3, 16, 16)).kl.detach().abs().max()) == 0  # as it is initialised, all levels agree
