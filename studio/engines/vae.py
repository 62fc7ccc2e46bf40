"""Looks into an autoencoder: sliders, map, interpolation, arithmetic, reconstruction, anomaly, compression.

Answers `Explore` tasks. A picture is named by `a` (`b`, `c`): "image", "other" or "third" for the task's own pictures,
or the number of one of the held-out pictures that came with the model. Sheets hold many small pictures in rows and
columns, which `data` counts.

    about        {}                                            the model, its axes and its pictures
    encode       {a, space}                                    a picture's place on the axes
    decode       {space, axes, values, base, label}            the picture at a place (made for drags)
    traverse     {space, axes, values, base, label, steps, reach}   one row an axis, everything else held
    map          {space, x, y, base, label, side, reach}       the held-out pictures on two axes, and what lies between
    samples      {count, seed, temperature, label}             new pictures
    interpolate  {a, b, steps, way, film}                      from one picture to another
    arithmetic   {a, b, c, strength}                           A - B + C
    reconstruct  {a}                                           what comes back
    anomaly      {a, quantile}                                 how unusual a picture is, and where
    compress     {a, bits}                                     against JPEG at equal bytes
    latents      {}                                            what each latent is used for
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError

from studio.cards import Card
from studio.device import Device
from studio.engines import vae_judge, vae_views
from studio.engines.arguments import Arguments
from studio.engines.base import Report, Result
from studio.engines.vae_model import open_model
from studio.engines.vae_pictures import Pictures
from studio.errors import IntegrityError, InvalidTask
from studio.tasks import Explore, Task

Op = Callable[[Pictures, Arguments], Result]

OPS: dict[str, Op] = {
    "about": vae_views.about,
    "encode": vae_views.encode,
    "decode": vae_views.decode,
    "traverse": vae_views.traverse,
    "map": vae_views.map_,
    "samples": vae_views.samples,
    "interpolate": vae_views.interpolate,
    "arithmetic": vae_views.arithmetic,
    "latents": vae_judge.latents,
    "reconstruct": vae_judge.reconstruct,
    "anomaly": vae_judge.anomaly,
    "compress": vae_judge.compress,
}


class VaeEngine:
    """Explore tasks on one model of the VAE lab, or on a diffusion model's own `AutoencoderTiny`."""

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        """Loads config.json and the weights. Raises IntegrityError where they are damaged or do not fit."""
        self._title = card.title
        try:
            self.model = open_model(folder)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise IntegrityError(
                f"{card.title} cannot be loaded: {' '.join(str(error).split())[:200]}", "Train or import it again."
            ) from error

    def run(self, task: Task, report: Report) -> Result:
        """Raises InvalidTask for what is no operation or has wrong arguments."""
        if not isinstance(task, Explore) or task.op not in OPS:
            asked = task.op if isinstance(task, Explore) else task.kind
            raise InvalidTask(f"{self._title} cannot {asked!r}.", f"It can: {', '.join(OPS)}.")
        begin = time.perf_counter()
        with torch.inference_mode():
            found = OPS[task.op](Pictures(self.model, task, report), Arguments(task.args))
        return Result(found.images, data={**found.data, "seconds": {task.op: round(time.perf_counter() - begin, 4)}})

    def close(self) -> None:
        """Lets go of the weights."""
        del self.model
