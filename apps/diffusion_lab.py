"""Diffusion: noise in, noise out, trained live; samplers, guidance, and where the words of a prompt were read."""

from __future__ import annotations

from apps import lab, pieces
from apps.widgets import Face, Json, bench, on
from studio.studio import Studio

FAMILY = "diffusion-lab"
TITLE = "How pictures come out of noise"
TEXT = (
    "Train a small diffusion model on pictures of yours or on the stickers: in about five minutes it paints things one "
    "can name. Then noise a picture of your own, watch noise become a picture, and compare samplers and guidance."
)
PROMPTS = (
    "a pizza on a blue background",
    "a cat face on a green background",
    "a rocket left of a strawberry on a yellow background",
)


def build(face: Face) -> None:
    """The tab."""
    with bench() as (controls, show):
        panel = lab.training_panel(face, FAMILY, "difflab", controls, show, title=TITLE, text=TEXT)
        with panel.explore:
            image = pieces.slot(
                "difflab-image", title="Your picture", invite="Choose or drop a picture", shows="difflab-views"
            )
            views = pieces.piece(
                "difflab",
                "difflab-views",
                {"painters": painters(face.studio)},
                family=FAMILY,
                slot="difflab-image",
                prompts=list(PROMPTS),
            )
    face.on_load.append((lambda: {"painters": painters(face.studio)}, [], [views]))
    if face.selected is not None:  # a model may have come or gone in the Models tab
        on(face.selected, lambda: {"painters": painters(face.studio)}, None, views)
    face.accept("diffusion-noise", "Diffusion lab: add noise", image)


def painters(studio: Studio) -> list[Json]:
    """Text-to-image models that can be looked into, as the Words view offers them."""
    return [
        {"id": card.id, "title": card.title}
        for card in studio.cards("generate", ready=True)
        if card.engine == "diffusion"
    ]
