"""Every kind of write on a disk that is full for a while; on a real one: `python -m tests.bench.full_disk`."""

import pytest

from studio.engines.base import ENGINES, EngineSpec
from studio.limits import LIMITS, Limits
from tests.bench.full_disk import Bench, ends, refusals
from tests.fakes import FullDisk


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "paced", EngineSpec("tests.fakes:PacedEngine", heavy=False))
    monkeypatch.setitem(LIMITS, "local", Limits(floor=0))
    (tmp_path / "elsewhere" / "models").mkdir(parents=True)
    bench = Bench(tmp_path / "home", tmp_path / "elsewhere")
    yield bench
    bench.studio.close()


def test_every_kind_of_write_is_refused_in_words_and_works_afterwards(bench, monkeypatch):
    disk = FullDisk(monkeypatch)
    said = refusals(bench, disk.fill, disk.free)
    assert set(said.values()) == {"DiskFull"}, said
    assert not list(bench.studio.config.home.rglob("*.part"))
    assert len(bench.studio.library.list()) == 1
    assert len(bench.studio.jobs.active()) == 1
    assert [card.id for card in bench.studio.cards() if card.source.kind == "imported"] == ["sam"]


def test_both_lanes_go_on_after_a_full_disk_and_every_end_is_right(bench, monkeypatch):
    disk = FullDisk(monkeypatch)
    found = ends(bench, disk.fill, disk.free)
    assert found == {"work": "failed, then done", "training": "done, then done", "run": "finished"}
