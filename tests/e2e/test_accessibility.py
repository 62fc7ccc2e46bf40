"""axe-core finds nothing critical or serious, in no tab and none of its opened states, light and dark, wide and narrow.

axe-core is npm's: `npm ci` here, or STUDIO_TEST_AXE names its axe.min.js.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.test_detect import EXAMPLE, HEAD, go
from tests.e2e.test_generate import PROMPT, RESULT, RUN, file, photo
from tests.e2e.test_losses import CANVAS
from tests.e2e.test_segment import CHOICE, MASK

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
LOOKS = [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)]
LABS = {"VAE": "vae-lab", "GAN": "ganlab", "Diffusion": "difflab"}
_RUN = """async () => (await axe.run(document, {resultTypes: ['violations'], runOnly: [
    'wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})).violations
    .filter(one => ['critical', 'serious'].includes(one.impact))
    .flatMap(one => one.nodes.map(node => `${one.id} ${node.target.join(' ')} ${node.html.slice(0, 120)}`))"""
_STILL = "async () => { await Promise.all(document.getAnimations().filter(one => one.playState === 'running' && \
one.effect.getTiming().iterations !== Infinity).map(one => one.finished.catch(() => 0))); }"


# What stays in reach while the rest scrolls covers half a control somewhere; scrolled on, nothing covers it.
_FLAT = ".block.run-bar, .bench > .controls { position: static !important; max-height: none !important; }"


@pytest.fixture(scope="module")
def axe() -> str:
    path = Path(os.environ.get("STUDIO_TEST_AXE") or ROOT / "node_modules" / "axe-core" / "axe.min.js")
    if not path.is_file():
        pytest.skip("axe-core is not installed: run npm ci, or name its axe.min.js in STUDIO_TEST_AXE")
    return path.read_text(encoding="utf-8")


def findings(page: Any, axe: str, states: Iterator[str]) -> dict[str, list[str]]:
    """What axe-core says of each state that `states` brings the page into."""
    page.evaluate(axe)
    page.add_style_tag(content=_FLAT)
    found = {}
    for state in states:
        page.evaluate(_STILL)
        if here := page.evaluate(_RUN):
            found[state] = here
    return found


def generate(page: Any) -> Iterator[str]:
    yield "empty"
    page.click("text=Start from a picture")
    page.click("#generate-prompt >> xpath=ancestor::*[contains(@class,'controls')] >> text=More settings")
    page.set_input_files("#generate-image input[type=file]", file(photo()))
    page.click("#generate-mask .slot-tools button")
    page.wait_for_selector(CANVAS)
    yield "brush"
    page.keyboard.press("Escape")
    page.click(RUN)
    page.wait_for_selector(RESULT)
    page.click("[aria-label^='Remove']")
    yield "settings"
    page.fill(PROMPT, "a rocket")
    page.fill("#generate-count input[type=number]", "3")
    page.click(RUN)
    page.wait_for_selector("#generate-stage .cell")
    page.click("#generate-stage .cell >> nth=0")
    page.click("#generate-stage .facts summary")
    page.click("#generate-stage .menu > button")
    yield "result"
    page.keyboard.press("Escape")
    page.click("#generate-model input")
    yield "models"
    page.keyboard.press("Tab")


def detect(page: Any) -> Iterator[str]:
    go(page, "Detect")
    yield "empty"
    page.click(EXAMPLE)
    page.wait_for_selector(HEAD)
    page.click("#detect-stage .chip >> nth=0")
    page.click("#detect-stage .menu button:has-text('Export')")
    yield "result"
    page.keyboard.press("Escape")


def segment(page: Any) -> Iterator[str]:
    go(page, "Segment")
    yield "empty"
    page.click("#segment-stage .examples button")
    page.wait_for_selector(CHOICE)
    page.click("#segment-image >> xpath=ancestor::*[contains(@class,'controls')] >> text=More settings")
    yield "result"
    page.click("#segment-marks button:has-text('Everything')")
    page.click("#segment-run button.primary")
    page.wait_for_function(f"document.querySelector('{MASK}')?.width > 1")
    yield "everything"


def rest(page: Any) -> Iterator[str]:
    go(page, "Compress")
    page.wait_for_selector("#compress .segs")
    for name in page.locator("#compress .segs button").all_inner_texts():
        page.get_by_role("button", name=name, exact=True).click()
        yield f"compress: {name}"
    go(page, "Library")
    page.wait_for_selector(".shelf .tile")
    yield "library"
    page.click(".shelf .tile >> nth=0")
    page.click("#library-stage .facts summary")
    yield "library: one"
    page.click("label:has-text('Jobs')")
    page.wait_for_selector(".jobs .job")
    yield "library: jobs"
    go(page, "Runs")
    yield "runs"


def models(page: Any) -> Iterator[str]:
    go(page, "Models")
    page.wait_for_selector(".model-title")
    yield "models"
    for row in page.locator(".model-title").all()[:3]:
        row.click()
    page.wait_for_selector(".model-facts .files, .model-facts dl")
    yield "models: open"


def labs(page: Any) -> Iterator[str]:
    for tab, lab in LABS.items():
        go(page, tab)
        page.click(f"#{lab}-head .seg:has-text('Training')")
        page.click(f"#{lab}-more button")
        yield f"{tab}: training"
        page.click(f"#{lab}-head .seg:has-text('Explore')")
        views = f"#{lab}-explore .segs:visible >> nth=0"
        page.wait_for_selector(f"{views} >> button >> nth=0")
        for name in page.locator(views).locator("button").all_inner_texts():
            page.locator(views).get_by_role("button", name=name, exact=True).click()
            page.wait_for_timeout(600)
            yield f"{tab}: {name}"


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_making_and_keeping(window, axe, scheme, width):
    page = window(width=width, height=900, scheme=scheme).page
    tabs: tuple[Callable[[Any], Iterator[str]], ...] = (generate, detect, segment, rest)
    assert {tab.__name__: here for tab in tabs if (here := findings(page, axe, tab(page)))} == {}


@pytest.mark.parametrize(("scheme", "width"), LOOKS[:1] + LOOKS[-1:])
def test_learning(window, axe, serve, scheme, width):
    studio = serve(module="tests.apps.serve_starters")
    page = window(studio.url, width=width, height=900, scheme=scheme).page
    assert {tab.__name__: here for tab in (models, labs) if (here := findings(page, axe, tab(page)))} == {}
    studio.kill()
