import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.cards import Card, Source
from studio.engines.gan import GanEngine
from studio.errors import IntegrityError, InvalidTask, StudioError, Unsupported
from studio.tasks import Detect, Explore
from tests.fakes import DEVICE, FakeReport
from tests.train.test_gan import trainee

PICTURE = "a" * 64
KINDS = ("gan", "dcgan", "cgan", "wgan", "wgan-gp", "infogan", "pix2pix", "stylegan2", "progressive-gan")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """An exported model of each kind after one step."""
    made = {}
    for name in KINDS:
        made[name] = tmp_path_factory.mktemp(name)
        one = trainee(name, stage_steps=1) if name == "progressive-gan" else trainee(name)
        for step in range(5 if name == "progressive-gan" else 1):
            one.step(step, torch.Generator().manual_seed(step))
        one.export(made[name])
    return made


@pytest.fixture
def ask(folders):
    engines = {}

    def call(kind, op, image=None, **args):
        if kind not in engines:
            card = Card(id="g", title="G", tasks=("explore",), engine="gan", licence="MIT", source=Source(kind="none"))
            engines[kind] = GanEngine(card, folders[kind], DEVICE)
        rng = np.random.default_rng(0)
        report = FakeReport({PICTURE: rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)})
        return engines[kind].run(Explore(op=op, args=args, image=image), report)

    return call


def cells(result):
    """The sheet cut up: uint8 (rows, columns, side, side, 3)."""
    data, sheet = result.data, result.images[0]
    assert sheet.shape == (data["rows"] * data["side"], data["columns"] * data["side"], 3)
    return sheet.reshape(data["rows"], data["side"], data["columns"], data["side"], 3).swapaxes(1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_every_kind_repeat(ask, kind):
    one, two = (ask(kind, "samples", seed=3, count=6, columns=3) for _ in range(2))
    assert np.array_equal(one.images[0], two.images[0])
    json.dumps(one.data, allow_nan=False)
    assert one.data["kind"] in (kind, "wgan")


@pytest.mark.parametrize("kind", ["gan", "dcgan", "wgan", "infogan", "stylegan2", "progressive-gan"])
def test_the_same_seed_is_the_same_picture_in_every_operation(ask, kind):
    sample = cells(ask(kind, "samples", seed=5, count=1))[0, 0]
    point = ask(kind, "at", seed=5)
    assert np.array_equal(cells(point)[0, 0], sample)
    walk = cells(ask(kind, "interpolate", first=5, last=9, count=4))
    assert np.allclose(walk[0, 0].astype(int), sample, atol=1)
    again = ask(kind, "at", seed=5, z=point.data["z"])
    assert np.allclose(cells(again)[0, 0].astype(int), sample, atol=2)


def test_walks_end_at_both_ends_and_w_is_styles_only(ask):
    ends = [cells(ask("stylegan2", "at", seed=s))[0, 0].astype(int) for s in (1, 2)]
    walk = cells(ask("stylegan2", "interpolate", first=1, last=2, count=5, space="w", way="linear"))[0]
    assert np.allclose(walk[0], ends[0], atol=1)
    assert np.allclose(walk[-1], ends[1], atol=1)
    with pytest.raises(Unsupported):
        ask("dcgan", "interpolate", space="w")


def test_no_truncation_left_is_one_picture(ask):
    shown = cells(ask("stylegan2", "samples", count=3, truncation=0.0))[0]
    assert np.array_equal(shown[0], shown[1])


def test_style_mixing_has_its_parents_around_it(ask):
    rows, columns = [1, 2], [7, 8, 9]
    result = ask("stylegan2", "style_mix", rows=rows, columns=columns, band="coarse", truncation=1.0)
    shown = cells(result).astype(int)
    assert shown.shape[:2] == (3, 4)
    assert np.array_equal(shown[0, 1], cells(ask("stylegan2", "at", seed=7))[0, 0])
    assert np.array_equal(shown[1, 0], cells(ask("stylegan2", "at", seed=1))[0, 0])
    assert result.data["layers"] == [4, 8, 8]
    same = cells(ask("stylegan2", "style_mix", rows=[4], columns=[4], band="middle", truncation=1.0)).astype(int)
    assert np.allclose(same[1, 1], same[1, 0], atol=1)
    with pytest.raises(Unsupported):
        ask("dcgan", "style_mix")


def test_codes_and_classes(ask):
    assert ask("infogan", "codes", vary=1, count=5).data["rows"] == 4
    assert ask("infogan", "codes", count=5).data["continuous"] == 2
    result = ask("cgan", "classes", first=1, count=8, rows=2)
    assert result.data["names"] == ["green", "blue", "yellow"]
    assert (result.data["rows"], result.data["columns"]) == (2, 3)
    for kind, op in (("dcgan", "codes"), ("dcgan", "classes"), ("dcgan", "translate")):
        with pytest.raises(Unsupported):
            ask(kind, op)
    with pytest.raises(InvalidTask):
        ask("infogan", "codes", vary=2)
    with pytest.raises(InvalidTask):
        ask("cgan", "samples", label=4)


def test_translate_takes_pictures_drawings_and_examples(ask):
    own = cells(ask("pix2pix", "translate", image=PICTURE))
    assert own.shape[1] == 3
    drawn = cells(ask("pix2pix", "translate", image=PICTURE, drawn=True))
    assert np.array_equal(own[0, 2], drawn[0, 2])
    assert not np.array_equal(own[0, 0], drawn[0, 0])
    assert cells(ask("pix2pix", "translate", example=7)).shape[1] == 3
    with pytest.raises(InvalidTask):
        ask("pix2pix", "translate")


@pytest.mark.parametrize("kind", KINDS)
def test_step_mode_moves_and_resets_and_leaves_the_model_alone(ask, kind):
    before = ask(kind, "samples", seed=1, count=2).images[0]
    one = ask(kind, "step", show=4)
    two = ask(kind, "step", show=4)
    again = ask(kind, "step", show=4, reset=True)
    assert (one.data["step"], two.data["step"], again.data["step"]) == (1, 2, 1)
    assert np.array_equal(one.images[0], again.images[0])
    assert not np.array_equal(cells(one)[1], cells(one)[2])
    assert len(one.data["shown"]["real_before"]) == 4
    assert all(math.isfinite(value) for value in one.data["means"].values())
    assert np.array_equal(ask(kind, "samples", seed=1, count=2).images[0], before)


@pytest.mark.parametrize("kind", ["gan", "dcgan", "cgan", "wgan", "stylegan2", "progressive-gan"])
def test_the_discriminator_answers_for_a_picture(ask, kind):
    result = ask(kind, "scores", image=PICTURE)
    assert len(result.data["own"]) == 1
    assert len(result.data["real"]) == 40
    assert result.data["critic"] == (kind == "wgan")
    with pytest.raises(InvalidTask):
        ask(kind, "scores")


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("nothing", {}),
        ("samples", {"count": 0}),
        ("samples", {"count": 10**9}),
        ("samples", {"seed": -1}),
        ("samples", {"truncation": float("nan")}),
        ("samples", {"other": 1}),
        ("samples", {"codes": [1.0]}),
        ("at", {"z": [1.0]}),
        ("at", {"z": ["x"]}),
        ("interpolate", {"count": 1}),
        ("interpolate", {"way": "round"}),
        ("style_mix", {"rows": []}),
        ("step", {"rate": -1}),
    ],
)
def test_wrong_arguments_are_sentences(ask, op, args):
    with pytest.raises(StudioError) as caught:
        ask("infogan", op, **args)
    assert caught.value.message.endswith(".")


def test_other_tasks_are_refused(ask, folders):
    card = Card(id="g", title="G", tasks=("explore",), engine="gan", licence="MIT", source=Source(kind="none"))
    with pytest.raises(Unsupported):
        GanEngine(card, folders["gan"], DEVICE).run(Detect(image=PICTURE), FakeReport())


@pytest.mark.parametrize("damage", ["none", "config", "kind", "weights", "names"])
def test_damaged_models_name_the_file(folders, tmp_path, damage):
    config = json.loads((folders["dcgan"] / "config.json").read_text())
    tensors = load_file(folders["dcgan"] / "model.safetensors")
    tensors = {k: v for k, v in tensors.items() if not (damage == "names" and k.startswith("discriminator.score"))}
    config |= {"kind": "os.system"} if damage == "kind" else {}
    (tmp_path / "config.json").write_text("{" if damage == "config" else json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")
    if damage == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"short")
    card = Card(id="g", title="G", tasks=("explore",), engine="gan", licence="MIT", source=Source(kind="none"))
    if damage == "none":
        GanEngine(card, tmp_path, DEVICE).close()
        return
    with pytest.raises(IntegrityError):
        GanEngine(card, tmp_path, DEVICE)
