"""What is asked: frozen, JSON-serialisable requests. Every field has bounds, a unit and a description.

Command-line flags, the HTTP API and the forms are derived from these classes, so a new parameter is one field here.
A field is `None` where it means "not given"; `Studio.submit` fills in the card's default and draws the seed *before*
the job is stored, so a stored task can be replayed to the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from studio.errors import InvalidTask

MAX_SIDE = 2048
MAX_SEED = 2**32 - 1

SCHEDULERS = (
    "default",
    "DDIM",
    "DDPM",
    "DEIS",
    "DPM++ 2M",
    "DPM++ 2M Karras",
    "DPM2",
    "Euler",
    "Euler a",
    "Heun",
    "LCM",
    "LMS",
    "PNDM",
    "UniPC",
)

AssetId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
RunId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,79}$")]
Point = tuple[float, float, Literal[0, 1]]  # x px, y px, 1 = part of the thing, 0 = not
Box = tuple[float, float, float, float]  # x1 y1 x2 y2 px


class Task(BaseModel):
    """Base of all tasks. `kind` names the class in KINDS."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: ClassVar[str] = ""
    asset_fields: ClassVar[tuple[str, ...]] = ("image",)
    lane: ClassVar[str] = "work"
    """Jobs of one lane run one after the other; lanes run side by side."""

    def assets(self) -> tuple[str, ...]:
        """Ids of the assets this task reads, in field order, without repeats."""
        found = (getattr(self, name) for name in self.asset_fields)
        return tuple(dict.fromkeys(id_ for id_ in found if id_ is not None))

    def to_json(self) -> dict[str, Any]:
        """A plain dict with the task's kind under "task"; `parse_task` reads it back."""
        return {"task": self.kind, **self.model_dump(mode="json")}


class Generate(Task):
    """Text to image; image to image when `image` is given; inpainting when `mask` is given too."""

    kind: ClassVar[str] = "generate"
    asset_fields: ClassVar[tuple[str, ...]] = ("image", "mask")

    prompt: str = Field("", max_length=2000, description="What the picture shows.")
    negative_prompt: str = Field("", max_length=2000, description="What it should not show.")
    steps: int | None = Field(None, ge=1, le=150, description="Denoising steps. More take longer and add detail.")
    guidance_scale: float | None = Field(
        None, ge=0, le=30, description="Higher follows the prompt more closely and varies less. 1 or less turns it off."
    )
    scheduler: Literal[SCHEDULERS] = Field("default", description="How noise is removed step by step.")  # type: ignore[valid-type]
    width: int | None = Field(None, ge=64, le=MAX_SIDE, multiple_of=8, description="Width in pixels.")
    height: int | None = Field(None, ge=64, le=MAX_SIDE, multiple_of=8, description="Height in pixels.")
    seed: Seed | None = Field(None, description="Same seed, same picture. Empty draws a new one.")
    count: int = Field(1, ge=1, le=16, description="How many pictures. Picture k uses seed + k.")
    image: AssetId | None = Field(None, description="Start from this picture instead of noise.")
    mask: AssetId | None = Field(None, description="Repaint only where this mask is white.")
    strength: float = Field(0.6, gt=0, le=1, description="Low keeps the start picture, high repaints it.")

    @model_validator(mode="after")
    def _mask_needs_image(self) -> Generate:
        if self.mask is not None and self.image is None:
            raise ValueError("a mask needs a start picture: choose one, or remove the mask")
        return self


class Detect(Task):
    """Find things: boxes with class names and scores."""

    kind: ClassVar[str] = "detect"

    image: AssetId = Field(description="The picture to look at.")
    confidence: float = Field(0.25, ge=0, le=1, description="Hide what the model is less sure of than this.")
    iou: float = Field(0.45, ge=0, le=1, description="Two boxes of a class that overlap more than this count as one.")
    classes: tuple[str, ...] = Field((), max_length=500, description="Only these classes. Empty means all.")
    max_detections: int = Field(300, ge=1, le=1000, description="At most this many boxes, best first.")


class Segment(Task):
    """Cut out: masks from clicks, from a box, or of everything."""

    kind: ClassVar[str] = "segment"

    image: AssetId = Field(description="The picture to cut from.")
    points: tuple[Point, ...] = Field(
        (), max_length=256, description="Clicks as x,y,label in pixels; label 1 is on the thing, 0 is not."
    )
    box: Box | None = Field(None, description="A box around the thing as x1,y1,x2,y2 in pixels.")
    everything: bool = Field(False, description="Find all segments instead of one thing.")
    points_per_side: int = Field(16, ge=4, le=64, description="Grid of 'everything'. Denser finds smaller ones.")
    min_area: int = Field(64, ge=1, le=10_000_000, description="Drop segments smaller than this many pixels.")
    scale: float = Field(100.0, ge=1, le=10_000, description="Felzenszwalb: larger makes larger segments.")
    brush: int = Field(9, ge=1, le=200, description="GrabCut and watershed: width of a click's mark in pixels.")

    @model_validator(mode="after")
    def _box_has_area(self) -> Segment:
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError("the box is empty or inverted; give x1,y1,x2,y2 with x1 < x2 and y1 < y2")
        return self


class Train(Task):
    """Learn: a recipe on pictures, as a run that can be paused and continued."""

    kind: ClassVar[str] = "train"
    asset_fields: ClassVar[tuple[str, ...]] = ()
    lane: ClassVar[str] = "training"

    recipe: str = Field(min_length=1, max_length=60, description="What is trained.")
    run: RunId = Field(description="The run it makes or continues.")
    steps: int | None = Field(None, ge=1, le=100_000_000, description="Steps of the whole run.")
    minutes: float | None = Field(None, gt=0, le=14_400, description="Minutes of the whole run, instead of steps.")
    data: str = Field("stickers", min_length=1, max_length=1000, description="Pictures to learn from.")
    options: dict[str, Any] = Field(default_factory=dict, description="Settings, by the names of the recipe's options.")
    seed: Seed = Field(0, description="Same seed, same steps, same weights.")
    patience: int = Field(
        0, ge=0, le=1000, description="Stop after this many evaluations without improvement. 0: never."
    )


class Explore(Task):
    """Look into a trained model: one of its lab's operations, answered at once and kept nowhere."""

    kind: ClassVar[str] = "explore"
    asset_fields: ClassVar[tuple[str, ...]] = ("image", "other", "third")

    op: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", description="Name of the operation.")
    args: dict[str, Any] = Field(default_factory=dict, description="What the operation needs, JSON.")
    image: AssetId | None = Field(None, description="A picture it looks at.")
    other: AssetId | None = Field(None, description="A second picture.")
    third: AssetId | None = Field(None, description="A third picture.")


class Compare(Task):
    """Measure: what variants of a model cost on this machine."""

    kind: ClassVar[str] = "compare"
    asset_fields: ClassVar[tuple[str, ...]] = ()

    variants: tuple[str, ...] = Field((), max_length=40, description="Names like openvino-int8; empty: the usual ones.")
    runs: int = Field(7, ge=1, le=200, description="Timed runs of each variant.")
    anyway: bool = Field(False, description="Measure although the machine is busy.")


TASKS: dict[str, type[Task]] = {task.kind: task for task in (Generate, Detect, Segment)}
"""What the command line, the HTTP API and the forms are derived from."""
KINDS: dict[str, type[Task]] = {**TASKS, Train.kind: Train, Explore.kind: Explore, Compare.kind: Compare}
"""Every task a job, a card or an engine may name."""


def make_task(kind: str, fields: dict[str, Any]) -> Task:
    """A checked task of that kind. Raises InvalidTask with one readable sentence per wrong field."""
    if kind not in KINDS:
        raise InvalidTask(f"There is no task called {kind!r}.", f"Choose one of: {', '.join(KINDS)}.")
    try:
        return KINDS[kind].model_validate(fields)
    except ValidationError as error:
        raise InvalidTask(_sentence(error), "Correct the value and run again; nothing was lost.") from error


def parse_task(data: dict[str, Any]) -> Task:
    """The inverse of `Task.to_json`. Raises InvalidTask."""
    fields = dict(data)
    return make_task(str(fields.pop("task", "")), fields)


def _sentence(error: ValidationError) -> str:
    """Pydantic's findings as prose: "Steps must be at most 150, not 1000000000."."""
    return " ".join(_finding(item) for item in error.errors())


def _finding(item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    name = " ".join([path[0].replace("_", " ").capitalize(), *path[1:]]) if path else ""
    if item["type"] == "value_error":
        text = item["msg"].removeprefix("Value error, ")
        return f"{f'{name}: {text}' if name else text[:1].upper() + text[1:]}."
    if item["type"] == "missing":
        return f"{name} is missing."
    if item["type"] == "extra_forbidden":
        return f"There is no setting called {path[-1]!r}."
    asked = next((words(item) for start, words in _ASKED if item["type"].startswith(start)), None)
    given = str(item["input"])[:60]
    if asked is None:
        return f"{name}: {item['msg']} (it was {given!r})."
    shown = "" if item["type"] == "string_too_long" else f", not {given or 'empty'}"
    return f"{name} must {asked}{shown}."


def _multiples(item: Any) -> str:
    """Both neighbours that would do."""
    step, value = item["ctx"]["multiple_of"], item["input"]
    try:
        low = int(value) // step * step
    except (TypeError, ValueError):
        return f"be a multiple of {step}"
    return f"be a multiple of {step} (try {low} or {low + step})" if low > 0 else f"be a multiple of {step}"


# Start of pydantic's name for what is wrong -> what is asked of the value, after "must".
_ASKED: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("multiple_of", _multiples),
    ("greater_than_equal", lambda item: f"be at least {item['ctx']['ge']}"),
    ("greater_than", lambda item: f"be more than {item['ctx']['gt']}"),
    ("less_than_equal", lambda item: f"be at most {item['ctx']['le']}"),
    ("less_than", lambda item: f"be less than {item['ctx']['lt']}"),
    ("int_", lambda item: "be a whole number"),
    ("float_", lambda item: "be a number"),
    ("finite_number", lambda item: "be a number"),
    ("bool_", lambda item: "be yes or no"),
    ("literal_error", lambda item: f"be one of {item['ctx']['expected']}"),
    ("string_too_long", lambda item: f"have at most {item['ctx']['max_length']} characters"),
)
