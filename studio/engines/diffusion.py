"""Text to image, image to image and inpainting with diffusers pipelines (SD 1.x, SD 2.x, SDXL, LCM, Turbo).

One set of components is loaded; every way of using it is a thin pipeline around the same components.
Only a worker process imports this module.

Card options:
    variant       "fp16": which weight files of the folder; found out where it is not given
    size          native side in pixels, where the UNet's config does not tell
    prediction    "epsilon", "v_prediction" or "sample", where the scheduler's config is wrong
    tiny_decoder  a TAESD file or AutoencoderTiny folder that decodes instead of the VAE
    lora          [{"path": file, "scale": 1.0}, ...]
    config        for a single-file checkpoint: a diffusers folder with its configuration and tokenizer
Paths are relative to the model's folder, or absolute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from studio.cards import Card
from studio.compress.networks import torch_precision
from studio.compress.plan import anatomy
from studio.device import Device
from studio.engines import attention, diffusers_folder, painting, samplers
from studio.engines.base import Report, Result
from studio.engines.diffusion_load import add_loras, diffusers, limit_prompt, load, place, tiny_decoder, translated
from studio.engines.painting import TINY_LATENTS, Canvas, Plan, overflowed
from studio.errors import InvalidTask
from studio.ops import fitting, tiles
from studio.ops.latents import LatentMap, denoised, fit, pixels, published
from studio.runtimes.torch_runtime import compute_in_bf16
from studio.tasks import Explore, Generate, Task

Pixels = NDArray[np.uint8]

# What can be looked into: op -> function(pipeline, the card's defaults, task, report).
LOOKS: Mapping[str, Callable[[Any, Mapping[str, Any], Explore, Report], Result]] = {"attention": attention.attention}
TILED_AREA = 1024 * 1024  # px; larger pictures are decoded in tiles, to stay within memory


class Diffusion:
    """Generate tasks on one loaded pipeline."""

    def __init__(self, card: Card, folder: Path, device: Device) -> None:
        """Loads the diffusers folder (or single checkpoint) in `folder`.

        Raises:
            IntegrityError: a file is missing or damaged; it is named.
            UnsafeFile: a part is a pickle or brings code.
            Unsupported: a kind of pipeline, checkpoint or LoRA that cannot be run.
            OutOfMemory: it does not fit.
        """
        torch.set_num_threads(max(1, device.cores))  # more threads than cores wait for each other at every layer
        self._card = card
        self._place, self._dtype = place(device)
        self._budget = device.memory if self._place == "cpu" else 0  # a GPU's memory is not in the plan
        self._anatomy = anatomy(card, folder) if (folder / diffusers_folder.INDEX).is_file() else None
        self._is_sliced = False
        self.on_question: Callable[[Mapping[str, NDArray[np.float32]]], None] | None = None
        with translated(card.title):
            self._family, self._pipe = load(card, folder, self._dtype)
            add_loras(self._pipe, folder, card.options.get("lora", ()))
            self._decoder = tiny_decoder(folder, card.options.get("tiny_decoder"), self._dtype)
            self._pipe.to(self._place)
            self._precision = torch_precision(card, device) if self._place == "cpu" else "fp32"
            if self._precision == "bf16":  # what takes the time; samplers and latents keep their digits
                for part in (self._pipe.unet, self._pipe.vae.encoder, (self._decoder or self._pipe.vae).decoder):
                    compute_in_bf16(part)
        self._pipe.unet.register_forward_pre_hook(self._question, with_kwargs=True, prepend=True)
        self._decoder = self._pipe.vae if self._decoder is None else self._decoder.to(self._place)
        limit_prompt(self._pipe)
        self._own_scheduler = self._pipe.scheduler
        self._vocabulary = diffusers_folder.vocabulary(folder)
        self._preview_map: LatentMap | None = None
        self._pipes = {"text": self._pipe}

    def run(self, task: Task, report: Report) -> Result:
        """Pictures for a `Generate` task; an `Explore` task in `LOOKS` looks into the loaded pipeline.

        A start picture is scaled until it covers width x height and cut to it around its centre; the mask with it.
        Width and height are rounded down to a multiple of 8 (or of what the autoencoder shrinks by). Where the task
        and the card name no size, a start picture keeps its proportions at the model's native area.
        Repainting leaves every pixel outside the mask as it was. Picture k uses seed + k and is the same whatever
        the count. Raises InvalidTask, OutOfMemory, Unsupported, or Cancelled through `report`.
        """
        if isinstance(task, Explore) and task.op in LOOKS:
            with translated(self._card.title):
                return LOOKS[task.op](self._pipe, self._card.defaults, task, report)
        if not isinstance(task, Generate):
            raise InvalidTask(f"{self._card.title} makes pictures; it cannot {task.kind}.", "Choose another model.")
        plan = painting.plan(self._card, task, report, self._canvas())
        self._spare(plan)
        seconds = {"step": 0.0, "decoding": 0.0}
        images = []
        with translated(self._card.title), torch.inference_mode():
            for k, seed in enumerate(plan.seeds):
                images.append(self._paint(plan, seed, k * plan.effective_steps, report, seconds))
        return painting.result(self._card, plan, images, seconds)

    def answer(self, feed: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """See `base.Painter`."""
        sample, timestep, text = (
            torch.from_numpy(feed[name]).to(self._place) for name in ("sample", "timestep", "text")
        )
        with torch.inference_mode():
            found = self._pipe.unet(
                sample.to(self._dtype), timestep, encoder_hidden_states=text.to(self._dtype), return_dict=False
            )[0]
        answer: NDArray[np.float32] = found.float().cpu().numpy()
        return answer

    def _question(self, module: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """A hook on the UNet; those that want more than a text cannot be asked by themselves."""
        if self.on_question is None or named.get("added_cond_kwargs") or "encoder_hidden_states" not in named:
            return
        sample, timestep, text = args[0], args[1], named["encoder_hidden_states"]
        feed = {"sample": sample, "timestep": torch.as_tensor(timestep).expand(len(sample)), "text": text}
        self.on_question({name: value.float().cpu().numpy().copy() for name, value in feed.items()})

    def close(self) -> None:
        """Lets go of the weights."""
        self._pipes.clear()
        del self._pipe, self._decoder, self._own_scheduler
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _spare(self, plan: Plan) -> None:
        """Tiles the decoder and slices the attention where the picture would not fit into memory otherwise."""
        if self._anatomy is not None:
            painting.spare(plan, self._anatomy, f"torch-{self._precision}", self._budget)
        if (plan.saving.slices > 1) != self._is_sliced:
            self._is_sliced = not self._is_sliced
            self._pipe.unet.set_attention_slice("max" if self._is_sliced else None)

    # What is asked

    def _canvas(self) -> Canvas:
        return Canvas(
            native=self._native_size(),
            shrink=self._shrink,
            words_cut=lambda text: _words_cut(self._pipe, text),
            vocabulary=self._vocabulary,
            is_inpaint_only=self._is_inpaint_only,
        )

    def _native_size(self) -> int:
        size = self._card.options.get("size")
        if size is not None:
            return int(size)
        sample = self._pipe.unet.config.sample_size
        side = sample[0] if isinstance(sample, list | tuple) else sample
        return int(side if side is not None else 64) * self._shrink

    # How it is done

    def _paint(self, plan: Plan, seed: int, done: int, report: Report, seconds: dict[str, float]) -> Pixels:
        """One picture. `done` steps of the job were taken before it."""
        total = plan.effective_steps * plan.task.count
        report.progress(done, total, "step")
        begin = time.perf_counter()
        latents = self._denoise(plan, seed, done, total, report)
        if not torch.isfinite(latents).all():
            raise overflowed()
        middle = time.perf_counter()
        report.progress(done + plan.effective_steps, total, "decoding")
        picture = self._decode(latents, plan.saving.tile)
        if plan.start is not None and plan.mask is not None:
            picture = fitting.composite(plan.start, picture, plan.mask)
        seconds["step"] += middle - begin
        seconds["decoding"] += time.perf_counter() - middle
        return picture

    def _denoise(self, plan: Plan, seed: int, done: int, total: int, report: Report) -> Tensor:
        """Final latents (1, C, h, w). Whatever stops it, the components are left as they were."""
        pipe = self._pipeline(plan)
        scheduler = samplers.make_scheduler(
            self._own_scheduler, plan.task.scheduler, self._card.options.get("prediction")
        )
        pipe.scheduler = scheduler
        watch = _Watch(scheduler, plan.guidance, self._channels)
        repaint = self._repaint(plan, seed, scheduler)

        def on_step(running: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            count = running.num_timesteps  # evaluations: more than steps for second-order samplers
            if repaint is not None:
                tensors["latents"] = repaint(tensors["latents"], index, count)
            report.progress(
                done + min(plan.effective_steps, (index + 1) * plan.effective_steps // count), total, "step"
            )
            report.preview(self._preview(watch.estimate(tensors["latents"])))
            return tensors

        handle = self._pipe.unet.register_forward_hook(watch)
        try:
            return pipe(
                prompt=plan.task.prompt,
                negative_prompt=plan.task.negative_prompt,
                num_inference_steps=plan.steps,
                guidance_scale=plan.guidance,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="latent",
                callback_on_step_end=on_step,
                **self._inputs(plan),
            ).images
        finally:
            handle.remove()

    def _pipeline(self, plan: Plan) -> Any:
        """The pipeline for this way of working, around the loaded components."""
        mode = "text" if plan.start is None else "inpaint" if self._is_inpaint_only else "image"
        if mode not in self._pipes:
            kind = getattr(diffusers(), getattr(self._family, mode))
            accepted = {name: part for name, part in self._pipe.components.items() if name not in self._family.extra}
            self._pipes[mode] = kind(**accepted, **self._family.extra)
            self._pipes[mode].set_progress_bar_config(disable=True)
        return self._pipes[mode]

    def _inputs(self, plan: Plan) -> dict[str, Any]:
        if plan.start is None:
            return {"width": plan.width, "height": plan.height}
        inputs: dict[str, Any] = {"image": Image.fromarray(plan.start), "strength": plan.task.strength}
        if self._is_inpaint_only and plan.mask is not None:
            mask = Image.fromarray(np.where(plan.mask, 255, 0).astype(np.uint8))
            inputs |= {"mask_image": mask, "width": plan.width, "height": plan.height}
        return inputs

    def _repaint(self, plan: Plan, seed: int, scheduler: Any) -> _Repaint | None:
        """For UNets that know nothing of masks: what is not masked is set back to the (noised) start each step."""
        if plan.start is None or plan.mask is None or self._is_inpaint_only:
            return None
        start = self._encode(plan.start)
        generator = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn(start.shape, generator=generator).to(start)
        mask = torch.from_numpy(plan.mask)[None, None].float()  # (1, 1, H, W)
        # A latent that is masked in part is repainted whole: the edge is cut in pixels afterwards.
        mask = F.adaptive_max_pool2d(mask, start.shape[-2:]).to(start)  # (1, 1, h, w)
        return _Repaint(start, noise, mask, scheduler)

    # Pictures and latents

    def _encode(self, picture: Pixels) -> Tensor:
        """RGB uint8 (H, W, 3) -> latents (1, C, h, w) as the UNet sees them."""
        vae = self._pipe.vae
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].to(self._place, self._dtype) / 127.5 - 1
        encoded = vae.encode(pixels)
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return latents * vae.config.scaling_factor

    def _to_rgb(self, latents: Tensor) -> Tensor:
        """Latents (N, C, h, w) -> pictures (N, 3, H, W), about -1..1."""
        vae = self._decoder
        if hasattr(vae, "use_tiling") and hasattr(vae.config, "down_block_types"):  # tiling suits full VAEs only
            vae.use_tiling = latents.shape[-1] * latents.shape[-2] * self._shrink**2 > TILED_AREA
        upcast = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
        if upcast:
            vae.to(torch.float32)
        try:
            dtype = torch.float32 if upcast else self._dtype
            return vae.decode(latents.to(dtype) / vae.config.scaling_factor, return_dict=False)[0]
        finally:
            if upcast:
                vae.to(torch.float16)

    def _decode(self, latents: Tensor, tile: int) -> Pixels:
        """A picture of latents (1, C, h, w), in tiles of so many px where `tile` is not 0."""

        def piece(part: NDArray[np.float32]) -> NDArray[np.float32]:
            return self._to_rgb(torch.from_numpy(part).to(latents)).float().cpu().numpy()

        whole = latents.float().cpu().numpy()
        rgb = torch.from_numpy(tiles.decode(piece, whole, tile // self._shrink)) if tile else self._to_rgb(latents)
        if not torch.isfinite(rgb).all():
            raise overflowed()
        picture = _pixels(rgb[0].permute(1, 2, 0))
        if not picture.any():
            raise overflowed()
        return picture

    def _preview(self, latents: Tensor) -> Pixels:
        """A small RGB picture of latents (1, C, h, w)."""
        if self._decodes_fast(latents):
            return _pixels(self._to_rgb(latents)[0].permute(1, 2, 0))
        if self._preview_map is None:
            vae = self._pipe.vae
            known = published(float(vae.config.scaling_factor), self._channels)

            def decode(random: NDArray[np.float32]) -> NDArray[np.float32]:
                return self._to_rgb(torch.from_numpy(random).to(latents)).float().cpu().numpy()

            self._preview_map = known or fit(decode, self._channels)
        small = Image.fromarray(pixels(self._preview_map(latents.float().cpu().numpy())))
        return np.asarray(small.resize((small.width * 4, small.height * 4), Image.Resampling.BICUBIC))

    def _decodes_fast(self, latents: Tensor) -> bool:
        is_tiny = "decoder_block_out_channels" in self._decoder.config
        return is_tiny and latents.shape[-1] * latents.shape[-2] <= TINY_LATENTS

    @property
    def _shrink(self) -> int:
        return int(self._pipe.vae_scale_factor)

    @property
    def _channels(self) -> int:
        return int(self._pipe.vae.config.latent_channels)

    @property
    def _is_inpaint_only(self) -> bool:
        """True for UNets that read mask and masked picture as further channels."""
        return bool(self._pipe.unet.config.in_channels == 2 * self._channels + 1)


class _Watch:
    """A hook on the UNet that turns its last output into an estimate of the finished latents.

    It sees what every sampler shares (the network's input has unit variance, its output is one of three kinds), so a
    preview needs no knowledge of the sampler.
    """

    def __init__(self, scheduler: Any, guidance: float, channels: int) -> None:
        self._signal = getattr(scheduler, "alphas_cumprod", None)
        self._prediction = str(scheduler.config.get("prediction_type", "epsilon"))
        self._guidance = guidance
        self._channels = channels
        self._seen: tuple[Tensor, float, Tensor] | None = None

    def __call__(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        sample = output[0] if isinstance(output, tuple) else output.sample
        self._seen = args[0].float(), float(args[1]), sample.float()

    def estimate(self, latents: Tensor) -> Tensor:
        """(1, C, h, w); `latents` themselves where the schedule is of another kind."""
        if self._seen is None or self._signal is None:
            return latents
        noisy, timestep, output = self._seen
        if len(output) == 2:  # unconditional first
            output = output[:1] + self._guidance * (output[1:] - output[:1])
        position = min(max(round(timestep), 0), len(self._signal) - 1)
        signal = float(self._signal[position])
        return denoised(noisy[:1, : self._channels], output, signal, self._prediction)


class _Repaint(NamedTuple):
    """start, noise (1, C, h, w); mask (1, 1, h, w), 1 is repainted."""

    start: Tensor
    noise: Tensor
    mask: Tensor
    scheduler: Any

    def __call__(self, latents: Tensor, index: int, count: int) -> Tensor:
        """The latents after evaluation `index` of `count`, with the rest of the start put back at their noise level."""
        kept = self.start
        if index + 1 < count:
            timestep = self.scheduler.timesteps[index + 1 - count :][:1]
            kept = self.scheduler.add_noise(self.start, self.noise, timestep)
        return self.mask * latents + (1 - self.mask) * kept


def _words_cut(pipe: Any, text: str) -> int:
    """Words at the end of `text` that the tokenizer drops."""
    tokenizer = pipe.tokenizer
    ids = tokenizer(text, truncation=False, verbose=False).input_ids
    limit = tokenizer.model_max_length
    if len(ids) <= limit:
        return 0
    return max(1, len(tokenizer.decode(ids[limit - 1 : -1]).split()))


def _pixels(rgb: Tensor) -> Pixels:
    """(H, W, 3), -1..1 -> uint8."""
    return (rgb.float().nan_to_num().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).cpu().numpy()
