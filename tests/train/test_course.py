import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from studio.errors import Cancelled, DiskFull, StudioError
from studio.train import course as module
from studio.train import data, descent
from studio.train.course import Course, Diverged, Plan
from studio.train.runs import read_metrics
from tests.train.kill import course as killable
from tests.train.tiny import Tiny, TinyOptions

ROOT = Path(__file__).resolve().parents[2]
PICTURES = data.load("digits", 8, seed=1)


@pytest.fixture
def one_thread():
    """As in the process that is killed: sums in another order end in other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Watcher:
    """Remembers; cancels at the named step."""

    def __init__(self, stop_at=None):
        self.stop_at, self.steps, self.facts, self.previews = stop_at, [], {}, 0

    def progress(self, step, total, phase=""):
        self.steps.append(step)
        if self.stop_at is not None and step >= self.stop_at:
            raise Cancelled

    def preview(self, image):
        self.previews += 1

    def note(self, **facts):
        self.facts |= facts


def made(folder, *, watcher=None, identity="", seed=1, plan=None, **options):
    trainee = Tiny(TinyOptions(size=8, **options), PICTURES, seed)
    plan = plan if plan is not None else Plan(steps=60, looks=5)
    return Course(trainee, plan, folder, watcher or Watcher(), seed=seed, identity=identity)


def weights(folder, name="last.pt"):
    state = torch.load(folder / name, weights_only=True)
    return torch.cat(
        [value.flatten() for value in [*state["parts"]["net"].values(), *state["parts"]["average"].values()]]
    )


def test_a_run_learns_and_leaves_everything_a_lab_needs(tmp_path):
    watcher = Watcher()
    found = made(tmp_path, watcher=watcher, plan=Plan(steps=100, looks=4), rate=0.01).run()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    errors = [row["valid_error"] for row in rows if "valid_error" in row]
    assert errors[-1] < 0.6 * errors[0]
    assert found["steps"] == 100
    assert json.loads((tmp_path / "model" / "facts.json").read_text())["steps"] == 100
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert {"last.pt", "best.pt"} <= {file.name for file in tmp_path.iterdir()}
    steps = sorted(int(file.stem) for file in (tmp_path / "samples" / "reconstructions").iterdir())
    assert (steps[0], steps[-1]) == (0, 100)
    assert watcher.previews == len(steps) == len(errors)
    assert watcher.facts["best"]["value"] == pytest.approx(min(errors))


def test_cancelled_and_continued_is_the_same_as_never_stopped(tmp_path):
    made(tmp_path / "whole").run()
    for stop in (7, 23, 24, 59):
        with pytest.raises(Cancelled):
            made(tmp_path / "parts", watcher=Watcher(stop)).run()
    made(tmp_path / "parts").run()
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert torch.equal(weights(tmp_path / "whole", "best.pt"), weights(tmp_path / "parts", "best.pt"))
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    curves = [
        {row["step"]: row["loss"] for row in rows if "loss" in row and row["step"] <= 50} for rows in (whole, parts)
    ]
    assert curves[0] == curves[1], "each step is there once"


def killed(folder, steps, kills, *kinds):
    """Trains each kind in processes that are killed; the steps they began at, by kind."""
    command = [sys.executable, "-m", "tests.train.kill", str(folder), str(steps), str(kills), "7", *kinds]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = [line.split() for line in output.splitlines()]
    found = {kind: [int(step) for own, step in lines if own == kind] for kind in kinds}
    for began in found.values():
        assert len(began) == kills
        assert began == sorted(began)
        assert began[-1] < steps, "it was killed while it trained"
    return found


def test_killed_at_ten_random_moments_ends_with_the_same_weights(tmp_path):
    steps = 200
    killable(tmp_path / "whole", steps, Watcher()).run()
    assert killed(tmp_path, steps, 10, "tiny")["tiny"][-1] > 0
    killable(tmp_path / "tiny", steps, Watcher()).run()
    for name in ("last.pt", "best.pt"):
        assert torch.equal(weights(tmp_path / "whole", name), weights(tmp_path / "tiny", name))
    at = [row["step"] for row in read_metrics(tmp_path / "tiny" / "metrics.jsonl")]
    assert at == sorted(at)


KINDS = ("beta-vae", "vq-vae", "wgan-gp", "stylegan2", "ddpm")
STEPS = 24


@pytest.fixture(scope="module")
def survivors(tmp_path_factory):
    """A folder with a training of each kind that was killed twice."""
    folder = tmp_path_factory.mktemp("killed")
    killed(folder, STEPS, 2, *KINDS)
    return folder


def tensors(nested):
    """All tensors of a checkpoint, in order: weights, averages, and what the optimizers remember."""
    if isinstance(nested, torch.Tensor):
        return [nested]
    inner = nested.values() if isinstance(nested, dict) else nested if isinstance(nested, list | tuple) else ()
    return [tensor for one in inner for tensor in tensors(one)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_recipe_survives_being_killed(tmp_path, survivors, kind, one_thread):
    killable(tmp_path, STEPS, Watcher(), kind).run()
    killable(survivors / kind, STEPS, Watcher(), kind).run()
    whole, parts = (
        tensors(torch.load(folder / "last.pt", weights_only=True)["parts"]) for folder in (tmp_path, survivors / kind)
    )
    assert len(whole) > 10
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("case", ["nan", "rate"])
def test_divergence_stops_says_so_and_keeps_the_last_good_checkpoint(tmp_path, case):
    wrong = {"nan_at": 40} if case == "nan" else {"rate": 10.0, "optimizer": "Adam", "clip": 0.0}
    with pytest.raises(Diverged, match="diverged at step") as caught:
        made(tmp_path, plan=Plan(steps=400, looks=5), **wrong).run()
    assert "learning rate" in caught.value.hint
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert f"checkpoint of step {state['standing']['step']} is kept" in caught.value.message
    assert bool(torch.isfinite(weights(tmp_path)).all())


def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(tmp_path, monkeypatch):
    with pytest.raises(Cancelled):
        made(tmp_path, watcher=Watcher(20)).run()
    before = (tmp_path / "last.pt").read_bytes()

    write = module.files.write

    def full(path, bytes_):
        if path.suffix == ".pt":
            raise DiskFull("no room", "")
        write(path, bytes_)

    monkeypatch.setattr(module.files, "write", full)
    with pytest.raises(DiskFull, match="that of step 20 is kept"):
        made(tmp_path, plan=Plan(steps=60, looks=1)).run()
    assert (tmp_path / "last.pt").read_bytes() == before
    monkeypatch.undo()
    assert made(tmp_path).run()["steps"] == 60


def test_a_disk_that_is_full_for_a_while_between_two_looks_costs_no_training(tmp_path, monkeypatch):
    keeps, write = [], module.files.write

    def sometimes_full(path, bytes_):
        if path.suffix == ".pt":
            keeps.append(path)
            if 2 < len(keeps) < 10:
                raise DiskFull("no room", "")
        write(path, bytes_)

    monkeypatch.setattr(module.files, "write", sometimes_full)
    assert made(tmp_path, plan=Plan(steps=60, looks=1, keep_s=0)).run()["steps"] == 60
    assert len(keeps) > 20
    assert torch.load(tmp_path / "last.pt", weights_only=True)["standing"]["step"] == 60


def test_early_stopping_ends_with_the_best_weights(tmp_path):
    plan = Plan(steps=2000, looks=100, patience=3, schedule="ConstantLR")
    found = made(tmp_path, plan=plan, rate=0.05, noise=False).run()
    assert found["steps"] < 2000
    from safetensors.torch import load_file

    exported = load_file(tmp_path / "model" / "model.safetensors")
    best = torch.load(tmp_path / "best.pt", weights_only=True)["parts"]["average"]
    assert all(torch.equal(exported[name], best[name]) for name in exported)


def test_a_longer_budget_goes_on_from_where_the_run_ended(tmp_path):
    made(tmp_path).run()
    found = made(tmp_path, plan=Plan(steps=120, looks=5)).run()
    assert found["steps"] == 120
    looks = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if "valid_error" in row]
    assert looks[-1] == 120


def test_a_budget_in_minutes_ends(tmp_path):
    began = time.monotonic()
    found = made(tmp_path, plan=Plan(minutes=0.02)).run()
    assert time.monotonic() - began < 10
    assert found["steps"] > 3


def test_other_pictures_or_shapes_are_refused(tmp_path):
    made(tmp_path, identity="a").run()
    with pytest.raises(StudioError, match="not those"):
        made(tmp_path, identity="b").run()
    with pytest.raises(StudioError, match="do not fit"):
        made(tmp_path, identity="a", hidden=4).run()


@pytest.mark.parametrize("name", descent.SCHEDULES)
def test_schedules_are_shares_of_the_peak(name):
    scale = descent.schedule(name)
    values = [scale(progress) for progress in np.linspace(0, 1, 50)]
    assert all(0 <= value <= 1.0001 and math.isfinite(value) for value in values)
    assert (values[-1] == 1) if name == "ConstantLR" else (values[-1] < 0.02)


def test_set_rate_keeps_each_groups_own_peak():
    params = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    made_ = descent.optimizer("Adam", [{"params": params[:1], "lr": 0.1}, {"params": params[1:], "lr": 0.2}], 0.5)
    for _ in range(2):
        descent.set_rate(made_, 0.5)
    assert [group["lr"] for group in made_.param_groups] == [0.05, 0.1]
