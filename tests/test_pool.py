import pytest

from studio.engines.base import ENGINES, EngineSpec
from studio.errors import OutOfMemory, Unsupported, WorkerDied
from studio.pool import Pool
from studio.tasks import Generate
from tests.fakes import DEVICE, paced_card

MB = 2**20
TASK = Generate(prompt="x", seed=1, steps=1, width=64, height=64)


@pytest.fixture(autouse=True)
def paced(monkeypatch):
    monkeypatch.setitem(ENGINES, "paced", EngineSpec("tests.fakes:PacedEngine", heavy=False))


@pytest.fixture
def pool(tmp_path):
    pool = Pool(400 * MB, lambda card: tmp_path, DEVICE, tmp_path, warm=False)
    yield pool
    pool.close()


def use(pool, card, prompt="x"):
    with pool.lease(card) as worker:
        worker.run(TASK.model_copy(update={"prompt": prompt}), {}, lambda *_: None, lambda: False)
        return worker.pid


def test_a_model_stays_loaded_between_leases(pool):
    card = paced_card()
    assert use(pool, card) == use(pool, card)
    assert list(pool.resident()) == ["paced"]


def test_the_least_recently_used_goes_first(pool):
    first, second, third = (paced_card(id_, megabytes=100, memory=150 * MB) for id_ in ("first", "second", "third"))
    use(pool, first)
    use(pool, second)
    use(pool, first)
    use(pool, third)
    assert sorted(pool.resident()) == ["first", "third"]


def test_too_large_is_said_before_loading(pool):
    with pytest.raises(OutOfMemory, match="needs about 500 MB") as caught, pool.lease(paced_card(memory=500 * MB)):
        pass
    assert "smaller model" in caught.value.hint
    assert pool.resident() == {}


def test_what_was_measured_is_predicted_from_then_on(pool, tmp_path):
    card = paced_card(megabytes=90)
    assert pool.predicted(card) == 60 * MB
    use(pool, card)
    assert pool.predicted(card) > 90 * MB
    assert Pool(400 * MB, lambda card: tmp_path, DEVICE, tmp_path).predicted(card) == pool.predicted(card)


def test_a_dead_worker_is_replaced(pool):
    card = paced_card()
    before = use(pool, card)
    with pytest.raises(WorkerDied):
        use(pool, card, "die")
    assert pool.resident() == {}
    assert use(pool, card) != before


def test_a_failed_load_leaves_the_others(pool):
    use(pool, paced_card())
    with pytest.raises(Unsupported), pool.lease(paced_card("bad", broken=True)):
        pass
    assert list(pool.resident()) == ["paced"]


def test_unload_all_leaves_no_process(pool):
    use(pool, paced_card())
    pool.unload_all()
    assert pool.resident() == {}


def test_unload_all_spares_the_running(pool):
    with pool.lease(paced_card()):
        pool.unload_all()
        assert list(pool.resident()) == ["paced"]
