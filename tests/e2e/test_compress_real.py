"""Real variants of two real models, measured in the tab; the chosen one is what Detect runs from then on."""

from __future__ import annotations

import pytest

from tests.e2e.test_compress import ROWS, choose

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
LONG = 240_000  # ms: variants are converted and measured, whatever else the machine does


@pytest.fixture(scope="module")
def studio(serve):
    return serve(module="tests.apps.serve_compress")


def opened(page, model, own):
    """The model's page of the tab."""
    page.get_by_role("tab", name="Compress", exact=True).click()
    page.wait_for_selector("#compress select")
    page.select_option("#compress select", model)
    page.wait_for_function(  # its own way comes first; another model's chips may still be there
        "own => document.querySelector('#compress .cmp-variants button')?.dataset.act === 'v-' + own", arg=own
    )
    return page


def measured(page, *keys):
    """Presses Compare. The first row stands there while the others are at work; then all are complete."""
    choose(page, *keys)
    page.click("#compress [data-act=run]")
    page.wait_for_selector(f"{ROWS} .badge:has-text('of 2 runs')", timeout=LONG)
    page.wait_for_selector("#compress [data-act=run].primary", timeout=LONG)
    for key in keys:
        assert "of 2 runs" not in page.inner_text(f"#compress tr[data-key='{key}']")
        assert page.locator(f"#compress tr[data-key='{key}'] .cmp-failed").count() == 0
    return page


def test_two_models_are_compared_and_detect_runs_the_chosen_variant(window, studio):
    page = opened(window(studio.url).page, "starter-segmenter", "torch-fp32")
    measured(page, "torch-fp32", "onnxruntime-fp16", "onnxruntime-gguf-q8_0")
    page.click("#compress [data-act='row-onnxruntime-gguf-q8_0']")
    assert page.locator("#compress .cmp-pair img").count() == 2
    assert page.locator("#compress .cmp-bars li").count() > 10

    opened(page, "starter-detector", "onnxruntime-fp32")
    measured(page, "onnxruntime-fp32", "onnxruntime-fp16", "onnxruntime-pruned-rows-25")
    page.click("#compress [data-act='row-onnxruntime-fp16']")
    assert page.locator("#compress .cmp-pair img").count() == 2
    page.click("#compress [data-act=use]")
    page.wait_for_selector("#compress tr[data-key='onnxruntime-fp16'] .badge.on")

    page.click("#compress [data-act=go]")
    page.click("#detect-stage .examples button")
    page.wait_for_selector("#detect-stage .finds-head", timeout=LONG)
    leased = (studio.folder / "leased.txt").read_text().splitlines()
    assert leased[-1] == "starter-detector onnxruntime-fp16"

    opened(page, "starter-detector", "onnxruntime-fp32")
    page.click("#compress [data-act=undo]")
    page.wait_for_selector("#compress .badge.on", state="detached")
