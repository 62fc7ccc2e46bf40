import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InvalidTask
from studio.tasks import TASKS, Detect, Generate, Segment, make_task, parse_task

ID = "a" * 64


@pytest.mark.parametrize(
    ("kind", "fields", "word"),
    [
        ("generate", {"steps": 0}, "steps"),
        ("generate", {"steps": 10**9}, "150"),
        ("generate", {"steps": math.nan}, "steps"),
        ("generate", {"steps": "four"}, "whole number, not four"),
        ("generate", {"steps": 20.7}, "steps"),
        ("generate", {"guidance_scale": math.inf}, "guidance scale"),
        ("generate", {"seed": -5}, "seed"),
        ("generate", {"seed": 2**63}, "seed"),
        ("generate", {"prompt": "x" * 10_000}, "2000"),
        ("generate", {"width": 100}, "width must be a multiple of 8 (try 96 or 104)"),
        ("generate", {"width": 12_000}, "width"),
        ("generate", {"scheduler": "zzz"}, "scheduler"),
        ("generate", {"mask": ID}, "a mask needs a start picture"),
        ("generate", {"image": "../../etc/passwd"}, "image"),
        ("generate", {"count": True, "nonsense": 1}, "nonsense"),
        ("detect", {}, "image"),
        ("detect", {"image": ID, "confidence": -0.1}, "confidence"),
        ("segment", {"image": ID, "box": (9, 9, 1, 1)}, "inverted"),
        ("segment", {"image": ID, "box": (1, 1, 1, 9)}, "empty"),
        ("segment", {"image": ID, "points": [(1, math.nan, 1)]}, "points"),
        ("segment", {"image": ID, "points": [(1, 2, 7)]}, "points"),
        ("segment", {"image": ID, "points": [(1, 1, 1)] * 100_000}, "256"),
        ("paint", {}, "generate, detect, segment"),
    ],
)
def test_wrong_fields_are_named(kind, fields, word):
    with pytest.raises(InvalidTask) as caught:
        make_task(kind, fields)
    assert word in str(caught.value).lower()
    assert "Input should" not in str(caught.value)
    assert caught.value.hint


@given(st.integers(0, 2**32 - 1), st.text(max_size=200), st.integers(1, 150))
def test_a_task_survives_json(seed, prompt, steps):
    task = make_task("generate", {"prompt": prompt, "seed": seed, "steps": steps})
    assert parse_task(task.to_json()) == task


def test_seed_zero_is_a_seed():
    assert make_task("generate", {"seed": 0}).to_json()["seed"] == 0


def test_text_from_a_command_line_is_enough():
    assert make_task("generate", {"steps": "7", "guidance_scale": "2.5"}).steps == 7


def test_assets_are_what_the_task_reads():
    assert Generate(prompt="x").assets() == ()
    assert Generate(image=ID, mask="b" * 64).assets() == (ID, "b" * 64)
    assert Detect(image=ID).assets() == Segment(image=ID).assets() == (ID,)


def test_every_field_is_explained():
    for task in TASKS.values():
        assert all(field.description for field in task.model_fields.values()), task


def test_asset_fields_exist():
    for task in TASKS.values():
        assert set(task.asset_fields) <= set(task.model_fields)
