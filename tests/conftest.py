"""What all tests share: no connection leaves this machine, and real weights are found where they are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants  # noqa: F401 - reads the environment once, before an engine says "offline" in it
import hypothesis
import pytest

from studio.airgap import Airgap
from studio.config import Config
from studio.engines.base import ENGINES, EngineSpec

ROOT = Path(__file__).resolve().parent.parent

# The same examples in every run: a search for new ones is `pytest --hypothesis-profile default`.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def airgap() -> Iterator[Airgap]:
    """Connections to other machines fail in every test. Child processes of the studio block them themselves."""
    with Airgap() as gap:
        yield gap


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a test changes in the environment ends with it: engines tell their libraries there to stay offline."""
    with _environment():
        yield


@pytest.fixture(autouse=True, scope="module")
def environment_of_module() -> Iterator[None]:
    """The same for what the fixtures of a whole module change."""
    with _environment():
        yield


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Public weights and pictures that are not part of the project; see tests/README.md."""
    folder = Path(os.environ.get("STUDIO_TEST_WEIGHTS", ROOT.parent / "shared" / "weights"))
    if not (folder / "INDEX.md").exists():
        pytest.skip("real weights are not here; set STUDIO_TEST_WEIGHTS to their folder")
    return folder


_CARDS = """
[paced]
title = "Paced"
tasks = ["generate"]
engine = "paced"
licence = "Apache-2.0"
source = {kind = "none"}
memory = 62914560
defaults = {steps = 4, width = 64, height = 64}

[classic-faces]
title = "Faces"
tasks = ["detect"]
engine = "classic"
licence = "Apache-2.0"
source = {kind = "none"}
memory = 125829120
options = {method = "faces"}

[classic-grabcut]
title = "GrabCut"
tasks = ["segment"]
engine = "classic"
licence = "Apache-2.0"
source = {kind = "none"}
memory = 125829120
options = {method = "grabcut"}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A home of its own, with three models that need no weights: a paced fake generator and two classic ones."""
    monkeypatch.setitem(ENGINES, "paced", EngineSpec("tests.fakes:PacedEngine", heavy=False))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    models = tmp_path / "models"
    models.mkdir()
    (models / "test.toml").write_text(_CARDS, encoding="utf-8")
    return Config(home=tmp_path / "home", cache=tmp_path / "cache", models=models, prewarm=False, memory_mb=1000)
