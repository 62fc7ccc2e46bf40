"""Zips of pictures to learn from: looked through when they come, and kept within a share."""

import io
import os
import zipfile

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from apps import archives, routes
from studio.ops import pictures
from studio.studio import Studio
from studio.train.sources import uploads
from tests.fakes import DEVICE, FullDisk


@pytest.fixture
def studio(config):
    return Studio(config, DEVICE)


@pytest.fixture
def client(studio):
    app = FastAPI()
    routes.add_handlers(app)
    app.include_router(routes.router(studio))
    return TestClient(app)


def zipped(count, *more):
    """A zip of small pictures, and of other files: (name, bytes)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for k in range(count):
            archive.writestr(f"{k}.png", pictures.encode_png(np.full((9, 9, 3), k, np.uint8)))
        for name, data in more:
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_zip_is_looked_through_when_it_comes(client):
    found = client.post("/face/pictures", content=zipped(3, ("cut.jpg", b"\xff\xd8"))).json()
    assert (found["pictures"], found["unread"], len(found["broken"])) == (3, 1, 1)
    assert found["fewest"] > 3, "the page says that these are too few"
    assert found["source"].startswith("upload:")
    assert client.post("/face/pictures", content=b"no zip").status_code in (400, 404)


def test_a_zip_that_finds_no_room_is_refused_in_words_and_leaves_nothing(studio, client, monkeypatch):
    before = {path for path in studio.config.home.rglob("*") if path.is_file()}
    FullDisk(monkeypatch).fill()
    answer = client.post("/face/pictures", content=zipped(1))
    assert answer.status_code == 507
    assert "The disk is full" in answer.json()["message"]
    assert {path for path in studio.config.home.rglob("*") if path.is_file()} == before


def test_only_the_newest_are_kept_and_what_a_run_learns_from(studio, client, monkeypatch):
    monkeypatch.setattr(archives, "KEPT", 1)
    first = client.post("/face/pictures", content=zipped(1)).json()["source"]
    studio.runs.create(recipe="vae", family="vae", title="", data=first)
    client.post("/face/pictures", content=zipped(1))
    for file in uploads(studio.config.home).glob("*.zip"):
        os.utime(file, (1, 1))
    third = client.post("/face/pictures", content=zipped(1)).json()["source"]
    left = {f"upload:{file.stem}" for file in uploads(studio.config.home).glob("*.zip")}
    assert left == {first, third}
    archives.forget(studio, "somebody else")
    assert len(list(uploads(studio.config.home).glob("*.zip"))) == 2


def test_augmentations_can_be_looked_at(client):
    answer = client.get("/face/augment", params={"names": "flip,rotate", "data": "digits", "size": 16})
    assert pictures.decode(answer.content).shape == (64, 128, 3)
