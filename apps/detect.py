"""Detect: a photo to boxes with names, counted, exported, and sent on one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from apps import files, pieces
from apps.widgets import (
    Face,
    Json,
    bench,
    chosen,
    job_flow,
    model_picker,
    more,
    on,
    on_data,
    picture,
    problem,
    size,
    view,
    whole,
)  # fmt: skip
from studio import exports
from studio.errors import InvalidTask, StudioError
from studio.jobs import Snapshot
from studio.library import Artifact
from studio.ops import detections
from studio.studio import Studio
from studio.tasks import Detect

# Which model an example is made for: start of its name -> engine, or method of the classic one.
FITTING = (("sticker", "yolo"), ("astronaut", "faces"), ("qr", "codes"))
# What a model looks for, by id; said where it found nothing. Any other is not limited to a kind of picture.
LIMITS = {
    "starter-detector": "This model knows drawn stickers, not photographs.",
    "classic-people": "This model finds upright people of at least 100 px.",
    "classic-faces": "This model finds faces of at least 30 px, from the front and the side.",
    "classic-codes": "This model finds QR codes and EAN and UPC barcodes.",
}
ADVISED = "dfine-nano"  # what finds things in photographs, and may be passed on


def build(face: Face) -> None:
    """The tab."""
    studio = face.studio
    offered = [path for path in files.examples() if path.stem.startswith(tuple(start for start, _ in FITTING))]
    with bench() as (controls, show):
        with controls:
            card, _ = model_picker(face, "detect")
            image, settings = form(studio, card.value)
            run = pieces.run("detect-run", verb="Find", stage="detect-stage")
        with show:
            stage = pieces.stage(
                "detect-stage",
                title="What is in the picture?",
                text="Choose, drop or paste a picture and press Find. Or begin with an example:",
                examples=files.offers(offered),
                slot="detect-image",
                pilot="detect-finds",
            )
            finds = pieces.piece("finds", "detect-finds", stage="detect-stage", slider="detect-confidence")
    confidence, classes = settings[0], settings[2]

    def submit(owner: str, card_id: str, *values: Any) -> Snapshot:
        return studio.submit(card_id, task_fields(*values), owner=owner)

    inputs = [card, image, *settings]
    start = job_flow(face, "detect", run, stage, inputs, submit, lambda artifact: show_found(studio, artifact))

    def example(data: Json, owner: str, card_id: str, _image: Any, *values: Any) -> list[Any]:
        path = offered[whole(data.get("index")) % len(offered)]
        sent = from_file(studio, path)
        fitting = fitting_card(studio, path, card_id)
        return [sent, fitting, start(owner, fitting, sent, *without_classes(values, fitting == card_id))]

    def again(owner: str, before: Any, card_id: str, *values: Any) -> Any:
        """A filter was changed: the same picture again, as a draft."""
        if not (isinstance(before, dict) and before.get("artifact")) or chosen(values[0]) is None:
            return gr.skip()
        try:
            face.admit(owner)
            return {"job": studio.submit(card_id, task_fields(*values), owner=owner, kept=False).id}
        except StudioError as error:
            return problem(error)

    def filled(data: Json, owner: str) -> list[Any]:
        """After a run: the picture it was made from (a reload forgets it) and the classes the model knows."""
        try:
            job = face.job(str(data.get("job")), owner)
            artifact = face.artifact(job.artifact, owner)
        except StudioError:
            return [gr.skip(), gr.skip()]
        return [picture(artifact.parents[0]), gr.update(choices=list(artifact.data["model_classes"]))]

    on_data(stage.example, example, [face.owner, *inputs], [image, card, run])
    on_data(run.finished, filled, [face.owner], [image, classes])
    on(confidence.release, again, [face.owner, stage, *inputs], run)
    # What is there is filtered at once; the run after it may bring more of the classes.
    on(classes.input, lambda names: {"only": names}, classes, finds)
    on(classes.input, again, [face.owner, stage, *inputs], run)
    on(card.change, lambda: {"only": []}, None, finds)
    on(card.change, lambda id_: gr.update(choices=known_classes(studio, id_), value=[]), card, classes)
    face.accept("detect", "Detect", image)


def form(studio: Studio, card_id: str | None) -> tuple[gr.HTML, list[Any]]:
    """The picture's slot, and the controls in the order of `task_fields`."""
    tip = {name: info.description for name, info in Detect.model_fields.items()}
    image = pieces.slot("detect-image", title="Picture", invite="Choose or drop a picture", shows="detect-stage")
    confidence = gr.Slider(
        0, 1, 0.25, step=0.01, label="Confidence", info=tip["confidence"], elem_id="detect-confidence"
    )
    with more():
        iou = gr.Slider(0, 1, 0.45, step=0.01, label="Overlap (IoU)", info=tip["iou"], elem_id="detect-iou")
        classes = gr.Dropdown(
            known_classes(studio, card_id), value=[], multiselect=True, label="Only these classes",
            info="Empty means all.", elem_id="detect-classes",
        )  # fmt: skip
        most = gr.Slider(1, 1000, 300, step=1, label="At most", info=tip["max_detections"], elem_id="detect-max")
    return image, [confidence, iou, classes, most]


def task_fields(image: Any, confidence: float, iou: float, classes: list[str] | None, most: float) -> Json:
    """The form's values as fields of a task. Raises InvalidTask without a picture."""
    id_ = chosen(image)
    if id_ is None:
        raise InvalidTask("There is no picture yet.", "Choose, drop or paste one, or begin with an example.")
    fields = {"image": id_, "confidence": confidence, "iou": iou, "max_detections": most}
    return {**fields, "classes": tuple(classes or ())}


def show_found(studio: Studio, artifact: Artifact) -> Json:
    """The stage's value: the picture with its boxes, and the files they can be saved as."""
    data = artifact.data
    boxes = boxed(data)
    formats = [
        {"label": format.label, "path": f"export/{artifact.id}/{name}"}
        for name, format in exports.FORMATS["detect"].items()
    ]
    nothing = None if boxes else advice(studio, artifact.card)
    return view(studio, artifact, boxes=boxes, exports=formats, kept=artifact.kept, nothing=nothing)


def advice(studio: Studio, card_id: str) -> Json:
    """What to say where nothing was found: {"text", "go": the tab that helps or "", "label"}."""
    lower = "lower the confidence"
    known, cards = LIMITS.get(card_id), {card.id: card for card in studio.cards("detect")}
    other = cards.get(ADVISED)
    if known is None or other is None or card_id == ADVISED:
        text = f"{known} {lower.capitalize()}." if known else f"{lower.capitalize()}, or choose another model."
        return {"text": text, "go": "", "label": ""}
    if other.id in {card.id for card in studio.cards("detect", ready=True)}:
        return {"text": f"{known} Choose {other.title}, or {lower}.", "go": "", "label": ""}
    if not studio.can("download") or studio.config.offline:
        return {"text": f"{known} {lower.capitalize()}.", "go": "", "label": ""}
    name = f"{other.title} ({size(other.size)})" if other.size else other.title
    return {"text": f"{known} Fetch {name}, or {lower}.", "go": "Models", "label": f"Fetch {name}"}


def boxed(data: Mapping[str, Any]) -> list[Json]:
    """A detection's boxes as the stage draws them, in the colours of the exported picture."""
    hues = {label: "#{:02x}{:02x}{:02x}".format(*rgb) for label, rgb in detections.colours(data["labels"]).items()}
    boxes = [
        {"box": box, "label": label, "score": score, "hue": hues[label]}
        for box, score, label in zip(data["boxes"], data["scores"], data["labels"], strict=True)
    ]
    for one, text in zip(boxes, data.get("texts") or (), strict=False):
        one["text"] = text
    return boxes


def known_classes(studio: Studio, card_id: str | None) -> list[str]:
    """What the model can find, as far as it says so before it has run."""
    if not card_id:
        return []
    try:
        facts = studio.facts(card_id)
    except StudioError:
        return []
    return [str(name) for name in facts.get("classes") or facts["options"].get("names") or ()]


def fitting_card(studio: Studio, path: Path, card_id: str) -> str:
    """The chosen model, unless the example is made for another one that is ready."""
    wanted = next((kind for start, kind in FITTING if path.stem.startswith(start)), "")
    ready = studio.cards("detect", ready=True)
    fits = [card.id for card in ready if wanted in (card.engine, card.options.get("method"))]
    return card_id if card_id in fits or not fits else fits[0]


def without_classes(values: tuple[Any, ...], same: bool) -> list[Any]:
    """Another model knows other classes, so the filter does not go along."""
    return [value if same or position != 2 else [] for position, value in enumerate(values)]


def from_file(studio: Studio, path: Path) -> Json:
    """An example picture as a slot takes it."""
    return picture(studio.library.add_image(path.read_bytes(), path.stem))
