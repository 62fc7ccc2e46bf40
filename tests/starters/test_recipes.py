"""Every recipe takes a few steps on a processor and leaves its weights behind."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from studio.starters import atlas, clip, detector, labs, segmenter, upscaler, words
from studio.starters.text_to_image import autoencoder, recipe
from studio.train.world import DETECTOR_CLASSES
from tests.starters.test_composer import small_atlas
from tests.starters.test_segmenter import SMALL

CELL = 12


@pytest.fixture(autouse=True)
def stickers(monkeypatch):
    """An atlas of all things, each a plain square, instead of a file."""
    names = tuple(thing.name for thing in words.things())
    cells = np.full((len(names), CELL, CELL, 4), 255, np.uint8)
    cells[..., :3] = np.random.default_rng(0).integers(0, 255, (len(names), 1, 1, 3))
    classes = (*DETECTOR_CLASSES, *[None] * (len(names) - len(DETECTOR_CLASSES)))
    whole = small_atlas()
    made = atlas.Atlas(cells, names, classes, whole.photographs, whole.aspects, whole.regions, whole.grounds)
    monkeypatch.setattr(atlas, "read", lambda path: made)
    monkeypatch.setattr(detector, "read", lambda path: made)


def given(out, **more):
    usual = {"seconds": 60, "steps": 1, "device": "cpu", "start": None, "seed": 0, "tiny": True, "atlas": None}
    return SimpleNamespace(out=out, **{**usual, **more})


def finite(path):
    kept = torch.load(path, weights_only=True)
    weights = kept.get("weights") or {f"{p}.{k}": v for p, s in kept["parts"].items() for k, v in s.items()}
    assert weights
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


def test_clip(tmp_path):
    (tmp_path / "tokenizer.json").write_text(spelling(), encoding="utf-8")
    finite(clip.train(given(tmp_path)))


def spelling() -> str:
    """A tokenizer of whole words, which is sooner made than one of byte pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = sorted({word for thing in words.things() for word in thing.name.split()})
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<unk>", *names])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.enable_truncation(clip.LENGTH)
    made.enable_padding(pad_id=clip.VOCABULARY - 1, pad_token="<end>", length=clip.LENGTH)
    return made.to_str()


def test_upscaler(tmp_path, monkeypatch):
    monkeypatch.setattr(upscaler, "LAYERS", 1)
    monkeypatch.setattr(upscaler, "WIDTH", 4)
    monkeypatch.setattr(upscaler, "PIECE", 64)
    monkeypatch.setattr(upscaler, "photographs", lambda folder: [np.full((140, 140, 3), 90, np.uint8)])
    finite(upscaler.train(given(tmp_path)))


@pytest.mark.parametrize("name", ["vae", "dcgan", "ddpm-32"])
def test_labs(tmp_path, name, monkeypatch):
    small = {**labs.STARTERS[name].options, "size": 32, "width": 16}
    starter = SimpleNamespace(**{**vars(labs.STARTERS[name]), "options": small})
    monkeypatch.setattr(labs, "SHOWN", 4)
    monkeypatch.setattr(labs, "WALK", 2)
    finite(labs.train(starter, given(tmp_path, name=name)))


def test_text_to_image(tmp_path, monkeypatch):
    network = autoencoder.network
    monkeypatch.setattr(recipe, "MERGES", 100)
    monkeypatch.setattr(recipe, "GAIN", -20.0)
    monkeypatch.setattr(recipe.autoencoder, "network", lambda: network(widths=(4, 4)))
    monkeypatch.setattr(recipe, "SHOWN", recipe.SHOWN[:6])
    recipe.train(given(tmp_path), recipe.TINY._replace(picture=64, piece=64, pool=8, fresh=1, batch=2, probe=2))
    assert all((tmp_path / name).is_file() for name in (*recipe.PARTS, "sheet.jpg"))


def test_detector(tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "Trial", lambda *given: lambda net: "")
    sizes = detector.Recipe(sizes=(64,))
    finite(detector.train(given(tmp_path), sizes))


def test_segmenter(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenter, "CONFIG", SMALL)
    monkeypatch.setattr(segmenter, "Trial", lambda *given: lambda sam, bf16: "")
    monkeypatch.setattr(segmenter, "read", atlas.read)
    finite(segmenter.train(given(tmp_path), segmenter.Recipe(sizes=((0.0, (64,)),), asked=2, rounds=1)))
