import pytest

from studio.train.gan_warnings import warnings


def rows(count=200, **series):
    """Metrics a step; a series is a number, or a function of the step."""
    return [{k: (v(i) if callable(v) else v) for k, v in series.items()} | {"step": i} for i in range(count)]


GOOD = {"loss_d": 1.2, "loss_g": 0.9, "d_real": 0.6, "d_fake": 0.4, "grad_g": 1.0, "valid_diversity": 0.9}


def test_a_good_run_is_left_alone():
    assert warnings(rows(**GOOD)) == []
    assert warnings(rows(loss_d=-3.0, loss_g=2.0, critic_norm=1.02, grad_g=0.4)) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"loss_g": lambda i: float("nan") if i == 199 else 1.0}, "diverged"),
        ({"loss_g": lambda i: 1.0 + max(0, i - 100) ** 2}, "diverging"),
        ({"valid_diversity": 0.2}, "mode collapse"),
        ({"d_real": 0.99, "d_fake": 0.01}, "discriminator too strong"),
        ({"d_real": 0.5, "d_fake": 0.5}, "discriminator too weak"),
        ({"grad_g": lambda i: 1e-5 if i > 20 else 1.0}, "vanishing gradient"),
        ({"critic_norm": 4.0}, "penalty not kept"),
    ],
)
def test_each_trouble_is_named(change, name):
    found = warnings(rows(**{**GOOD, **change}))
    assert [one.name for one in found] == [name]
    assert found[0].sentence.endswith((".", "nobody."))
    assert found[0].advice


def test_nothing_is_said_too_early():
    assert warnings([]) == []
    assert warnings(rows(10, d_real=1.0, d_fake=0.0, loss_d=0.1, loss_g=9.0)) == []


def test_collapse_takes_two_looks():
    assert warnings(rows(**{**GOOD, "valid_diversity": lambda i: 0.1 if i == 199 else 0.9})) == []
