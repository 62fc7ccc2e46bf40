"""A run's model outside the studio: loaded by MLflow itself, from the record alone."""

import json

import numpy as np
import pytest

from studio.errors import StudioError
from studio.tasks import Train
from studio.train import adopt, recipes, record
from studio.train.runs import Runs
from tests.train.coding import course, trainee

pytest.importorskip("mlflow", reason="MLflow is not installed")
pytest.importorskip("sqlalchemy", reason="MLflow's store needs sqlalchemy")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A VAE after a few steps, recorded; the run's own folder is gone, as on another machine."""
    import mlflow.pyfunc

    home = tmp_path_factory.mktemp("home")
    runs = Runs(home)
    task = Train(recipe="vae", run="new", steps=3, data="digits")
    run = runs.create(**adopt.record(task, recipes.find("vae"), "local"))
    one = trainee("vae")
    course(one, 3)
    folder = runs.folder(run.id) / "model"
    facts = one.export(folder)
    (folder / "facts.json").write_text(json.dumps(dict(facts)), encoding="utf-8")
    runs.update(run.id, state="finished", step=3)
    id_ = record.keep(home, runs, run.id)
    runs.delete(run.id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", record.store(home))
        yield mlflow.pyfunc.load_model(f"runs:/{id_}/model")


def test_it_paints_and_the_same_seed_paints_the_same(model):
    one, two, other = (model.predict({"op": "samples", "args": {"count": 4, "seed": seed}}) for seed in (1, 1, 2))
    assert one["images"][0].dtype == np.uint8
    assert np.array_equal(one["images"][0], two["images"][0])
    assert not np.array_equal(one["images"][0], other["images"][0])


def test_a_place_on_its_map_decodes(model):
    found = model.predict({"op": "decode", "args": {"axes": [0, 1], "values": [1.0, -1.0]}})
    assert found["images"][0].shape == (16, 16, 3)
    json.dumps(found["data"])


def test_what_it_cannot_do_is_refused_with_words(model):
    for op, args in (("reconstruct", {"a": "image"}), ("paint", {}), ("samples", {"count": -1})):
        with pytest.raises(StudioError) as caught:
            model.predict({"op": op, "args": args})
        assert caught.value.message.endswith(".")
