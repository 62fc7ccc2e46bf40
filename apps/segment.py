"""Segment: click on a thing to cut it out. Every click runs at once as a draft; what is kept or sent on stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps import files, pieces
from apps.alts import alt
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
    view,
    whole,
)  # fmt: skip
from studio.cards import Card
from studio.errors import InvalidTask, StudioError
from studio.jobs import Snapshot
from studio.library import Artifact, Asset
from studio.ops import masks, segments
from studio.studio import Studio
from studio.tasks import Segment

ALL_MODES = ("click", "box", "all")
# What each model understands: ways to mark, and the settings that are its own. Models of the sam engine: the first row.
KNOWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "": (ALL_MODES, ("points_per_side", "min_area")),
    "grabcut": (("click", "box"), ("brush",)),
    "felzenszwalb": (ALL_MODES, ("scale", "min_area")),
    "watershed": (ALL_MODES, ("brush", "min_area")),
}
# Where there is no mask: after a click or box, and after everything.
NOTHING = (
    "Nothing was found there. Click somewhere else, or draw a box.",
    "No segment stood out clearly. Try a denser grid, another model, or click on one thing.",
)
OWN = ("points_per_side", "min_area", "scale", "brush")
# Where the examples are clicked, in shares of width and height: a point or a box.
CLICKS: dict[str, tuple[float, ...]] = {
    "sticker-picnic": (0.41, 0.7),
    "sticker-street": (0.82, 0.74),
    "coffee": (0.12, 0.03, 0.8, 0.97),
    "coins": (0.26, 0.18),
    "astronaut": (0.02, 0.03, 0.73, 0.99),
    "rocket": (0.46, 0.3, 0.55, 0.97),
}


@dataclass(frozen=True)
class Refine:
    """What is done to a mask after it was found.

    Attributes:
        grow: pixels outwards; inwards where negative.
        holes: fill them.
        specks: parts of fewer pixels go.
        feather: pixels over which a cut-out fades at its edge.
    """

    grow: float = 0.0
    holes: bool = False
    specks: int = 0
    feather: float = 0.0

    @property
    def changes_mask(self) -> bool:
        return bool(self.grow or self.holes or self.specks)


def build(face: Face) -> None:
    """The tab."""
    studio = face.studio
    offered = [path for path in files.examples() if path.stem in CLICKS]
    with bench() as (controls, show):
        with controls:
            card, _ = model_picker(face, "segment")
            image = pieces.slot(
                "segment-image", title="Picture", invite="Choose or drop a picture", shows="segment-stage"
            )
            own, refine = settings(studio, card.value)
            run = pieces.run("segment-run", verb="Cut out", stage="segment-stage")
        with show:
            marks = pieces.piece(
                "marks", "segment-marks", {"modes": list(modes(studio, card.value))}, events=("marked", "choose"),
                stage="segment-stage",
                run="segment-run", elem_classes=["before"],
            )  # fmt: skip
            stage = pieces.stage(
                "segment-stage",
                title="Click it, cut it out",
                text="Choose, drop or paste a picture and click on a thing in it. Or begin with an example:",
                examples=files.offers(offered),
                slot="segment-image",
                pilot="segment-marks",
            )

    def submit(owner: str, card_id: str, image: Any, marked: Any, *values: Any) -> Snapshot:
        return draft(studio, owner, card_id, task_fields(studio, card_id, chosen(image), marked, values))

    def show_result(artifact: Artifact, *values: Any) -> Json:
        return shown(studio, artifact, () if everything(artifact) else (0,), Refine(*values))

    start = job_flow(face, "segment", run, stage, [card, image, marks, *own], submit, show_result, refine)

    def marked(data: Json, owner: str, card_id: str, *values: Any) -> Json:
        return start(owner, card_id, {"id": data.get("image")}, data, *values)

    def choose(data: Json, owner: str, *values: Any) -> Any:
        """Other masks of the same result were chosen, or are refined differently."""
        try:
            artifact = face.artifact(str(data.get("artifact")), owner)
            return shown(studio, artifact, numbers(data.get("chosen"), len(artifact.outputs)), Refine(*values))
        except StudioError:
            return gr.skip()

    def refined(owner: str, marked: Any, *values: Any) -> Any:
        return choose(marked, owner, *values) if isinstance(marked, dict) and marked.get("artifact") else gr.skip()

    def example(data: Json, owner: str, card_id: str, *values: Any) -> list[Any]:
        path = offered[whole(data.get("index")) % len(offered)]
        sent = picture(studio.library.add_image(path.read_bytes(), path.stem))
        return [sent, start(owner, card_id, sent, first_mark(sent, CLICKS[path.stem], modes(studio, card_id)), *values)]

    def back(data: Json, owner: str) -> Any:
        """After a run: the picture it was made from, which a reload forgets."""
        try:
            return picture(face.artifact(face.job(str(data.get("job")), owner).artifact, owner).parents[0])
        except StudioError:
            return gr.skip()

    on_data(marks.marked, marked, [face.owner, card, *own], run)
    on_data(marks.choose, choose, [face.owner, *refine], stage)
    on_data(stage.example, example, [face.owner, card, *own], [image, run])
    on_data(run.finished, back, [face.owner], image)
    for control in refine:
        on(
            control.change if isinstance(control, gr.Checkbox) else control.release,
            refined,
            [face.owner, marks, *refine],
            stage,
        )
    on(card.change, lambda id_: adapted(studio, id_), card, [marks, *own])
    face.accept("segment", "Segment", image)


def settings(studio: Studio, card_id: str | None) -> tuple[list[Any], list[Any]]:
    """The model's own settings in the order of OWN, and the refinements in the order of `Refine`."""
    tip = {name: info.description for name, info in Segment.model_fields.items()}
    mine = known(studio, card_id)[1]
    with more():
        own = [
            gr.Slider(
                4,
                64,
                16,
                step=1,
                label="Grid of everything",
                info="Clicks per side. A denser grid finds smaller segments and takes longer.",
                visible=OWN[0] in mine,
            ),
            gr.Slider(1, 5000, 64, step=1, label="Smallest segment, px²", info=tip["min_area"], visible=OWN[1] in mine),
            gr.Slider(1, 1000, 100, step=1, label="Scale", info=tip["scale"], visible=OWN[2] in mine),
            gr.Slider(1, 100, 9, step=1, label="Brush size, px", info=tip["brush"], visible=OWN[3] in mine),
        ]
        gr.HTML('<p class="note heading">Refine the mask</p>', apply_default_css=False)
        refine = [
            gr.Slider(-30, 30, 0, step=1, label="Grow, px", info="Negative values shrink.", elem_id="segment-grow"),
            gr.Checkbox(False, label="Fill holes", elem_id="segment-holes"),
            gr.Slider(
                0, 2000, 0, step=10, label="Remove specks under, px²", info="Remove loose parts smaller than this."
            ),
            gr.Slider(0, 20, 0, step=1, label="Soft edge, px", info="How wide the edge of a cut-out fades."),
        ]
    return own, refine


def known(studio: Studio, card_id: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ways to mark and the settings that a model understands."""
    card: Card | None = studio.store.cards().get(card_id or "")
    return KNOWS.get(str(card.options.get("method", "")) if card else "", KNOWS[""])


def modes(studio: Studio, card_id: str | None) -> tuple[str, ...]:
    return known(studio, card_id)[0]


def adapted(studio: Studio, card_id: str | None) -> list[Any]:
    """For a newly chosen model: its ways to mark, and which of the settings are its own."""
    ways, mine = known(studio, card_id)
    return [{"modes": list(ways)}, *(gr.update(visible=name in mine) for name in OWN)]


# ── from marks to a task ─────────────────────────────────────────────────────


def task_fields(studio: Studio, card_id: str, image: str | None, marked: Any, values: Sequence[Any]) -> Json:
    """What was marked as fields of a task, with the settings this model knows. Raises InvalidTask."""
    if image is None or image == "None":
        raise InvalidTask("There is no picture yet.", "Choose, drop or paste one, or begin with an example.")
    marked = marked if isinstance(marked, dict) else {}
    mine = known(studio, card_id)[1]
    fields: Json = {name: value for name, value in zip(OWN, values, strict=True) if name in mine}
    if marked.get("mode") == "all":
        return {"image": image, "everything": True, **fields}
    points = tuple(tuple(point) for point in marked.get("points") or ())
    box = marked.get("box")
    if not points and not box:
        raise InvalidTask("Nothing is marked.", "Click on the thing, drag a box around it, or choose Everything.")
    return {"image": image, "points": points, "box": tuple(box) if box else None, **fields}


def draft(studio: Studio, owner: str, card_id: str, fields: Json) -> Snapshot:
    """Queues without keeping. What the same person has waiting for another mark is out of date and goes."""
    for job in studio.jobs.active(owner):
        if job.state == "queued" and not job.kept and job.task.kind == "segment":
            studio.jobs.cancel(job.id)
    return studio.submit(card_id, fields, owner=owner, kept=False)


def first_mark(sent: Json, share: tuple[float, ...], ways: tuple[str, ...]) -> Json:
    """An example's click or box in pixels, as the marks piece would have said it."""
    width, height = sent["width"], sent["height"]
    if len(share) == 4:
        x1, y1, x2, y2 = share
        return {"mode": "box", "points": [], "box": [x1 * width, y1 * height, x2 * width, y2 * height]}
    return {"mode": "click", "points": [[share[0] * width, share[1] * height, 1]], "box": None}


# ── from a result to the stage ───────────────────────────────────────────────


def everything(artifact: Artifact) -> bool:
    return bool(getattr(artifact.task, "everything", False))


def numbers(value: Any, count: int) -> tuple[int, ...]:
    """The chosen outputs that there are, without repeats."""
    found = value if isinstance(value, list | tuple) else ()
    return tuple(dict.fromkeys(k for k in found if isinstance(k, int) and 0 <= k < count))


def mask_of(studio: Studio, artifact: Artifact, which: Sequence[int], refine: Refine) -> Asset | None:
    """The chosen masks as one, refined; None where none is chosen or nothing is left."""
    if not which:
        return None
    if len(which) == 1 and not refine.changes_mask:
        return artifact.outputs[which[0]]
    mask = masks.union([studio.library.mask(artifact.outputs[k].id) for k in which])
    if refine.holes:
        mask = masks.fill_holes(mask)
    if refine.specks:
        mask = masks.remove_specks(mask, int(refine.specks))
    if refine.grow:
        mask = masks.grow(mask, refine.grow) if refine.grow > 0 else masks.shrink(mask, -refine.grow)
    return studio.library.add_mask(mask, "refined mask", owner=artifact.owner) if mask.any() else None


def shown(studio: Studio, artifact: Artifact, which: Sequence[int], refine: Refine | None = None) -> Json:
    """The stage's value: the picture, the chosen mask over it, the candidates, and what can be done with them."""
    refine = refine or Refine()
    task, data = artifact.task, artifact.data
    assert isinstance(task, Segment)
    usable = [k for k in which if k < len(artifact.outputs)]
    mask = mask_of(studio, artifact, usable, refine)
    source = artifact.parents[0]
    notes = [] if artifact.outputs else [NOTHING[everything(artifact)]]
    if usable and mask is None:
        notes = ["After refining, nothing of the mask is left. Shrink it less."]
    if data.get("left_out"):
        notes.append(f"{data['left_out']} less distinct segments were left out.")
    return view(
        studio,
        artifact,
        pictures=[picture(source, alt=alt(artifact))],
        notes=notes,
        masks=[{"id": mask.id}] if mask else [],
        subject=picture(mask) if mask else None,
        choices=[
            {"id": asset.id, "score": float(data["scores"][k]), "area": int(data["areas"][k])}
            for k, asset in enumerate(artifact.outputs)
        ],
        chosen=list(usable),
        everything=everything(artifact),
        marks={"points": [list(p) for p in task.points], "box": list(task.box) if task.box else None,
               "everything": everything(artifact)},
        kept=artifact.kept,
        exports=saves(artifact, mask, usable, refine),
        sends=sends(artifact, mask, refine),
    )  # fmt: skip


def saves(artifact: Artifact, mask: Asset | None, which: Sequence[int], refine: Refine) -> list[Json]:
    """The files: of the chosen mask as it is shown, or of all segments where none is chosen."""
    if mask is None:
        formats = ("polygons", "coco") if artifact.outputs and everything(artifact) else ()
        return [{"label": f"All: {segments.EXPORTS[n].label}", "path": f"export/{artifact.id}/{n}"} for n in formats]
    score = max((float(artifact.data["scores"][k]) for k in which), default=1.0)
    base = f"cut/{artifact.parents[0].id}/{mask.id}"
    query = f"?feather={refine.feather:g}&score={score:g}"
    return [{"label": e.label, "path": f"{base}/{name}{query}"} for name, e in segments.EXPORTS.items()]


def sends(artifact: Artifact, mask: Asset | None, refine: Refine) -> list[Json]:
    """Where the chosen mask can go, with its picture."""
    if mask is None:
        return []
    source = artifact.parents[0].id
    cut = f"cut/{source}/{mask.id}?feather={refine.feather:g}"
    both = [{"asset": mask.id, "to": "mask"}, {"asset": source, "to": "start"}]
    return [
        {"label": "Generate: repaint inside the mask", "parcels": both},
        {"label": "Generate: start from the cut-out", "make": cut, "to": "start"},
        {"label": "Detect: the cut-out", "make": cut, "to": "detect"},
        {
            "label": "Library: the cut-out",
            "make": f"keep/{artifact.id}/cut-out/{mask.id}?feather={refine.feather:g}",
            "done": "The cut-out is in the Library.",
        },
    ]


__all__ = ["Refine", "adapted", "build", "draft", "mask_of", "numbers", "problem", "shown", "task_fields"]
