"""The VAE lab's engine on tiny exported models: every view, and what must be refused."""

import base64
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studio.cards import Card, Source
from studio.device import Device
from studio.engines.vae import OPS, VaeEngine
from studio.errors import IntegrityError, InvalidTask
from studio.ops import heat, spheres
from studio.tasks import Explore
from tests.fakes import FakeReport
from tests.train.coding import course, trainee

PICTURE, OTHER = "a" * 64, "b" * 64
NAMES = ("autoencoder", "vae", "cvae", "vq-vae", "hvae")
DEVICE = Device("test", 1, 2**33, "cpu")
CARD = Card(id="own", title="Own", tasks=("explore",), engine="vae", licence="x", source=Source(kind="none"))


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    return FakeReport({PICTURE: rng.integers(0, 256, (40, 60, 3), np.uint8), OTHER: np.full((9, 9, 3), 250, np.uint8)})


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    made = {}
    for name in NAMES:
        one = trainee(name)
        course(one, 12)
        folder = tmp_path_factory.mktemp(name)
        one.export(folder)
        made[name] = VaeEngine(CARD, folder, DEVICE)
    return made


def ask(engine, report, op, /, image=None, other=None, third=None, **args):
    return engine.run(Explore(op=op, args=args, image=image, other=other, third=third), report)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("op", OPS)
def test_every_view_answers_without_a_word(engines, report, name, op):
    found = ask(engines[name], report, op)
    assert all(image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 for image in found.images)
    assert found.images or op == "latents"
    assert all(math.isfinite(value) for value in numbers(found.data))


@pytest.mark.parametrize("name", NAMES)
def test_views_of_an_own_picture(engines, report, name):
    for op in ("encode", "reconstruct", "anomaly", "compress", "interpolate", "arithmetic"):
        found = ask(engines[name], report, op, image=PICTURE, other=OTHER)
        assert found.images[0].shape == (16, 16, 3)


def numbers(value):
    if isinstance(value, dict):
        return [n for one in value.values() for n in numbers(one)]
    if isinstance(value, list | tuple):
        return [n for one in value for n in numbers(one)]
    return [value] if isinstance(value, int | float) else []


# ── places ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_decoded_from_its_own_place_is_its_reconstruction(engines, report, name):
    engine = engines[name]
    wanted = ask(engine, report, "reconstruct", a=3).images[1]
    place = ask(engine, report, "encode", a=3).data["values"]
    found = ask(engine, report, "decode", values=place, base=3).images[0]
    assert np.abs(found.astype(int) - wanted).max() <= 3  # codes of held-out pictures are kept in half precision


def test_axes_can_be_turned_alone(engines, report):
    engine = engines["vae"]
    about = ask(engine, report, "about").data
    place = ask(engine, report, "encode", a=0).data["values"]
    axis = about["axes"][0]
    place[axis] = 2.5
    whole = ask(engine, report, "decode", values=place).images[0]
    alone = ask(engine, report, "decode", base=0, axes=[axis], values=[2.5]).images[0]
    assert np.abs(whole.astype(int) - alone).max() <= 2
    assert not np.array_equal(alone, ask(engine, report, "decode", base=0).images[0])


def test_the_map_decodes_what_lies_under_the_finger(engines, report):
    found = ask(engines["vae"], report, "map", side=5)
    data = found.data
    assert len(data["points"]) == 16
    assert found.images[1].shape == (80, 80, 3)
    middle = 2 * data["reach"] / 5
    under = ask(engines["vae"], report, "decode", axes=[data["x"], data["y"]], values=[middle, -middle]).images[0]
    cell = found.images[1][48:64, 48:64]  # one cell right of and below the middle
    assert np.abs(under.astype(int) - cell).max() <= 1


def test_a_traversal_moves_one_axis_and_holds_the_rest(engines, report):
    found = ask(engines["vae"], report, "traverse", base=1, rows=[0, 2], steps=5, reach=2)
    assert found.images[0].shape == (32, 80, 3)
    assert found.data["values"] == [-2, -1, 0, 1, 2]
    end = ask(engines["vae"], report, "decode", base=1, axes=[2], values=[2]).images[0]
    assert np.abs(found.images[0][16:, 64:].astype(int) - end).max() <= 1


def test_a_conditional_model_paints_the_label_asked_for(engines, report):
    red, blue = (ask(engines["cvae"], report, "decode", values=[0] * 8, label=label).images[0] for label in ("red", 2))
    assert not np.array_equal(red, blue)
    assert ask(engines["cvae"], report, "samples", count=3, label="green").data["labels"] == ["green"] * 3
    assert ask(engines["cvae"], report, "reconstruct", image=PICTURE).data["label"] in (
        "red",
        "green",
        "blue",
        "yellow",
    )


# ── ways ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["linear", "spherical"])
def test_interpolation_begins_and_ends_at_its_pictures(engines, report, way):
    found = ask(engines["vae"], report, "interpolate", a=0, b=1, steps=4, way=way, film=True)
    strip = found.images[2]
    for index, part in ((0, strip[:, :16]), (1, strip[:, 48:])):
        wanted = ask(engines["vae"], report, "decode", base=index).images[0]
        assert np.abs(part.astype(int) - wanted).max() <= 1
    gif = Image.open(io.BytesIO(base64.b64decode(found.data["gif"].split(",")[1])))
    assert gif.n_frames == 6


def test_a_sphere_is_not_left():
    a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0, 2.0, 0])
    way = spheres.between(a, b, torch.linspace(0, 1, 7))
    assert torch.allclose(way.norm(dim=1), torch.full((7,), 2.0))
    assert torch.allclose(way[3], torch.tensor([2**0.5, 2**0.5, 0]), atol=1e-6)
    assert float(spheres.between(a, b, torch.tensor([0.5]), "linear").norm()) == pytest.approx(2**0.5)
    assert torch.isfinite(spheres.between(a, -a, torch.linspace(0, 1, 5))).all()
    assert torch.isfinite(spheres.between(a, 0 * a, torch.linspace(0, 1, 5))).all()


def test_a_minus_a_plus_c_is_c(engines, report):
    found = ask(engines["vae"], report, "arithmetic", a=2, b=2, c=5)
    assert np.abs(found.images[6].astype(int) - found.images[5]).max() <= 1


def test_the_same_seed_samples_the_same(engines, report):
    for name in NAMES:
        one, two, three = (ask(engines[name], report, "samples", count=4, seed=s).images[0] for s in (1, 1, 2))
        assert np.array_equal(one, two)
        assert not np.array_equal(one, three)
    assert "no prior" in ask(engines["autoencoder"], report, "samples").data["note"]
    assert ask(engines["vae"], report, "samples").data["note"] is None


# ── judgement ────────────────────────────────────────────────────────────────


def test_noise_is_more_unusual_than_the_models_own(engines, report):
    known, noise = (
        ask(engines["vae"], report, "anomaly", a=0).data,
        ask(engines["vae"], report, "anomaly", image=PICTURE).data,
    )
    assert noise["score"] > known["score"]
    assert noise["unusual"]
    assert noise["rank"] == 1
    assert ask(engines["vae"], report, "anomaly", a=0, quantile=1).data["unusual"] is False


def test_heat_is_where_the_difference_is():
    picture = np.full((32, 32, 3), 128, np.uint8)
    made = picture.copy()
    made[4:8, 20:26] = 0
    errors = heat.error_map(picture, made)
    assert errors[5, 22] > 20 * errors[28, 4]
    shown = heat.overlay(picture, errors, float(errors.max()))
    assert shown[5, 22, 0] > 180
    assert shown[5, 22, 2] < 80
    assert len(set(shown[28, 4].tolist())) == 1


def test_compression_counts_its_bytes(engines, report):
    data = ask(engines["vae"], report, "compress", a=0, bits=6).data
    assert data["bytes"] == 6  # 8 latents of 6 bits
    assert [row["bits"] for row in data["rows"]] == [2, 3, 4, 6, 8]
    assert data["jpeg"]["file_bytes"] > data["jpeg"]["scan_bytes"]
    vq = ask(engines["vq-vae"], report, "compress", a=0).data
    assert (vq["bits"], vq["bytes"]) == (4, 8)  # 16 indices into 16 words


# ── what is refused ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("decode", {"values": [0.0] * 3}),
        ("decode", {"values": [0.0] * 9}),
        ("decode", {"values": [float("nan")] * 8}),
        ("decode", {"values": [1e300] * 8}),
        ("decode", {"values": [10**400] * 8}),
        ("decode", {"values": "far"}),
        ("decode", {"values": [True] * 8}),
        ("decode", {"axes": [99], "values": [0]}),
        ("decode", {"axes": [0, 1], "values": [0]}),
        ("decode", {"base": 10**6}),
        ("decode", {"base": "third"}),
        ("decode", {"base": [0]}),
        ("decode", {"space": "elsewhere"}),
        ("map", {"x": 1, "y": 1}),
        ("map", {"side": 10**9}),
        ("traverse", {"steps": 10**6}),
        ("samples", {"count": 10**6}),
        ("samples", {"seed": -1}),
        ("samples", {"temperature": float("inf")}),
        ("interpolate", {"way": "scenic"}),
        ("interpolate", {"a": -1}),
        ("anomaly", {"quantile": 2}),
        ("compress", {"bits": 0}),
        ("nothing", {}),
    ],
)
def test_bad_input_is_refused_with_words(engines, report, op, args):
    with pytest.raises(InvalidTask) as refusal:
        engines["vae"].run(Explore.model_construct(op=op, args=args, image=None, other=None, third=None), report)
    assert refusal.value.message
    assert refusal.value.hint


def test_latents_of_a_grid_are_refused(engines, report):
    with pytest.raises(InvalidTask, match="grid"):
        ask(engines["vq-vae"], report, "decode", space="latents")


def test_damaged_folders_say_so(tmp_path):
    with pytest.raises(IntegrityError, match="Own"):
        VaeEngine(CARD, tmp_path, DEVICE)
    one = trainee("vae")
    one.export(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(IntegrityError, match="Own"):
        VaeEngine(CARD, tmp_path, DEVICE)


def test_a_map_goes_through_the_picture_asked_for(engines, report):
    engine = engines["vae"]
    found = ask(engine, report, "map", side=5, base=3)
    x, y, far = found.data["x"], found.data["y"], found.data["reach"]
    corner = ask(engine, report, "decode", base=3, axes=[x, y], values=[-0.8 * far, 0.8 * far]).images[0]
    assert np.abs(found.images[1][:16, :16].astype(int) - corner).max() <= 1
    assert not np.array_equal(found.images[1], ask(engine, report, "map", side=5).images[1])


def test_the_diffusion_models_own_autoencoder_opens(report):
    folder = Path(__file__).resolve().parents[2] / "models" / "starter-text-to-image" / "vae"
    engine = VaeEngine(CARD, folder, DEVICE)
    assert ask(engine, report, "about").data["network"] == "autoencoder-tiny"
    found = ask(engine, report, "reconstruct")
    assert found.images[1].shape == (128, 128, 3)
    assert found.data["psnr_db"] > 22
    assert ask(engine, report, "compress", bits=4).data["bytes"] == 1024
    with pytest.raises(InvalidTask, match="grid"):
        ask(engine, report, "encode", space="latents")


def test_a_bug_is_not_called_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("studio.engines.vae.open_model", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        VaeEngine(CARD, tmp_path, DEVICE)
