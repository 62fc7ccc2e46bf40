import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.ops import infotext
from studio.tasks import MAX_SEED, SCHEDULERS, Generate

AUTOMATIC = """portrait of a fox, (smile:1.2), "quoted"
second line, with: colon
Negative prompt: blurry, low quality
and more
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 0, Size: 512x768, Model hash: 6ce0161689, \
Model: v1-5-pruned-emaonly, Denoising strength: 0.45, Lora hashes: "a: 12, b: 34", Version: v1.10.1"""

FULL = {
    "steps": st.integers(1, 150),
    "guidance_scale": st.floats(0, 30),
    "scheduler": st.sampled_from(SCHEDULERS),
    "width": st.integers(8, 256).map(lambda n: n * 8),
    "height": st.integers(8, 256).map(lambda n: n * 8),
    "seed": st.integers(0, MAX_SEED),
    "strength": st.floats(0.01, 1),
}
PROMPTS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            ["a cat", "Negative prompt: dog", "Steps: 3, Seed: 4, Size: 8x8", "", " ", '"', "\\", ":", ",", "\r", "é"]
        ),
        max_size=6,
    ).map("\n".join),
)


def test_reads_what_other_tools_write():
    assert infotext.read(AUTOMATIC) == {
        "prompt": 'portrait of a fox, (smile:1.2), "quoted"\nsecond line, with: colon',
        "negative_prompt": "blurry, low quality\nand more",
        "steps": 28,
        "scheduler": "DPM++ 2M Karras",
        "guidance_scale": 6.5,
        "seed": 0,
        "width": 512,
        "height": 768,
        "model": "v1-5-pruned-emaonly",
        "model_hash": "6ce0161689",
        "strength": 0.45,
    }


def test_writes_what_other_tools_read():
    task = Generate(prompt="a fox", negative_prompt="blurry", steps=20, guidance_scale=7.0, seed=0, width=64, height=64)
    text = infotext.write(task.model_copy(update={"scheduler": "DPM++ 2M Karras"}), "Starter, small", "abc123")
    assert text.split("\n") == [
        "a fox",
        "Negative prompt: blurry",
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 0, Size: 64x64, "
        'Model hash: abc123, Model: "Starter, small"',
    ]


@settings(max_examples=150, deadline=None)
@given(fields=st.fixed_dictionaries(FULL), prompt=PROMPTS, negative=PROMPTS, model=st.text(max_size=30))
def test_round_trip(fields, prompt, negative, model):
    task = Generate(prompt=prompt, negative_prompt=negative, image="0" * 64, **fields)
    found = infotext.read(infotext.write(task, model))
    assert found.pop("model", "") == model
    assert Generate(image="0" * 64, **found) == task


@settings(max_examples=60, deadline=None)
@given(prompt=PROMPTS, negative=PROMPTS)
def test_round_trip_with_parts_missing(prompt, negative):
    task = Generate(prompt=prompt, negative_prompt=negative)
    assert Generate(**infotext.read(infotext.write(task))) == task


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_has_a_sampler(scheduler):
    task = Generate(scheduler=scheduler, steps=3)
    assert infotext.read(infotext.write(task))["scheduler"] == scheduler


@pytest.mark.parametrize(
    ("sampler", "ours"),
    [
        ("DPM++ 2M Karras", "DPM++ 2M Karras"),
        ("Euler a", "Euler a"),
        ("PLMS", "PNDM"),
        ("k_euler_a", "Euler a"),
        ("DPM++ 2M, Schedule type: Automatic", "DPM++ 2M"),
        ("Restart", None),
    ],
)
def test_sampler_names(sampler, ours):
    assert infotext.read(f"x\nSteps: 1, Sampler: {sampler}, Seed: 1").get("scheduler") == ours


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "\n",
        "a" * 100_000,
        "a:" * 50_000,
        'a:"' * 33_000,
        'a:",' * 25_000,
        'Steps: 1, a:"\\",' * 6_000,
        "Steps: 1, " + " " * 100_000,
        "\n".join(["Negative prompt:"] * 6_000),
        "Steps: NaN, CFG scale: nan, Seed: -1, Size: axb, Denoising strength: inf",
        "Steps: " + "9" * 50_000,
        "Seed: ١٢٣, Steps: ², CFG scale: 1e999",
    ],
)
def test_hostile_text_is_read_fast_and_gives_only_finite_numbers(hostile):
    start = time.perf_counter()
    found = infotext.read(hostile)
    assert time.perf_counter() - start < 2
    assert not {"steps", "guidance_scale", "seed", "width", "strength"} & set(found) or found.get("steps") == 1


@given(st.text(max_size=500))
def test_any_text_is_read(text):
    assert isinstance(infotext.read(text)["prompt"], str)
