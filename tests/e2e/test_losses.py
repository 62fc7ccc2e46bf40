"""Nothing a person made goes unasked, and what is sent arrives."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from studio.ops.pictures import encode_png
from tests.e2e.test_detect import go
from tests.e2e.test_generate import CANCEL, PROMPT, RESULT, RUN, file, photo

pytestmark = pytest.mark.e2e
CANVAS, MASK = "#generate-stage canvas.over", "#generate-mask .slot.full"
STRENGTH = "#generate-strength input[type=number]"


def value(page, name):
    return page.evaluate("name => window.studio.named[name].get()", name)


def made(page):
    page.click("#generate-stage .examples button")
    page.wait_for_selector(RESULT)
    return page


def send(page, where):
    page.click("#generate-stage .menu > button")
    page.click(f"#generate-stage >> role=menuitem[name='{where}']")


def painted(page, **size):
    """On a page with a start picture: the brush in hand."""
    page.click("text=Start from a picture")
    page.set_input_files("#generate-image input[type=file]", file(photo()))
    page.click("#generate-mask .slot-tools button")
    page.wait_for_selector(CANVAS)
    return page


def stroke(page, left=0.3, right=0.6):
    box = page.locator(CANVAS).bounding_box()
    page.mouse.move(box["x"] + left * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + right * box["width"], box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()


def share(page):
    """How much of the picture the mask covers."""
    source = page.get_attribute("#generate-mask .slot img", "src")
    return np.mean(np.asarray(Image.open(io.BytesIO(page.request.get(source).body())).convert("L")) > 127)


def test_a_tab_that_was_never_opened_takes_what_is_sent(window):
    page = made(window().page)
    send(page, "Detect")
    page.wait_for_selector("#detect-stage .figure img")
    go(page, "Generate")
    send(page, "Segment")
    page.wait_for_selector("#segment-stage .figure.aim")
    assert page.inner_text("#segment-image .label") == "Picture"
    page.wait_for_function("document.activeElement.closest('#segment-image')")  # and the focus came along
    page.click("#segment-stage .figure")
    page.wait_for_selector("#segment-marks .choice")
    go(page, "GAN")
    page.click("text=Explore")
    assert [text for text in page.locator(".slot button").all_inner_texts() if text == "undefined"] == []


def test_paint_is_the_mask_at_once_and_keys_act_on_it(window):
    page = painted(window().page)
    page.fill(STRENGTH, "0.8")
    page.press(STRENGTH, "Tab")
    stroke(page)
    page.wait_for_selector(MASK)
    one = share(page)
    assert 0.01 < one < 0.4
    stroke(page, 0.7, 0.9)
    page.keyboard.press("Control+z")
    page.wait_for_timeout(600)
    assert share(page) == pytest.approx(one)
    assert page.input_value(STRENGTH) == "0.8"
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Escape")
    page.wait_for_selector(CANVAS, state="detached")
    page.wait_for_function("before => document.querySelector('#generate-mask .slot img').src !== before",
                           arg=page.get_attribute("#generate-mask .slot img", "src"))  # fmt: skip
    assert share(page) > one

    page.click("#generate-mask .slot-tools button")  # painted and run, with no word in between
    page.click("#generate-stage .brush button:has-text('Clear')")
    stroke(page, 0.1, 0.2)
    page.fill(PROMPT, "a rocket")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(RESULT)
    assert value(page, "generate-mask")["id"] == last_task(page)["mask"]
    assert share(page) < one

    page.click("[aria-label='Remove Start picture']")  # its mask goes with it, and comes back with it
    assert value(page, "generate-mask") == value(page, "generate-image") == {}
    page.click("#generate-image button:has-text('Undo')")
    page.wait_for_selector(MASK)


def last_task(page):
    """The task of the result shown."""
    artifact = page.evaluate("window.studio.named['generate-stage'].artifact()")
    return page.request.get(f"{page.url}api/v1/artifacts/{artifact}").json()["task"]


def test_a_picture_without_settings_takes_nothing_away(window):
    page = window().page
    page.fill(PROMPT, "my long prompt")
    page.click("text=More settings")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    page.set_input_files("#generate-reader input", file(buffer.getvalue(), "holiday.jpg"))
    page.wait_for_selector("#generate-reader .problem:has-text('no settings')")
    assert page.input_value(PROMPT) == "my long prompt"
    page.set_input_files(
        "#generate-reader input",
        file(encode_png(np.zeros((8, 8, 3), np.uint8), {"parameters": "x\nSteps: 7, Seed: 3"})),
    )
    page.wait_for_selector("#generate-reader .note:has-text('steps')")


def test_after_cancelling_the_old_picture_keeps_its_actions(window):
    page = made(window().page)
    page.fill(PROMPT, "a slow rocket")
    page.click(RUN)
    page.click(CANCEL)
    page.wait_for_selector("#generate-stage .stage-line:has-text('Cancelled')")
    row = page.inner_text("#generate-stage .stage-line")
    assert "Send to" in row
    assert "Download" in row


def test_what_a_result_was_made_from_is_small_and_told(window):
    page = painted(window().page)
    page.click(RUN)
    page.wait_for_selector(RESULT)
    go(page, "Library")
    page.click(".shelf .tile >> nth=0")
    tile = page.locator("#library-stage .family .tile >> nth=0")
    assert tile.bounding_box()["width"] < 100
    assert tile.locator("img").get_attribute("alt") == "photo.png"  # a picture, not a button that cannot be pressed


def test_a_wrong_value_is_told_in_words(window):
    page = window().page
    page.fill(PROMPT, "a rocket")
    page.click("text=More settings")
    page.fill("#generate-seed textarea, #generate-seed input", "abc")
    page.click(RUN)
    page.wait_for_selector("#generate-run .problem:has-text('A seed is a whole number')")


def test_on_a_phone_the_brush_is_where_the_eyes_are(window):
    page = painted(window(width=390, height=844).page)
    box = page.locator(CANVAS).bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] < 844


def test_a_reload_keeps_the_prompt_the_settings_and_the_pictures(window):
    one = window()
    page = painted(one.page)
    stroke(page)
    page.wait_for_selector(MASK)
    page.fill(PROMPT, "a rocket, as I wrote it")
    page.fill(STRENGTH, "0.8")
    page.press(STRENGTH, "Tab")
    page.reload()
    page.wait_for_selector(MASK, state="attached")
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'a rocket, as I wrote it'")
    assert page.input_value(STRENGTH) == "0.8"
    page.click(RUN)
    page.wait_for_selector(RESULT)
    task = last_task(page)
    assert (task["prompt"], task["strength"]) == ("a rocket, as I wrote it", 0.8)
    assert task["mask"] == value(page, "generate-mask")["id"]


def test_in_a_kiosk_the_first_tap_works_and_the_visitors_work_ends_with_the_visit(window, serve):
    studio = serve(mode="kiosk")
    one = window(studio.url)
    late = []

    def delay(route):
        if not late:  # the answer that says who is looking
            late.append(time.sleep(1.5))
        route.continue_()

    one.context.route("**/gradio_api/run/**", delay)
    one.context.clock.install()
    page = one.open()
    page.click("#generate-stage .examples button")  # the first tap
    page.wait_for_selector(RESULT)
    first = page.evaluate("localStorage.getItem('studio.job.generate-run')")
    page.fill(PROMPT, "a very slow rocket")
    page.click(RUN)
    page.wait_for_function("first => localStorage.getItem('studio.job.generate-run') !== first", arg=first)
    job = page.evaluate("localStorage.getItem('studio.job.generate-run')")
    page.clock.fast_forward(200_000)
    page.wait_for_selector("#generate-stage .examples")
    assert page.input_value(PROMPT) == ""
    state = f"async () => (await (await fetch('face/job/{job}')).json()).state"
    page.wait_for_function(f"async () => await ({state})() === 'cancelled'")
    studio.kill()
