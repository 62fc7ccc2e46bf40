import time

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from apps import api, routes
from studio.ops import pictures
from studio.studio import Studio
from studio.tasks import TASKS
from tests.fakes import DEVICE

PICTURE = np.zeros((90, 120, 3), np.uint8)
PICTURE[20:70, 30:90] = (200, 40, 40)


@pytest.fixture
def client(config):
    studio = Studio(config.model_copy(update={"queue": 1}), DEVICE)
    studio.start()
    app = FastAPI()
    app.include_router(api.router(studio))
    routes.add_handlers(app)
    yield TestClient(app)
    studio.close()


def finish(client, job):
    while (now := client.get(f"/api/v1/jobs/{job['id']}").json())["state"] in ("queued", "running"):
        time.sleep(0.05)
    return now


def test_picture_to_mask_over_http(client):
    asset = client.post("/api/v1/assets?name=photo.png", content=pictures.encode_png(PICTURE)).json()
    answer = client.post("/api/v1/segment", json={"image": asset["id"], "box": [20, 10, 100, 80]})
    assert answer.status_code == 202
    job = finish(client, answer.json())
    assert job["state"] == "done", job["message"]
    artifact = client.get(f"/api/v1/artifacts/{job['artifact']}").json()
    assert artifact["parents"] == [asset["id"]]
    mask = client.get(f"/api/v1/artifacts/{job['artifact']}/mask")
    assert pictures.decode_mask(mask.content)[45, 60]


def test_several_files_come_as_a_zip(client):
    job = finish(client, client.post("/api/v1/generate?card=paced", json={"prompt": "x", "count": 1}).json())
    assert client.get(f"/api/v1/artifacts/{job['artifact']}/png").headers["content-type"] == "image/png"


def test_cancel_and_full_queue(client):
    slow = {"prompt": "slow", "steps": 150}
    first = client.post("/api/v1/generate", json=slow).json()
    while client.get(f"/api/v1/jobs/{first['id']}").json()["state"] == "queued":
        time.sleep(0.02)
    second = client.post("/api/v1/generate", json=slow).json()
    full = client.post("/api/v1/generate", json=slow)
    assert full.status_code == 429
    assert full.json()["hint"]
    for job in (second, first):
        client.post(f"/api/v1/jobs/{job['id']}/cancel")
        assert finish(client, job)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/api/v1/generate", {"steps": 0}, 400),
        ("/api/v1/paint", {}, 400),
        ("/api/v1/generate?card=nobody", {}, 404),
        ("/api/v1/detect", {"image": "f" * 64}, 404),
    ],
)
def test_errors_are_words_and_codes(client, path, body, code):
    answer = client.post(path, json=body)
    assert answer.status_code == code
    assert answer.json()["message"]
    assert answer.json()["hint"]


def test_a_bad_picture_is_refused(client):
    assert client.post("/api/v1/assets", content=b"text").status_code == 422


def test_schemas_and_models_are_listed(client):
    assert "guidance_scale" in client.get("/api/v1/tasks").json()["generate"]["properties"]
    assert {m["state"]["status"] for m in client.get("/api/v1/models").json()} == {"ready"}


def test_the_api_describes_itself(client):
    described = client.get("/openapi.json").json()
    assert "prompt" in str(described["paths"]["/api/v1/generate"]["post"]["requestBody"])
    assert {f"/api/v1/{kind}" for kind in TASKS} <= described["paths"].keys()
