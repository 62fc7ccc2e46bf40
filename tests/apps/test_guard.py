"""What the page's door lets through, asked over the real app without a socket."""

import asyncio

import numpy as np
import pytest
from starlette.testclient import TestClient

from apps import guard
from apps.guard import Guard, host_name, is_foreign
from apps.serve import Front, create_app, quiet_gradio
from studio.ops.pictures import encode_png
from tests.apps.fakes import fake_studio
from tests.apps.test_serve import run_elsewhere


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


@pytest.mark.parametrize("path", ["/face/augment?names=flip", "/face/models/starter/pack", "/face/status", "/x"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_foreign_pages_may_not_look_either(client, path, site):
    answer = client.get(path, headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
    assert answer.status_code == 403
    assert client.get(path, headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status_code == 403


def test_a_link_to_the_page_works_and_nobody_may_embed_its_answers(client):
    page = client.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    assert page.status_code == 200
    assert client.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/face/status").headers["cross-origin-resource-policy"] == "same-origin"


def test_a_body_that_never_ends_is_not_waited_for(studio, monkeypatch):
    monkeypatch.setattr(guard, "BODY_GRACE_S", 0.1)
    sent = []

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        raise RuntimeError("the body was cut")

    async def drip():
        if not sent_parts:
            sent_parts.append(1)
            return {"type": "http.request", "body": b"x", "more_body": True}
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    sent_parts = []
    scope = {"type": "http", "method": "POST", "path": "/face/upload", "headers": [(b"host", b"localhost")]}
    run_elsewhere(Guard(app, studio.config)(scope, drip, send))
    assert sent[0]["status"] == 408


def test_one_visitor_has_so_many_requests_at_once(studio):
    async def check():
        go, codes = asyncio.Event(), []

        async def app(scope, receive, send):
            await go.wait()
            await guard.answer(send, 200, "")

        async def send(message):
            codes.append(message.get("status"))

        guarded = Guard(app, studio.config.model_copy(update={"mode": "kiosk"}))

        def ask(address):
            scope = {"type": "http", "method": "GET", "path": "/face/status", "client": (address, 1)}
            return asyncio.create_task(guarded({**scope, "headers": [(b"host", b"localhost")]}, None, send))

        many = [ask("1.1.1.1") for _ in range(guard.AT_ONCE)]
        await asyncio.sleep(0)
        await ask("1.1.1.1")
        assert codes[0] == 429
        other = ask("2.2.2.2")
        go.set()
        await asyncio.gather(*many, other)
        assert codes.count(200) == guard.AT_ONCE + 1

    run_elsewhere(check())


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
