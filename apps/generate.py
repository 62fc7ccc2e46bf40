"""Generate: words to picture, picture to picture, and repainting where a mask says so."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gradio as gr

from apps import pieces
from apps.widgets import (
    NAMES,
    Face,
    Json,
    bench,
    chosen,
    job_flow,
    model_picker,
    more,
    on,
    on_data,
    problem,
    seed_of,
    view,
    whole,
)  # fmt: skip
from studio.errors import InvalidTask, StudioError
from studio.jobs import Snapshot
from studio.library import Artifact
from studio.ops import infotext
from studio.ops.vocabulary import Vocabulary
from studio.ops.words import count
from studio.studio import Studio
from studio.tasks import SCHEDULERS, Generate, Task, make_task

# Shown while empty. The starter's are offered for what it knows; any other model gets the last ones.
STARTER = (
    ("pizza", "a pizza on a blue background"),
    ("rocket", "a rocket on a yellow background"),
    ("cat face", "a cat face on a green background"),
    ("strawberry", "a strawberry on a white background"),
    ("guitar", "a guitar on an orange background"),
    ("octopus", "an octopus on a purple background"),
)
ANY = (
    "a lighthouse on a cliff at dusk, oil painting",
    "a bowl of ripe figs on a wooden table, window light",
    "a small robot watering a plant, storybook illustration",
)
ACTIONS = (
    {"name": "vary", "label": "Variations", "icon": "vary", "runs": True},
    {"name": "use", "label": "Use settings", "icon": "again"},
)


def build(face: Face) -> None:
    prompts = examples(face.studio)
    with bench() as (controls, show):
        with controls:
            card, _ = model_picker(face, "generate")
            fields, hints, reader, start_from = form(face)
            run = pieces.run("generate-run", verb="Generate", stage="generate-stage")
        with show:
            stage = pieces.stage(
                "generate-stage",
                title="Describe a picture, then press Generate",
                text=known(face.studio, card.value)["text"],
                examples=[{"label": prompt} for prompt in prompts],
                slot="generate-image",
            )
    names = tuple(fields)
    widgets = list(fields.values())

    def submit(owner: str, card_id: str, *values: Any) -> Snapshot:
        return face.studio.submit(card_id, task_fields(dict(zip(names, values, strict=True))), owner=owner)

    start = job_flow(
        face, "generate", run, stage, [card, *widgets], submit, lambda artifact: view(face.studio, artifact, ACTIONS)
    )

    def example(data: Json, owner: str, card_id: str, *values: Any) -> Any:
        prompt = prompts[whole(data.get("index")) % len(prompts)]
        changed = {**dict(zip(names, values, strict=True)), "prompt": prompt}
        return prompt, start(owner, card_id, *changed.values())

    def act(data: Json, owner: str) -> list[Any]:
        skip = [gr.skip()] * len(widgets)
        try:
            artifact = face.artifact(str(data.get("artifact")), owner)
            if data.get("name") == "vary":
                face.admit(owner)
                return [{"job": vary(face.studio, artifact, owner).id}, gr.skip(), *skip]
            return [gr.skip(), artifact.card, *filled(names, settings(artifact, whole(data.get("index"))))]
        except (StudioError, ValueError) as error:
            return [problem(error), gr.skip(), *skip]

    def read(data: Json) -> list[Any]:
        fields = read_settings(data.get("text"))
        if not fields:
            nothing = InvalidTask("This picture holds no settings.", "Only a PNG as a generator saved it does.")
            return [problem(nothing), *([gr.skip()] * len(widgets))]
        return [{"note": f"Taken from it: {', '.join(map(spoken, fields))}."}, *filled(names, fields)]

    on_data(stage.example, example, [face.owner, card, *widgets], [fields["prompt"], run])
    on_data(stage.act, act, [face.owner], [run, card, *widgets])
    on_data(reader.read, read, outputs=[reader, *widgets])
    on(card.change, lambda id_: known(face.studio, id_), card, hints)
    face.on_load.append((lambda id_: known(face.studio, id_), [card], [hints]))
    on(card.change, lambda id_: defaults(face.studio, id_), card, [fields[name] for name in DEFAULTED])
    for name in ("image", "mask"):  # what was sent or dropped is seen
        on(
            fields[name].change,
            lambda value: {"open": True} if chosen(value) else gr.skip(),
            fields[name],
            start_from,
        )
    face.accept("start", "Generate: start picture", fields["image"])
    face.accept("mask", "Generate: area to repaint", fields["mask"], ("mask",))


DEFAULTED = ("steps", "guidance_scale", "scheduler", "width", "height")


def form(face: Face) -> tuple[dict[str, Any], gr.HTML, gr.HTML, gr.HTML]:
    """The controls by task field, in the order they stand; the hints under the prompt, the slot that reads settings,
    and what hides the start."""
    ready = face.studio.cards("generate", ready=True)
    first = {"steps": 20, "guidance_scale": 5.0, "width": 512, "height": 512, **(ready[0].defaults if ready else {})}
    tip = {name: info.description for name, info in Generate.model_fields.items()}
    fields: dict[str, Any] = {}
    fields["prompt"] = gr.Textbox(
        label="Prompt",
        lines=3,
        max_lines=8,
        placeholder="What the picture shows",
        elem_classes=["hero"],
        elem_id="generate-prompt",
    )
    hints = pieces.piece("hints", "generate-hints", {}, field="generate-prompt", stage="generate-stage")
    fields["count"] = gr.Slider(1, 16, 1, step=1, label="Pictures", elem_id="generate-count")
    with more("Start from a picture", "generate-start") as start_from:
        fields["image"] = pieces.slot(
            "generate-image",
            title="Start picture",
            invite="Choose or drop a picture",
            feeds="generate-mask",
            fits=("generate-width", "generate-height"),
        )
        fields["mask"] = pieces.slot(
            "generate-mask",
            title="Area to repaint (mask)",
            invite="Choose or drop a mask",
            kind="mask",
            paint="generate-image",
            stage="generate-stage",
        )
        fields["strength"] = gr.Slider(
            0.05, 1, 0.6, step=0.05, label="Strength", info=tip["strength"], elem_id="generate-strength"
        )
    with more():
        fields["negative_prompt"] = gr.Textbox(
            label="Negative prompt (what to avoid)", lines=2, placeholder=tip["negative_prompt"]
        )
        fields["steps"] = gr.Slider(1, 150, first["steps"], step=1, label="Steps", info=tip["steps"])
        fields["guidance_scale"] = gr.Slider(
            0, 30, first["guidance_scale"], step=0.1, label="Guidance", info=tip["guidance_scale"]
        )
        fields["scheduler"] = gr.Dropdown(list(SCHEDULERS), value="default", label="Scheduler", info=tip["scheduler"])
        with gr.Row():
            for side in ("width", "height"):
                label = f"{side.capitalize()}, px"
                fields[side] = gr.Number(
                    first[side],
                    label=label,
                    precision=0,
                    step=8,
                    minimum=64,
                    min_width=80,
                    elem_id=f"generate-{side}",
                )
        # Text, because Gradio's number field turns "none" into 0, and 0 is a seed.
        fields["seed"] = gr.Textbox(
            label="Seed",
            placeholder="Empty draws a new one each time",
            info="Same seed, same picture.",
            max_length=10,
            elem_id="generate-seed",
        )
        reader = pieces.slot(
            "generate-reader", title="Settings from a picture", invite="Choose or drop a PNG", kind="text"
        )
    return fields, hints, reader, start_from


def task_fields(values: dict[str, Any]) -> Json:
    """The form's values as fields of a task. Raises InvalidTask when there is nothing to go by."""
    seed = seed_of(values.get("seed"))
    fields = {**values, "image": chosen(values["image"]), "mask": chosen(values["mask"]), "seed": seed}
    if not str(fields["prompt"] or "").strip() and fields["image"] is None:
        raise InvalidTask("The prompt is empty.", "Write what the picture shows, or choose an example.")
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def vary(studio: Studio, artifact: Artifact, owner: str) -> Snapshot:
    """The same again with another seed."""
    fields = {name: value for name, value in artifact.task.to_json().items() if name not in ("task", "seed")}
    return studio.submit(artifact.card, fields, owner=owner)


def settings(artifact: Artifact, index: int) -> Json:
    """What the form needs to make picture `index` of the result again, alone."""
    fields = {name: value for name, value in artifact.task.to_json().items() if name not in ("task", "image", "mask")}
    seeds = artifact.data.get("seeds") or [fields.get("seed")]
    return {**fields, "count": 1, "seed": seeds[index] if 0 <= index < len(seeds) else seeds[0]}


def read_settings(text: Any) -> Json:
    """What a picture's own text says of how it was made; empty where it says nothing."""
    written = str(text.get("parameters") or "") if isinstance(text, dict) else ""
    return known_fields(infotext.read(written)) if written.strip() else {}


def spoken(name: str) -> str:
    """A field's name in a sentence."""
    return NAMES.get(name, name).replace("_", " ").lower()


def known_fields(found: Json) -> Json:
    """Of what a picture says, the fields that are within a task's bounds."""
    fields = {name: value for name, value in found.items() if name in Generate.model_fields}
    return {name: value for name, value in fields.items() if is_valid(name, value)}


def is_valid(name: str, value: Any) -> bool:
    try:
        return isinstance(make_task("generate", {name: value}), Task)
    except InvalidTask:
        return False


def filled(names: tuple[str, ...], values: Json) -> list[Any]:
    """Updates for the form, in order; what has no value stays."""
    shown = {**values, **({"seed": str(values["seed"])} if "seed" in values else {})}
    return [gr.update(value=shown[name]) if name in shown else gr.skip() for name in names]


def defaults(studio: Studio, card_id: str | None) -> list[Any]:
    """What a newly chosen model prefers."""
    found = studio.card(card_id).defaults if card_id else {}
    return [gr.update(value=found[name]) if name in found else gr.skip() for name in DEFAULTED]


def vocabulary(studio: Studio, card_id: str | None) -> Vocabulary:
    """What a model was taught to draw; everything where it does not say."""
    try:
        return Vocabulary(studio.facts(card_id) if card_id else {})
    except StudioError:
        return Vocabulary({})


def known(studio: Studio, card_id: str | None) -> Json:
    """What the hints under the prompt need of a model: its id, a sentence, the things it draws and their prompts."""
    words = vocabulary(studio, card_id)
    if not words.things or card_id is None:
        return {"card": card_id or "", "text": "Everything happens on this device.", "things": []}
    side = studio.card(card_id).defaults.get("width")
    most = "one" if words.most == 1 else "one or two"
    text = f"It draws {most} of {count(len(words.things), 'thing')} on a plain background" + (
        f" at {side} px." if side else "."
    )
    things = [{"label": thing, "prompt": words.phrase(thing)} for thing in sorted(words.things)]
    return {"card": card_id, "text": text, "things": things}


def advice(studio: Studio, card_id: str, prompt: str) -> Json:
    """What to say about a prompt before it is drawn: {"sentence", "suggestions": [{"label", "prompt"}]}, else {}."""
    found = vocabulary(studio, card_id).advise(prompt)
    return asdict(found) if found else {}


def examples(studio: Studio) -> tuple[str, ...]:
    """Prompts that the first ready model can draw."""
    for card in studio.cards("generate", ready=True):
        try:
            things = set(studio.facts(card.id).get("things", ()))
        except StudioError:
            return ANY
        known = tuple(prompt for thing, prompt in STARTER if thing in things)
        return known or ANY
    return ANY
