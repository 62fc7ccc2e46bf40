"""What the page's door lets through, asked over the real app without a socket."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from apps.guard import Guard, host_name, is_foreign
from apps.serve import Front, create_app, quiet_gradio
from studio.ops.pictures import encode_png
from tests.apps.fakes import fake_studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    made = fake_studio(tmp_path_factory.mktemp("guard"))
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(studio):
    quiet_gradio(studio.config)
    front = Front()
    front.app = create_app(studio)
    return TestClient(Guard(front, studio.config), "http://localhost", raise_server_exceptions=False)


def png(side=8):
    return encode_png(np.full((side, side, 3), 200, np.uint8))


def test_the_page_carries_its_look_and_its_rules(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "face/theme.css" in page.text
    assert "face/studio.js" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/face/studio.js").status_code == client.get("/face/theme.css").status_code == 200
    assert client.get("/face/fonts/Inter-Regular.woff2").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[bad"])
def test_foreign_names_are_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "192.168.1.20:7860", "[::1]:7860"])
def test_own_names_and_addresses_pass(client, host):
    assert client.get("/face/status", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "null"},
    ],
)
def test_foreign_pages_may_not_post(client, headers):
    assert client.post("/face/upload", content=png(), headers=headers).status_code == 403
    assert client.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403


def test_the_own_page_may_post(client):
    answer = client.post("/face/upload?name=a.png", content=png(), headers={"origin": "http://localhost"})
    assert answer.status_code == 200
    assert client.get(f"/face/asset/{answer.json()['id']}.png").headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd", "/gradio_api/file=pyproject.toml", "/gradio_api/proxy=http://127.0.0.1",
        "/config", "/gradio_api/info", "/monitoring", "/monitoring/summary", "/gradio_api/openapi.json",
        "/gradio_api/mcp/",
        "/face/fonts/..%2f..%2fpyproject.toml", "/face/asset/../../pyproject.toml", "/face/asset/" + "a" * 64 + ".png",
        "/face/asset/x.png", "/face/job/nothing",
    ],
)  # fmt: skip
def test_closed_doors(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "passwd" not in answer.text


def test_gradios_upload_is_closed(client):
    assert client.post("/gradio_api/upload", files={"files": ("a.html", b"<script>")}).status_code == 404


def test_bodies_have_a_limit(client):
    assert client.post("/gradio_api/run/predict", content=b"x" * (3 * 2**20)).status_code == 413
    assert client.post("/face/upload", content=b"x" * (42 * 2**20)).status_code == 413

    def endless():
        for _ in range(64):
            yield b"x" * 2**20

    assert client.post("/face/upload", content=endless()).status_code == 413


@pytest.mark.parametrize("content", [b"", b"hello", png()[:40], b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_is_no_picture_says_so(client, content):
    answer = client.post("/face/upload?name=x.png", content=content)
    assert answer.status_code == 422
    assert answer.json()["message"]
    assert answer.json()["hint"]


def test_download_names_are_harmless(client):
    id_ = client.post("/face/upload", content=png(9)).json()["id"]
    answer = client.get(f"/face/asset/{id_}.png", params={"name": '../../"evil\r\nX: y'})
    assert answer.headers["content-disposition"] == 'attachment; filename="evil-X-y.png"'


def test_a_job_is_followed_and_cancelled_by_its_id(client, studio):
    job = studio.submit("starter", {"prompt": "a rocket"})
    list(studio.jobs.watch(job.id))
    answer = client.get(f"/face/job/{job.id}").json()
    assert answer["state"] == "done"
    assert answer["artifact"]
    assert client.post(f"/face/job/{job.id}/cancel").status_code == 200


def test_small_parts():
    assert host_name("LocalHost.:80") == "localhost"
    assert not is_foreign({})
    assert is_foreign({"origin": "http://localhost:1", "host": "localhost:2"})
