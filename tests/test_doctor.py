"""The doctor: every ready model is loaded and run, and nothing of it stays."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from studio import doctor
from studio.config import ROOT
from studio.studio import Studio
from studio.train.runs import Runs
from tests.fakes import DEVICE

TRAINER = """
[trainer]
title = "Trainer"
tasks = ["train"]
engine = "trainer"
licence = "Apache-2.0"
source = {kind = "none"}
memory = 734003200
"""
LAB = """
[starter-vae]
title = "Starter VAE"
tasks = ["explore"]
engine = "vae"
licence = "Apache-2.0"
source = {kind = "builtin", path = "starter-vae"}
memory = 400000000
"""


@pytest.fixture
def studio(config):
    (config.models / "more.toml").write_text(TRAINER + LAB, encoding="utf-8")
    shutil.copytree(ROOT / "models" / "starter-vae", config.models / "starter-vae")
    studio = Studio(config, DEVICE)
    studio.start()
    yield studio
    studio.close()


def test_every_ready_model_is_run_and_nothing_stays(studio, airgap):
    found = {finding.name: finding for finding in doctor.air_gap(studio)}
    assert found.keys() == {"connections"} | {card.id for card in studio.cards(ready=True)}
    assert {"trainer", "starter-vae", "paced"} <= found.keys()
    assert all(finding.ok for finding in found.values()), found
    assert studio.library.list() == []
    assert Runs(studio.config.home).list() == []


def test_a_model_that_cannot_answer_is_said(studio, monkeypatch):
    monkeypatch.setitem(doctor._FIELDS, "generate", {"prompt": "refuse"})
    finding = doctor.run_once(studio, studio.card("paced"))
    assert (finding.ok, finding.detail) == (False, "That cannot be done.")
    odd = studio.card("paced").model_copy(update={"id": "odd", "tasks": ("juggle",)})
    assert doctor.run_once(studio, odd).detail == "nothing is known to ask a model for 'juggle'"
    lost = studio.card("starter-vae").model_copy(update={"id": "nobody"})
    assert "nobody" in doctor.run_once(studio, lost).detail


def _can_unshare() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-rn", "true"], check=False).returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="this system lets nobody make a network without interfaces")
@pytest.mark.timeout(900)
def test_every_model_runs_where_there_is_no_network_at_all(config):
    """Not blocked by the studio but by the system: a namespace with no interface, not even loopback that is up."""
    (config.models / "test.toml").write_text(
        (config.models / "test.toml").read_text().partition("[classic-faces]")[1]
        + (config.models / "test.toml").read_text().partition("[classic-faces]")[2]
        + TRAINER
        + LAB,
        encoding="utf-8",
    )
    shutil.copytree(ROOT / "models" / "starter-vae", config.models / "starter-vae")
    places = {f"STUDIO_{name.upper()}": str(getattr(config, name)) for name in ("home", "cache", "models")}
    command = ["unshare", "-rn", sys.executable, str(ROOT / "app.py"), "doctor", "--air-gap", "--json"]
    done = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    found = {row["name"]: row for row in json.loads(done.stdout)}
    wanted = {"connections", "classic-faces", "classic-grabcut", "trainer", "starter-vae"}
    assert wanted <= found.keys()
    assert all(found[name]["ok"] for name in wanted), found
