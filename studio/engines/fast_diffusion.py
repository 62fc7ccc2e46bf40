"""Generate without torch: networks on ONNX Runtime or OpenVINO, samplers in numpy, the tokenizer from `tokenizers`.

For Stable Diffusion models in diffusers folders; which files on which runtime stands in the card's `options["fast"]`
(see `studio.compress.networks.Place`), put there when the model is leased. The same seed gives the same picture as on
torch: the noise and the samplers are the same.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.cards import Card
from studio.compress.networks import Networks, Place
from studio.compress.plan import anatomy
from studio.device import Device
from studio.engines import diffusers_folder, painting
from studio.engines.base import Report, Result
from studio.engines.clip_tokenizer import ClipTokenizer
from studio.engines.painting import Canvas, Pixels, Plan
from studio.errors import IntegrityError, InvalidTask, Unsupported
from studio.ops import fitting, latents, schedules, solvers, tiles
from studio.ops.gaussian import Gaussian
from studio.runtimes.base import Session, Settings
from studio.tasks import Generate, Task

Floats = NDArray[np.float32]
TEXTS = 32  # encoded prompts kept


class _Repaint(NamedTuple):
    """start, noise (1, C, h, w); mask (1, 1, h, w), 1 is repainted."""

    start: Floats
    noise: Floats
    mask: Floats


class FastDiffusion:
    """Generate tasks on one set of networks."""

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        """Loads text encoder, UNet and decoder; the encoder when the first start picture comes.

        Raises IntegrityError for missing or damaged files, Unsupported where the model is of another kind, OutOfMemory.
        """
        place = Place.of(card)
        self._budget = device.memory
        self.on_question: Callable[[Mapping[str, Floats]], None] | None = None
        if place is None:
            raise Unsupported(f"{card.title} was not converted for the fast path.", "Convert it in Compress.")
        self._card = card
        self._name = f"{place.runtime}-{place.precision}"
        self._anatomy = anatomy(card, folder)
        unet = _config(folder, "unet")
        vae = _config(folder, "vae")
        if unet.get("time_cond_proj_dim") is not None or unet.get("in_channels") != unet.get("out_channels"):
            raise Unsupported("This UNet wants more inputs than the fast path has.", "Run this model on torch.")
        self._scheduler = _config(folder, "scheduler", "scheduler_config.json")
        limit = int(_config(folder, "text_encoder").get("max_position_embeddings", 77))
        self._tokens = ClipTokenizer(folder / "tokenizer", limit)
        self._networks = Networks("diffusion", folder, place, Settings(max(1, device.cores)))
        self._text_encoder = self._networks.open("text_encoder")
        self._unet = self._networks.open("unet")
        self._decoder = self._networks.open("decoder")
        self._encoder: Session | None = None
        self._channels = int(unet["in_channels"])
        self._scaling = float(vae.get("scaling_factor", 1.0))
        self._preview_map: latents.LatentMap | None = None
        self._is_tiny = "tiny_decoder" in card.options or "decoder_block_out_channels" in vae
        self._texts: OrderedDict[str, Floats] = OrderedDict()
        self._canvas = Canvas(
            native=_native(card, unet, _shrink(vae)),
            shrink=_shrink(vae),
            words_cut=self._tokens.words_cut,
            vocabulary=diffusers_folder.vocabulary(folder),
        )

    def run(self, task: Task, report: Report) -> Result:
        """Pictures for a `Generate` task, as `studio.engines.diffusion` makes them.

        Raises InvalidTask, OutOfMemory, Unsupported (a sampler that is not here), or Cancelled through `report`.
        """
        if not isinstance(task, Generate):
            raise InvalidTask(f"{self._card.title} makes pictures; it cannot {task.kind}.", "Choose another model.")
        plan = painting.plan(self._card, task, report, self._canvas)
        plan.notes += self._networks.notes
        painting.spare(plan, self._anatomy, self._name, self._budget)
        seconds = {"text": 0.0, "step": 0.0, "decoding": 0.0}
        images = [
            self._paint(plan, seed, k * plan.effective_steps, report, seconds) for k, seed in enumerate(plan.seeds)
        ]
        return painting.result(self._card, plan, images, seconds)

    def answer(self, feed: Mapping[str, Floats]) -> Floats:
        """See `base.Painter`."""
        found: Floats = self._unet.run(feed)["output"].astype(np.float32, copy=False)
        return found

    def close(self) -> None:
        """Lets go of the weights."""
        for session in (self._text_encoder, self._unet, self._decoder, self._encoder):
            if session is not None:
                session.close()

    # ── how it is done ───────────────────────────────────────────────────────

    def _paint(self, plan: Plan, seed: int, done: int, report: Report, seconds: dict[str, float]) -> Pixels:
        """One picture. `done` steps of the job were taken before it."""
        total = plan.effective_steps * plan.task.count
        report.progress(done, total, "step")
        clock = [time.perf_counter()]
        text = self._text(plan)
        clock.append(time.perf_counter())
        x = self._denoise(plan, seed, text, done, total, report)
        if not np.isfinite(x).all():
            raise painting.overflowed()
        clock.append(time.perf_counter())
        report.progress(done + plan.effective_steps, total, "decoding")
        self._unet.rest()  # so that the decoder's arrays take the place of the UNet's
        picture = self._decode(x, plan.saving.tile)
        self._decoder.rest()
        if plan.start is not None and plan.mask is not None:
            picture = fitting.composite(plan.start, picture, plan.mask)
        clock.append(time.perf_counter())
        for phase, spent in zip(seconds, np.diff(clock).tolist(), strict=True):
            seconds[phase] += spent
        return picture

    def _denoise(self, plan: Plan, seed: int, text: Floats, done: int, total: int, report: Report) -> Floats:
        """Final latents float32 (1, C, h, w)."""
        solver = solvers.make(plan.task.scheduler, self._scheduler, plan.steps, self._card.options.get("prediction"))
        signal = schedules.read(self._scheduler, self._card.options.get("prediction"))
        stream = Gaussian(seed)
        shape = (1, self._channels, plan.height // self._canvas.shrink, plan.width // self._canvas.shrink)
        first = plan.steps - plan.effective_steps
        if plan.start is None:
            x = stream.draw(shape) * np.float32(solver.scale)
        else:
            x = solver.noised(self._encode(plan.start, stream), stream.draw(shape), first)
        repaint = self._repaint(plan, seed)
        count = len(solver.times) - first
        for i in range(first, len(solver.times)):
            noisy = solver.enter(x, i).astype(np.float32)
            output = self._ask(noisy, float(solver.times[i]), text, plan.guidance)
            x = solver.leave(output, i, x, stream.draw).astype(np.float32)
            if repaint is not None:
                kept = repaint.start
                if i + 1 < len(solver.times):
                    kept = solver.noised(repaint.start, repaint.noise, i + 1).astype(np.float32)
                x = repaint.mask * x + (1 - repaint.mask) * kept
            taken = (i - first + 1) * plan.effective_steps // count
            report.progress(done + min(plan.effective_steps, taken), total, "step")
            time_step = min(max(round(float(solver.times[i])), 0), signal.steps - 1)
            guess = latents.denoised(noisy, output, float(signal.signal[time_step]), signal.prediction)
            report.preview(self._preview(guess))
        return x

    def _ask(self, noisy: Floats, step: float, text: Floats, guidance: float) -> Floats:
        """The network's answer, guidance applied. `text` holds one row, or the unconditional one and it."""
        batch = np.repeat(noisy, len(text), axis=0)
        feed = {"sample": batch, "timestep": np.full(len(text), step, np.float32), "text": text}
        if self.on_question is not None:
            self.on_question(feed)
        output = self.answer(feed)
        if len(output) == 1:
            return output
        guided: Floats = output[:1] + np.float32(guidance) * (output[1:] - output[:1])
        return guided

    def _text(self, plan: Plan) -> Floats:
        """(1, N, D), or (2, N, D) with the negative prompt first where there is guidance."""
        texts = [plan.task.prompt] if plan.guidance <= 1 else [plan.task.negative_prompt, plan.task.prompt]
        encoded = np.concatenate([self._encoded(text) for text in texts])
        self._text_encoder.rest()
        return encoded

    def _encoded(self, text: str) -> Floats:
        if text not in self._texts:
            self._texts[text] = self._text_encoder.run({"tokens": self._tokens(text)})["text"].astype(np.float32)
        self._texts.move_to_end(text)
        while len(self._texts) > TEXTS:
            self._texts.popitem(last=False)
        return self._texts[text]

    # ── pictures and latents ─────────────────────────────────────────────────

    def _encode(self, picture: Pixels, stream: Gaussian | None = None) -> Floats:
        """RGB uint8 (H, W, 3) -> latents (1, C, h, w); drawn from the posterior where there is a stream and a VAE."""
        if self._encoder is None:
            self._encoder = self._networks.open("encoder")
        pixels = picture.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
        found = self._encoder.run({"pixels": pixels})
        mean: Floats = found["mean"]
        if stream is None or "deviation" not in found:
            return mean
        drawn = mean + found["deviation"] * stream.draw(mean.shape)
        return drawn.astype(np.float32)

    def _repaint(self, plan: Plan, seed: int) -> _Repaint | None:
        """What is not masked is set back to the (noised) start each step."""
        if plan.start is None or plan.mask is None:
            return None
        start = self._encode(plan.start)
        mask = latents.cover(plan.mask, start.shape[2], start.shape[3])
        return _Repaint(start, Gaussian(seed).draw(start.shape), mask)

    def _rgb(self, x: Floats) -> Floats:
        """Latents (N, C, h, w) -> pictures (N, 3, H, W), about -1..1."""
        return self._decoder.run({"latents": x})["pixels"].astype(np.float32, copy=False)

    def _decode(self, x: Floats, tile: int) -> Pixels:
        """A picture of latents (1, C, h, w), in tiles of so many px where `tile` is not 0."""
        rgb = tiles.decode(self._rgb, x, tile // self._canvas.shrink) if tile else self._rgb(x)
        if not np.isfinite(rgb).all():
            raise painting.overflowed()
        picture = latents.pixels(rgb[0].transpose(1, 2, 0))
        if not picture.any():
            raise painting.overflowed()
        return picture

    def _preview(self, x: Floats) -> Pixels:
        """A small RGB picture of latents (1, C, h, w). A linear map: a decoder's run would slow every step."""
        if self._preview_map is None:
            known = latents.published(self._scaling, self._channels)
            self._preview_map = known or latents.fit(self._rgb, self._channels)
            self._decoder.rest()
        small = Image.fromarray(latents.pixels(self._preview_map(x)))
        return np.asarray(small.resize((small.width * 4, small.height * 4), Image.Resampling.BICUBIC))


def _config(folder: Path, part: str, name: str = "config.json") -> dict[str, Any]:
    try:
        found = json.loads((folder / part / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{part}/{name} cannot be read: {error}.", "Download the model again.") from error
    return found if isinstance(found, dict) else {}


def _shrink(vae: dict[str, Any]) -> int:
    """Pixels per latent along a side: each of the autoencoder's blocks but one halves it."""
    return int(2 ** (len(vae.get("block_out_channels", vae.get("encoder_block_out_channels", (0,) * 4))) - 1))


def _native(card: Card, unet: dict[str, Any], shrink: int) -> int:
    size = card.options.get("size")
    if size is not None:
        return int(size)
    sample = unet.get("sample_size")
    side = sample[0] if isinstance(sample, list) else sample
    return int(64 if side is None else side) * shrink
