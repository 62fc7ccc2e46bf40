"""The frame around every tab: name, tabs, hand-off, status line. A new tab is one module and one line in TABS."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

from apps import compress, detect, diffusion_lab, gan_lab, generate, library, models, pieces, runs, segment, vae_lab
from apps.widgets import Face, Receiver, on, on_data
from studio.errors import NotFound
from studio.studio import Studio

TITLE = "Image Studio"
KIOSK_IDLE_S = 180


class Tab(NamedTuple):
    """`key` names the tab in hand-offs and tests."""

    key: str
    title: str
    build: Callable[[Face], None]


TABS = (
    Tab("generate", "Generate", generate.build),
    Tab("detect", "Detect", detect.build),
    Tab("segment", "Segment", segment.build),
    Tab("vae", "VAE", vae_lab.build),
    Tab("gan", "GAN", gan_lab.build),
    Tab("diffusion", "Diffusion", diffusion_lab.build),
    Tab("compress", "Compress", compress.build),
    Tab("library", "Library", library.build),
    Tab("runs", "Runs", runs.build),
    Tab("models", "Models", models.build),
)  # fmt: skip


class Page(gr.Blocks):
    """Its queue is bounded and has no address of its own. Gradio asks for the queue while the page is made; asking
    again afterwards would build its whole web app once more."""

    def queue(self, *args: Any, **options: Any) -> Any:
        return super().queue(*args, **{**options, "max_size": 64, "api_open": False})


def build(studio: Studio, tabs: tuple[Tab, ...] = TABS) -> gr.Blocks:
    """The whole page."""
    with Page(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600), fill_width=True) as page:
        face = Face(studio)
        pieces.piece("brand", "brand", title=TITLE, elem_classes=["brand"])
        pieces.piece("corner", "corner", elem_classes=["corner"])
        with gr.Tabs(elem_classes=["desk"], overflow_behavior="wrap") as desk:
            for tab in tabs:
                with gr.Tab(tab.title, id=tab.key, render_children=True) as pane:
                    face.tab, face.selected = tab.key, pane.select
                    tab.build(face)
        pieces.piece("status", "status", elem_classes=["status"])
        hand_off(face, desk)
        for wire in face.later:
            wire(desk)
        for fn, inputs, outputs in face.on_load:
            on(page.load, fn, inputs, outputs)
    return page


def hand_off(face: Face, desk: gr.Tabs) -> None:
    """One event for the whole page: {"asset", "to"} fills the receiver's slot and shows its tab.

    "also" holds more such parcels, for a picture and its mask; "box" goes along to what is done with the picture.
    The piece's value then says {"arrived": slot}, so that the focus goes along. In a kiosk it ends the visit when
    nobody is there any more.
    """
    targets = [{"key": r.key, "title": r.title, "kinds": list(r.kinds)} for r in face.receivers]
    idle = KIOSK_IDLE_S if face.studio.config.mode == "kiosk" else 0
    post = pieces.piece(
        "post", "post", {"targets": targets}, events=("send",), elem_classes=["hidden-post"], idle=idle
    )
    slots = list(dict.fromkeys(r.slot for r in face.receivers))

    def send(data: dict[str, Any]) -> Any:
        also = data.get("also")
        parcels = [data, *(also[:4] if isinstance(also, list) else [])]
        found = [delivery(face, parcel) for parcel in parcels]
        brought = [(to, value) for to, value in found if to is not None]
        if len(brought) < len(found):
            return [gr.skip()] * (len(slots) + 2)
        values = [next((value for to, value in brought if to.slot is slot), gr.skip()) for slot in slots]
        first = brought[0][0]
        return [gr.Tabs(selected=first.tab), {"arrived": first.slot.elem_id, "at": time.time()}, *values]

    on_data(post.send, send, outputs=[desk, post, *slots])


def delivery(face: Face, parcel: Any) -> tuple[Receiver | None, dict[str, Any]]:
    """Who takes a parcel, and the value for their slot; nobody where the asset is gone or does not fit."""
    parcel = parcel if isinstance(parcel, dict) else {}
    receiver = next((r for r in face.receivers if r.key == parcel.get("to")), None)
    try:
        asset = face.studio.library.asset(str(parcel.get("asset")))
    except NotFound:
        return None, {}
    if receiver is None or asset.kind not in receiver.kinds:
        return None, {}
    sent: dict[str, Any] = {name: getattr(asset, name) for name in ("id", "kind", "width", "height", "name")}
    box = parcel.get("box")
    if isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box):
        sent["box"] = [float(value) for value in box]
    return receiver, sent
