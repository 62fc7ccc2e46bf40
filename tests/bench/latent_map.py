"""How soon the picture follows the finger on the VAE lab's map.

    python -m tests.bench.latent_map [--model starter-vae] [--moves 100]

Opens the model in a headless browser and drags across its map, one move once the picture of the last is drawn. Prints
one JSON object: milliseconds from the pointer's event to the drawn picture, median and 95 % quantile (the screen's
frame, 16.7 ms, is in them), and what the model took of that.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from typing import Any

from playwright.sync_api import sync_playwright

from tests.bench.house import studio
from tests.e2e.drags import CANVAS, PICTURE, Drag, drag, spiral

WARM_UP = 10


def dragged(page: Any, moves: int) -> tuple[list[Drag], list[float]]:
    """The moves, and the milliseconds of the model's part of each answer."""
    decodes: list[float] = []

    def answered(response: Any) -> None:
        if "/face/explore/" in response.url and response.request.method == "POST":
            decodes.append(1000 * response.json()["data"]["seconds"]["decode"])

    page.wait_for_selector(f"{PICTURE}[src^='data:image/png']")
    page.on("response", answered)
    found = drag(page, list(spiral(moves + WARM_UP)))
    return found[WARM_UP:], decodes[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter-vae")
    parser.add_argument("--moves", type=int, default=100)
    args = parser.parse_args()
    with studio() as (root, _, _), sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(180_000)
        page.add_init_script(f"localStorage.setItem('studio.open.vae-lab', {json.dumps(args.model)})")
        page.goto(root)
        page.get_by_role("tab", name="VAE", exact=True).click()
        page.wait_for_selector(CANVAS)
        moves, decodes = dragged(page, args.moves)
        browser.close()
    times = [one.ms for one in moves]
    print(  # noqa: T201
        json.dumps(
            {
                "model": args.model,
                "moves": len(times),
                "median_ms": round(statistics.median(times), 1),
                "p95_ms": round(statistics.quantiles(times, n=20)[-1], 1),
                "decode_median_ms": round(statistics.median(decodes), 1),
                "pictures": len({one.picture for one in moves}),
            }
        )
    )


if __name__ == "__main__":
    main()
