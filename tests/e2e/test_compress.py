"""Compress as a visitor uses it, over a measurement that takes a second."""

import csv

import pytest

pytestmark = pytest.mark.e2e
ROWS = "#compress tr[data-key]"
BRIGHT = """() => { const map = document.querySelector('#compress .cmp-heat'); if (!map.width) return false;
const pixels = map.getContext('2d').getImageData(0, 0, map.width, map.height).data;
return pixels.some((value, at) => at % 4 === 0 && value > 40); }"""


def go(page, model="finder"):
    page.get_by_role("tab", name="Compress", exact=True).click()
    page.wait_for_selector("#compress select")
    page.select_option("#compress select", model)
    page.wait_for_selector("#compress [data-act='v-torch-fp32']")
    return page


def choose(page, *keys):
    """Exactly these variants."""
    for chip in page.locator("#compress .cmp-variants button").all():
        wanted = chip.get_attribute("data-act").removeprefix("v-") in keys
        if (chip.get_attribute("aria-pressed") == "true") != wanted:
            chip.click()
    return page


def compared(page, *keys):
    """Presses Compare and waits for the last row."""
    choose(page, *keys)
    page.click("#compress [data-act=run]")
    page.wait_for_selector(f"#compress tr[data-key='{keys[-1]}']")
    page.wait_for_selector("#compress [data-act=run].primary")
    return page


@pytest.mark.parametrize("model", ["finder", "cutter"])
def test_three_variants_of_a_model_set_as_default_and_undone(window, model):
    page = compared(go(window().page, model), "torch-fp32", "onnxruntime-int4", "openvino-int8")
    assert page.locator(ROWS).count() == 3
    assert page.inner_text("#compress .cmp-verdict").endswith("use it.")
    assert page.locator("#compress .cmp-pair img").count() == 2
    page.click("#compress [data-act=use]")
    page.wait_for_selector("#compress tr[data-key='openvino-int8'] .badge.on")
    page.reload()
    go(page, model)
    page.wait_for_selector("#compress tr[data-key='openvino-int8'] .badge.on")
    page.click("#compress [data-act='row-torch-fp32']")
    page.click("#compress [data-act=undo]")
    page.wait_for_selector("#compress .badge.on", state="detached")


def test_pictures_difference_plane_and_layers(window):
    page = compared(go(window().page), "torch-fp32", "openvino-int8", "onnxruntime-int4")
    page.click("#compress [data-act='row-onnxruntime-int4']")
    page.locator("#compress .cmp-pair input[type=range]").fill("20")
    assert "20%" in page.locator("#compress .cmp-pair img.over").get_attribute("style")
    page.click("#compress [data-act='heat-true']")
    page.wait_for_function(BRIGHT)
    assert page.locator("#compress .cmp-dot").count() >= 3
    page.click("#compress [data-act='axis-bytes']")
    assert "Size, MB" in page.locator("#compress .cmp-plane").text_content()
    assert page.locator("#compress .cmp-bars li").count() == 12


def test_a_variant_that_fails_says_why_and_exports_hold_all(window):
    page = compared(go(window().page), "torch-fp32", "openvino-bf16")
    assert "no bf16" in page.inner_text("#compress tr[data-key='openvino-bf16']")
    with page.expect_download() as download:
        page.click("#compress [data-act='export-csv']")
    with open(download.value.path(), encoding="utf-8", newline="") as saved:
        assert {"torch", "openvino"} <= {row["runtime"] for row in csv.DictReader(saved)}


def test_nothing_chosen_cannot_start_and_the_calculator_takes_any_number(window):
    page = choose(go(window().page))
    assert page.is_disabled("#compress [data-act=run]")
    page.click("#compress [data-act='s-calculator']")
    page.fill("#compress .cmp-count", "70B")
    assert "280 GB" in page.inner_text("#compress .cmp-table")
    page.fill("#compress .cmp-count", "four")
    assert "Write a number" in page.inner_text("#compress .cmp-table")
    page.click("#compress [data-act='s-claims']")
    assert "17.5 GB is the size of 2 bits" in page.inner_text("#compress")


def test_a_phone_needs_no_sideways_scroll(window):
    page = compared(go(window(width=390, height=844, scheme="dark").page), "torch-fp32", "openvino-int8")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for view in ("calculator", "claims"):
        page.click(f"#compress [data-act='s-{view}']")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
