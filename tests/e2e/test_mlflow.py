"""A run made by the studio in MLflow's own page: the stock `mlflow ui` on the store that the studio wrote."""

import importlib.metadata
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from studio import files
from studio.ops import pictures
from studio.tasks import Train
from studio.train import adopt, recipes, record
from studio.train.runs import Runs

WITH_SERVER = any(found.name == "mlflow" for found in importlib.metadata.distributions())  # mlflow-skinny has none
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not WITH_SERVER, reason="the full MLflow, with its server, is not installed"),
]
LONG = 600_000  # ms: on a busy machine


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Home and run of a finished training, as the trainer leaves and records it."""
    home = tmp_path_factory.mktemp("home")
    runs = Runs(home)
    task = Train(recipe="beta-vae", run="new", steps=40, data="digits", options={"beta": 7.5})
    run = runs.create(**adopt.record(task, recipes.find("beta-vae"), "local"))
    folder = runs.folder(run.id)
    lines = [f'{{"step": {k}, "seconds": {k / 10}, "loss": {100 / (k + 1)}, "kl": {k / 8}}}\n' for k in range(41)]
    files.write(folder / "metrics.jsonl", "".join(lines).encode())
    files.write(folder / "samples" / "samples" / "00000040.png", pictures.encode_png(np.zeros((32, 32, 3), np.uint8)))
    for name in ("model.safetensors", "config.json", "facts.json"):
        files.write(folder / "model" / name, b"{}")
    runs.update(run.id, state="finished", step=40, total=40)
    record.keep(home, runs, run.id)
    return home, runs.get(run.id)


@pytest.fixture(scope="module")
def address(run):
    """MLflow's server, started with the very words that the Runs tab shows."""
    words = shlex.split(record.command(run[0]))
    assert words[0] == "mlflow"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *words, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (run[0] / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 600
        while True:
            assert process.poll() is None, (run[0] / "server.log").read_text()
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except OSError:
                assert time.monotonic() < end, (run[0] / "server.log").read_text()
                time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.fixture
def page(browser, address):
    """A page that can reach that server only."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(LONG)
    context.route(lambda url: not url.startswith((address, "data:", "blob:")), lambda route: route.abort())
    yield context.new_page()
    context.close()


def test_parameters_metrics_and_artifacts_are_there(page, address, run):
    _, made = run
    place = f"{address}/#/experiments/1/runs/{made.mlflow}"
    page.goto(place)
    page.wait_for_selector(f"text={made.id}")
    parameters = [("beta", "7.5"), ("recipe", "beta-vae"), ("data", "digits")]
    for name, value in [*parameters, ("kl", "5"), ("loss", "2.43")]:
        page.wait_for_selector(f":is(tr, [role=row]):has-text('{name}'):has-text('{value}')")
    if shot := os.environ.get("STUDIO_SCREENSHOT"):
        page.screenshot(path=shot)
    page.goto(f"{place}/artifacts")
    for name in ("model", "samples"):
        page.wait_for_selector(f":is([role=treeitem], li):has-text('{name}')")
