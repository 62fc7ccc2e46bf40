"""What a visitor sees on every tab: one height, one kind of control, a picture that uses the screen."""

import pytest

pytestmark = pytest.mark.e2e


def go(page, tab):
    page.get_by_role("tab", name=tab, exact=True).click()
    page.wait_for_timeout(300)
    return page


def test_nothing_jumps_from_tab_to_tab(window):
    page = window().page
    tops = {}
    for tab in ("Generate", "Detect", "Segment", "Runs"):
        go(page, tab)
        page.wait_for_selector(".stage-view:visible")
        tops[tab] = round(page.locator(".stage-view:visible >> nth=0").bounding_box()["y"])
    assert len(set(tops.values())) == 1, tops


def test_a_large_screen_is_the_pictures(window):
    page = window(width=2560, height=1440).page
    box = page.locator("#generate-stage .stage-view").bounding_box()
    assert box["height"] > 900
    assert box["width"] > 1700


def test_settings_stand_above_the_button_on_every_tab(window):
    page = window().page
    for tab, name in (("Detect", "detect-run"), ("VAE", "vae-lab-bar")):
        go(page, tab)
        settings = page.locator(".fold-in button:visible:has-text('More settings')").bounding_box()
        button = page.locator(f"#{name} button >> nth=0").bounding_box()
        assert settings["y"] < button["y"], tab


def test_a_field_in_use_has_one_ring(window):
    page = window().page
    page.focus("#generate-prompt textarea")
    style = "element => [getComputedStyle(element).boxShadow, getComputedStyle(element).outlineStyle]"
    assert page.eval_on_selector("#generate-prompt textarea", style) == ["none", "solid"]


def test_a_slider_is_filled_to_its_thumb(window):
    """Gradio's and the studio's own have the same track; only the studio's need to be told."""
    page = window().page
    filled = page.evaluate(
        """() => { const one = studio.h('input', {type: 'range', min: 0, max: 10, value: 4}); document.body.append(one);
        const before = one.style.getPropertyValue('--range_progress'); one.value = 9;
        one.dispatchEvent(new Event('input', {bubbles: true}));
        return [before, one.style.getPropertyValue('--range_progress')]; }"""
    )
    assert filled == ["40%", "90%"]


def test_numbers_plurals_and_moments_are_written_one_way(window):
    page = window().page
    said = page.evaluate(
        """() => { const at = (...parts) => studio.when(new Date(...parts) / 1000);
        return [studio.number(12345), studio.count(1, 'picture'), studio.count(2, 'class', 'classes'),
        at(new Date().getFullYear(), 10, 5, 7, 4), at(2001, 0, 31, 17, 24)]; }"""
    )
    assert said == ["12,345", "1 picture", "2 classes", "5 Nov 07:04", "31 Jan 2001 17:24"]
