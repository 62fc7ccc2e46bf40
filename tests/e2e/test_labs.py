"""A training as a visitor lives it: started in the tab, left, found again, paused, opened."""

import re

import numpy as np
import pytest

from studio.ops import pictures
from tests.e2e.drags import CANVAS, drag, spiral
from tests.e2e.test_detect import go

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
LONG = 120_000  # ms: a worker imports torch, and a training gives way to whatever else the machine does


@pytest.fixture(scope="module")
def labs(serve):
    return serve(module="tests.apps.serve_labs")


def step(page) -> int:
    found = re.search(r"step ([\d,]+)", page.inner_text("#vae-lab-view .watch-status"))
    return int(found[1].replace(",", "")) if found else 0


def test_a_training_goes_on_while_its_tab_is_closed(window, labs):
    visit = window(labs.url)
    page = go(visit.page, "VAE")
    page.click("#vae-lab-size label:has-text('16')")
    page.click("#vae-lab-bar button.primary")
    page.wait_for_selector("#vae-lab-view .watch-status:has-text('Training: step')", timeout=LONG)
    assert page.locator("#vae-lab-view .curve canvas").count() > 0
    before = step(page)
    page.close()

    page = go(visit.open(), "VAE")
    page.click("#vae-lab-head .seg:has-text('Training')")
    page.wait_for_function(
        "before => Number((document.querySelector('#vae-lab-view .watch-status')?.textContent.match(/step ([\\d,]+)/)"
        " || [0, '0'])[1].replace(',', '')) > before",
        arg=before,
        timeout=LONG,
    )
    assert page.locator("#vae-lab-view .scrub input").is_visible()
    page.click("#vae-lab-bar button:has-text('Pause')")
    page.wait_for_selector("#vae-lab-bar button:has-text('Continue')", timeout=LONG)
    assert "Paused at step" in page.inner_text("#vae-lab-view .watch-status")

    go(page, "Runs")
    page.wait_for_selector(".runs-table td:has-text('paused')")
    page.click(".runs-table button.name")
    page.wait_for_selector(".runs .chart-canvas")
    page.click("text=Open these runs in MLflow")
    assert "mlflow ui --backend-store-uri sqlite:///" in page.inner_text(".runs code")
    page.click("text=Open in the VAE lab")
    page.wait_for_selector("#vae-lab-bar button:has-text('Continue')")


def test_a_run_that_never_began_stands_over_no_curves(window):
    page = go(window().page, "VAE")
    page.click("#vae-lab-head .seg:has-text('Training')")
    run = {"id": "one", "recipe": "vae", "data": "stickers", "state": "paused", "step": 9, "total": 20, "seconds": 3}
    show = "run => window.studio.named['vae-lab-view'].show(run)"
    page.evaluate(show, {**run, "samples": {}, "curves": [{"step": k, "loss": 1 / k} for k in range(1, 9)]})
    page.wait_for_selector("#vae-lab-view .curve canvas")
    page.evaluate(show, {**run, "id": "two", "step": 0, "samples": {}, "curves": []})
    assert page.locator("#vae-lab-view .curve").count() == 0
    assert "step 0" not in page.inner_text("#vae-lab-view .watch-status")


def test_a_trained_vae_is_found_again_and_its_map_follows_the_finger(window, labs):
    visit = window(labs.url)
    page = go(visit.page, "VAE")
    page.click("#vae-lab-recipe input")
    page.get_by_role("option", name="VAE", exact=True).click()
    page.wait_for_selector("#vae-lab-beta", state="visible")  # the recipe's own settings are there
    page.select_option("#vae-lab-data-select", "digits")
    page.click("#vae-lab-size label:has-text('16')")
    page.fill("#vae-lab-minutes input[type=number]", "0.5")
    page.press("#vae-lab-minutes input[type=number]", "Tab")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#vae-lab-view .watch-status:has-text('Training: step')", timeout=LONG)
    page.close()

    page = go(visit.open(), "VAE")
    page.click("#vae-lab-head .seg:has-text('Training')")
    page.wait_for_selector("#vae-lab-view .watch-status:has-text('Finished')", timeout=LONG)
    page.click("#vae-lab-head .seg:has-text('Explore')")
    page.click("#vae-views .vae-views .seg:has-text('Map')")
    page.wait_for_selector(CANVAS)
    moves = drag(page, list(spiral(8)))
    assert len({one.picture for one in moves}) == 8, "every move shows another picture"
    assert all(0 < one.ms < 10_000 for one in moves)


def test_a_folder_of_pictures_is_taken_whole_and_stays_when_the_recipe_changes(window, labs, tmp_path):
    for k in range(10):
        place = tmp_path / "pets" / ("cats" if k % 2 else "dogs")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{k} ü.png").write_bytes(pictures.encode_png(np.full((9 + k, 9, 3), 20 * k, np.uint8)))
    (tmp_path / "pets" / "cats" / "cut short.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "pets" / "notes.txt").write_text("no picture")
    page = go(window(labs.url).page, "VAE")
    page.set_input_files("#vae-lab-data input[webkitdirectory]", tmp_path / "pets")
    page.wait_for_selector("#vae-lab-data .note:has-text('10 pictures in 2 classes')")
    assert page.locator("#vae-lab-data-select option:checked").inner_text() == "pets"
    page.click("#vae-lab-data summary:has-text('1 could not be read')")
    assert "cats/cut short.jpg" in page.inner_text("#vae-lab-data details")
    page.click("#vae-lab-recipe input")
    page.get_by_role("option", name="VQ-VAE", exact=True).click()
    page.wait_for_selector("#vae-lab-words", state="visible")
    assert page.locator("#vae-lab-data-select option:checked").inner_text() == "pets"
