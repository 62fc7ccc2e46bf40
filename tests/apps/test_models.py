"""The Models tab: what it lists, what it does, and what each mode refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors.numpy import save_file

from apps import catalogue, routes
from apps.catalogue import Catalogue
from studio.config import Config
from studio.errors import InvalidTask, NotAllowed, NotFound, OfflineError
from studio.studio import Studio
from studio.weights.shipped import seal
from tests.engines.test_yolo import columns, write_model
from tests.fakes import DEVICE

SIZE = 3 * 2**20
HUB = """
[far-away]
title = "Far away"
tasks = ["detect"]
engine = "yolo"
licence = "CC-BY-NC-4.0"
licence_url = "javascript:alert(1)"
commercial = false
size = 123456
source = {kind = "hub", repo = "someone/far-away"}

[shipped]
title = "Shipped"
tasks = ["detect"]
engine = "yolo"
licence = "Apache-2.0"
source = {kind = "builtin", path = "shipped"}
"""


def weights(fill: bytes = b"\0") -> bytes:
    """A safetensors file of 3 MiB."""
    head = json.dumps({"w": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    return len(head).to_bytes(8, "little") + head + fill * SIZE


def make(config: Config, **changes: object) -> Studio:
    (config.models / "hub.toml").write_text(HUB, encoding="utf-8")
    (config.models / "shipped").mkdir(exist_ok=True)
    (config.models / "shipped" / "model.safetensors").write_bytes(weights())
    return Studio(config.model_copy(update=changes), DEVICE)


@pytest.fixture
def studio(config: Config) -> Iterator[Studio]:
    made = make(config)
    yield made
    made.close()


@pytest.fixture
def client(studio: Studio) -> TestClient:
    app = FastAPI()
    routes.add_handlers(app)
    app.include_router(routes.router(studio))
    return TestClient(app)


def test_models_stand_by_task_with_those_on_this_device_first(studio: Studio) -> None:
    groups = {group["task"]: group["models"] for group in Catalogue(studio).overview()["groups"]}
    assert [row["id"] for row in groups["detect"]] == ["shipped", "classic-faces", "far-away"]
    assert [row["status"] for row in groups["detect"]] == ["ready", "ready", "absent"]
    far = groups["detect"][-1]
    assert far["commercial"] is False
    assert far["size"] == 123456
    assert far["licence_url"] == ""


def test_the_disk_line_knows_what_is_used_and_the_budget(studio: Studio) -> None:
    usage = Catalogue(studio).overview()["usage"]
    assert usage["builtin"] == len(weights())
    assert usage["hub"] == 0
    assert usage["budget"] == 30_000_000_000


def test_details_list_files_with_their_hashes(studio: Studio) -> None:
    (studio.config.models / "shipped" / "facts.json").write_text('{"classes": ["cup"], "metrics": {"mAP50": 0.9}}')
    known = Catalogue(studio).details("shipped")
    assert known["classes"] == ["cup"]
    assert {file["name"] for file in known["files"]} == {"model.safetensors", "facts.json"}
    assert all(len(file["sha256"]) == 64 for file in known["files"])
    assert Catalogue(studio).details("far-away")["files"] == []
    with pytest.raises(NotFound):
        Catalogue(studio).details("nothing")


@pytest.mark.parametrize(("mode", "refused"), [
    ("kiosk", ("fetch", "verify", "pin", "unpin", "remove", "unload", "cancel")),
    ("space", ("verify", "pin", "unpin", "remove", "unload")),
])  # fmt: skip
def test_a_public_page_refuses_changes(config: Config, mode: str, refused: tuple[str, ...]) -> None:
    studio = make(config, mode=mode)
    shelf = Catalogue(studio)
    for name in refused:
        with pytest.raises(NotAllowed):
            shelf.act(name, "far-away")
    with pytest.raises(NotAllowed):
        shelf.make_room()
    with pytest.raises(NotAllowed):
        shelf.bring(Path("model.onnx"), "")
    assert not shelf.overview()["can"]["import"]
    studio.close()


def test_offline_nothing_is_fetched_and_the_page_is_told(config: Config) -> None:
    studio = make(config, offline=True)
    shelf = Catalogue(studio)
    assert shelf.overview()["offline"] is True
    for ask in (lambda: shelf.act("fetch", "far-away"), lambda: shelf.plan("far-away")):
        with pytest.raises(OfflineError):
            ask()
    studio.close()


def test_unknown_actions_and_models_are_refused(studio: Studio) -> None:
    with pytest.raises(InvalidTask):
        Catalogue(studio).act("explode", "shipped")
    with pytest.raises(NotFound):
        Catalogue(studio).act("pin", "nothing")
    with pytest.raises(NotAllowed):
        Catalogue(studio).act("remove", "shipped")


def test_a_check_runs_beside_and_tells_how_far_it_is(studio: Studio) -> None:
    shelf = Catalogue(studio)
    shelf.act("verify", "shipped")
    deadline = time.monotonic() + 20
    while (check := shelf.checks.get("shipped")) and check.state == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert check is not None
    assert check.state == "done"
    assert check.done == check.total == len(weights())


def test_a_check_finds_a_flipped_bit(studio: Studio) -> None:
    shelf = Catalogue(studio)
    seal(studio.config.models)
    (studio.config.models / "shipped" / "model.safetensors").write_bytes(weights(b"\1"))
    shelf.act("verify", "shipped")
    deadline = time.monotonic() + 20
    while (check := shelf.checks.get("shipped")) and check.state == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert check is not None
    assert check.state == "failed"
    assert "model.safetensors" in check.message
    row = next(row for group in shelf.overview()["groups"] for row in group["models"] if row["id"] == "shipped")
    assert row["status"] == "damaged"


def test_a_download_is_started_followed_and_cancelled(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()

    def pull(card: object, progress: object) -> Path:
        progress(10, 100, 5.0)  # type: ignore[operator]
        hold.wait(10)
        progress(20, 100, 4.0)  # type: ignore[operator]
        return Path()

    monkeypatch.setattr(studio.downloads, "_pull", pull)
    shelf = Catalogue(studio)
    shelf.act("fetch", "far-away")
    shelf.act("cancel", "far-away")
    hold.set()
    deadline = time.monotonic() + 10
    while studio.downloads.get("far-away").state == "running" and time.monotonic() < deadline:  # type: ignore[union-attr]
        time.sleep(0.02)
    assert studio.downloads.get("far-away").state == "cancelled"  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "plain"), [
    ("model.onnx", "model.onnx"), ("../../etc/passwd", "passwd"), ("C:\\weights\\a b.pt", "a b.pt"), ("", "model"),
    ("...", "model"), ("ü\n.safetensors", "model.safetensors"),
])  # fmt: skip
def test_file_names_lead_nowhere(name: str, plain: str) -> None:
    assert catalogue.plain_name(name) == plain


def test_a_file_that_is_no_model_is_refused_in_two_sentences_and_leaves_nothing(
    client: TestClient, studio: Studio
) -> None:
    answer = client.post("/face/models/import?name=notes.onnx", content=b"shopping list")
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert answer.json()["hint"]
    assert list((studio.config.cache / "inbox").iterdir()) == []
    assert len(studio.cards()) == 5


def test_an_import_says_what_it_is_and_why_it_cannot_run(client: TestClient, studio: Studio, tmp_path: Path) -> None:
    save_file({"*": np.zeros((2, 768), np.float32)}, tmp_path / "cat.safetensors")
    body = (tmp_path / "cat.safetensors").read_bytes()
    (said,) = client.post("/face/models/import?name=cat.safetensors", content=body).json()["cards"]
    assert said["summary"] == "A textual inversion for SD 1.x, 2 vectors."
    assert said["reason"].startswith("Kept, but nothing here can run it yet: ")
    rows = [row for group in Catalogue(studio).overview()["groups"] for row in group["models"]]
    (row,) = [row for row in rows if row["id"] == "cat"]
    assert (row["status"], row["reason"], row["runs"]) == ("unusable", said["reason"], False)
    assert Catalogue(studio).details("cat")["files"]


def test_an_import_of_a_detector_may_name_its_classes(client: TestClient, studio: Studio, tmp_path: Path) -> None:
    write_model(tmp_path / "pets.onnx", {"output0": columns([], 2)})
    body = (tmp_path / "pets.onnx").read_bytes()
    refused = client.post("/face/models/import?name=pets.onnx&classes=cat", content=body)
    assert (refused.status_code, "2 classes apart" in refused.json()["message"]) == (400, True)
    (said,) = client.post("/face/models/import?name=pets.onnx&classes=cat,dog", content=body).json()["cards"]
    assert studio.card(said["id"]).options["names"] == ["cat", "dog"]
    assert said["reason"] == ""


def test_a_pack_goes_out_and_comes_in_again(client: TestClient, studio: Studio) -> None:
    packed = client.get("/face/models/shipped/pack")
    assert packed.status_code == 200
    assert "shipped.tar" in packed.headers["content-disposition"]
    assert (
        client.post("/face/models/import?name=shipped.tar", content=packed.content).json()["cards"][0]["id"]
        == "shipped"
    )
    assert client.get("/face/models/classic-faces/pack").status_code == 400
    assert list((studio.config.cache / "inbox").iterdir()) == []


def test_import_and_packs_are_refused_where_the_mode_does_not_allow_them(config: Config) -> None:
    studio = make(config, mode="space")
    app = FastAPI()
    routes.add_handlers(app)
    app.include_router(routes.router(studio))
    visitor = TestClient(app)
    assert visitor.post("/face/models/import?name=a.onnx", content=b"x").status_code == 400
    assert visitor.get("/face/models/shipped/pack").status_code == 400
    studio.close()
