"""Run in a child of `test_fast_diffusion`: one picture, imports nothing that torch could come with."""

from __future__ import annotations

from pathlib import Path

from studio.cards import Card, Source
from studio.compress.networks import Place
from studio.device import Device
from studio.engines.fast_diffusion import FastDiffusion
from studio.tasks import Generate
from tests.fakes import FakeReport


def main(folder: Path) -> None:
    card = Card(
        id="tiny",
        title="Tiny",
        tasks=("generate",),
        engine="diffusion",
        licence="Apache-2.0",
        source=Source(kind="none"),
        options={"size": 64, "fast": Place("onnxruntime", "fp32").to_option()},
    )
    FastDiffusion(card, folder, Device("here", 1, 0, "cpu")).run(Generate(prompt="a", seed=1, steps=2), FakeReport())
