"""The page's own pieces: plain HTML components whose behaviour is in `assets/face/*.js`, found there by kind.

A piece has a `name` (unique on the page), a JSON `value` that Python sends, and events that it sends to Python.
Asset ids travel, never files: pictures are uploaded to and shown from the routes in `apps/routes.py`.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr


def piece(kind: str, name: str, value: Any = None, /, *, events: tuple[str, ...] = (), **props: Any) -> gr.HTML:
    """A component drawn by `studio.kinds[kind]`. `events` become listeners of the component: `piece.run(...)`.

    `props` stand in the script that mounts the piece, not in Gradio's own props: an update of a component that is not
    on the page yet, even one that says nothing (`gr.skip()`), takes the place of those.
    """
    names = ", ".join(json.dumps(event) for event in events)
    classes = props.pop("elem_classes", [])
    own = json.dumps({"name": name, **props})
    return gr.HTML(
        value if value is not None else {},
        html_template="<div></div>",
        js_on_load=f"/* sends: [{names}] */ studio.mount({json.dumps(kind)}, {own}, element, props, trigger, watch);",
        apply_default_css=False,
        elem_id=name,
        elem_classes=classes,
    )


def stage(
    name: str, *, title: str, text: str, examples: list[dict[str, str]] | None = None, slot: str = "", pilot: str = ""
) -> gr.HTML:
    """The large picture with everything that belongs to it.

    Value: {"artifact", "pictures": [{"id", "kind", "width", "height", "title", "file"}], "selected", "details": [[name,
    text]], "notes": [text], "actions": [{"name", "label", "icon"}]} and, laid over the picture in its own pixels,
    "boxes": [{"box", "label", "score"}], "masks": [{"id", "hue"}], "points": [[x, y, 1 or 0]], "box": [x1, y1, x2, y2];
    "aim": "point", "box" or "both" lets the user click and drag. {} is the empty state.

    An action with "runs": true begins a job, so the run bar answers at once; its callback must end in that bar's value.
    "kept": false offers to keep a draft; "subject" is what the actions are about where it is not the picture shown;
    "exports": [{"label", "path"}] takes the place of Download, "sends": [{"label", "parcels" or "make" and "to"}] that
    of the fitting receivers.
    "family": [{"label", "tiles": [{"id", "label", "artifact"}]}] shows relatives; a click sends open {"artifact"}.

    Events: act {"name", "artifact", "index"}, pick {"index"}, example {"index"}, point {"x", "y", "label"},
    box {"box"}.

    Args:
        title, text, examples: the empty state; an example is {"label", "image": url or absent}.
        slot: name of the slot that takes files dropped or pasted on the picture.
        pilot: name of the piece that lays its own things over the picture and hears its clicks, instead of Python.
    """
    empty = {"title": title, "text": text, "examples": examples or []}
    events = ("act", "pick", "example", "point", "box", "open")
    return piece("stage", name, events=events, empty=empty, slot=slot, pilot=pilot)


def run(name: str, *, verb: str, stage: str) -> gr.HTML:
    """The primary button, Cancel in its place while a job runs, and the problem beneath it.

    Value: {"job": id} follows a job, {"message", "hint", "at"} shows why none was started.
    Events: run {}, finished {"job", "state"}.
    """
    return piece("run", name, events=("run", "finished"), verb=verb, stage=stage, elem_classes=["run-bar"])


def slot(
    name: str,
    *,
    title: str,
    invite: str,
    kind: str = "image",
    paint: str = "",
    stage: str = "",
    feeds: str = "",
    shows: str = "",
    fits: tuple[str, str] | None = None,
) -> gr.HTML:
    """A place for one picture: choose, drop, paste, or have one sent here. Its value is the asset, {} when empty.

    Listen to `.change`. With kind "text" it keeps nothing and sends read {"text": {key: text}} of a PNG instead.

    Args:
        kind: "image", "mask" or "text".
        paint: name of the slot whose picture is painted over, on the stage `stage`, to make a mask.
        feeds: name of the slot that paints over this one's picture.
        shows: name of the stage that shows the picture as soon as it is here.
        fits: element ids of the width and height in px that the picture is cut to; what goes is shown before.
    """
    wiring = {"paint": paint, "stage": stage, "feeds": feeds, "shows": shows, "fits": list(fits or ())}
    return piece("slot", name, events=("read",), title=title, invite=invite, kind=kind, **wiring)


def shelf(name: str) -> gr.HTML:
    """Many results as thumbnails, or a list of jobs.

    Value: {"tiles": [{"id", "label", "artifact", "tag"}], "page", "more", "title", "text", "notice", "undo"}, or
    {"jobs": [{"id", "state", "title", "text", "when", "actions": [{"name", "label"}]}], "title", "text"}.
    Events: open {"artifact"}, turn {"page"}, undo {"artifact"}, job {"name", "job"}.
    """
    return piece("shelf", name, events=("open", "turn", "undo", "job"))
