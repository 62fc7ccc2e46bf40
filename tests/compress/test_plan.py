import pytest

from studio.compress import plan
from studio.config import ROOT, Config
from studio.errors import OutOfMemory
from studio.weights.store import Store

MB = 2**20


@pytest.fixture
def starter(tmp_path):
    store = Store(Config(home=tmp_path / "home", cache=tmp_path / "cache"))
    card = store.cards()["starter-text-to-image"]
    return card, ROOT / "models" / card.source.path


def fast(card):
    place = {"runtime": "onnxruntime", "precision": "fp32"}
    return card.model_copy(update={"options": {**card.options, "fast": place}})


@pytest.mark.parametrize(("side", "measured"), [(512, 405), (768, 883), (1024, 1936)])
def test_a_pictures_memory_follows_its_size(starter, side, measured):
    """Measured in MB: the starter's graphs in a process of their own, one guided step."""
    card, folder = starter
    assert plan.need(fast(card), folder, side, side, 230 * MB, 64 * 2**30) / MB == pytest.approx(measured, rel=0.25)


def test_too_large_a_picture_is_refused_with_the_size_that_fits(starter):
    card, folder = starter
    with pytest.raises(OutOfMemory, match=r"2048 × 2048 px.*896 × 896 px would fit"):
        plan.need(fast(card), folder, 2048, 2048, 230 * MB, 1000 * MB)
    assert plan.need(fast(card), folder, 768, 768, 230 * MB, 1000 * MB) <= 1000 * MB


def test_without_a_size_the_models_own_counts(starter):
    card, folder = starter
    assert plan.need(fast(card), folder, None, None, 230 * MB, 1000 * MB) == 230 * MB


def test_torch_paints_it_in_tiles_where_it_has_to(starter):
    card, folder = starter
    assert plan.need(card, folder, 2048, 2048, 230 * MB, 1000 * MB) < 1000 * MB
