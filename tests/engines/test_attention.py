"""Cross-attention maps on a tiny random pipeline: the picture stays what it was, probabilities stay probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studio.cards import Card, Source
from studio.device import Device
from studio.engines import attention
from studio.engines.diffusion import Diffusion
from studio.errors import Cancelled, InvalidTask, Unsupported
from studio.tasks import Explore, Generate
from tests.engines.tiny_pipeline import write_sd
from tests.fakes import FakeReport


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    folder: Path = write_sd(tmp_path_factory.mktemp("tiny"))
    card = Card(
        id="tiny",
        title="Tiny",
        tasks=("generate",),
        engine="diffusion",
        licence="Apache-2.0",
        source=Source(kind="builtin"),
        defaults={"steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64},
    )
    return Diffusion(card, folder, Device("test", 1, 2**33, "cpu"))


def look(engine: Diffusion, report: FakeReport | None = None, **args: Any) -> Any:
    return engine.run(Explore(op="attention", args=args), report if report is not None else FakeReport())


def test_a_picture_and_a_map_for_every_word(engine):
    result = look(engine, prompt="a cat, on x")
    assert [one["word"] for one in result.data["words"]] == ["a", "cat", "on", "x"]
    assert len(result.images) == 5
    assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in result.images)
    assert sum(one["share"] for one in result.data["words"]) == pytest.approx(1, abs=0.01)
    assert all(0 <= value <= 1 for one in result.data["words"] for value in one["peak"])


def test_what_did_not_go_to_words_is_told(engine):
    """Otherwise a word with a share of 0 reads as one that was ignored."""
    short, long = (look(engine, prompt=text).data for text in ("a", "a cat, on x, ab cd ef"))
    assert 0 < short["to_words"] < long["to_words"] < 1


def test_looking_does_not_change_the_picture_or_the_pipeline(engine):
    before = {name: type(one) for name, one in engine._pipe.unet.attn_processors.items()}
    seen = look(engine, prompt="a cat", seed=4).images[0]
    plain = engine.run(Generate(prompt="a cat", seed=4), FakeReport()).images[0]
    assert np.abs(seen.astype(int) - plain.astype(int)).max() <= 1
    assert {name: type(one) for name, one in engine._pipe.unet.attn_processors.items()} == before


def test_what_is_kept_are_probabilities(engine):
    with attention.keeping(engine._pipe.unet) as kept, torch.inference_mode():
        engine._pipe("a cat", width=64, height=64, num_inference_steps=2, output_type="latent")
    assert kept.counts
    for positions, odds in kept.sums.items():
        assert torch.allclose(odds.sum(-1), torch.full((positions,), float(kept.counts[positions])), atol=1e-3)


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"prompt": "   "},
        {"prompt": "a", "steps": 0},
        {"prompt": "a", "guidance": float("nan")},
        {"prompt": "a" * 501},
        {"prompt": 7},
        {"prompt": "a", "side": 10**6},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(engine, args):
    with pytest.raises(InvalidTask):
        look(engine, **args)


def test_an_unknown_operation_is_refused(engine):
    with pytest.raises(InvalidTask):
        engine.run(Explore(op="nothing"), FakeReport())


def test_cancel_leaves_the_pipeline_as_it_was(engine):
    before = dict(engine._pipe.unet.attn_processors)
    with pytest.raises(Cancelled):
        look(engine, FakeReport(cancel_after=1), prompt="a cat", steps=5)
    assert all(engine._pipe.unet.attn_processors[name] is one for name, one in before.items())


def test_a_network_without_cross_attention_is_refused():
    class Plain:
        attn_processors: dict[str, Any] = {"mid.attn1.processor": None}  # noqa: RUF012 - a stand-in

    with pytest.raises(Unsupported), attention.keeping(Plain()):
        pass
