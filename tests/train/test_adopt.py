"""A run's model in the store: with the pictures inside it, or without, as its owner wants; it opens either way."""

import importlib
import json

import numpy as np
import pytest

from studio.cards import Card, Source
from studio.engines.base import ENGINES
from studio.errors import IntegrityError
from studio.studio import Studio
from studio.tasks import Explore, Train
from studio.train import adopt, recipes
from studio.train.diffusion_lab import Ddpm
from studio.train.options_diffusion import DiffusionOptions
from tests.fakes import DEVICE, FakeReport
from tests.train import coding, gan_data, test_gan

TRAINEES = {
    "vae": lambda: coding.trainee("vae"),
    "cvae": lambda: coding.trainee("cvae"),
    "vq-vae": lambda: coding.trainee("vq-vae"),
    "dcgan": lambda: test_gan.trainee("dcgan"),
    "cgan": lambda: test_gan.trainee("cgan"),
    "pix2pix": lambda: test_gan.trainee("pix2pix"),
    "ddpm": lambda: Ddpm(DiffusionOptions(size=16, width=16, batch=8), gan_data.discs(), 0),
}
LOOKS = {"vae": ("about", "map", "reconstruct", "anomaly"), "gan": ("samples", "step"), "diffusion-lab": ("sample",)}


@pytest.fixture
def studio(config):
    return Studio(config, DEVICE)


def finished(studio, name, data):
    """A run with the model that its trainee exports."""
    recipe = recipes.find(name)
    task = Train(recipe=name, run="new", steps=1, data=data)
    run = studio.runs.create(**adopt.record(task, recipe, "local"))
    folder = studio.runs.folder(run.id) / "model"
    folder.mkdir(parents=True)
    facts = TRAINEES[name]().export(folder)
    (folder / "facts.json").write_text(json.dumps(dict(facts)), encoding="utf-8")
    return studio.runs.update(run.id, state="finished", step=1)


def look(engine, folder, op):
    module, _, name = ENGINES[engine].target.partition(":")
    card = Card(id="x", title="X", tasks=("explore",), engine=engine, licence="x", source=Source(kind="none"))
    opened = getattr(importlib.import_module(module), name)(card, folder, DEVICE)
    return opened.run(Explore(op=op, args={"steps": 2} if op == "sample" else {}), FakeReport())


@pytest.mark.parametrize("name", TRAINEES)
def test_own_pictures_stay_behind_and_the_model_still_opens(studio, name):
    run = finished(studio, name, "upload:abc")
    card = studio.trainings.adopt(run.id)
    folder = studio.store.path(card)
    assert "Holds none of these pictures" in card.summary
    assert adopt.inside(folder, card.engine) == 0
    own = studio.runs.model(run.id)
    assert adopt.inside(own, card.engine) > 0, "the run itself keeps them"
    assert (folder / "model.safetensors").stat().st_size < (own / "model.safetensors").stat().st_size
    facts = json.loads((folder / "facts.json").read_text())
    assert not any(facts.get(count) for count in adopt.COUNTS)
    for op in LOOKS[card.engine]:
        found = look(card.engine, folder, op)
        assert found.images
        assert all(image.dtype == np.uint8 for image in found.images)


@pytest.mark.parametrize("name", ["vae", "dcgan", "ddpm"])
def test_they_go_along_when_asked_and_the_card_says_how_many(studio, name):
    run = finished(studio, name, "upload:abc")
    card = studio.trainings.adopt(run.id, pictures=True)
    count = adopt.inside(studio.store.path(card), card.engine)
    assert count > 0
    assert f"Holds {count} of these pictures" in card.summary


@pytest.mark.parametrize(("data", "held"), [("stickers:smileys", True), ("digits", True), ("library", False)])
def test_only_the_studios_own_go_along_by_default(studio, data, held):
    card = studio.trainings.adopt(finished(studio, "dcgan", data).id)
    assert (adopt.inside(studio.store.path(card), "gan") > 0) is held
    refused = studio.trainings.adopt(finished(studio, "dcgan", data).id, pictures=False)
    assert adopt.inside(studio.store.path(refused), "gan") == 0


def test_a_model_that_cannot_be_read_leaves_nothing_in_the_store(studio):
    run = finished(studio, "dcgan", "library")
    (studio.runs.model(run.id) / "facts.json").write_text("{")
    before = set(studio.store.cards())
    with pytest.raises(IntegrityError):
        studio.trainings.adopt(run.id)
    assert set(studio.store.cards()) == before
