"""A training as a visitor lives it: started in the tab, left, found again, paused, opened."""

import re

import pytest

from tests.e2e.test_detect import go

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
LONG = 240_000  # ms: a worker imports torch on a busy machine


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
