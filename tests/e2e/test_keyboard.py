"""Everything by keys alone: the focus is never lost, and each key does what it does everywhere."""

import pytest

from tests.e2e.test_detect import go
from tests.e2e.test_generate import PROMPT, RESULT, file, photo
from tests.e2e.test_segment import CHOICE, FIGURE

pytestmark = pytest.mark.e2e
FOCUS = "document.activeElement.textContent"


def test_tabs_are_one_stop_that_arrows_go_along_and_a_link_skips(window):
    page = window().page
    assert page.inner_text("h1") == "Image Studio"
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS) == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("Boolean(document.activeElement.closest('[role=tabpanel]'))")

    page.get_by_role("tab", name="Generate", exact=True).focus()
    for key, tab in (("ArrowRight", "Detect"), ("End", "Models"), ("ArrowRight", "Generate"), ("ArrowLeft", "Models")):
        page.keyboard.press(key)
        page.wait_for_function(f"{FOCUS}.trim() === '{tab}'")
        page.wait_for_function(
            f"document.querySelector('[role=tab][aria-selected=true]').textContent.trim() === '{tab}'"
        )
    assert page.locator("[role=tablist] [role=tab][tabindex='0']").count() == 1


def test_the_focus_stays_where_the_hand_is(window):
    page = go(window().page, "Segment")
    page.set_input_files("#segment-image input[type=file]", file(photo(400)))
    page.wait_for_selector(FIGURE)
    page.focus(FIGURE)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(CHOICE)
    assert page.evaluate("document.activeElement.matches('#segment-stage .figure')")
    assert page.locator("#segment-stage .cross").count() == 1
    before = page.get_attribute("#segment-stage .cross", "d")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#segment-stage .cross", "d") != before

    go(page, "Generate")
    page.fill(PROMPT, "a rocket")
    page.focus("#generate-run button")
    page.keyboard.press("Enter")
    page.wait_for_selector(RESULT)
    page.wait_for_function(f"{FOCUS}.startsWith('Generate')")


def test_a_list_of_models_closes_behind_the_tab_key(window):
    page = window().page
    page.click("#generate-model input")
    page.wait_for_selector("#generate-model [role=listbox]")
    page.keyboard.press("Tab")
    page.wait_for_timeout(300)  # it used to come back
    assert page.locator("#generate-model [role=listbox]").count() == 0


@pytest.mark.parametrize("width", [768, 1024])
def test_no_tab_is_hidden_on_a_small_screen(window, width):
    page = window(width=width).page
    boxes = [tab.bounding_box() for tab in page.locator(".desk [role=tab]").all()]
    assert len(boxes) == 10
    assert all(box["x"] > 0 and box["x"] + box["width"] < width - 40 for box in boxes), boxes
