"""GAN lab: two networks trained against each other, and what the generator has learned."""

from __future__ import annotations

from apps import lab, pieces
from apps.widgets import Face, bench

FAMILY = "gan"
TITLE = "Two networks, one game"
TEXT = (
    "One network paints from noise, the other tells painted from real, and both learn from that. On the smileys faces "
    "appear within minutes. Watch the game, step through it, mix styles, or draw lines and get a sticker."
)


def build(face: Face) -> None:
    """The tab."""
    with bench() as (controls, show):
        panel = lab.training_panel(face, FAMILY, "ganlab", controls, show, title=TITLE, text=TEXT)
        with panel.explore:
            pieces.piece("ganlab", "ganlab-views", family=FAMILY, slot="ganlab-image")
            image = pieces.slot(
                "ganlab-image", title="Your picture", invite="Choose or drop a picture", shows="ganlab-views"
            )
    face.accept("gan-picture", "GAN lab: how real does it look?", image)
