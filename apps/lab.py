"""What every lab composes: choosing what to train and on what, watching it learn, opening what was learned.

    with bench() as (controls, view):
        panel = training_panel(face, "vae", "vae-lab", controls, view, title=..., text=...)
        with panel.explore:
            ...                                   # the lab's own pieces

The forms are derived from the recipes' options; curves, samples and the open model live in `assets/face/lab.js`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from apps import pieces
from apps.widgets import Face, Json, more, on, on_data, problem, seed_of
from studio.studio import Studio
from studio.train import recipes
from studio.train.recipe import Recipe

MINUTES = (0.5, 60.0)
SLIDER_MOST = 1024  # a wider range is typed
SLIDER_TIMES = 100  # so is one where the default would stick to its left end


@dataclass(frozen=True)
class Panel:
    """The parts of a lab that the tab may add to or listen to.

    Attributes:
        watch: the column with the training; filled.
        explore: the column for the lab's own pieces; shown in its place once a model is open.
        bar: Start, Pause, Continue; its value {"run": id} follows a run.
        head: the switch between the two, and the model that is open; its value {"open": id, "show": "explore"}.
    """

    watch: gr.Column
    explore: gr.Column
    bar: gr.HTML
    head: gr.HTML


def training_panel(
    face: Face, family: str, name: str, controls: gr.Column, view: gr.Column, *, title: str, text: str
) -> Panel:
    """Fills both columns of a lab's bench.

    Args:
        family: "vae", "gan" or "diffusion-lab".
        name: prefix of the ids of all pieces, unique on the page.
        title, text: what the tab does, shown while nothing is there yet.
    """
    table = recipes.of_family(family)
    first = next(iter(table))
    with controls:
        recipe = gr.Dropdown(
            [(r.title if r.title else key, key) for key, r in table.items()],
            value=first,
            label="What to train",
            filterable=False,
            elem_id=f"{name}-recipe",
        )
        note = gr.HTML(_note(table[first]), apply_default_css=False)
        source = picture_source(f"{name}-data", table[first].data, face.studio)
        form = OptionsForm(table, f"{name}-", first)
        minutes = gr.Slider(
            *MINUTES,
            table[first].minutes,
            step=0.5,
            label="Minutes",
            info="Length of the run. You can pause and continue at any time.",
            elem_id=f"{name}-minutes",
        )
        with more(name=f"{name}-more"):
            form.rest()
            patience = gr.Slider(
                0,
                20,
                0,
                step=1,
                label="Stop early",
                info="Stop after N evaluations without improvement (0 = never).",
                elem_id=f"{name}-patience",
            )
            seed = gr.Textbox(
                label="Seed", placeholder="Empty draws one", info="Same seed, same training.", max_length=10
            )
        bar = pieces.piece(
            "trainbar",
            f"{name}-bar",
            events=("train",),
            family=family,
            watch=f"{name}-view",
            sides=f"{name}-head",
            elem_classes=["run-bar"],
        )
    with view:
        head = pieces.piece("labhead", f"{name}-head", family=family, lab=name)
        with gr.Column(elem_id=f"{name}-watch", elem_classes=["lab-side"], min_width=0) as watch:
            pieces.piece(
                "watch", f"{name}-view", family=family, bar=f"{name}-bar", empty={"title": title, "text": text}
            )
        explore = gr.Column(elem_id=f"{name}-explore", elem_classes=["lab-side"], min_width=0)

    def start(owner: str, chosen: str, data: Any, minutes: float, seed: str, patience: float, *values: Any) -> Json:
        try:
            face.admit(owner)
            run = face.studio.trainings.begin(
                chosen,
                options=form.chosen(chosen, values),
                data=str(data["source"]) if isinstance(data, dict) and data.get("source") else None,
                seed=seed_of(seed),
                minutes=float(minutes),
                patience=int(patience),
                owner=owner,
            )
            return {"run": run.id}
        except Exception as error:  # noqa: BLE001 - the border to the page: everything becomes two sentences
            return problem(error)

    def turned(chosen: str | None, data: Any) -> list[Any]:
        chosen = chosen if chosen in table else first
        picked = table[chosen]
        pictures = gr.skip() if _is_own(data) else {"source": picked.data}
        return [_note(picked), gr.update(value=picked.minutes), pictures, *form.updates(chosen)]

    on_data(
        bar.train,
        lambda data, *values: start(*values),
        [face.owner, recipe, source, minutes, seed, patience, *form.widgets.values()],
        bar,
    )
    on(recipe.change, turned, [recipe, source], [note, minutes, source, *form.widgets.values()])
    return Panel(watch, explore, bar, head)


def picture_source(name: str, value: str, studio: Studio) -> gr.HTML:
    """Which pictures to learn from. Its value is {"source": ...} as `studio.train.data.load` takes it."""
    folders = studio.config.mode != "kiosk"  # whose folders are not the visitor's
    return pieces.piece("pictures", name, {"source": value}, shared=studio.can("share"), folders=folders)


def _is_own(value: Any) -> bool:
    """Whether a picture source's value names pictures of the user's, which no change of the recipe takes away."""
    return isinstance(value, dict) and str(value.get("source")).partition(":")[0] in ("library", "upload")


def explain(*names: str) -> gr.HTML:
    """The explanations of these names from `assets/learn/*.toml`, closed until asked for."""
    return pieces.piece("explain", f"explain-{'-'.join(names)}", names=list(names))


def _note(recipe: Recipe) -> str:
    """Words of ours only, so safe as HTML."""
    return f'<p class="note">{recipe.summary} About {recipe.minutes:g} minutes on two cores.</p>'


# ── forms out of options ─────────────────────────────────────────────────────


class OptionsForm:
    """One widget for every setting of a family's recipes; those that matter first are built at once.

    Args:
        table: the recipes.
        prefix: of the widgets' element ids.
        shown: the recipe whose settings are shown at the beginning.
    """

    def __init__(self, table: Mapping[str, Recipe], prefix: str, shown: str) -> None:
        self._table, self._prefix, self._shown = table, prefix, shown
        self.fields: dict[str, FieldInfo] = {}
        first: dict[str, None] = {}
        for recipe in table.values():
            for key, info in recipe.options.model_fields.items():
                self.fields.setdefault(key, info)
            first.update(dict.fromkeys(recipe.first if recipe.first else recipe.options.first))
        self.widgets: dict[str, Any] = {}
        self._build([key for key in first if key in self.fields])

    def rest(self) -> None:
        """Builds all other settings, where it is called."""
        self._build([key for key in self.fields if key not in self.widgets])

    def _build(self, keys: Sequence[str]) -> None:
        for key in keys:
            recipe = self._table[self._shown]
            info = recipe.options.model_fields.get(key, self.fields[key])
            self.widgets[key] = widget(
                key, info, preset(recipe, key, info), self._applies(self._shown, key), f"{self._prefix}{key}"
            )

    def _applies(self, name: str, key: str) -> bool:
        recipe = self._table[name]
        return key in recipe.options.model_fields and key not in recipe.hidden

    def chosen(self, name: str, values: Sequence[Any]) -> Json:
        """The settings of that recipe among the widgets' values."""
        found = dict(zip(self.widgets, values, strict=True))
        return {key: _given(value) for key, value in found.items() if self._applies(name, key)}

    def updates(self, name: str) -> list[Any]:
        """What changes in each widget when that recipe is chosen."""
        recipe = self._table[name]
        found = []
        for key in self.widgets:
            if not self._applies(name, key):
                found.append(gr.update(visible=False))
                continue
            info = recipe.options.model_fields[key]
            found.append(
                gr.update(visible=True, value=preset(recipe, key, info), label=label(key, info), info=info.description)
            )
        return found


def preset(recipe: Recipe, key: str, info: FieldInfo) -> Any:
    """The value a setting has before anybody touches it."""
    value = recipe.preset.get(key, info.get_default(call_default_factory=True))
    return list(value) if isinstance(value, tuple) else value


def label(key: str, info: FieldInfo) -> str:
    """ "Picture side, px"."""
    extra = info.json_schema_extra
    unit = extra.get("unit", "") if isinstance(extra, dict) else ""
    name = info.title if info.title else key.replace("_", " ").capitalize()
    return f"{name}, {unit}" if unit else name


def widget(key: str, info: FieldInfo, value: Any, visible: bool, id_: str) -> Any:
    """The control that fits the setting's type and bounds."""
    common = {"label": label(key, info), "info": info.description, "visible": visible, "elem_id": id_}
    kind = info.annotation
    if kind is bool:
        return gr.Checkbox(value, **common)
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
        if len(choices) <= 4:
            return gr.Radio([(str(choice), choice) for choice in choices], value=value, **common)
        return gr.Dropdown([(str(choice), choice) for choice in choices], value=value, filterable=False, **common)
    if get_origin(kind) is tuple:
        inner = next((one for one in get_args(kind) if get_origin(one) is Literal), None)
        return gr.CheckboxGroup([str(choice) for choice in get_args(inner)], value=value, **common)
    low, high, step = bounds(info)
    if kind is int:
        if low is not None and high is not None and high - low <= SLIDER_MOST:
            return gr.Slider(low, high, value, step=step if step else 1, **common)
        return gr.Number(value, precision=0, **common)
    if kind is float:
        if low is not None and high is not None and (not value or high / abs(value) <= SLIDER_TIMES):
            return gr.Slider(low, high, value, step=step if step else _fine(high - low), **common)
        return gr.Number(value, **common)
    return gr.Textbox("" if value is None else str(value), **common)


def bounds(info: FieldInfo) -> tuple[float | None, float | None, float | None]:
    """Lowest, highest and step of a number; None where there is none."""
    found: dict[str, float] = {}
    for one in info.metadata:
        for name in ("ge", "gt", "le", "lt", "multiple_of"):
            if getattr(one, name, None) is not None:
                found[name] = getattr(one, name)
    step = found.get("multiple_of")
    low = found.get("ge", found.get("gt"))
    high = found.get("le", found.get("lt"))
    if low is not None and step and "gt" in found:
        low += step
    if "lt" in found and high is not None and low is not None:
        high -= _fine(high - low)
    return low, high, step


def _fine(span: float) -> float:
    """A thousandth of a range, rounded to a power of ten."""
    return 10.0 ** math.floor(math.log10(span / 500)) if span > 0 else 1.0


def _given(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
