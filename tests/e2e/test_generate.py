"""Generate and Library as a visitor uses them."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from studio.ops.pictures import encode_png

pytestmark = pytest.mark.e2e
PROMPT = "#generate-prompt textarea"
RUN, CANCEL = "#generate-run button.primary", "#generate-run button.cancel"
RESULT = "#generate-stage a.button"


def photo(side=64):
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    return encode_png(
        np.dstack([np.tile(ramp, (side, 1)), np.full((side, side), 90, np.uint8), np.tile(ramp[:, None], side)])
    )


def file(data, name="photo.png"):
    return {"name": name, "mimeType": "image/png", "buffer": data}


def test_first_picture_with_one_click(window):
    page = window().page
    page.click("#generate-stage .examples button")
    page.wait_for_selector(f"{CANCEL}, {RESULT}", timeout=5000)
    page.wait_for_selector(RESULT)
    assert page.input_value(PROMPT) == "a pizza on a blue background"
    assert page.evaluate("document.querySelector('#generate-stage .figure img').naturalWidth") == 128


def test_cancel_stops_and_keeps_what_was_entered(window):
    page = window().page
    page.fill(PROMPT, "a slow rocket")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#generate-stage img.preview")
    assert "step" in page.inner_text("#generate-stage .stage-line")
    page.keyboard.press("Escape")
    page.wait_for_selector(RUN, timeout=8000)
    assert "Cancelled" in page.inner_text("#generate-stage .stage-line")
    assert page.input_value(PROMPT) == "a slow rocket"


def test_progress_names_the_picture_and_its_own_steps(window):
    page = window().page
    page.fill(PROMPT, "a slow rocket")
    page.fill("#generate-count input[type=number]", "4")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#generate-stage .phase:has-text('Picture 1 of 4, step')")
    assert re.fullmatch(r"Picture 1 of 4, step \d+ of 20", page.inner_text("#generate-stage .phase"))
    assert "of 80" not in page.inner_text("#generate-stage .stage-line")
    page.keyboard.press("Escape")


def test_words_the_model_does_not_know_are_said_before_the_run(window):
    page = window().page
    page.fill(PROMPT, "two rockets playing chess")
    page.wait_for_selector(".hint-line:has-text('does not know')")
    assert "'rockets'" in page.inner_text(".hint-line")
    page.click(".hint-line button:has-text('rocket')")
    assert page.input_value(PROMPT) == "a rocket"
    page.wait_for_selector(".hint-line", state="detached")
    page.click("#generate-stage >> text=All 4 things")
    page.click("dialog .chip:has-text('strawberry')")
    assert page.input_value(PROMPT) == "a strawberry"


def test_what_of_a_start_picture_is_used_is_shown_before_the_run(window):
    page = window().page
    page.click("text=Start from a picture")
    page.set_input_files("#generate-image input", file(encode_png(np.zeros((64, 96, 3), np.uint8))))
    note = "Only the middle 64 × 64 of your 96 × 64 picture will be used, at 128 px."
    page.wait_for_selector(f"#generate-image .crop:has-text('{note}')")
    outer, inner = (page.locator(f"#generate-image .crop-view{part}").bounding_box() for part in ("", " i"))
    assert abs(inner["width"] / outer["width"] - 2 / 3) < 0.02
    page.click("text=More settings")
    page.fill("#generate-width input", "192")
    page.wait_for_selector("#generate-image .crop", state="detached")


def test_closing_the_tab_changes_nothing(window):
    one = window()
    one.page.fill(PROMPT, "a very slow rocket")
    one.page.click(RUN)
    one.page.wait_for_selector("#generate-stage img.preview")
    one.page.close()
    page = one.open()
    page.wait_for_selector("#generate-stage img.preview")  # still running, and followed again
    page.click(CANCEL)
    page.wait_for_selector(RUN)


def test_a_result_that_came_while_nobody_looked(window):
    one = window()
    one.page.click("#generate-stage .examples button >> nth=2")
    one.page.wait_for_function("localStorage.getItem('studio.job.generate-run')")
    one.page.close()
    page = one.context.new_page()
    page.wait_for_timeout(3500)
    page.close()
    for _ in range(2):  # and it stays there
        one.open().wait_for_selector(RESULT)


def test_a_killed_app_leaves_a_job_that_can_run_again(window, serve):
    studio = serve()
    one = window(studio.url)
    one.page.fill(PROMPT, "a very slow rocket")
    one.page.click(RUN)
    one.page.wait_for_selector("#generate-stage img.preview")
    one.page.close()
    studio.kill()
    studio.start()
    page = one.open()
    page.wait_for_selector("#generate-run .problem")
    assert "closed while this ran" in page.inner_text("#generate-run .problem")
    page.click("role=tab[name='Library']")
    page.click("label:has-text('Jobs')")
    assert page.inner_text(".job .state") == "interrupted"
    page.click(".job >> text=Run again")
    page.wait_for_selector("#generate-stage img.preview")
    studio.kill()


def test_the_app_ends_quietly_while_a_page_is_open(window, serve):
    studio = serve()
    window(studio.url)
    studio.process.terminate()
    assert studio.process.wait(30) == 0
    assert "Traceback" not in (studio.folder / "server.log").read_text()


def test_errors_stand_by_the_button(window):
    page = window().page
    page.click(RUN)
    page.wait_for_selector(".problem:has-text('The prompt is empty')")
    page.fill(PROMPT, "refuse")
    page.click(RUN)
    page.wait_for_selector(".problem:has-text('This model cannot do that. Choose another model.')")
    page.fill(PROMPT, "x" * 10_000)
    page.click(RUN)
    page.wait_for_selector(".problem:has-text('at most 2000 characters')")
    assert len(page.input_value(PROMPT)) == 10_000


def test_a_file_that_is_no_picture_says_so_in_place(window):
    page = window().page
    page.click("text=Start from a picture")
    page.set_input_files("#generate-image input", file(b"hello"))
    page.wait_for_selector("#generate-image .problem:has-text('not a picture')")
    page.set_input_files("#generate-image input", file(photo()))
    page.wait_for_selector("#generate-image .slot.full")


def test_painting_a_mask_and_inpainting(window):
    page = window().page
    page.click("text=Start from a picture")
    page.set_input_files("#generate-image input", file(photo()))
    page.click("text=Paint the area")
    box = page.locator("#generate-stage canvas").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 120, steps=5)
    page.mouse.up()
    page.click("#generate-stage >> text=Done")
    page.wait_for_selector("#generate-mask .slot.full")
    source = page.get_attribute("#generate-mask .slot img", "src")
    mask = Image.open(io.BytesIO(page.request.get(source).body())).convert("L")
    assert mask.size == (64, 64)
    assert 0.01 < np.mean(np.asarray(mask) > 127) < 0.4
    page.fill(PROMPT, "a rocket")
    page.click(RUN)
    page.wait_for_selector(RESULT)


def test_send_to_fills_the_other_place_and_shows_it(window):
    page = window().page
    page.click("#generate-stage .examples button")
    page.wait_for_selector(RESULT)
    page.click("#generate-stage >> text=Send to")
    page.click("role=menuitem[name='Generate: start picture']")
    page.wait_for_selector("#generate-image .slot.full", state="attached")


def test_settings_come_back_from_a_picture(window):
    page = window().page
    text = "a rocket\nNegative prompt: blur\nSteps: 7, Sampler: Euler, CFG scale: 4.5, Seed: 0, Size: 256x256"
    data = encode_png(np.zeros((8, 8, 3), np.uint8), {"parameters": text})
    page.click("text=More settings")
    page.set_input_files("#generate-reader input", file(data))
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'a rocket'")
    values = page.eval_on_selector_all(".fold input[type=number]", "all => all.map(one => one.value)")
    assert {"7", "4.5", "256"} <= set(values)
    assert page.input_value("input[placeholder^='Empty draws'], textarea[placeholder^='Empty draws']") == "0"


def test_library_lists_opens_deletes_and_undoes(window):
    page = window().page
    page.click("#generate-stage .examples button")
    page.wait_for_selector(RESULT)
    page.click("role=tab[name='Library']")
    page.click(".tile >> nth=0")
    page.wait_for_selector("#library-stage .figure img")
    page.click("#library-stage >> text=Details")
    assert "Seed" in page.inner_text("#library-stage dl")
    page.click("#library-stage >> text=Delete")
    page.wait_for_selector(".notice:has-text('Deleted')")
    before = page.locator(".tile").count()
    page.click("text=Undo")
    page.wait_for_function(f"document.querySelectorAll('.tile').length === {before + 1}")


@pytest.mark.parametrize("tab", ["Generate", "Library"])
def test_a_phone_needs_no_sideways_scroll(window, tab):
    page = window(width=390, height=844, scheme="dark").page
    page.click(f"role=tab[name='{tab}']")
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if tab == "Generate":
        box = page.locator(RUN).bounding_box()
        assert box["y"] + box["height"] < 844
        view, controls = (page.locator(f".bench .{name} >> nth=0").bounding_box() for name in ("view", "controls"))
        assert view["y"] < controls["y"]


def test_dark_and_light_are_chosen_and_remembered(window):
    one = window(scheme="dark")
    assert one.page.evaluate("document.body.classList.contains('dark')")
    one.page.click("[aria-label='Use light colours']")
    assert not one.page.evaluate("document.body.classList.contains('dark')")
    page = one.open()
    assert not page.evaluate("document.body.classList.contains('dark')")


def test_in_a_space_others_results_are_not_listed(window, serve):
    studio = serve(pace=0.01, mode="space")
    mine, yours = window(studio.url), window(studio.url)
    mine.page.click("#generate-stage .examples button")
    mine.page.wait_for_selector(RESULT)
    for one, count in ((mine, 1), (yours, 0)):
        one.page.click("role=tab[name='Library']")
        one.page.wait_for_timeout(800)
        assert one.page.locator(".tile").count() == count
    studio.kill()
