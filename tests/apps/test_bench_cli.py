"""`app.py bench` and `app.py plan` from a shell, over rows that were measured before."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from apps import bench_cli
from studio.cards import load_cards
from studio.compress.bench import Bench
from studio.config import ROOT
from studio.device import Device
from studio.errors import StudioError

CARD = load_cards(ROOT / "models")["starter-detector"]


def row(runtime, precision, size, peak, median, agreement):
    return {
        "card": CARD.id, "runtime": runtime, "precision": precision, "bytes": size, "resident_mb": 90.0,
        "peak_mb": peak, "load_s": 0.3, "first_ms": 80.0, "median_ms": median, "spread_ms": 1.0,
        "quality": {"agreement": agreement}, "verdict": f"{precision}: measured.", "notes": [],
    }  # fmt: skip


ROWS = [
    row("onnxruntime", "fp32", 10_000_000, 120.0, 58.0, 1.0),
    row("openvino", "int8", 3_000_000, 180.0, 38.0, 0.97),
    row("onnxruntime", "int1", 700_000, 110.0, 30.0, 0.1),
]


@pytest.fixture
def shell(tmp_path):
    """Calls a verb; `asked` has what the studio was asked for, `used` what was made the default."""
    asked, used = [], []
    device = Device("Test processor", 2, 2**33, "cpu")

    def compare(card, folder, fingerprint, names, **more):
        asked.append((names, more))
        return [dict(one) for one in ROWS]

    verdicts = SimpleNamespace(undo=lambda id_: None)
    store = SimpleNamespace(path=lambda card: ROOT / "models" / card.source.path, fingerprint=lambda card: "f")
    studio = SimpleNamespace(
        card=lambda id_: CARD,
        cards=lambda ready=False: [CARD],
        bench=SimpleNamespace(
            compare=compare,
            verdicts=verdicts,
            offered=lambda card: ["onnxruntime-fp32"],
            planned=Bench(tmp_path, tmp_path, device).planned,
        ),
        store=store,
        device=device,
        use=lambda id_, key: used.append((id_, key)),
    )

    @contextmanager
    def opened(config, **_):
        yield studio

    def call(verb, *args):
        return CliRunner().invoke(verb(opened), [str(one) for one in args])

    return SimpleNamespace(call=call, asked=asked, used=used)


def test_one_json_object_a_variant_and_the_best_is_marked(shell):
    answer = shell.call(bench_cli.command, "--card", CARD.id, "--variants", "openvino-int8, onnxruntime-int1", "--json")
    rows = [json.loads(line) for line in answer.output.splitlines()]
    assert [one["precision"] for one in rows if one["chosen"]] == ["int8"]
    assert {"card", "runtime", "bytes", "resident_mb", "peak_mb", "load_s", "median_ms", "quality", "verdict"} <= set(
        rows[0]
    )
    assert shell.asked[0][0] == ["openvino-int8", "onnxruntime-int1"]
    assert shell.used == []


def test_a_budget_chooses_and_use_remembers(shell):
    answer = shell.call(bench_cli.command, "--budget-mb", 150, "--use", "--json")
    assert answer.exit_code == 0
    assert shell.used == [(CARD.id, "onnxruntime-fp32")]


def test_a_budget_that_nothing_fits_says_what_comes_closest(shell):
    error = shell.call(bench_cli.command, "--budget-ms", 1).exception
    assert isinstance(error, StudioError)
    assert "int8 on OpenVINO" in error.hint


def test_people_get_a_table_with_the_machine_and_sentences(shell):
    output = shell.call(bench_cli.command, "--image", Path("cat.jpg"), "--runs", 3).output
    assert output.startswith("Test processor, 2 cores")
    assert "-> int8: measured." in output
    assert shell.asked[0][1]["own"] == (Path("cat.jpg"),)
    assert shell.asked[0][1]["runs"] == 3


def test_undo_measures_nothing(shell):
    assert json.loads(shell.call(bench_cli.command, "--undo", "--json").output)["default"] == "as it came"
    assert shell.asked == []


def test_a_plan_says_how_and_how_much(shell):
    answer = shell.call(bench_cli.plan_command, "4 GB", "--card", CARD.id, "--json")
    made = json.loads(answer.output)
    assert 0 < made["peak"] <= made["budget"] == 4 * 10**9
    assert "MB at peak" in shell.call(bench_cli.plan_command, "4 GB", "--card", CARD.id).output
