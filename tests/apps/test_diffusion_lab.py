"""The Diffusion tab's functions, and that page, explanations and engine speak of the same things."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps import diffusion_lab
from studio.config import Config
from studio.studio import Studio
from tests.fakes import DEVICE

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = "".join((ROOT / "assets" / "face" / name).read_text() for name in ("difflab.js", "difflab-views.js"))


@pytest.fixture
def studio(config: Config) -> Iterator[Studio]:
    made = Studio(config, DEVICE)
    yield made
    made.close()


def test_words_are_looked_for_in_models_that_have_them(studio: Studio) -> None:
    offered = diffusion_lab.painters(studio)
    ready = {card.id: card for card in studio.cards("generate", ready=True)}
    assert all(ready[one["id"]].engine == "diffusion" and one["title"] for one in offered)


def test_every_explanation_the_page_asks_for_is_there_with_its_source() -> None:
    texts = tomllib.loads((ROOT / "assets" / "learn" / "diffusion.toml").read_text(encoding="utf-8"))
    asked = set(re.findall(r'explain\("([a-z_]+)"', SCRIPTS))
    assert asked
    assert asked == {name for name in texts if name.startswith("diffusion_")}
    for name in asked:
        assert texts[name]["title"]
        assert texts[name]["source"]


def test_every_operation_the_page_asks_for_exists() -> None:
    engine = (ROOT / "studio" / "engines" / "diffusion_lab.py").read_text()
    table = set(re.findall(r'^    "([a-z]+)": DiffusionLabEngine', engine, re.MULTILINE))
    asked = set(re.findall(r'(?:ask|drag)\("([a-z]+)"', SCRIPTS))
    assert asked == table


def test_curves_are_explained_by_the_names_the_trainee_gives_them() -> None:
    trainee = (ROOT / "studio" / "train" / "diffusion_lab.py").read_text()
    texts = tomllib.loads((ROOT / "assets" / "learn" / "diffusion.toml").read_text(encoding="utf-8"))
    for name in (name.removeprefix("curve_") for name in texts if name.startswith("curve_")):
        assert f'"{name}' in trainee, name
