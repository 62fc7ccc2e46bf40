import torch
import torch.nn.functional as F

from studio.nets.equalised import pixel_norm, spread
from studio.nets.stylegan2 import ResidualDiscriminator, StyledConv, StyleGenerator, truncate


def network():
    torch.manual_seed(1)
    net = StyleGenerator(size=32, noise=16, style=16, width=8).eval()
    for layer in net.synthesis.layers:
        layer.strength.data.fill_(0.3)
    return net


def test_shapes_and_layers():
    net = network()
    assert net(torch.randn(3, 16)).shape == (3, 3, 32, 32)
    assert net.synthesis.sides() == [4, 8, 8, 16, 16, 32, 32]
    assert ResidualDiscriminator(size=32, width=8)(torch.randn(4, 3, 32, 32)).scores.shape == (4,)


def test_demodulation_restores_unit_variance():
    torch.manual_seed(0)
    conv = StyledConv(64, 32, 16)
    w = torch.randn(8, 16) * 5  # strong styles
    out = conv(torch.randn(8, 64, 32, 32), w)[:, :, 1:-1, 1:-1]
    deviation = out.detach().std((2, 3))
    assert abs(float(deviation.mean()) - 1) < 0.05
    plain = StyledConv(64, 32, 16, demodulate=False)(torch.randn(8, 64, 32, 32), w)
    assert float(plain.detach().std((2, 3)).std()) > 3 * float(deviation.std())


def test_scaling_the_input_is_scaling_the_weights():
    """The paper's grouped convolution with weights per picture gives the same numbers."""
    torch.manual_seed(0)
    conv, x, w = StyledConv(6, 5, 4), torch.randn(3, 6, 8, 8), torch.randn(3, 4)
    weights = conv.scale * conv.weight[None] * conv.style(w)[:, None, :, None, None]
    weights = weights * torch.rsqrt(weights.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    expected = torch.cat([F.conv2d(x[k : k + 1], weights[k], padding=1) for k in range(3)])
    assert torch.allclose(conv(x, w), expected, atol=1e-5)


def test_mixing_a_style_with_itself_is_plain():
    net = network()
    w = net.mapping(torch.randn(2, 16))
    plain = net.synthesis(net.styles(w))
    for crossover in range(net.synthesis.count + 1):
        assert torch.equal(net.synthesis(net.styles(w, w, crossover)), plain)
    other = net.mapping(torch.randn(2, 16))
    assert not torch.allclose(net.synthesis(net.styles(w, other, 3)), plain)
    assert torch.equal(net.styles(w, other, 0), net.styles(other))


def test_truncation_ends():
    net = network()
    net.mapping.mean.fill_(0.5)
    w = net.mapping(torch.randn(2, 16))
    assert torch.equal(truncate(w, net.mapping.mean, 0.0), net.mapping.mean.expand(2, -1))
    assert torch.allclose(truncate(w, net.mapping.mean, 1.0), w)


def test_noise_is_fixed_at_use_and_drawn_in_training():
    net = network()
    styles = net.styles(net.mapping(torch.randn(1, 16)))
    assert torch.equal(net.synthesis(styles), net.synthesis(styles))
    drawn = [net.synthesis(styles, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_collapsed_batch_shows_in_the_spread():
    same, different = torch.ones(4, 2, 4, 4), torch.randn(4, 2, 4, 4)
    assert float(spread(same)[:, -1].max()) < 1e-3
    assert float(spread(different)[:, -1].min()) > 0.3
    assert torch.allclose(pixel_norm(different).square().mean(1), torch.ones(4, 4, 4), atol=1e-4)
