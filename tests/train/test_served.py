"""A run's model outside the studio: loaded by MLflow itself, from the record alone."""

import json
import os
import re
import subprocess
import sys

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
def recorded(tmp_path_factory):
    """Store and run in MLflow of a VAE after a few steps; the run's own folder is gone, as on another machine."""
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
    return record.store(home), f"runs:/{id_}/model"


@pytest.fixture(scope="module")
def model(recorded):
    import mlflow.pyfunc

    store, uri = recorded
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store)
        yield mlflow.pyfunc.load_model(uri)


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


ELSEWHERE = """
import importlib.util, json, sys
assert importlib.util.find_spec("studio") is None, "the repository is on the path"
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
found = model.predict({"op": "samples", "args": {"count": 4, "seed": 1}})
import studio
print(json.dumps([found["images"][0].shape, found["images"][0].tolist(), studio.__file__]))
"""


def test_it_loads_and_paints_where_the_repository_is_not(recorded, model, tmp_path):
    store, uri = recorded
    own = {"MLFLOW_TRACKING_URI": store, "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
    command = [sys.executable, "-c", ELSEWHERE, uri]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shape, pixels, origin = json.loads(done.stdout.splitlines()[-1])
    here = model.predict({"op": "samples", "args": {"count": 4, "seed": 1}})["images"][0]
    assert (tuple(shape), record.CODE in origin) == (here.shape, True)
    assert np.array_equal(np.array(pixels, np.uint8), here)


def test_its_packages_can_be_installed_from_a_public_index():
    assert re.fullmatch(r"([a-z-]+==[0-9.]+(rc\d+|post\d+)?\n)+", record.requirements())


def test_its_modules_are_the_same_bytes_each_time(tmp_path):
    one, two = (record.zip_modules(tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert one == two
