"""The "parameters" text that picture tools write into PNG files, and the way back to the fields of a request.

    a red apple, on a table
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 0, Size: 512x512, Model: starter

The format is ambiguous (a prompt may contain a line that looks like one of the others), so `write` reads its own text
back and adds the exact values as JSON strings under keys of ours where they would be lost. Other tools ignore those.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

NEGATIVE = "Negative prompt:"
EXACT = {"prompt": "Exact prompt", "negative_prompt": "Exact negative prompt"}

# Our scheduler -> (their sampler, their schedule type); the first line that fits wins on the way back.
SAMPLERS: dict[str, tuple[str, str]] = {
    "DDIM": ("DDIM", ""),
    "DDPM": ("DDPM", ""),
    "DEIS": ("DEIS", ""),
    "DPM++ 2M": ("DPM++ 2M", ""),
    "DPM++ 2M Karras": ("DPM++ 2M", "Karras"),
    "DPM2": ("DPM2", ""),
    "Euler": ("Euler", ""),
    "Euler a": ("Euler a", ""),
    "Heun": ("Heun", ""),
    "LCM": ("LCM", ""),
    "LMS": ("LMS", ""),
    "PNDM": ("PLMS", ""),
    "UniPC": ("UniPC", ""),
    "default": ("default", ""),
}
# Spellings of other tools and older versions, lower case.
ALIASES = {
    "pndm": "PNDM",
    "euler ancestral": "Euler a",
    "euler_ancestral": "Euler a",
    "k_euler": "Euler",
    "k_euler_a": "Euler a",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_dpm_2": "DPM2",
    "dpmpp_2m": "DPM++ 2M",
    "dpm++ 2m karras": "DPM++ 2M Karras",
    "dpmpp_2m_karras": "DPM++ 2M Karras",
    "uni_pc": "UniPC",
}
MAX_PARAMETERS = 80_000  # characters of the last line; longer ones are no parameters
# Key lengths are bounded so that hostile text costs linear time.
_PAIR = re.compile(r'\s{0,8}(\w[\w /-]{0,40}):[ \t]{0,8}("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)', re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Painted(Protocol):
    """What `write` reads: the fields of a `Generate` task."""

    @property
    def prompt(self) -> str: ...
    @property
    def negative_prompt(self) -> str: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def scheduler(self) -> Any: ...
    @property
    def guidance_scale(self) -> float | None: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def width(self) -> int | None: ...
    @property
    def height(self) -> int | None: ...
    @property
    def image(self) -> str | None: ...
    @property
    def strength(self) -> float: ...


def write(task: Painted, model: str = "", model_hash: str = "", size: tuple[int, int] | None = None) -> str:
    """The text for one picture of `task`.

    Args:
        task: its seed is the picture's own seed.
        model: shown name of the weights.
        model_hash: hexadecimal, as other tools shorten it; empty leaves it out.
        size: width and height of the picture in pixels, where the task does not say them.
    """
    pairs = _pairs(task, model, model_hash, size)
    text = _join(task, pairs)
    found = read(text)
    for name, key in EXACT.items():
        if found.get(name, "") != getattr(task, name):
            pairs[key] = json.dumps(getattr(task, name))
    return _join(task, pairs)


def _pairs(task: Painted, model: str, model_hash: str, size: tuple[int, int] | None) -> dict[str, str]:
    sampler, schedule = SAMPLERS.get(str(task.scheduler), (str(task.scheduler), ""))
    width, height = size if size is not None else (task.width, task.height)
    values: dict[str, Any] = {
        "Steps": task.steps,
        "Sampler": sampler,
        "Schedule type": schedule or None,
        "CFG scale": task.guidance_scale,
        "Seed": task.seed,
        "Size": None if width is None or height is None else f"{width}x{height}",
        "Model hash": model_hash or None,
        "Model": model or None,
        "Denoising strength": task.strength if task.image is not None else None,
    }
    return {key: _quote(value) for key, value in values.items() if value is not None}


def _join(task: Painted, pairs: dict[str, str]) -> str:
    lines = [_visible(task.prompt)]
    if task.negative_prompt:
        lines.append(f"{NEGATIVE} {_visible(task.negative_prompt)}")
    return "\n".join([*lines, ", ".join(f"{key}: {value}" for key, value in pairs.items())])


def _visible(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _quote(value: Any) -> str:
    """Plain where nothing in it could be mistaken for structure, else a JSON string."""
    text = repr(value) if isinstance(value, float) else str(value)
    return (
        json.dumps(text)
        if not text or re.search(r'[,:"\\]|^\s|\s$', text) or _CONTROL.search(text) or "\n" in text
        else text
    )


def read(text: str) -> dict[str, Any]:
    """Fields of `Generate` found in a "parameters" text, plus "model" and "model_hash". Never raises.

    What is missing, not a finite number or unknown is left out; bounds are the task's business. An unknown sampler
    gives no "scheduler". Text without a line of parameters is a prompt.
    """
    body, pairs = _split(text)
    found = _prompts(body)
    schedule = pairs.get("Schedule type", "")
    for key, value in pairs.items():
        for name, parsed in _FIELDS.get(key, _nothing)(value):
            found[name] = parsed
    if "scheduler" in found:
        scheduler = _scheduler(found.pop("scheduler"), schedule)
        found.update({"scheduler": scheduler} if scheduler else {})
    return found


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """The lines above the parameters, and the parameters."""
    lines = text.replace("\r\n", "\n").strip("\n").split("\n")
    last = lines[-1]
    if len(last) > MAX_PARAMETERS:
        return lines, {}
    pairs = {match[1].strip(): _unquote(match[2].strip()) for match in _PAIR.finditer(last)}
    is_parameters = len(pairs) >= 3 or ("Steps" in pairs and last.lstrip().startswith("Steps:"))
    is_ours = len(pairs) >= 1 and last.startswith(("Steps:", "Sampler:"))
    return (lines[:-1], pairs) if is_parameters or is_ours else (lines, {})


def _prompts(lines: list[str]) -> dict[str, Any]:
    """A line that starts with "Negative prompt:" ends the prompt; the first one counts."""
    at = next((i for i, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    found = {"prompt": "\n".join(lines[:at])}
    if at < len(lines):
        found["negative_prompt"] = "\n".join([lines[at].removeprefix(NEGATIVE).removeprefix(" "), *lines[at + 1 :]])
    return found


def _unquote(value: str) -> str:
    if not (len(value) >= 2 and value[0] == value[-1] == '"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value[1:-1]


def _scheduler(sampler: str, schedule: str) -> str | None:
    """Ours for theirs; a schedule type we do not offer is dropped, "Automatic" and "Uniform" are the plain one."""
    known = {pair: name for name, pair in SAMPLERS.items()}
    with_schedule = {(s.lower(), k.lower()): name for (s, k), name in known.items()}
    key = sampler.strip().lower()
    exact = with_schedule.get((key, schedule.strip().lower())) or with_schedule.get((key, ""))
    return exact or ALIASES.get(key)


def _int(name: str) -> Callable[[str], Iterator[tuple[str, Any]]]:
    def parse(value: str) -> Iterator[tuple[str, Any]]:
        if re.fullmatch(r"[0-9]{1,20}", value):
            yield name, int(value)

    return parse


def _float(name: str) -> Callable[[str], Iterator[tuple[str, Any]]]:
    def parse(value: str) -> Iterator[tuple[str, Any]]:
        try:
            number = float(value)
        except ValueError:
            return
        if math.isfinite(number):
            yield name, number

    return parse


def _text(name: str) -> Callable[[str], Iterator[tuple[str, Any]]]:
    def parse(value: str) -> Iterator[tuple[str, Any]]:
        yield name, value

    return parse


def _size(value: str) -> Iterator[tuple[str, Any]]:
    match = re.fullmatch(r"([0-9]{1,6})\s?[x×]\s?([0-9]{1,6})", value)
    if match:
        yield from (("width", int(match[1])), ("height", int(match[2])))


def _nothing(value: str) -> Iterator[tuple[str, Any]]:
    yield from ()


_FIELDS: dict[str, Callable[[str], Iterator[tuple[str, Any]]]] = {
    "Steps": _int("steps"),
    "Sampler": _text("scheduler"),
    "CFG scale": _float("guidance_scale"),
    "Seed": _int("seed"),
    "Size": _size,
    "Model": _text("model"),
    "Model hash": _text("model_hash"),
    "Denoising strength": _float("strength"),
    EXACT["prompt"]: _text("prompt"),
    EXACT["negative_prompt"]: _text("negative_prompt"),
}
