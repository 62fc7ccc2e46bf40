"""Models as a visitor uses it."""

import pytest

from tests.e2e.test_detect import go
from tests.e2e.test_generate import file

pytestmark = pytest.mark.e2e


def test_models_are_listed_with_their_state_and_opened_for_more(window):
    page = go(window().page, "Models")
    page.wait_for_selector("[data-id=starter]")
    assert page.locator(".models .model").count() == 3
    page.click("[data-id=starter] [data-act=open]")
    page.wait_for_selector("[data-id=starter] .model-facts")
    assert "strawberry" in page.inner_text("[data-id=starter] .names")
    page.click("[data-id=starter] [data-act=verify]")
    page.wait_for_selector("[data-id=starter] :text('every file is as recorded')")


def test_a_file_that_is_no_model_is_refused_in_place(window):
    page = go(window(width=390, height=844).page, "Models")
    page.wait_for_selector(".model")
    page.set_input_files(".models input[type=file]", file(b"shopping list", "notes.safetensors"))
    page.wait_for_selector(".models .problem")
    assert page.locator(".models .model").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_kiosk_shows_no_changes(window, serve):
    page = go(window(serve(mode="kiosk").url).page, "Models")
    page.wait_for_selector(".model")
    page.click("[data-id=starter] [data-act=open]")
    page.wait_for_selector("[data-id=starter] .model-facts")
    acts = page.eval_on_selector_all(".models [data-act]", "all => all.map(one => one.dataset.act)")
    assert set(acts) == {"open"}
