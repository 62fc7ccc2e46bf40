"""Segment as a visitor uses it."""

import pytest

from tests.e2e.test_detect import go
from tests.e2e.test_generate import file, photo

pytestmark = pytest.mark.e2e
FIGURE, MASK = "#segment-stage .figure", "#segment-stage canvas.mask"
CHOICE = "#segment-marks .choice"


def opened(window, **size):
    page = go(window(**size).page, "Segment")
    page.set_input_files("#segment-image input[type=file]", file(photo(400)))
    page.wait_for_selector(FIGURE)
    return page


def click(page, x, y, **how):
    box = page.locator(FIGURE).bounding_box()
    page.locator(FIGURE).click(position={"x": box["width"] * x, "y": box["height"] * y}, **how)


def marks(page):
    return page.locator("#segment-stage .mark").count()


def test_a_click_marks_at_once_and_brings_three_masks(window):
    page = opened(window)
    click(page, 0.5, 0.5)
    assert marks(page) == 1
    page.wait_for_selector(CHOICE)
    assert [text.split() for text in page.locator(CHOICE).all_inner_texts()] == [
        ["1", "·", "0.93"],
        ["2", "·", "0.81"],
        ["3", "·", "0.70"],
    ]
    page.click(f"{CHOICE} >> nth=1")
    assert page.get_attribute(f"{CHOICE} >> nth=1", "aria-pressed") == "true"
    assert page.inner_text("#segment-marks .marks-choices >> nth=0").startswith("Three readings of your click")
    assert page.inner_text("#segment-run button").startswith("Cut out again")
    page.click("#segment-marks button:has-text('Clear')")
    page.wait_for_selector("#segment-run button:text-matches('^Cut out(?! again)')")


def test_clicks_are_taken_back_one_by_one(window):
    page = opened(window)
    click(page, 0.5, 0.5)
    page.wait_for_selector(CHOICE)
    click(page, 0.1, 0.1, modifiers=["Shift"])
    page.wait_for_function("document.querySelectorAll('#segment-stage .mark').length === 2")
    page.click("#segment-marks button:has-text('Undo')")
    page.wait_for_function("document.querySelectorAll('#segment-stage .mark').length === 1")
    page.click("#segment-marks button:has-text('Clear')")
    page.wait_for_function("document.querySelectorAll('#segment-stage .mark').length === 0")


def test_by_keyboard(window):
    page = opened(window)
    page.focus(FIGURE)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(CHOICE)
    assert marks(page) == 1


def test_mask_and_picture_go_to_generate_together(window):
    page = opened(window)
    click(page, 0.5, 0.5)
    page.wait_for_selector(CHOICE)
    page.click("#segment-stage .menu button:has-text('Send to')")
    page.click("#segment-stage .menu [role=menuitem]:has-text('repaint')")
    both = "['generate-image', 'generate-mask'].every(name => window.studio.named[name]?.get().id)"
    page.wait_for_function(both)
    assert page.get_by_role("tab", name="Generate", exact=True).get_attribute("aria-selected") == "true"


def test_a_draft_is_kept_when_asked(window):
    page = opened(window)
    click(page, 0.5, 0.5)
    page.click("#segment-stage button:has-text('Save to Library')")
    page.wait_for_selector("#segment-stage .kept")


def test_of_everything_a_segment_is_chosen_on_the_picture(window):
    page = opened(window, width=390, height=844)
    page.click("#segment-marks button:has-text('Everything')")
    page.click("#segment-run button:has-text('Find segments')")
    page.wait_for_selector(MASK, state="attached")
    page.wait_for_function("document.querySelector('#segment-stage canvas.mask').width > 1")
    click(page, 0.1, 0.5)
    page.wait_for_selector(f"{CHOICE}[aria-pressed=true]")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
