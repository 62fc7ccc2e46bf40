"""The lab's engine on a tiny random network: every operation, the same twice, and arguments that are wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from studio.cards import Card, Source
from studio.device import Device
from studio.engines.diffusion_lab import OPS, DiffusionLabEngine
from studio.errors import Cancelled, IntegrityError, InvalidTask
from studio.nets.denoiser import Config, Denoiser
from studio.ops import films
from studio.tasks import Explore, Generate
from tests.fakes import FakeReport

NAMES = ("rose", "sun", "tree")
PICTURE = "a" * 64
SIDE = 16


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def card() -> Card:
    return Card(
        id="tiny-ddpm",
        title="Tiny",
        tasks=("explore",),
        engine="diffusion-lab",
        licence="Apache-2.0",
        source=Source(kind="builtin"),
    )


def make(folder: Path, process: Any, *, classifier: bool = True, pictures: int = 3) -> DiffusionLabEngine:
    torch.manual_seed(0)
    config = Config(process=process, size=SIDE, names=NAMES, width=16, classifier=classifier)
    net = Denoiser(config)
    for p in net.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.05)
    weights = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    if pictures:
        weights["pictures"] = torch.randint(0, 256, (pictures, SIDE, SIDE, 3), dtype=torch.uint8)
        weights["picture_labels"] = torch.arange(pictures) % len(NAMES)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.write()))
    return DiffusionLabEngine(card(), folder, Device("test", 1, 2**33, "cpu"))


@pytest.fixture(scope="module", params=["ddpm", "improved-ddpm", "flow"])
def engine(request, tmp_path_factory) -> DiffusionLabEngine:
    return make(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory) -> DiffusionLabEngine:
    return make(tmp_path_factory.mktemp("ddpm"), "ddpm")


@pytest.fixture
def report() -> FakeReport:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return FakeReport({PICTURE: picture})


def ask(engine: DiffusionLabEngine, report: FakeReport, op: str, image: str | None = None, **args: Any) -> Any:
    return engine.run(Explore(op=op, args=args, image=image), report)


SMALL: dict[str, dict[str, Any]] = {
    "about": {},
    "schedule": {"points": 11},
    "noised": {"t": 300, "side": 32},
    "strip": {"count": 5, "side": 32},
    "sample": {"steps": 3, "count": 2, "frames": 3, "label": "sun"},
    "compare": {"count": 2},
    "guidance": {"scales": [0, 1, 3], "labels": ["rose", "tree"], "steps": 2},
    "invert": {"steps": 4},
}


@pytest.mark.parametrize("op", list(OPS))
def test_every_operation_answers_the_same_twice(engine, report, op):
    args = dict(SMALL[op])
    if op == "compare":
        args["rows"] = [["flow", 1], ["flow", 3]] if engine.config.process == "flow" else [["ddim", 2], ["ddpm", 3]]
    one, two = ask(engine, report, op, **args), ask(engine, report, op, **args)
    assert all(np.array_equal(a, b) for a, b in zip(one.images, two.images, strict=True))
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in one.images)
    json.dumps(one.data)
    assert op in one.data["seconds"]


def test_the_operations_tested_are_all_there_are():
    assert set(SMALL) == set(OPS)


def test_shapes_of_what_is_shown(engine, report):
    last, x, clean = ask(engine, report, "sample", steps=5, count=3, frames=4).images
    assert last.shape == (SIDE, 3 * SIDE, 3)
    assert x.shape == (3 * SIDE, 5 * SIDE, 3)  # the noise it begins with, then four frames
    assert clean.shape == (3 * SIDE, 4 * SIDE, 3)
    found = ask(engine, report, "guidance", scales=[1, 2], labels=[0, 1, 2], steps=1)
    assert found.images[0].shape == (3 * SIDE, 2 * SIDE, 3)
    assert len(found.data["sure"]) == 2
    assert ask(engine, report, "strip", count=7, side=20, image=PICTURE).images[0].shape == (20, 140, 3)


def test_noising_goes_from_the_picture_to_noise(ddpm, report):
    large, small, seen = ask(ddpm, report, "noised", image=PICTURE, t=0, side=64).images
    assert large.shape == (64, 64, 3)
    assert small.shape == seen.shape == (SIDE, SIDE, 3)
    near = ask(ddpm, report, "noised", image=PICTURE, t=0, side=64).data
    far = ask(ddpm, report, "noised", image=PICTURE, t=999, side=64).data
    assert near["signal"] > 0.999
    assert far["noise"] > 0.999
    assert near["snr_db"] > 30 > -30 > far["snr_db"]
    other = ask(ddpm, report, "noised", image=PICTURE, t=999, side=64, schedule="flow")
    assert other.data["signal"] == 0
    assert other.data["snr_db"] is None
    assert len(other.images) == 2, "the model sees only its own schedule"


def test_guidance_one_equals_the_conditional_sample(ddpm, report):
    plain = ask(ddpm, report, "sample", steps=4, labels=["rose"], seed=3)
    grid = ask(ddpm, report, "guidance", scales=[0, 1, 4], labels=["rose"], seed=3, steps=4)
    columns = np.split(grid.images[0], 3, axis=1)
    assert np.array_equal(columns[1], plain.images[0])
    assert np.array_equal(columns[0], ask(ddpm, report, "sample", steps=4, count=1, seed=3).images[0])
    assert not np.array_equal(columns[2], plain.images[0])


def test_ddim_comes_nearer_to_its_finest_walk_with_more_steps(ddpm, report):
    rows = ask(ddpm, report, "compare", rows=[["ddim", 40], ["ddim", 20], ["ddim", 2]], count=2).data["rows"]
    assert rows[0]["away"] == 0
    assert rows[1]["away"] < rows[2]["away"]


def test_the_seed_and_the_count_leave_each_pictures_noise_alone(ddpm, report):
    two = ask(ddpm, report, "sample", steps=2, count=2, seed=5).images[0]
    one = ask(ddpm, report, "sample", steps=2, count=1, seed=5).images[0]
    assert np.abs(two[:, :SIDE].astype(int) - one.astype(int)).max() <= 1
    assert not np.array_equal(one, ask(ddpm, report, "sample", steps=2, count=1, seed=6).images[0])


def test_a_run_is_cancelled_between_steps(ddpm):
    with pytest.raises(Cancelled):
        ask(ddpm, FakeReport(cancel_after=2), "sample", steps=50)


BAD = [
    ("nothing", {}),
    ("noised", {"t": -1}),
    ("noised", {"t": 1000}),
    ("noised", {"t": 1.5}),
    ("noised", {"t": "300"}),
    ("noised", {"t": True}),
    ("noised", {"schedule": "quadratic"}),
    ("noised", {"side": 10**9}),
    ("noised", {"picture": 99}),
    ("sample", {"steps": 0}),
    ("sample", {"steps": 1001}),
    ("sample", {"steps": float("inf")}),
    ("sample", {"guidance": float("nan")}),
    ("sample", {"guidance": -1}),
    ("sample", {"classifier": 10**9}),
    ("sample", {"eta": 2}),
    ("sample", {"label": "spaceship"}),
    ("sample", {"label": 3}),
    ("sample", {"label": ["rose"]}),
    ("sample", {"labels": []}),
    ("sample", {"labels": [None] * 1000}),
    ("sample", {"method": "euler"}),
    ("sample", {"method": "flow"}),
    ("sample", {"seed": -1}),
    ("sample", {"count": 0}),
    ("compare", {"rows": [["ddim", 0]]}),
    ("compare", {"rows": "ddim"}),
    ("compare", {"rows": [["ddim"]]}),
    ("guidance", {"scales": [float("nan")]}),
    ("guidance", {"by": "magic"}),
    ("invert", {"steps": 1}),
    ("strip", {"count": 1}),
]


@pytest.mark.parametrize(("op", "args"), BAD, ids=lambda v: str(v)[:40])
def test_bad_arguments_are_refused_in_words(ddpm, report, op, args):
    with pytest.raises(InvalidTask) as caught:
        ask(ddpm, report, op, **args)
    assert caught.value.message
    assert caught.value.hint


def test_another_task_is_refused(ddpm, report):
    with pytest.raises(InvalidTask):
        ddpm.run(Generate(prompt="a rose"), report)


def test_without_classifier_or_pictures(tmp_path, report):
    engine = make(tmp_path, "ddpm", classifier=False, pictures=0)
    with pytest.raises(InvalidTask, match="classifier"):
        ask(engine, report, "sample", classifier=1.0, steps=2)
    with pytest.raises(InvalidTask, match="picture"):
        ask(engine, report, "noised", t=5)
    assert ask(engine, report, "noised", t=5, image=PICTURE).images
    assert ask(engine, report, "guidance", scales=[1], labels=["rose"], steps=1).data["sure"] is None
    assert ask(engine, report, "about").images == ()


@pytest.mark.parametrize("harm", ["config", "weights", "missing", "other"])
def test_damaged_files_are_named(tmp_path, harm):
    make(tmp_path, "ddpm")
    if harm == "config":
        (tmp_path / "config.json").write_text("{}")
    elif harm == "weights":
        data = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif harm == "missing":
        (tmp_path / "model.safetensors").unlink()
    else:
        (tmp_path / "config.json").write_text(json.dumps(Config(process="flow", size=32, names=("a",)).write()))
    with pytest.raises(IntegrityError, match="Tiny"):
        DiffusionLabEngine(card(), tmp_path, Device("test", 1, 2**33, "cpu"))


def test_a_bug_is_not_called_damage(tmp_path, monkeypatch):
    make(tmp_path, "ddpm")
    monkeypatch.setattr("studio.engines.diffusion_lab.Denoiser", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        DiffusionLabEngine(card(), tmp_path, Device("test", 1, 2**33, "cpu"))


def test_a_straight_way_is_told_from_a_detour():
    line = np.linspace(0, 1, 5)[:, None] * np.ones((1, 12))
    points, straight = films.path(line)
    assert straight == pytest.approx(1)
    assert np.allclose(points, [[k / 4, 0] for k in range(5)], atol=1e-9)
    line[2, :6] += 3
    assert films.path(line)[1] < 0.5
    assert films.path(np.zeros((4, 3)))[1] == 1
