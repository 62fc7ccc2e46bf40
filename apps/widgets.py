"""What every tab composes: the two columns, the model picker, the flow of a job, results and the hand-off.

A tab is a module with `build(face)`. It lays out controls and a stage, and says with plain functions how a task is
made from the controls and how a result is shown; the rest is here.
"""

from __future__ import annotations

import logging
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.context import Context

from apps import pieces
from apps.alts import alt
from apps.guard import ALLOW_COOKIE, NO_COOKIE
from apps.sessions import CallbackError
from apps.turns import own_artifact, own_job, owner_of, seen_by
from studio.cards import Card
from studio.errors import InvalidTask, NotAllowed, NotFound, QueueFull, StudioError
from studio.jobs import Snapshot
from studio.library import Artifact, Asset
from studio.ops.words import listed, when
from studio.studio import Studio
from studio.tasks import MAX_SEED

log = logging.getLogger(__name__)

Json = dict[str, Any]


class Asker:
    """Among a callback's inputs: the owner whose browser asks. No component, so no page can say that it is another."""


ASKER = Asker()


@dataclass(frozen=True)
class Receiver:
    """A place that takes a sent asset: `slot` on tab `tab` is filled and the tab is shown."""

    key: str
    title: str
    tab: str
    slot: gr.HTML
    kinds: tuple[str, ...] = ("image",)


@dataclass
class Face:
    """What a tab's `build` receives: the studio, who is looking, and the tables through which tabs meet.

    Attributes:
        owner: stands for who is looking among the inputs of a callback, see `on`.
        runners: task kind -> (tab, run bar) where a job of that kind is followed; filled by `job_flow`.
        later: called with the tabs once all of them are built, for wiring that reaches into other tabs.
        on_load: (fn, inputs, outputs) called whenever a page is opened.
    """

    studio: Studio
    owner: Asker = ASKER
    tab: str = ""  # key of the tab being built
    selected: Callable[..., Any] | None = None  # its select event: `on(face.selected, ...)`
    receivers: list[Receiver] = field(default_factory=list)
    runners: dict[str, tuple[str, gr.HTML]] = field(default_factory=dict)
    later: list[Callable[[gr.Tabs], None]] = field(default_factory=list)
    on_load: list[tuple[Callable[..., Any], list[Any], list[Any]]] = field(default_factory=list)

    def accept(self, key: str, title: str, slot: gr.HTML, kinds: tuple[str, ...] = ("image",)) -> None:
        """Offers `slot` of this tab under "Send to". `kinds` says which assets fit: "image", "mask" or both."""
        self.receivers.append(Receiver(key, title, self.tab, slot, kinds))

    def seen_by(self, owner: str) -> str | None:
        """Whose things to list: None is everybody's."""
        return seen_by(self.studio, owner)

    def admit(self, owner: str) -> None:
        """Whether this browser may start one more job.

        Raises NotAllowed for one that keeps no cookie, so that its jobs would be nobody's, and Busy.
        """
        if not owner:
            raise NotAllowed(NO_COOKIE, ALLOW_COOKIE)
        active = self.studio.jobs.active(owner)
        if len(active) >= self.studio.limits.jobs_each:
            raise Busy(active)

    def job(self, id: str, owner: str) -> Snapshot:
        """Raises NotFound, also for another's job."""
        return own_job(self.studio, id, owner)

    def artifact(self, id: str, owner: str) -> Artifact:
        """Raises NotFound, also for another's result."""
        return own_artifact(self.studio, id, owner)


class Busy(QueueFull):
    """A visitor has as many unfinished jobs as one may have; names them, so that each can be cancelled."""

    def __init__(self, jobs: Sequence[Snapshot]) -> None:
        self.jobs = [(job.id, title(job)) for job in jobs]
        named = listed([text for _, text in self.jobs])
        unfinished = "is not finished yet" if len(self.jobs) == 1 else "are not finished yet"
        super().__init__(f"{named} {unfinished}.", "Wait, or cancel one.")


def title(job: Snapshot) -> str:
    """What a job is called where there is little room: its kind and the beginning of its prompt."""
    prompt = str(getattr(job.task, "prompt", ""))
    return job.task.kind.capitalize() + (
        f" \u201c{textwrap.shorten(prompt, 40, placeholder=' …')}\u201d" if prompt else ""
    )


# ── wiring ───────────────────────────────────────────────────────────────────


def on(listener: Callable[..., Any], fn: Callable[..., Any], inputs: Any = None, outputs: Any = None) -> None:
    """Every callback is short, so none goes through the queue, shows a spinner or is offered as an API.

    `ASKER` among the inputs becomes the owner whose request it is.
    """
    components, fill = _askers(inputs)

    def call(request: gr.Request, *values: Any) -> Any:
        return _called(fn, fill(request, values))

    _wire(listener, call, components, outputs)


def on_data(
    listener: Callable[..., Any], fn: Callable[..., Any], inputs: Sequence[Any] = (), outputs: Any = None
) -> None:
    """As `on`, for a piece's own event: `fn` receives what the event carries (a dict) first."""
    components, fill = _askers(inputs)

    def call(event: gr.EventData, request: gr.Request, *values: Any) -> Any:
        data = event._data
        return _called(fn, [data if isinstance(data, dict) else {}, *fill(request, values)])

    _wire(listener, call, components, outputs)


def _wire(listener: Callable[..., Any], call: Callable[..., Any], inputs: list[Any], outputs: Any) -> None:
    listener(call, inputs, outputs, queue=False, show_progress="hidden", api_visibility="private")


def _called(fn: Callable[..., Any], values: Sequence[Any]) -> Any:
    try:
        return fn(*values)
    except StudioError:
        raise
    except Exception as error:
        log.exception("a callback failed")
        raise CallbackError from error


def _askers(inputs: Any) -> tuple[list[Any], Callable[[gr.Request, Sequence[Any]], list[Any]]]:
    """The components among the inputs, and what puts the owner back where `ASKER` was."""
    places = [k for k, one in enumerate(_listed(inputs)) if one is ASKER]

    def fill(request: gr.Request, values: Sequence[Any]) -> list[Any]:
        filled = list(values)
        for place in places:
            filled.insert(place, owner_of(request.request))
        return filled

    return [one for one in _listed(inputs) if one is not ASKER], fill


def _listed(inputs: Any) -> list[Any]:
    return list(inputs) if isinstance(inputs, list | tuple) else [] if inputs is None else [inputs]


def whole(value: Any, most: int = 1_000_000) -> int:
    """A whole number from 0 to `most` that an event carries; 0 for anything else."""
    return min(max(0, value), most) if isinstance(value, int) else 0


def problem(error: BaseException) -> Json:
    """What to show for an error: its two sentences; a bug is logged and described calmly."""
    if isinstance(error, StudioError):
        jobs = [{"id": id_, "label": text} for id_, text in error.jobs] if isinstance(error, Busy) else []
        return {"message": error.message, "hint": error.hint, "jobs": jobs, "at": time.time()}
    log.error("a callback failed", exc_info=error)
    return {
        "message": "Something went wrong inside the studio.",
        "hint": "It is written to the log. Nothing you entered was lost; try again.",
        "at": time.time(),
    }


def job_flow(
    face: Face,
    kind: str,
    run: gr.HTML,
    stage: gr.HTML,
    inputs: Sequence[Any],
    submit: Callable[..., Snapshot],
    show: Callable[..., Json],
    shown_with: Sequence[Any] = (),
) -> Callable[..., Json]:
    """Run -> submit -> follow -> show, for tasks of `kind`.

    `submit(owner, *values of inputs)` queues, `show(artifact)` makes the stage's value.

    Returns the function behind Run, so that other events (an example, "run again") can start a job the same way: it
    takes (owner, *values) and returns the value for `run`. `show` also receives the values of `shown_with`.
    """

    def start(owner: str, *values: Any) -> Json:
        try:
            face.admit(owner)
            return {"job": submit(owner, *values).id}
        except Exception as error:  # noqa: BLE001 - the border to the page: everything becomes two sentences
            return problem(error)

    def finish(data: Json, owner: str, *values: Any) -> Any:
        try:
            job = face.job(str(data.get("job")), owner)
            return show(face.artifact(job.artifact, owner), *values) if job.state == "done" else gr.skip()
        except StudioError:
            return gr.skip()

    face.runners[kind] = (face.tab, run)
    on(run.run, start, [face.owner, *inputs], run)
    on_data(run.finished, finish, [face.owner, *shown_with], stage)
    return start


# ── layout ───────────────────────────────────────────────────────────────────


@contextmanager
def bench() -> Iterator[tuple[gr.Column, gr.Column]]:
    """The two columns. Fill them with `with controls:` and `with view:`; on a phone the view comes first."""
    with gr.Row(elem_classes=["bench"]):
        controls = gr.Column(elem_classes=["controls"], min_width=0)
        view = gr.Column(elem_classes=["view"], min_width=0)
        yield controls, view


@contextmanager
def more(label: str = "More settings", name: str = "") -> Iterator[gr.HTML]:
    """Everything past the two or three settings that matter; closed. Its value {"open": True} opens it.

    Not Gradio's accordion: that one is empty until it is first opened, so nothing could be dropped or sent there.
    """
    fold = pieces.piece("fold", name or f"more-{Context.id}", {"open": False}, label=label, elem_classes=["more"])
    with gr.Column(elem_classes=["fold"]):
        yield fold


def model_picker(face: Face, task: str) -> tuple[gr.Dropdown, Callable[[str | None], Any]]:
    """Ready models for a task with what the chosen one needs. The second value refreshes the choices."""

    def choices() -> list[tuple[str, str]]:
        return [(card.title, card.id) for card in face.studio.cards(task, ready=True)]

    first = choices()
    picker = gr.Dropdown(
        first, value=first[0][1] if first else None, label="Model", filterable=False, elem_id=f"{task}-model"
    )
    note = gr.HTML(f'<p class="note">{needs(face, picker.value)}</p>', apply_default_css=False)
    on(picker.change, lambda id_: f'<p class="note">{needs(face, id_)}</p>', picker, note)

    def refresh(current: str | None) -> Any:
        now = choices()
        ids = [id_ for _, id_ in now]
        if current in ids:  # says nothing of the value: the user may have chosen another one meanwhile
            return gr.update(choices=now)
        return gr.update(choices=now, value=ids[0] if ids else None)

    def opened(current: str | None) -> Any:
        return refresh(current) if choices() != first else gr.skip()  # what a new page shows is what was built

    face.on_load.append((opened, [picker], [picker]))
    if face.selected is not None:  # a model may have come or gone in the Models tab
        on(face.selected, refresh, picker, picker)
    return picker, refresh


def needs(face: Face, card_id: str | None) -> str:
    """ "needs about 580 MB of 12 GB", or what to do when there is no model. Words of ours only, so safe as HTML."""
    if not card_id:
        return "No model for this is on the device yet. Get one under Models."
    try:
        card = face.studio.card(card_id)
    except NotFound:
        return ""
    return f"Needs about {size(face.studio.pool.predicted(card))} of {size(face.studio.pool.budget)} memory"


# ── results ──────────────────────────────────────────────────────────────────


def size(value: float) -> str:
    """Bytes as people read them."""
    return f"{value / 2**20:.0f} MB" if value < 1e9 else f"{value / 2**30:.1f} GB"


def picture(asset: Asset, title: str = "", file: str = "", alt: str = "") -> Json:
    """An asset as the pieces take it. `file` is the name of its download, without ending; `alt` says what is seen."""
    return {
        "id": asset.id,
        "kind": asset.kind,
        "width": asset.width,
        "height": asset.height,
        "name": asset.name,
        "title": title,
        "file": file,
        "alt": alt,
    }


def card_title(studio: Studio, id: str) -> str:
    """The model's title; its id once it is gone."""
    card: Card | None = studio.store.cards().get(id)
    return card.title if card else id


_HIDDEN = ("task", "image", "mask")
NAMES = {"iou": "Overlap (IoU)", "guidance_scale": "Guidance", "negative_prompt": "Negative prompt"}


def details(studio: Studio, artifact: Artifact) -> list[list[str]]:
    """Everything needed to make the result again, as name and text."""
    rows = [["Model", card_title(studio, artifact.card)]]
    for name, value in artifact.task.to_json().items():
        if name not in _HIDDEN and value not in (None, "", [], ()):
            rows.append([NAMES.get(name, name.replace("_", " ").capitalize()), _plain(value)])
    rows += [["Made from", f"{a.width} × {a.height} px" + (f", {a.name}" if a.name else "")] for a in artifact.parents]
    seconds = artifact.data.get("seconds") or {}
    if isinstance(seconds, dict) and seconds:
        rows.append(["Time", ", ".join(f"{phase} {value:.2g} s" for phase, value in seconds.items())])
    rows.append(["Made", when(artifact.created)])
    if artifact.fingerprint:
        rows.append(["Weights", artifact.fingerprint[:16]])
    return rows


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def view(studio: Studio, artifact: Artifact, actions: Sequence[Json] = (), **more: Any) -> Json:
    """A stage's value for an artifact: its outputs (its first parent if it made none), notes and details."""
    seeds = artifact.data.get("seeds") or []
    shown = artifact.outputs or artifact.parents[:1]
    stem = "".join(c if c.isalnum() else "-" for c in str(getattr(artifact.task, "prompt", "")) or artifact.task.kind)
    pictures = [
        picture(
            asset,
            f"Seed {seeds[k]}" if k < len(seeds) else "",
            f"{stem[:48].strip('-')}-{asset.id[:6]}",
            alt(artifact, k),
        )
        for k, asset in enumerate(shown)
    ]
    return {
        "artifact": artifact.id,
        "pictures": pictures,
        "details": details(studio, artifact),
        "notes": [str(note) for note in artifact.data.get("notes") or []],
        "actions": list(actions),
        **more,
    }


def seed_of(text: str | None) -> int | None:
    """What a seed's field holds; None where a seed is to be drawn. Raises InvalidTask."""
    written = (text or "").strip()
    if not written:
        return None
    if not written.isdecimal() or int(written) > MAX_SEED:
        raise InvalidTask(f"A seed is a whole number from 0 to {MAX_SEED}.", "Leave it empty for a random one.")
    return int(written)


def chosen(value: Any) -> str | None:
    """The asset id in a slot's value; None when it is empty."""
    id_ = value.get("id") if isinstance(value, dict) else None
    return str(id_) if id_ else None


__all__ = [
    "Face", "Receiver", "bench", "chosen", "details", "job_flow", "model_picker", "more", "needs", "on", "on_data",
    "picture", "pieces", "problem", "seed_of", "size", "view",
]  # fmt: skip
