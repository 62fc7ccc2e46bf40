"""The shared panel of the labs: forms out of options, and the wire behind curves, samples and the open model."""

import dataclasses
import io
import json
import zipfile

import gradio as gr
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from apps import lab, learn, routes
from studio.config import Config
from studio.engines.base import Result
from studio.errors import StudioError
from studio.ops import pictures
from studio.studio import Studio
from studio.tasks import Train
from studio.train import adopt, recipes
from studio.train.options import Options
from tests.apps.fakes import own
from tests.fakes import DEVICE
from tests.train.tiny import RECIPE, TinyOptions


@pytest.fixture
def studio(config, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", RECIPE)
    (config.models / "train.toml").write_text(
        '[trainer]\ntitle = "Trainer"\ntasks = ["train"]\nengine = "trainer"\nlicence = "Apache-2.0"\n'
        'source = {kind = "none"}\n',
        encoding="utf-8",
    )
    return Studio(config, DEVICE)  # its jobs are not started: what is queued stays


@pytest.fixture
def client(studio):
    app = FastAPI()
    routes.add_handlers(app)
    app.include_router(routes.router(studio))
    return TestClient(app)


def trained(studio, **facts):
    """A run as a training leaves it."""
    task = Train(recipe="tiny", run="new", steps=10)
    run = studio.runs.create(**adopt.record(task, RECIPE, "local"))
    folder = studio.runs.folder(run.id)
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": k, "seconds": k / 2, "loss": 1 / (k + 1)}) + "\n" for k in range(10)),
        encoding="utf-8",
    )
    (folder / "samples" / "samples").mkdir(parents=True)
    (folder / "samples" / "samples" / "00000005.png").write_bytes(pictures.encode_png(np.zeros((8, 8, 3), np.uint8)))
    (folder / "model").mkdir()
    for name, text in (
        ("model.safetensors", "weights"),
        ("config.json", '{"size": 16}'),
        ("facts.json", '{"steps": 9}'),
    ):
        (folder / "model" / name).write_text(text)
    return studio.runs.update(run.id, **{"state": "finished", "step": 9, "total": 9, **facts})


# ── forms ────────────────────────────────────────────────────────────────────


def test_every_setting_of_every_recipe_has_a_control_that_fits():
    for family in ("vae", "gan", "diffusion-lab"):
        table = recipes.of_family(family)
        with gr.Blocks():
            form = lab.OptionsForm(table, "t-", next(iter(table)))
            form.rest()
        for name, recipe in table.items():
            changed = dict(zip(form.widgets, form.updates(name), strict=True))
            values = [changed[key].get("value", widget.value) for key, widget in form.widgets.items()]
            made = recipe.options.made(recipe.preset, form.chosen(name, values))
            expected = recipe.options.made(recipe.preset)
            for key in recipe.options.model_fields:
                if key not in recipe.hidden:
                    assert getattr(made, key) == getattr(expected, key), (name, key)
                    assert recipe.options.model_fields[key].description, (name, key)


def test_controls_follow_type_and_bounds():
    with gr.Blocks():
        made = {
            key: lab.widget(key, info, info.get_default(), True, key) for key, info in TinyOptions.model_fields.items()
        }
    assert isinstance(made["hidden"], gr.Slider)
    assert (made["hidden"].minimum, made["hidden"].maximum, made["hidden"].step) == (1, 64, 1)
    assert isinstance(made["rate"], gr.Number)
    assert isinstance(made["noise"], gr.Checkbox)
    assert isinstance(made["optimizer"], gr.Radio)
    assert isinstance(made["schedule"], gr.Dropdown)
    assert isinstance(made["augment"], gr.CheckboxGroup)
    assert made["size"].label == "Side, px"
    assert made["ema"].maximum < 1


def test_a_setting_of_another_recipe_is_not_sent():
    other = dataclasses.replace(RECIPE, options=Options)
    with gr.Blocks():
        form = lab.OptionsForm({"tiny": RECIPE, "other": other}, "t-", "tiny")
        form.rest()
    values = [widget.value for widget in form.widgets.values()]
    assert "hidden" in form.chosen("tiny", values)
    assert "hidden" not in form.chosen("other", values)


# ── the wire ─────────────────────────────────────────────────────────────────


def test_a_run_is_followed_by_what_is_new(studio, client):
    run = trained(studio)
    found = client.get(f"/face/run/{run.id}", params={"since": 7}).json()
    assert [row["step"] for row in found["curves"]] == [8, 9]
    assert found["samples"] == {"samples": [5]}
    assert found["model"]
    assert client.get(f"/face/run/{run.id}/sample/samples/5.png").headers["content-type"] == "image/png"
    assert client.get(f"/face/run/{run.id}/sample/samples/6.png").status_code == 404
    assert client.get("/face/run/nobody").status_code == 404


def test_runs_and_what_a_lab_can_open_are_listed(studio, client):
    run = trained(studio, options={"size": 16})
    assert [one["id"] for one in client.get("/face/runs").json()["runs"]] == [run.id]
    assert [one["id"] for one in client.get("/face/lab/vae").json()["runs"]] == [run.id]
    assert client.get("/face/lab/gan").json()["runs"] == []
    assert ["Side, px", "16"] in client.get(f"/face/run/{run.id}").json()["settings"], "in the words of the form"
    about = client.get(f"/face/explore/{run.id}").json()
    assert (about["kind"], about["recipe"], about["config"]) == ("run", "tiny", {"size": 16})


def test_a_public_page_lists_only_the_owners_runs(config, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", RECIPE)
    studio = Studio(Config(**{**config.model_dump(), "mode": "space"}), DEVICE)
    mine, _ = trained(studio), trained(studio)
    studio.runs.update(mine.id, owner="me")
    assert learn.visible(studio, None, "") == []
    assert [run.id for run in learn.visible(studio, None, "me")] == [mine.id]


def test_a_training_is_queued_paused_and_deleted(studio, client):
    run = studio.trainings.begin("tiny", options={"hidden": 4}, data="digits", steps=5)
    assert [job.task.run for job in studio.jobs.active()] == [run.id]
    assert client.get(f"/face/run/{run.id}").json()["state"] == "waiting"
    assert client.post(f"/face/run/{run.id}/delete").status_code == 400
    assert client.post(f"/face/run/{run.id}/pause").json()["state"] == "paused"
    assert studio.jobs.active() == []
    client.post(f"/face/run/{run.id}/continue", json={})
    assert [job.task.options["hidden"] for job in studio.jobs.active()] == [4]
    client.post(f"/face/run/{run.id}/pause")
    assert client.post(f"/face/run/{run.id}/delete").status_code == 200
    assert client.get("/face/runs").json()["runs"] == []


@pytest.mark.parametrize(
    ("wrong", "words"), [({"hidden": 0}, "hidden"), ({"colour": 1}, "colour"), ({"size": 1}, "size")]
)
def test_wrong_settings_are_named_and_leave_no_run(studio, wrong, words):
    with pytest.raises(StudioError, match=words):
        studio.trainings.begin("tiny", options=wrong)
    assert studio.runs.list() == []


def test_a_model_becomes_a_card_with_one_click(studio, client):
    run = trained(studio)
    card = client.post(f"/face/run/{run.id}/adopt", json={}).json()["card"]
    assert studio.card(card).engine == "vae"
    assert (studio.store.path(studio.card(card)) / "model.safetensors").read_text() == "weights"
    assert client.get(f"/face/run/{run.id}").json()["adopted"] == card
    assert [one["id"] for one in client.get("/face/lab/vae").json()["cards"]] == [card]


def test_exploring_answers_with_pictures_and_numbers(studio, client, monkeypatch):
    run = trained(studio)

    def explore(id_, op, args, **assets):
        return Result((np.zeros((4, 4, 3), np.uint8),), data={"op": op, **args})

    monkeypatch.setattr(studio, "explore", explore)
    found = client.post(f"/face/explore/{run.id}", json={"op": "decode", "args": {"z": [1]}}).json()
    assert found["images"][0].startswith("data:image/png;base64,")
    assert found["data"] == {"op": "decode", "z": [1]}
    monkeypatch.undo()
    assert client.post(f"/face/explore/{run.id}", json={"op": "../x"}).status_code == 400


def test_a_zip_is_looked_through_when_it_comes(studio, client):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for k in range(3):
            archive.writestr(f"{k}.png", pictures.encode_png(np.full((9, 9, 3), k, np.uint8)))
        archive.writestr("cut.jpg", b"\xff\xd8")
    found = client.post("/face/pictures", content=buffer.getvalue()).json()
    assert (found["pictures"], found["unread"], len(found["broken"])) == (3, 1, 1)
    assert found["fewest"] > 3, "the page says that these are too few"
    assert found["source"].startswith("upload:")
    assert client.post("/face/pictures", content=b"no zip").status_code in (400, 404)


@pytest.mark.parametrize(("mode", "offered"), [("local", True), ("space", True), ("kiosk", False)])
def test_a_kiosk_asks_for_no_folder(config, mode, offered):
    studio = Studio(Config(**{**config.model_dump(), "mode": mode}), DEVICE)
    with gr.Blocks():
        assert own(lab.picture_source("data", "digits", studio))["folders"] is offered


def test_augmentations_can_be_looked_at(client):
    answer = client.get("/face/augment", params={"names": "flip,rotate", "data": "digits", "size": 16})
    assert pictures.decode(answer.content).shape == (64, 128, 3)


def test_explanations_are_data_with_a_source_for_each_formula():
    for name, one in learn.texts().items():
        assert {"title", "text"} <= one.keys(), name
        assert set(one) <= {"title", "text", "formula", "source"}, name
