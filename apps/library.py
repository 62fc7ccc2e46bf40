"""Library: every result with where it came from and what it took, and every job that did not end in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from apps import pieces
from apps.detect import boxed
from apps.widgets import Face, Json, bench, on, on_data, view, whole
from studio.errors import StudioError
from studio.jobs import Snapshot
from studio.library import Ancestry, Artifact, Asset
from studio.ops.words import count, when
from studio.studio import Studio

PAGE = 36
SHOWN: dict[str, str | None] = {
    "Everything": None,
    "Pictures": "generate",
    "Detections": "detect",
    "Cut-outs": "segment",
}
JOBS = "Jobs"
STATES = {"queued": "waiting"}
EMPTY = {"title": "Nothing here yet", "text": "What you make in the other tabs is kept here, with all of its settings."}
NO_JOBS = {"title": "No jobs yet", "text": "Everything that was run is listed here, also what failed or was cut short."}


def build(face: Face) -> None:
    with bench() as (controls, show):
        with controls:
            kind = gr.Radio([*SHOWN, JOBS], value="Everything", label="Show", elem_id="library-kind")
            text = gr.Textbox(label="Search", placeholder="Prompt, model or thing found", elem_id="library-text")
        with show:
            with gr.Column(visible=True) as many:
                shelf = pieces.shelf("library-shelf")
            with gr.Column(visible=False) as single:
                stage = pieces.stage("library-stage", title="", text="")

    def listed(owner: str, kind: str, text: str | None, page: int = 0, notice: Json | None = None) -> Json:
        text = text if text is not None else ""
        if kind == JOBS:
            jobs = face.studio.jobs.history(owner=face.seen_by(owner))
            return {"jobs": [job_row(face.studio, job) for job in jobs], **NO_JOBS}
        found = face.studio.library.list(
            owner=face.seen_by(owner), kind=SHOWN.get(kind), text=text, limit=PAGE + 1, offset=page * PAGE
        )
        empty = {"title": "Nothing matches", "text": "Try fewer words."} if text.strip() else EMPTY
        tiles = [tile(artifact) for artifact in found[:PAGE]]
        return {"tiles": tiles, "page": page, "more": len(found) > PAGE, **empty, **(notice or {})}

    def overview(owner: str, kind: str, text: str) -> list[Any]:
        return [gr.update(visible=True), gr.update(visible=False), listed(owner, kind, text)]

    def opened(data: Json, owner: str) -> list[Any]:
        try:
            artifact = face.artifact(str(data.get("artifact")), owner)
        except StudioError:
            return [gr.skip(), gr.skip(), gr.skip()]
        shown = view(face.studio, artifact, actions(face), family=family(face.studio, artifact), **overlay(artifact))
        return [gr.update(visible=False), gr.update(visible=True), shown]

    def turned(data: Json, owner: str, kind: str, text: str) -> Json:
        return listed(owner, kind, text, whole(data.get("page")))

    def undo(data: Json, owner: str, kind: str, text: str) -> Any:
        face.studio.require("delete")
        face.studio.library.keep(str(data.get("artifact")))
        return listed(owner, kind, text)

    filters = [face.owner, kind, text]
    everything = [many, single, shelf]
    on(kind.change, overview, filters, everything)
    on(text.input, overview, filters, everything)
    if face.selected is not None:
        on(face.selected, lambda *f: listed(*f), filters, shelf)
    on_data(shelf.turn, turned, filters, shelf)
    on_data(shelf.open, opened, [face.owner], [many, single, stage])
    on_data(stage.open, opened, [face.owner], [many, single, stage])
    on_data(shelf.undo, undo, filters, shelf)
    face.later.append(lambda desk: wire_actions(face, desk, shelf, stage, many, single, filters, listed))


def wire_actions(
    face: Face, desk: gr.Tabs, shelf: gr.HTML, stage: gr.HTML, many: Any, single: Any, filters: list[Any], listed: Any
) -> None:
    """What reaches into other tabs: a repeated job is followed where its kind is at home."""
    kinds = list(face.runners)
    runs = [face.runners[kind][1] for kind in kinds]

    def follow(job: Snapshot) -> list[Any]:
        tab = face.runners[job.task.kind][0] if job.task.kind in face.runners else None
        return [
            gr.Tabs(selected=tab) if tab else gr.skip(),
            *({"job": job.id} if kind == job.task.kind else gr.skip() for kind in kinds),
        ]

    def stay() -> list[Any]:
        return [gr.skip()] * (1 + len(runs))

    def act(data: Json, owner: str, kind: str, text: str) -> list[Any]:
        id_ = str(data.get("artifact"))
        back = [gr.update(visible=True), gr.update(visible=False)]
        try:
            artifact = face.artifact(id_, owner)
            if data.get("name") == "again":
                face.admit(owner)
                return [gr.skip(), gr.skip(), gr.skip(), *follow(face.studio.again(artifact, owner=owner))]
            if data.get("name") == "delete":
                face.studio.require("delete")
                face.studio.library.discard(id_)
                notice = {"notice": "Deleted. Undo is possible until the studio restarts.", "undo": id_}
                return [*back, listed(owner, kind, text, 0, notice), *stay()]
        except StudioError as error:
            return [*back, listed(owner, kind, text, 0, {"notice": str(error)}), *stay()]
        return [*back, listed(owner, kind, text), *stay()]

    def job(data: Json, owner: str, kind: str, text: str) -> list[Any]:
        try:
            found = face.job(str(data.get("job")), owner)
            if data.get("name") == "again":
                face.admit(owner)
                return [gr.skip(), *follow(face.studio.again(found, owner=owner))]
            face.studio.jobs.cancel(found.id)
        except StudioError:
            pass
        return [listed(owner, kind, text), *stay()]

    on_data(stage.act, act, filters, [many, single, shelf, desk, *runs])
    on_data(shelf.job, job, filters, [shelf, desk, *runs])


def actions(face: Face) -> list[Json]:
    """The row under a result: always run again and back; delete where the mode allows it."""
    delete = [{"name": "delete", "label": "Delete", "icon": "trash"}] if face.studio.can("delete") else []
    return [
        {"name": "again", "label": "Run again", "icon": "again"},
        *delete,
        {"name": "back", "label": "All results", "icon": "back"},
    ]


def tile(artifact: Artifact) -> Json:
    """A result as a thumbnail: its first output, else what it looked at."""
    shown = (*artifact.outputs, *artifact.parents)
    made = len(artifact.outputs)
    return {
        "id": shown[0].id if shown else "",
        "label": caption(artifact),
        "artifact": artifact.id,
        "tag": count(made, "picture") if made > 1 and artifact.task.kind == "generate" else "",
    }


def caption(work: Artifact | Snapshot) -> str:
    """One line for a result or a job: its prompt, else what kind of work it is."""
    return str(getattr(work.task, "prompt", "")) or work.task.kind.capitalize()


def overlay(artifact: Artifact) -> Json:
    """Boxes that a detection found, laid over the picture it looked at."""
    return {} if artifact.outputs or "labels" not in artifact.data else {"boxes": boxed(artifact.data)}


def family(studio: Studio, artifact: Artifact) -> list[Json]:
    """Rows of relatives: what it was made from, oldest first, and what was made from it."""
    before: list[Json] = []

    def climb(node: Ancestry) -> None:
        for asset, maker in node.parents:
            if maker is not None:
                climb(maker)
            before.append(relative(asset, maker.artifact if maker else None))

    climb(studio.library.lineage(artifact.id))
    after = [tile(child) for asset in artifact.outputs for child in studio.library.made_from(asset.id)]
    rows = [("Made from", unique(before)), ("Used for", unique(after))]
    return [{"label": label, "tiles": tiles} for label, tiles in rows if tiles]


def relative(asset: Asset, maker: Artifact | None) -> Json:
    label = caption(maker) if maker else asset.name or "Brought in from outside"
    return {"id": asset.id, "label": label, "artifact": maker.id if maker else ""}


def unique(tiles: Sequence[Json]) -> list[Json]:
    return list({(tile["id"], tile["artifact"]): tile for tile in tiles}.values())


def job_row(studio: Studio, job: Snapshot) -> Json:
    """A job as the list shows it, with what can be done about it."""
    titles = {id_: card.title for id_, card in studio.store.cards().items()}
    again = [{"name": "again", "label": "Run again"}] if job.is_finished else [{"name": "cancel", "label": "Cancel"}]
    reason = f"{job.message} {job.hint}".strip()
    return {
        "id": job.id,
        "state": STATES.get(job.state, job.state),
        "title": caption(job),
        "text": reason or titles.get(job.card, job.card),
        "when": when(job.created),
        "actions": again,
    }
