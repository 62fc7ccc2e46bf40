"""The cards that ship: readable, licensed, and true about what runs here."""

import re
from pathlib import Path

import pytest

from studio.cards import load_cards, read_cards
from studio.config import Config
from studio.tasks import KINDS, make_task
from studio.weights.cardfile import to_toml
from studio.weights.fetch import Hub
from studio.weights.hubcache import Repo, safe_name
from studio.weights.obstacles import obstacle
from studio.weights.shipped import sealed
from studio.weights.store import Store

MODELS = Path(__file__).resolve().parents[2] / "models"
CARDS = load_cards(MODELS)
HUB = [card for card in CARDS.values() if card.source.kind == "hub"]

every_card = pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
every_hub_card = pytest.mark.parametrize("card", HUB, ids=lambda card: card.id)


@every_card
def test_a_card_says_what_it_is_and_under_which_licence(card):
    assert card.summary.endswith(".")
    assert card.licence
    assert card.licence_url.startswith("https://")
    assert set(card.tasks) <= set(KINDS)


@every_card
def test_every_card_has_an_engine_that_runs_it(card):
    assert obstacle(card) == ""


@every_card
def test_defaults_are_fields_of_the_task(card):
    picture = {"image": "0" * 64}
    needed = {"detect": picture, "segment": picture, "explore": {"op": "x"}, "train": {"recipe": "vae", "run": "a-run"}}
    make_task(card.tasks[0], {**needed.get(card.tasks[0], {}), **card.defaults})


@every_card
def test_a_card_survives_being_written(card, tmp_path):
    (tmp_path / "card.toml").write_text(to_toml(card), encoding="utf-8")
    assert read_cards(tmp_path / "card.toml") == [card]


@every_hub_card
def test_a_download_names_its_files_and_no_pickle_stays_one(card):
    Repo(Path("cache"), card.source.repo)
    assert card.source.include
    for pattern in card.source.include:
        safe_name(pattern)
        assert "convert" in card.options or not re.search(r"\.(pt|pth|bin|ckpt|pkl)$|^\*", pattern)
    if "convert" in card.options:
        assert len(card.source.include) == 1
    for name, digest in card.sha256.items():
        assert name in card.source.include
        assert re.fullmatch(r"[0-9a-f]{64}", digest)


@every_hub_card
def test_names_of_classes_are_all_different(card):
    names = card.options.get("names", ())
    assert len(set(names)) == len(names)


WANTED = "sd-turbo sd15 sdxs lcm sdxl-turbo yolo11 yolo26 rtdetr dfine rfdetr sam-vit-b mobile-sam"


@pytest.mark.parametrize("word", WANTED.split())
def test_what_people_use_is_listed(word):
    assert any(id_.startswith(word) for id_ in CARDS)


def test_the_shipped_ones_come_first_and_are_ready_without_a_network(tmp_path):
    config = Config(home=tmp_path / "home", cache=tmp_path / "cache", models=MODELS, offline=True)
    store = Store(config, hub=Hub(offline=True, cache=tmp_path / "hub"))
    shipped = [card.is_shipped for card in store.cards().values()]
    assert shipped == sorted(shipped, reverse=True)
    for card in store.cards().values():
        expected = {"none": "ready", "hub": "absent"}.get(card.source.kind)
        if card.source.kind == "builtin" and (MODELS / card.source.path).is_dir():
            expected = "ready"
        assert expected is None or store.state(card).status == expected


def test_shipped_weights_are_sealed_and_whole():
    folders = [card.source.path for card in CARDS.values() if card.source.kind == "builtin"]
    there = [name for name in folders if (MODELS / name).is_dir()]
    if not there:
        pytest.skip("the starter weights are not here yet")
    for name in there:
        known = sealed(MODELS, name)
        found = {path.relative_to(MODELS / name).as_posix() for path in (MODELS / name).rglob("*") if path.is_file()}
        assert set(known) == found, f"models/{name} differs from checksums.json; run: python app.py models seal"
