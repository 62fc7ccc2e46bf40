import torch

from studio.train.gan_measure import RandomFeatures, coverage, diversity, kernel_distance
from tests.train.gan_data import discs


def test_the_distance_orders_what_eyes_order():
    data = discs(240)
    pictures = data.batch(torch.randperm(240, generator=torch.Generator().manual_seed(0)).numpy())
    features = RandomFeatures(pictures)
    one, two = features(pictures[:120]), features(pictures[120:])
    noisy = features((pictures[:120] + 0.5 * torch.randn(pictures[:120].shape)).clamp(-1, 1))
    collapsed = features(pictures[:1].expand(120, -1, -1, -1))
    same = kernel_distance(one, two)
    assert abs(same) < 0.2
    assert kernel_distance(noisy, two) > same + 0.1
    assert kernel_distance(collapsed, two) > same + 0.5
    assert diversity(collapsed, two) < 1e-3
    assert abs(diversity(one, two) - 1) < 0.1
    assert coverage(collapsed, two) < 0.02 < coverage(one, two)


def test_features_are_the_same_in_every_run():
    pictures = discs().batch(range(8))
    assert torch.equal(RandomFeatures(pictures)(pictures), RandomFeatures(pictures)(pictures))
