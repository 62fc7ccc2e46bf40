"""The page's private wire, asked by somebody who does not mean well."""

import itertools
import random
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from starlette.testclient import TestClient

from apps.guard import Guard
from apps.serve import Front, create_app, quiet_gradio
from studio.engines.base import Result
from studio.ops.pictures import encode_png
from tests.apps.fakes import fake_studio
from tests.bench import fuzz_http


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    made = fake_studio(tmp_path_factory.mktemp("routes"), mode="kiosk")
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(studio):
    quiet_gradio(studio.config)
    front = Front()
    front.app = create_app(studio)
    return Guard(front, studio.config)


@pytest.fixture(scope="module")
def visitor(app):
    """Makes clients; each is a visitor of their own, from an address of their own."""
    numbers = itertools.count(1)

    def make():
        address = (f"10.0.0.{next(numbers)}", 1)
        client = TestClient(app, "http://localhost", raise_server_exceptions=False, client=address)
        client.get("/")
        return client

    return make


def png(side=8):
    return encode_png(np.full((side, side, 3), 200, np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_who_sends_no_cookie_may_look_but_not_bring(app):
    stranger = TestClient(app, "http://localhost")
    assert stranger.get("/face/status").status_code == 200
    answer = stranger.post("/face/upload", content=png())
    assert answer.status_code == 403
    assert "cookie" in answer.json()["message"]
    invented = {"cookie": f"studio={'0' * 32}.{'0' * 64}"}
    assert stranger.post("/face/upload", content=png(), headers=invented).status_code == 403


def test_one_visitors_job_and_result_are_not_there_for_another(visitor, studio):
    one, other = visitor(), visitor()
    owner = one.cookies["studio"].partition(".")[0]
    job = list(studio.run("starter", {"prompt": "a rocket"}, owner=owner))[-1]
    for path in (f"/face/job/{job.id}", f"/face/export/{job.artifact}/png"):
        assert one.get(path).status_code == 200
        assert other.get(path).status_code == 404
    assert other.post(f"/face/job/{job.id}/cancel").status_code == 404
    assert other.post(f"/face/keep/{job.artifact}").status_code == 404
    assert one.post(f"/face/keep/{job.artifact}").status_code == 200


RUN = "/face/run/{id}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", RUN), ("GET", RUN + "/sample/samples/5.png"), ("POST", RUN + "/pause"), ("POST", RUN + "/continue"),
        ("POST", RUN + "/delete"), ("POST", RUN + "/adopt"), ("GET", "/face/explore/{id}"),
        ("POST", "/face/explore/{id}"),
    ],
)  # fmt: skip
def test_one_visitors_training_is_not_there_for_another(visitor, studio, method, path):
    one, other = visitor(), visitor()
    owner = one.cookies["studio"].partition(".")[0]
    run = studio.runs.create(recipe="vae", family="vae", title="Mine", owner=owner)
    answer = other.request(method, path.format(id=run.id), json={"op": "x"} if method == "POST" else None)
    assert answer.status_code == 404
    assert studio.runs.get(run.id).state == "waiting"
    assert run.id not in other.get("/face/runs").text + other.get(f"/face/runs?ids={run.id}").text
    assert run.id not in other.get(f"/face/lab/vae?ids={run.id}").text + other.get("/face/status").text
    assert one.get(RUN.format(id=run.id)).status_code == 200
    assert run.id in one.get("/face/runs").text


def test_visitors_are_not_told_where_the_studio_lives(visitor, studio):
    for path in ("/face/runs", "/face/status", "/face/models", "/face/compress"):
        assert str(studio.config.home) not in visitor().get(path).text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/face/explore/starter", '{"op": "x", "args": [1]}'),
        ("/face/explore/starter", '{"op": NaN}'),
        ("/face/explore/starter", '{"op": "\\ud800", "args": {"\\ud800": 1}}'),
        ("/face/explore/starter", "["),
        ("/face/explore/starter", "null"),
        ("/face/compress/starter/compare", '{"variants": "\\ud800"}'),
        ("/face/compress/starter/compare", '{"variants": [NaN]}'),
        ("/face/run/none/continue", '{"minutes": "x"}'),
        ("/face/run/none/continue", '{"minutes": NaN}'),
        ("/face/run/none/continue", '{"minutes": -1}'),
        ("/face/run/none/adopt", '{"title": 5}'),
        ("/face/run/none/explode", "{}"),
    ],
)
def test_what_is_no_request_is_refused_in_words(visitor, path, body):
    answer = visitor().post(path, content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert "Traceback" not in answer.text
    assert answer.json()


@pytest.mark.parametrize("query", ["seed=-1", f"seed={10**20}", "data=/etc", "data=//x/y", "size=x", "names=x"])
def test_a_look_at_pictures_never_breaks(visitor, query):
    answer = visitor().get(f"/face/augment?names=flip&{query}")
    assert answer.status_code < 500


def test_text_of_a_huge_picture_costs_nothing(visitor):
    head = struct.pack(">IIBBBBB", 13_300, 13_300, 16, 6, 0, 0, 0)
    text = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 900_000))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + text + chunk(b"IDAT", zlib.compress(bytes(10**6)))
    answer = visitor().post("/face/upload?kind=text", content=data)
    assert answer.status_code == 200
    assert len(answer.content) < 50_000


def test_a_refusal_for_now_says_when_to_come_back(visitor, studio, monkeypatch):
    monkeypatch.setattr(studio.library, "_limits", studio.library._limits.__class__(uploads_each=2))
    client = visitor()
    answers = [client.post("/face/upload", content=png(8 + k)) for k in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[-1].headers["retry-after"]
    assert visitor().post("/face/upload", content=png(30)).status_code == 200, "the next one has a share of their own"


def test_a_full_disk_is_said_as_such(visitor, studio, monkeypatch):
    monkeypatch.setattr(studio.library, "_limits", studio.library._limits.__class__(floor=2**60))
    answer = visitor().post("/face/upload", content=png(40))
    assert answer.status_code == 507
    assert answer.json()["hint"]


def test_a_visit_can_be_ended_and_nothing_of_it_stays(visitor, studio):
    client = visitor()
    owner = client.cookies["studio"].partition(".")[0]
    job = list(studio.run("starter", {"prompt": "a rocket"}, owner=owner))[-1]
    asset = client.post("/face/upload", content=png(50)).json()["id"]
    assert client.post("/face/leave").status_code == 200
    assert client.get(f"/face/job/{job.id}").status_code == 404
    assert client.get(f"/face/asset/{asset}.png").status_code == 404
    assert "studio" not in client.cookies
    client.get("/")
    assert client.cookies["studio"].partition(".")[0] != owner


def test_a_heavy_question_leaves_the_page_to_others(visitor, studio, monkeypatch):
    go, begun = threading.Event(), threading.Semaphore(0)

    def explore(*_, is_cancelled, **__):
        begun.release()
        go.wait(60)
        return Result(data={})

    monkeypatch.setattr(studio, "explore", explore)
    one = visitor()
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(one.post, "/face/explore/starter", json={"op": "sample"}) for _ in range(3)]
        try:
            assert all(begun.acquire(timeout=60) for _ in asked)
            refused = one.post("/face/explore/starter", json={"op": "sample"})
            assert refused.status_code == 429
            assert refused.headers["retry-after"]
            assert refused.json()["hint"]
            assert visitor().get("/face/status").status_code == 200
        finally:
            go.set()
        assert [one.result().status_code for one in asked] == [200, 200, 200]


def test_mutated_requests_are_refused_and_never_break(visitor):
    client, rng = visitor(), random.Random(1)
    for path, body in fuzz_http.requests([], 300, rng):
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, (path, body, answer.text)


def test_mutated_pictures_are_pictures_or_refused(visitor):
    client, rng = visitor(), random.Random(2)
    for data in fuzz_http.originals():
        for _ in range(6):
            answer = client.post("/face/upload?kind=mask", content=fuzz_http.broken(data, rng))
            assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc", "/config", "/api/v1/models"])
def test_visitors_get_no_description_of_what_is_not_for_them(visitor, path):
    assert visitor().get(path).status_code == 404
