"""Dragging on the latent map of the VAE lab, and how long each move takes to be seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

CANVAS = "#vae-views canvas.vae-canvas"
PICTURE = "#vae-views aside img.vae-picture"

# From the pointer's event (its own time stamp, so a busy page counts) until the frame with the new picture is done: a
# message posted before a frame is drawn is handled after it.
_WATCH = """([canvas, picture]) => {
    const shown = document.querySelector(picture), drags = window.drags = [];
    const map = document.querySelector(canvas), note = event => { if (event.buttons) moved = event.timeStamp; };
    let moved = 0;
    for (const name of ['pointerdown', 'pointermove']) map.addEventListener(name, note, true);
    shown.addEventListener('load', () => {
        const since = moved;
        requestAnimationFrame(() => {
            const drawn = new MessageChannel();
            drawn.port1.onmessage = () => drags.push({ms: performance.now() - since, picture: shown.src});
            drawn.port2.postMessage(null);
        });
    });
}"""


@dataclass(frozen=True)
class Drag:
    """One move of the pointer: milliseconds until its picture was drawn, and the picture as a data URL."""

    ms: float
    picture: str


def spiral(count: int) -> Iterator[tuple[float, float]]:
    """`count` places of a map, each 0..1 from the upper left, apart from each other."""
    for k in range(count):
        radius, turn = 0.45 * math.sqrt((k + 0.5) / count), 2.4 * k
        yield 0.5 + radius * math.cos(turn), 0.5 + radius * math.sin(turn)


def drag(page: Any, places: Sequence[tuple[float, float]]) -> list[Drag]:
    """Presses on the first place, moves to each other one once the picture of the last is drawn, and lets go.

    The map must be on screen with a first picture beside it.
    """
    page.wait_for_selector(f"{PICTURE}[src^='data:image/png']")
    page.locator(CANVAS).scroll_into_view_if_needed()
    page.evaluate(_WATCH, [CANVAS, PICTURE])
    box = page.locator(CANVAS).bounding_box()
    for k, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if k == 0:
            page.mouse.down()
        page.wait_for_function("count => window.drags.length > count", arg=k)
    page.mouse.up()
    return [Drag(**one) for one in page.evaluate("window.drags")]
