import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from apps.cli import cli
from studio.ops import pictures
from studio.train import recipes, record
from tests.engines.test_yolo import columns, write_model
from tests.train.tiny import RECIPE

PICTURE = np.zeros((90, 120, 3), np.uint8)
PICTURE[20:70, 30:90] = (200, 40, 40)


@pytest.fixture
def call(config, monkeypatch):
    for name in ("home", "cache", "models", "memory_mb"):
        monkeypatch.setenv(f"STUDIO_{name.upper()}", str(getattr(config, name)))
    monkeypatch.setenv("STUDIO_PREWARM", "false")

    def call(*args):
        monkeypatch.setattr("sys.argv", ["app.py", *map(str, args)])
        return CliRunner().invoke(cli, [str(arg) for arg in args])

    return call


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    file.write_bytes(pictures.encode_png(PICTURE))
    return file


def test_generate_twice_with_one_seed_is_one_picture(call, tmp_path):
    for name in ("a.png", "b.png"):
        result = call("run", "generate", "--prompt", "an apple", "--seed", 7, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_segment_writes_a_mask_and_prints_json(call, photo, tmp_path):
    out = tmp_path / "mask.png"
    result = call(
        "run", "segment", "--image", photo, "--box", "20,10,100,80", "--point", "60,45", "--out", out, "--json"
    )
    facts = json.loads(result.output)
    assert facts["task"]["points"] == [[60, 45, 1]]
    assert facts["files"] == [str(out)]
    assert pictures.decode_mask(out.read_bytes())[45, 60]


def test_flags_are_the_fields_of_the_task(call):
    output = call("run", "generate", "--help").output
    for word in ("--negative-prompt", "--guidance-scale", "--seed", "Denoising steps"):
        assert word in output
    assert "--point" in call("run", "segment", "--help").output


def test_help_gives_the_bounds_the_choices_and_the_defaults_of_every_field(call):
    output = " ".join(call("run", "generate", "--help").output.split())
    for words in (
        "[at least 1; at most 150]",
        "[at least 64; at most 2048; a multiple of 8]",
        "DPM++ 2M Karras, DPM2, Euler, Euler a",
        "[above 0; at most 1; default 0.6]",
        "[at least 0; at most 4294967295]",
        "[at most 2000 characters]",
    ):
        assert words in output
    assert "[at most 256 times]" in call("run", "segment", "--help").output


def test_every_verb_over_models_prints_json(call, monkeypatch, config):
    (config.models / "shipped").mkdir()
    (config.models / "shipped" / "model.dat").write_bytes(b"x" * 10)
    assert json.loads(call("models", "seal", "--json").output) == {"files": 1, "bytes": 10}
    shipped = '[own]\ntitle = "Own"\ntasks = ["detect"]\nengine = "yolo"\nlicence = "MIT"\n'
    (config.models / "own.toml").write_text(shipped + 'source = {kind = "builtin", path = "shipped"}\n')
    assert json.loads(call("models", "pin", "own", "--json").output) == {"id": "own", "pinned": True}
    assert json.loads(call("models", "pin", "own", "--off", "--json").output) == {"id": "own", "pinned": False}
    budgets = []
    monkeypatch.setattr("studio.weights.store.Store.evict", lambda self, budget=None: budgets.append(budget) or ())
    call("models", "evict", "--json")
    call("models", "evict", "--budget-gb", "1.5", "--json")
    assert budgets == [None, 1_500_000_000]


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("run", "generate", "--steps", "1000000000"), "150"),
        (("run", "generate", "--steps", "nan"), "steps"),
        (("run", "generate", "--card", "nobody"), "no model"),
        (("run", "detect", "--image", "not-there.png"), "cannot be read"),
        (("run", "segment", "--image", "PHOTO", "--point", "here"), "x,y"),
        (("run", "segment", "--image", "PHOTO", "--box", "9,9,1,1"), "inverted"),
        (("models", "show", "nobody"), "no model"),
        (("train", "nobody"), "recipe"),
    ],
)
def test_failure_is_a_message_and_an_exit_code(call, photo, args, word):
    result = call(*(photo if arg == "PHOTO" else arg for arg in args))
    assert result.exit_code != 0
    assert word in result.output
    assert "Traceback" not in result.output


def test_failure_as_json(call):
    result = call("run", "generate", "--steps", "0", "--json")
    assert json.loads(result.output)["error"] == "InvalidTask"
    assert result.exit_code == 1


def test_an_empty_file_is_told_apart_from_a_missing_one(call, tmp_path):
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    assert "empty" in call("run", "detect", "--image", empty).output


def test_models_are_listed_with_their_state(call):
    rows = json.loads(call("models", "list", "--json").output)
    assert {row["id"] for row in rows} == {"paced", "classic-faces", "classic-grabcut"}
    assert all(row["status"] == "ready" for row in rows)


def test_an_import_that_nothing_can_run_says_so_at_once_and_in_the_list(call, tmp_path):
    save_file({"*": np.zeros((2, 768), np.float32)}, tmp_path / "cat.safetensors")
    said = call("models", "import", tmp_path / "cat.safetensors").output
    assert "A textual inversion for SD 1.x, 2 vectors. Kept, but nothing here can run it yet: a textual" in said
    (row,) = [row for row in json.loads(call("models", "list", "--json").output) if row["id"] == "cat"]
    assert row["status"] == "unusable"
    assert row["reason"] in call("models", "list").output


def test_classes_of_an_imported_detector_are_named_now_or_later(call, tmp_path):
    write_model(tmp_path / "pets.onnx", {"output0": columns([], 2)})
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    assert "numbered until you name them" in call("models", "import", tmp_path / "pets.onnx").output
    wrong = call("models", "names", "pets", "--classes", "cat")
    assert (wrong.exit_code, "1 names are given" in wrong.output) == (1, True)
    assert call("models", "names", "pets", "--classes", tmp_path / "names.txt").exit_code == 0
    assert json.loads(call("models", "names", "pets", "--json").output)["classes"] == ["cat", "dog"]
    assert "2 classes by name" in call("models", "show", "pets").output
    given = call("models", "import", tmp_path / "pets.onnx", "--classes", "a,b", "--json")
    assert (json.loads(given.output)["id"], json.loads(given.output)["options"]["names"]) == ("pets", ["a", "b"])
    assert "no detector of yours" in call("models", "names", "classic-faces", "--classes", "coco").output


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its file system")
def test_a_device_or_a_pipe_is_no_picture(call, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in ("/dev/zero", tmp_path / "pipe", tmp_path):
        result = call("run", "detect", "--image", file)
        assert (result.exit_code, "a folder or a device" in result.output) == (1, True)


def test_kiosk_changes_no_models(call, photo):
    result = call("--mode", "kiosk", "models", "import", photo)
    assert result.exit_code == 1
    assert "kiosk" in result.output


def test_doctor_air_gap_runs_every_model_blocked(call):
    found = {f["name"]: f for f in json.loads(call("doctor", "--air-gap", "--json").output)}
    assert found["connections"]["ok"]
    assert found["classic-grabcut"]["ok"], found["classic-grabcut"]
    assert found["paced"]["ok"]


def test_recipes_are_named_with_their_minutes(call):
    rows = json.loads(call("train", "list", "--json").output)
    assert {row["name"] for row in rows} >= {"text-to-image", "detector", "segmenter"}
    assert all(row["minutes"] > 0 for row in rows)
    labs = """autoencoder denoising-ae sparse-ae vae beta-vae cvae cbeta-vae vq-vae hvae gan dcgan cgan wgan wgan-gp
    infogan pix2pix stylegan2 progressive-gan ddpm improved-ddpm flow"""
    assert {row["name"] for row in rows} >= set(labs.split())


def test_a_training_prints_its_last_numbers_and_its_run_and_goes_on(call, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", RECIPE)
    monkeypatch.setattr(record, "keep", lambda *_: "")
    result = call(
        "train", "tiny", "--steps", 8, "--data", "digits", "--set", "hidden=4", "--set", "augment=flip", "--json"
    )
    first = json.loads(result.stdout)
    assert first["steps"] == 8
    assert first["valid_error"] > 0
    more = json.loads(call("train", "tiny", "--resume", first["run"], "--steps", 12, "--json").stdout)
    assert (more["run"], more["steps"]) == (first["run"], 12)
    listed = json.loads(call("train", "runs", "--json").stdout)
    assert [(run["id"], run["options"]["hidden"], run["options"]["augment"]) for run in listed] == [
        (first["run"], 4, ["flip"])
    ]


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--set", "colour=1"), "not a setting"),
        (("--set", "hidden=999"), "hidden"),
        (("--data", "/nowhere"), "no pictures"),
        (("--resume", "nobody"), "no run"),
    ],
)
def test_a_wrong_training_is_said(call, monkeypatch, args, word):
    monkeypatch.setitem(recipes.RECIPES, "tiny", RECIPE)
    monkeypatch.setattr(record, "keep", lambda *_: "")
    result = call("train", "tiny", "--steps", 2, *args)
    assert result.exit_code == 1
    assert word in result.output
