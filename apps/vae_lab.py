"""VAE lab: train an autoencoder on the device, then turn its latents, walk its map, mix and judge pictures."""

from __future__ import annotations

from apps import pieces
from apps.lab import training_panel
from apps.widgets import Face, bench


def build(face: Face) -> None:
    """The tab."""
    with bench() as (controls, view):
        panel = training_panel(
            face,
            "vae",
            "vae-lab",
            controls,
            view,
            title="Watch an autoencoder learn",
            text="It squeezes pictures into a few numbers and back. Train one here in a few minutes, then turn the "
            "numbers and see what they mean. Training continues if you close the tab.",
        )
        with panel.explore:
            pieces.piece("vae", "vae-views", family="vae")
