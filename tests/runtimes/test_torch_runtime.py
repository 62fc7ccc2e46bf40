"""The reference runtime builds a part from its description, or says what is wrong with that."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from studio.cards import load_cards
from studio.config import ROOT
from studio.engines import torch_parts
from studio.errors import IntegrityError, Unsupported
from studio.runtimes.base import Settings
from studio.runtimes.torch_runtime import SUFFIX, TorchRuntime, compute_in_bf16, describe


@pytest.fixture
def file(tmp_path):
    card = load_cards(ROOT / "models")["starter-segmenter"]
    found = tmp_path / f"double{SUFFIX}"
    found.write_text(describe(card, tmp_path, "double"), encoding="utf-8")
    return found


class Double(torch.nn.Module):
    def forward(self, x):
        return x @ torch.full((4, 4), 2.0)


def test_a_part_answers_by_name_and_refuses_what_does_not_fit(file, monkeypatch):
    part = torch_parts.TorchPart(Double(), ("x",), ("y",), ())
    monkeypatch.setattr(torch_parts, "build", lambda card, folder, name: part)
    session = TorchRuntime().load(file, Settings())
    answer = session.run({"x": np.ones((1, 4), np.float32)})
    assert answer["y"].tolist() == [[8.0] * 4]
    with pytest.raises(Unsupported, match="stopped on torch"):
        session.run({"x": np.ones((1, 3), np.float32)})
    session.close()


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"card": {}, "folder": ".", "part": "x"})])
def test_a_description_that_cannot_be_read(text, tmp_path):
    file = tmp_path / f"part{SUFFIX}"
    file.write_text(text)
    with pytest.raises(IntegrityError, match="cannot be read"):
        TorchRuntime().load(file, Settings())


class Timed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.seen = []

    def forward(self, x, timestep, other=None):
        self.seen = [x.dtype, timestep.dtype, other.dtype]
        return {"sample": self.layer(x + other)}


def test_bf16_is_within_a_module_only():
    module = Timed()
    exact = module(torch.ones(1, 4), torch.tensor([981.0]), other=torch.ones(1, 4))["sample"]
    compute_in_bf16(module)
    with torch.inference_mode():
        found = module(torch.ones(1, 4), torch.tensor([981.0]), other=torch.ones(1, 4))["sample"]
    assert module.seen == [
        torch.bfloat16,
        torch.float32,
        torch.bfloat16,
    ]  # a time step of 981 is none of bf16's numbers
    assert found.dtype == torch.float32
    assert torch.allclose(found, exact, atol=0.05)
