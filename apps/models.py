"""Models: what is on this device, what can be fetched, and what each needs. The page talks to `apps.catalogue`."""

from __future__ import annotations

import gradio as gr

from apps import pieces
from apps.widgets import Face, on


def build(face: Face) -> None:
    """The tab."""
    with gr.Column(elem_classes=["page"]):
        models = pieces.piece("models", "models", events=("changed",))

    def wire(desk: gr.Tabs) -> None:
        """A model came or went: every tab's picker looks again."""
        for fn, inputs, outputs in face.on_load:
            on(models.changed, fn, inputs, outputs)

    face.later.append(wire)
