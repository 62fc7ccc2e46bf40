"""Detect as a visitor uses it."""

import json

import pytest

from tests.e2e.test_generate import file, photo

pytestmark = pytest.mark.e2e
HEAD = "#detect-stage .finds-head"
EXAMPLE = "#detect-stage .examples button"


def go(page, tab="Detect"):
    page.get_by_role("tab", name=tab, exact=True).click()
    return page


def found(page):
    go(page)
    page.click(EXAMPLE)
    page.wait_for_selector(HEAD)
    return page


def slide(page, value):
    """Moves the slider without letting go."""
    page.evaluate(
        """value => { const one = document.querySelector('#detect-confidence input[type=range]'); one.value = value;
        one.dispatchEvent(new Event('input', {bubbles: true})); }""",
        value,
    )


def test_an_example_is_found_by_one_click(window):
    page = found(window().page)
    assert page.inner_text(HEAD).startswith("3 found in 2 classes")
    assert page.locator("#detect-stage .found").count() == 3
    assert page.inner_text("#detect-stage .finds-class >> nth=0").split() == ["dog", "2"]
    assert page.locator("#detect-image img").count() == 1


def test_the_confidence_filters_while_it_moves(window):
    page = found(window().page)
    slide(page, 0.5)
    page.wait_for_function(f"document.querySelector('{HEAD}')?.textContent.includes('1 below this confidence')")
    assert page.inner_text(HEAD).startswith("2 found")


def test_labels_can_be_switched_off_and_stay_off(window):
    one = window()
    page = found(one.page)
    tags = "#detect-stage .found .tag >> visible=true"
    assert page.locator(tags).count() == 3
    page.click("#detect-stage .switch")
    assert page.locator(tags).count() == 0
    page.hover("#detect-stage .chip >> nth=0")
    assert page.locator(tags).count() == 1
    assert page.locator("#detect-stage .finds-list").evaluate("one => getComputedStyle(one).overflowY") == "visible"
    page = go(one.open())  # the result comes back, without its labels
    page.wait_for_selector(HEAD)
    page.wait_for_selector("#detect-stage .found", state="attached")
    assert page.locator(tags).count() == 0


def test_the_class_filter_needs_no_press_of_find(window):
    page = found(window().page)
    page.click("text=More settings >> visible=true")
    for _ in range(60):  # the model says its classes after its first run
        page.click("#detect-classes input")
        if page.locator("ul[role=listbox]").count():
            break
        page.click(HEAD)
        page.wait_for_timeout(250)
    box, head = page.locator("ul[role=listbox]").bounding_box(), page.locator(".tab-wrapper >> nth=0").bounding_box()
    assert box["y"] >= head["y"] + head["height"]
    page.click("ul[role=listbox] >> text=dog")
    page.wait_for_function(f"document.querySelector('{HEAD}')?.textContent.startsWith('2 found')")
    assert page.inner_text("#detect-stage .finds-class >> nth=0").split() == ["dog", "2"]


def test_a_find_is_pointed_at_and_cut_out_in_segment(window):
    page = found(window().page)
    page.click("#detect-stage .chip >> nth=0")
    assert page.locator("#detect-stage .found.hot").count() == 1
    page.click("#detect-stage .finds-chosen button:has-text('Cut out')")
    page.wait_for_selector("#segment-stage canvas.mask", state="attached")
    assert page.get_by_role("tab", name="Segment", exact=True).get_attribute("aria-selected") == "true"
    assert page.locator("#segment-stage .choice").count() == 0 or page.locator("#segment-marks .choice").count() == 3


def test_what_was_found_is_exported(window):
    page = found(window().page)
    page.click("#detect-stage .menu button:has-text('Export')")
    with page.expect_download() as download:
        page.click("#detect-stage .menu [role=menuitem]:has-text('COCO')")
    assert download.value.suggested_filename.endswith(".json")
    with open(download.value.path(), encoding="utf-8") as saved:
        assert len(json.load(saved)["annotations"]) == 3


def test_without_a_picture_it_says_so_and_a_phone_needs_no_sideways_scroll(window):
    page = go(window(width=390, height=844).page)
    page.click("#detect-run button.primary")
    page.wait_for_selector("#detect-run .problem")
    assert "no picture" in page.inner_text("#detect-run .problem")
    page.set_input_files("#detect-image input[type=file]", file(photo(900)))
    page.wait_for_selector("#detect-stage .figure img")
    page.click("#detect-run button.primary")
    page.wait_for_selector(HEAD)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
