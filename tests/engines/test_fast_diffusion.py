"""The fast path paints what torch paints, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studio.cards import Card, Source
from studio.compress import export, graphs
from studio.compress.networks import GRAPHS, Place
from studio.compress.ship import keep
from studio.device import Device
from studio.engines import torch_parts
from studio.engines.clip_tokenizer import ClipTokenizer
from studio.engines.diffusion import Diffusion
from studio.engines.fast_diffusion import FastDiffusion
from studio.errors import Cancelled, IntegrityError, InvalidTask, Unsupported
from studio.ops import infotext
from studio.tasks import Detect, Generate
from tests.engines.tiny_pipeline import write_sd
from tests.fakes import FakeReport

ROOT = Path(__file__).resolve().parents[2]
HERE = Device("here", 1, 0, "cpu")
PICTURE = "a" * 64
MASK = "b" * 64


def card(**options):
    return Card(
        id="tiny",
        title="Tiny",
        tasks=("generate",),
        engine="diffusion",
        licence="Apache-2.0",
        source=Source(kind="none"),
        defaults={"steps": 4, "guidance_scale": 3.0},
        options={"size": 64, **options},
    )


def write_parts(folder, out):
    """What the child of an export does, here: torch is in this process already."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "card.json").write_text(card().model_dump_json())
    assert torch_parts.main([str(out / "card.json"), str(folder), str(out)]) == 0


def fast(folder, runtime="onnxruntime", **options):
    return FastDiffusion(card(fast=Place(runtime, "fp32").to_option(), **options), folder, HERE)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A pipeline with a tiny autoencoder, its graphs beside its weights."""
    root = tmp_path_factory.mktemp("tiny")
    folder = write_sd(root, prediction="v_prediction")
    write_parts(folder, root / "parts")
    keep(root / "parts", folder)
    return folder


@pytest.fixture(scope="module")
def engine(tiny):
    return fast(tiny)


@pytest.fixture(scope="module")
def reference(tiny):
    return Diffusion(card(), tiny, HERE)


@pytest.fixture
def report():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[16:40, 16:40] = 255
    return FakeReport({PICTURE: picture, MASK: mask})


def names(out):
    return {file.stem: file for file in out.glob("*.onnx")}


def paint(engine, report, **fields):
    return engine.run(Generate(**{"prompt": "a cat", "seed": 3, **fields}), report)


CASES = {
    "default": {},
    "no guidance": {"guidance_scale": 1.0},
    "euler": {"scheduler": "Euler"},
    "euler a": {"scheduler": "Euler a"},
    "dpm": {"scheduler": "DPM++ 2M", "negative_prompt": "a dog"},
    "wide": {"width": 96, "height": 64},
    "image to image": {"image": PICTURE, "strength": 0.5, "width": 64, "height": 64},
    "inpaint": {"image": PICTURE, "mask": MASK, "strength": 1.0, "width": 64, "height": 64},
}


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_the_same_seed_gives_the_same_picture_as_torch(engine, reference, report, fields):
    ours, theirs = paint(engine, report, **fields), paint(reference, report, **fields)
    apart = np.abs(ours.images[0].astype(int) - theirs.images[0])
    assert apart.max() <= 3, apart.max()
    assert ours.data["infotext"] == theirs.data["infotext"]
    assert {k: ours.data[k] for k in ("seeds", "width", "height")} == {
        k: theirs.data[k] for k in ("seeds", "width", "height")
    }


def test_openvino_paints_it_too(tiny, engine, report):
    pytest.importorskip("openvino")
    apart = np.abs(paint(fast(tiny, "openvino"), report).images[0].astype(int) - paint(engine, report).images[0])
    assert apart.max() <= 3


@pytest.mark.parametrize("fields", [{}, CASES["inpaint"]])
def test_torch_paints_it_in_bf16(fields, tiny, reference, report):
    told = card(fast=Place("torch", "bf16").to_option())
    with pytest.raises(Unsupported, match="does not compute in bf16"):
        Diffusion(told, tiny, HERE)
    half = Diffusion(told, tiny, replace(HERE, features=frozenset({"bf16"})))
    apart = np.abs(paint(half, report, **fields).images[0].astype(int) - paint(reference, report, **fields).images[0])
    assert 0 < apart.mean() < 8


def test_a_unet_can_be_asked_by_itself(engine, reference, report):
    asked = []
    reference.on_question = asked.append
    paint(reference, report)
    reference.on_question = None
    assert len(asked) == 4
    first, second = (painter.answer(asked[1]) for painter in (reference, engine))
    assert first.shape == asked[1]["sample"].shape
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_a_full_autoencoder(tmp_path, report):
    folder = write_sd(tmp_path, tiny_vae=False)
    write_parts(folder, tmp_path / "parts")
    keep(tmp_path / "parts", folder)
    fields = {"image": PICTURE, "strength": 0.5, "width": 64, "height": 64}
    ours, theirs = (paint(e, report, **fields) for e in (fast(folder), Diffusion(card(), folder, HERE)))
    assert np.abs(ours.images[0].astype(int) - theirs.images[0]).max() <= 3


def test_several_pictures_previews_and_steps(engine, report):
    made = paint(engine, report, count=2, steps=3)
    assert made.data["seeds"] == [3, 4]
    assert [step[:2] for step in report.steps if step[2] == "step"] == [(n, 6) for n in (0, 1, 2, 3, 3, 4, 5, 6)]
    assert len(report.previews) == 6
    assert report.previews[0].dtype == np.uint8
    assert np.array_equal(made.images[1], paint(engine, report, seed=4, steps=3).images[0])
    assert infotext.read(made.data["infotext"][0])["seed"] == 3


def test_repainting_leaves_the_rest(engine, report):
    made = paint(engine, report, **CASES["inpaint"]).images[0]
    mask = report.assets[MASK][..., 0] > 127
    assert np.array_equal(made[~mask], report.assets[PICTURE][~mask])


def test_cancel_ends_it_within_a_step_and_it_paints_again(engine, report):
    before = paint(engine, report).images[0]
    with pytest.raises(Cancelled):
        paint(engine, FakeReport(cancel_after=3), steps=50)
    assert np.array_equal(paint(engine, report).images[0], before)


def test_what_it_cannot_do_is_said(engine, tiny, report):
    with pytest.raises(Unsupported, match="Heun"):
        paint(engine, report, scheduler="Heun")
    with pytest.raises(InvalidTask, match="detect"):
        engine.run(Detect(image=PICTURE), report)
    with pytest.raises(Unsupported, match="not converted"):
        FastDiffusion(card(), tiny, HERE)
    assert "last" in paint(engine, report, prompt="a b c d e f g h i j k l m n o p q r s").data["notes"][0]


def test_damaged_files_are_named(tiny, tmp_path, monkeypatch):
    import shutil

    folder = Path(shutil.copytree(tiny, tmp_path / "copy"))
    (folder / GRAPHS / "unet.onnx").write_bytes(b"no graph")
    with pytest.raises(IntegrityError, match=r"unet\.onnx"):
        fast(folder)
    shutil.copy(tiny / GRAPHS / "decoder.onnx", folder / GRAPHS / "unet.onnx")
    with pytest.raises(IntegrityError, match="lack"):
        fast(folder)
    # Such graphs are of no use for a conversion either: it exports anew.
    monkeypatch.setattr(export, "parts", lambda card, folder, out, step: write_parts(folder, out) or names(out))
    out = tmp_path / "out"
    out.mkdir()
    made = export.full_precision(card(), folder, out)
    assert set(made) == {"text_encoder", "unet", "decoder", "encoder"}
    assert not graphs.is_bare(graphs.read(made["unet"]))


def test_no_torch_in_that_worker(tiny):
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom tests.engines.one_picture import main\n"
        f"main(Path({str(tiny)!r}))\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.strip().splitlines()[-1]))
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "transformers", "diffusers", "torchvision", "openvino", "nncf"}


TEXTS = ["a red apple", "", "A  Cat's 3 dogs, é ünï 猫!", "x" * 200, "one two three " * 20, "<|endoftext|> y"]


def test_the_tokenizer_equals_transformers(tiny, tmp_path):
    from transformers import CLIPTokenizer

    shipped = ROOT / "models" / "starter-text-to-image" / "tokenizer"
    for folder in (tiny / "tokenizer", shipped):
        theirs = CLIPTokenizer.from_pretrained(str(folder))
        ours = ClipTokenizer(folder, theirs.model_max_length)
        for text in TEXTS:
            wanted = theirs(text, padding="max_length", truncation=True, max_length=theirs.model_max_length).input_ids
            assert ours(text)[0].tolist() == wanted, text
    # The published layout: a vocabulary and merges, without tokenizer.json.
    whole = json.loads((shipped / "tokenizer.json").read_text())
    (tmp_path / "vocab.json").write_text(
        json.dumps({**whole["model"]["vocab"], **{t["content"]: t["id"] for t in whole["added_tokens"]}})
    )
    merges = "\n".join(" ".join(pair) if isinstance(pair, list) else pair for pair in whole["model"]["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    for text in TEXTS:
        assert ClipTokenizer(tmp_path, 24)(text).tolist() == ClipTokenizer(shipped, 24)(text).tolist(), text
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(IntegrityError, match="tokenizer"):
        ClipTokenizer(tmp_path, 24)


@pytest.mark.parametrize("kind", ["fast", "torch"])
def test_a_budget_is_kept_by_tiles_and_slices_and_the_picture_stays(tiny, report, kind):
    poor = Device("here", 1, 1, "cpu")  # one byte: all is saved that can be
    told = card(fast=Place("onnxruntime", "fp32").to_option()) if kind == "fast" else card()
    engine = (FastDiffusion if kind == "fast" else Diffusion)(told, tiny, poor)
    engine._anatomy = replace(engine._anatomy, heads=2)
    whole = (FastDiffusion if kind == "fast" else Diffusion)(told, tiny, HERE)
    fields = {"width": 640, "height": 528, "steps": 1, "guidance_scale": 1.0}
    spared, plain = paint(engine, report, **fields), paint(whole, report, **fields)
    (note,) = [one for one in spared.data["notes"] if "tiles of 512 px" in one]
    assert ("attention in 2 slices" in note) == (kind == "torch")
    assert not any("tiles" in one for one in plain.data["notes"])
    apart = np.abs(spared.images[0].astype(int) - plain.images[0])
    assert apart.mean() < 2
    if kind == "torch":
        processors = {type(one).__name__ for one in engine._pipe.unet.attn_processors.values()}
        assert processors == {"SlicedAttnProcessor"}
        paint(engine, report)  # a small picture needs none of it
        processors = {type(one).__name__ for one in engine._pipe.unet.attn_processors.values()}
        assert "SlicedAttnProcessor" not in processors
