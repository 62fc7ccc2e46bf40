"""Recipe of the starter text-to-image model, a whole `StableDiffusionPipeline` for 512 px trained on drawn scenes.

Parts: an autoencoder (512 px <-> 16x16 latents of 16 channels), a BPE tokenizer in CLIP's format, a small CLIP text
encoder and a UNet, the last two trained together. The UNet predicts v on the usual linear noise schedule, so the usual
diffusers schedulers paint with it. Made for one GPU and minutes; runs, slowly, on any device:

    python -m studio.starters.text_to_image.recipe --stickers stickers.zip --folder build/t2i --seconds 560 --device cuda
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from studio.nets import torchvision_guard
from studio.starters.text_to_image import scenes, vocabulary
from studio.starters.text_to_image.compositor import Batch, Compositor, unpack
from studio.train.loop import Average, Muon

SIZE = 512
CHANNELS = 16
SHRINK = 32
WORDS = 32
"""Tokens in a caption, padding included."""
TEXT_WIDTH = 192
MERGES = 2600
PIECE_PX = 256
PARTS = ("painter-1.pt", "painter-2.pt", "rest.pt")
RECORDED = "recorded.ok"
EVERY = 4
"""Steps between fresh scenes in the painter's pool."""
SHARES = {"autoencoder": 0.25, "painter": 0.69, "decoder": 0.06}
"""Of the budget."""
SCHEDULE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}


class Size(NamedTuple):
    """How much is done at once."""

    pieces: int = 48
    batch: int = 640
    pool: int = 40_000
    fresh: int = 24
    workers: int = 12
    probe: int = 32


# ── networks ─────────────────────────────────────────────────────────────────


def autoencoder() -> Any:
    """A fresh AutoencoderTiny that reduces height and width by SHRINK."""
    torchvision_guard.install()
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(48,) * 6,
        decoder_block_out_channels=(64,) * 6,
        num_encoder_blocks=(0, 1, 2, 3, 3, 4),
        num_decoder_blocks=(6, 4, 3, 2, 1, 0),
        latent_channels=CHANNELS,
    )


class Painter(nn.Module):
    """What is trained: tokens and noisy latents in, v out."""

    def __init__(self, vocabulary_size: int, end: int) -> None:
        super().__init__()
        torchvision_guard.install()
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        self.text_encoder: Any = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary_size,
                hidden_size=TEXT_WIDTH,
                intermediate_size=3 * TEXT_WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=WORDS,
                bos_token_id=end - 1,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
        self.unet: Any = UNet2DConditionModel(
            sample_size=SIZE // SHRINK,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            block_out_channels=(64, 128, 192),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            # The caption, pooled, also joins the timestep in every block: that says what to paint sooner than
            # cross-attention does, which is left to say where.
            addition_embed_type="text",
            addition_embed_type_num_heads=4,
            encoder_hid_dim=TEXT_WIDTH,
            resnet_time_scale_shift="scale_shift",
            attention_head_dim=4,  # the number of heads, in spite of its name
            norm_num_groups=16,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Latents (N, CHANNELS, 16, 16), timesteps int64 (N,) in 0..999, tokens int64 (N, WORDS) -> v like `noisy`."""
        return self.unet(noisy, timesteps, self.text_encoder(tokens)[0]).sample


def alpha_bar() -> Tensor:
    """The share of the clean latent's variance that is left after each timestep, float32 (1000,)."""
    betas = torch.linspace(SCHEDULE["beta_start"], SCHEDULE["beta_end"], SCHEDULE["num_train_timesteps"])
    return torch.cumprod(1 - betas, dim=0)


# ── captions ─────────────────────────────────────────────────────────────────


def make_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer of the captions' words; kept in `folder`/tokenizer."""
    torchvision_guard.install()
    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    if (folder / "tokenizer").is_dir():
        return CLIPTokenizer.from_pretrained(folder / "tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + MERGES,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=1,
        show_progress=False,
    )
    learner = CLIPTokenizer().backend_tokenizer
    learner.train_from_iterator(corpus(), trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    words = alphabet + [f"{letter}</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    words = [*dict.fromkeys(words), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges, model_max_length=WORDS)
    tokenizer.save_pretrained(folder / "tokenizer")
    return tokenizer


def corpus() -> list[str]:
    """Text that holds every word of the captions, names more often than once."""
    rng = np.random.default_rng(1)
    names = [thing.name for thing in vocabulary.THINGS] + list(vocabulary.SYNONYMS)
    texts = [scenes.draw(rng).caption for _ in range(30_000)]
    texts += [text for name in names for text in (name, vocabulary.plural(name)) for _ in range(10)]
    texts += [text for name in (*vocabulary.COLOURS, *vocabulary.COLOUR_NAMES) for text in (name,) * 20]
    return texts + [text for said in vocabulary.GROUNDS.values() for text in said] * 10


def reader(folder: Path) -> Callable[[Sequence[str]], NDArray[np.int16]]:
    """Tokenises without transformers, for many processes: texts -> int16 (N, WORDS)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    end = tokenizer.get_vocab_size() - 1

    def read(texts: Sequence[str]) -> NDArray[np.int16]:
        rows = np.full((len(texts), WORDS), end, np.int16)
        for row, encoded in zip(rows, tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True):
            ids = [end - 1, *encoded.ids[: WORDS - 2], end]
            row[: len(ids)] = ids
        return rows

    return read


# ── data ─────────────────────────────────────────────────────────────────────

Chunk = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int16]]


def chunks(folder: Path, seed: int, count: int) -> Iterator[Chunk]:
    """Endless scenes, `count` at a time: sprites, grounds and tokens."""
    read, number = reader(folder), 0
    while True:
        rng = np.random.default_rng([seed, number])
        drawn = [scenes.draw(rng) for _ in range(count)]
        batch = Batch.of(drawn)
        yield batch.sprites, batch.grounds, read([one.caption for one in drawn])
        number += 1


def _produce(folder: Path, seed: int, count: int, queue: Any) -> None:
    torch.set_num_threads(1)
    for chunk in chunks(folder, seed, count):
        queue.put(chunk)


class Source:
    """Scenes from processes of their own."""

    def __init__(self, folder: Path, workers: int, count: int = 1024, seed: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue: Any = context.Queue(maxsize=4 * workers)
        self._workers = [
            context.Process(target=_produce, args=(folder, 1000 * seed + i, count, self._queue), daemon=True)
            for i in range(workers)
        ]
        for worker in self._workers:
            worker.start()
        self._rest: list[Chunk] = []

    def take(self, count: int) -> tuple[Batch, NDArray[np.int16]]:
        """So many scenes and their tokens."""
        have = sum(len(chunk[2]) for chunk in self._rest)
        while have < count:
            self._rest.append(self._queue.get())
            have += len(self._rest[-1][2])
        sprites, grounds, tokens = (np.concatenate(part) for part in zip(*self._rest, strict=True))
        self._rest = [(sprites[count:], grounds[count:], tokens[count:])]
        return Batch(sprites[:count], grounds[:count]), tokens[:count]

    def close(self) -> None:
        for worker in self._workers:
            worker.terminate()


# ── training ─────────────────────────────────────────────────────────────────


class Budget:
    """Seconds, and how much of them is used, 0..1; `steps` instead of seconds where it is given."""

    def __init__(self, seconds: float, steps: int | None) -> None:
        self._end, self._steps, self._start = seconds, steps, time.monotonic()

    def used(self, step: int) -> float:
        return step / self._steps if self._steps is not None else (time.monotonic() - self._start) / self._end


def rate(step: int, used: float, warmup: int = 150, flat: float = 0.25) -> float:
    """What the peak rates are multiplied with: a warm-up, a plateau, a cosine to zero."""
    fall = max(0.0, (used - flat) / (1 - flat))
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))


def descend(
    net: nn.Module,
    loss: Callable[[int], Tensor],
    budget: Budget,
    *,
    adam: float,
    muon: float | None,
    decay: float = 0.0,
    ema: float = 0.999,
    name: str = "",
    each: Callable[[int, Average], None] | None = None,
) -> int:
    """Trains `net` in place by Muon and AdamW and leaves the averaged weights in it. Returns the steps taken.

    A step that is no number or far off its recent mean puts the averaged weights back and halves the rates.
    """
    average, damping, mean = Average(net, ema), 1.0, math.nan
    optimizer = Muon(net, rate=adam, muon_rate=muon, weight_decay=decay)
    params = [p for p in net.parameters() if p.requires_grad]
    step, begun, shown = 0, time.monotonic(), time.monotonic()
    while (used := budget.used(step)) < 1:
        value = loss(step)
        value.backward()
        norm = nn.utils.clip_grad_norm_(params, 1.0)
        now, size = (float(number) for number in torch.stack([value.detach(), norm.detach()]))
        if not math.isfinite(now + size) or now > 4 * mean:
            damping, mean = damping / 2, math.nan
            net.load_state_dict(average.weights)
            optimizer = Muon(net, rate=adam, muon_rate=muon, weight_decay=decay)
            print(f"{name} step {step}: loss {now:.3f}, back to the average at {damping} of the rates", flush=True)  # noqa: T201
        else:
            mean = now if math.isnan(mean) else 0.98 * mean + 0.02 * now
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * damping * rate(step, used)
            optimizer.step()
            average.update(net, step)
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if time.monotonic() - shown > 10 or step == 1:
            shown = time.monotonic()
            print(f"{name} step {step} {shown - begun:.0f} s loss {mean:.4f}", flush=True)  # noqa: T201
        if each is not None:
            each(step, average)
    net.load_state_dict(average.weights)
    return step


def difference(made: Tensor, wanted: Tensor) -> Tensor:
    """How far two pictures (N, 3, H, W) in [-1, 1] are apart: values, and edges at three scales."""
    off = (made - wanted) / 2
    total = 8 * off.square().mean() + off.abs().mean()
    for _ in range(3):
        total = total + off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
        off = F.avg_pool2d(off, 2)
    return total


def psnr(made: Tensor, wanted: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB, both (N, 3, H, W) in [-1, 1]."""
    error = ((made.float().clamp(-1, 1) - wanted) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * torch.log10(error + 1e-10)).mean())


class Training:
    """The recipe, phase after phase, on one device."""

    def __init__(self, stickers: Path, folder: Path, device: torch.device, size: Size, steps: int | None) -> None:
        self.folder, self.device, self.size, self.steps = folder, device, size, steps
        torch.manual_seed(0)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        self.compositor = Compositor(unpack(stickers), device)
        self.source = Source(folder, size.workers)
        self.kind = torch.bfloat16
        self.vae = autoencoder().to(device, memory_format=torch.channels_last)
        read = reader(folder)
        self.empty = torch.from_numpy(read([""])[0].astype(np.int64)).to(device)
        end = int(self.empty[-1])
        self.painter = Painter(end + 1, end).to(device)

    def fast(self) -> Any:
        return torch.autocast(self.device.type, dtype=self.kind)

    def pieces(self, count: int) -> Tensor:
        """Pieces of fresh scenes, float32 (count, 3, PIECE_PX, PIECE_PX) in [-1, 1]: four of each picture."""
        batch, _ = self.source.take(max(1, count // 4))
        pictures = self.compositor.paint(batch, SIZE)
        last = SIZE - PIECE_PX
        corners = np.random.default_rng().integers(0, last + 1, (count, 2))
        cut = [
            pictures[i // 4 % len(pictures), :, y : y + PIECE_PX, x : x + PIECE_PX] for i, (y, x) in enumerate(corners)
        ]
        return torch.stack(cut).contiguous(memory_format=torch.channels_last)

    def learn_autoencoder(self, seconds: float) -> None:
        def loss(step: int) -> Tensor:
            wanted = self.pieces(self.size.pieces)
            with self.fast():
                latents = self.vae.encoder(wanted).float()
                made = self.vae.decoder(latents + 0.05 * torch.randn_like(latents))
            mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
            spread = mean.square().mean() + (std - 1).square().mean()
            return difference(made.float(), wanted) + 0.01 * spread

        budget = Budget(seconds, self.steps)
        steps = descend(self.vae, loss, budget, adam=2e-3, muon=None, ema=0.998, name="autoencoder")
        self._standardise()
        print(f"autoencoder {steps} steps, {self._worth():.2f} dB", flush=True)  # noqa: T201

    @torch.no_grad()
    def _standardise(self) -> None:
        """Rescales the encoder's last layer: latents get mean 0 and standard deviation 1 in every channel."""
        latents = torch.cat([self.encode(self.source.take(self.size.probe)[0]) for _ in range(8)])
        mean, std = latents.float().mean(dim=(0, 2, 3)), latents.float().std(dim=(0, 2, 3))
        last: Any = self.vae.encoder.layers[-1]
        last.weight.div_(std[:, None, None, None])
        last.bias.sub_(mean).div_(std)
        self._revised = (mean, std)

    @torch.no_grad()
    def _worth(self) -> float:
        """PSNR in dB of whole pictures."""
        batch, _ = self.source.take(self.size.probe)
        wanted = self.compositor.paint(batch, SIZE)
        mean, std = self._revised
        with self.fast():
            latents = self.vae.encoder(wanted.contiguous(memory_format=torch.channels_last)).float()
            made = self.vae.decoder(latents * std[:, None, None] + mean[:, None, None] if not self._folded else latents)
        return psnr(made, wanted)

    _folded = False

    @torch.no_grad()
    def _fold(self) -> None:
        """Lets the decoder take standardised latents: its first layer undoes the encoder's new scale.

        Padding makes this exact only inside the border; the decoder is polished afterwards.
        """
        first: Any = next(m for m in self.vae.decoder.modules() if isinstance(m, nn.Conv2d))
        mean, std = self._revised
        first.bias.add_((first.weight * mean[:, None, None]).sum(dim=(1, 2, 3)))
        first.weight.mul_(std[:, None, None])
        self._folded = True

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """Latents float16 (N, CHANNELS, 16, 16)."""
        pictures = self.compositor.paint(batch, SIZE).contiguous(memory_format=torch.channels_last)
        with self.fast():
            return self.vae.encoder(pictures).half().contiguous()

    def learn_painter(self, seconds: float) -> None:
        begun = time.monotonic()
        self.vae.requires_grad_(False)
        side = SIZE // SHRINK
        pool = torch.zeros(self.size.pool, CHANNELS, side, side, dtype=torch.float16, device=self.device)
        tokens = torch.zeros(self.size.pool, WORDS, dtype=torch.int64, device=self.device)
        piece = min(128, self.size.pool)

        def fill(at: int, count: int) -> None:
            batch, said = self.source.take(count)
            pool[at : at + count] = self.encode(batch)
            tokens[at : at + count] = torch.from_numpy(said.astype(np.int64)).to(self.device)

        for at in range(0, self.size.pool - piece + 1, piece):
            fill(at, piece)
        print(f"painter's pool filled in {time.monotonic() - begun:.0f} s", flush=True)  # noqa: T201
        bar = alpha_bar().to(self.device)
        count, fresh = self.size.batch, EVERY * self.size.fresh
        turns = self.size.pool // fresh
        unet = self._graphed(count)

        def loss(step: int) -> Tensor:
            if step % EVERY == 0:
                fill((step // EVERY % turns) * fresh, fresh)
            which = torch.randint(len(pool), (count,), device=self.device)
            clean = pool[which].float()
            said = torch.where(torch.rand(count, 1, device=self.device) < 0.08, self.empty, tokens[which])
            strata = (torch.arange(count, device=self.device) + torch.rand(count, device=self.device)) / count
            timesteps = (strata * len(bar)).long()
            signal, sigma = bar[timesteps].sqrt()[:, None, None, None], (1 - bar[timesteps]).sqrt()[:, None, None, None]
            noise = torch.randn_like(clean)
            with self.fast():
                made = unet(signal * clean + sigma * noise, timesteps, self.painter.text_encoder(said)[0])
            return (made.float() - (signal * noise - sigma * clean)).square().mean()

        saved = [time.monotonic()]

        def each(step: int, average: Average) -> None:
            if time.monotonic() - saved[0] > 60:
                saved[0] = time.monotonic()
                self.save(average.weights)

        budget = Budget(seconds - (time.monotonic() - begun), self.steps)
        steps = descend(self.painter, loss, budget, adam=1e-3, muon=0.015, decay=0.01, ema=0.999, name="painter", each=each)
        print(f"painter {steps} steps of {count}", flush=True)  # noqa: T201

    def _graphed(self, count: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The UNet for batches of `count`; on a GPU its launches, which take longer than the work, are recorded once."""

        class Plain(nn.Module):
            def __init__(self, unet: nn.Module) -> None:
                super().__init__()
                self.unet = unet

            def forward(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
                return self.unet(noisy, timesteps, text, return_dict=False)[0]

        plain = Plain(self.painter.unet)
        if not (self.folder / RECORDED).exists():
            return plain
        noisy, timesteps, text = self._example(count)
        with torch.autocast("cuda", dtype=self.kind, cache_enabled=False):
            recorded = torch.cuda.make_graphed_callables(plain, (noisy, timesteps, text), allow_unused_input=True)

        def run(noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
            with torch.autocast("cuda", dtype=self.kind, cache_enabled=False):
                return recorded(noisy, timesteps, text.float())

        return run

    def _example(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        side = SIZE // SHRINK
        return (
            torch.randn(count, CHANNELS, side, side, device=self.device),
            torch.randint(1000, (count,), device=self.device),
            torch.randn(count, WORDS, TEXT_WIDTH, device=self.device, requires_grad=True),
        )

    def rehearse(self) -> None:
        """Tries the recorded UNet in a process of its own: RECORDED appears where it is right, and is then used."""
        count = self.size.batch
        given = self._example(count)
        nudge = torch.randn_like(given[0])
        (self.folder / RECORDED).touch()
        answers = []
        for unet in (self._graphed(count), self.painter.unet):
            for turn in range(6):
                if turn == 2:
                    torch.cuda.synchronize()
                    begun = time.monotonic()
                self.painter.zero_grad(set_to_none=True)
                with self.fast():
                    made = unet(*given)
                    made = (made if isinstance(made, Tensor) else made.sample).float()
                (made * nudge).mean().backward()
            torch.cuda.synchronize()
            grads = torch.cat([p.grad.flatten() for p in self.painter.unet.parameters() if p.grad is not None])
            answers.append((made.detach(), grads.clone()))
            print(f"rehearsal: {(time.monotonic() - begun) / 4 * 1000:.0f} ms", flush=True)  # noqa: T201
        off = [float((a - b).norm() / b.norm()) for a, b in zip(*answers, strict=True)]
        print(f"rehearsal: off by {off}", flush=True)  # noqa: T201
        if max(off) > 0.05:
            (self.folder / RECORDED).unlink()

    def polish_decoder(self, seconds: float) -> None:
        """Tunes the decoder alone on latents a little off, as the painter's are."""

        def loss(step: int) -> Tensor:
            wanted = self.pieces(self.size.pieces)
            with torch.no_grad(), self.fast():
                latents = self.vae.encoder(wanted).float()
            with self.fast():
                made = self.vae.decoder(latents + 0.1 * torch.rand(len(latents), 1, 1, 1, device=self.device) * torch.randn_like(latents))
            return difference(made.float(), wanted)

        self.vae.decoder.requires_grad_(True)
        budget = Budget(seconds, self.steps)
        steps = descend(self.vae.decoder, loss, budget, adam=8e-4, muon=None, ema=0.995, name="decoder")
        self.vae.decoder.requires_grad_(False)
        print(f"decoder {steps} steps, {self._worth():.2f} dB", flush=True)  # noqa: T201

    def save(self, painter: Mapping[str, Tensor]) -> None:
        """The averaged weights so far in float16, in parts of which none is large."""
        self.folder.mkdir(parents=True, exist_ok=True)
        half = {name: value.half().cpu() if value.is_floating_point() else value.cpu() for name, value in painter.items()}
        unet = [name for name in half if name.startswith("unet.")]
        middle = len(unet) // 2
        parts = {
            PARTS[0]: {name: half[name] for name in unet[:middle]},
            PARTS[1]: {name: half[name] for name in unet[middle:]},
            PARTS[2]: {
                "text": {name: value for name, value in half.items() if not name.startswith("unet.")},
                "vae": {name: value.half().cpu() for name, value in self.vae.state_dict().items()},
            },
        }
        for name, part in parts.items():
            torch.save(part, self.folder / f"{name}.part")
            (self.folder / f"{name}.part").replace(self.folder / name)

    @torch.no_grad()
    def paint(self, prompts: Sequence[str], steps: int = 12, guidance: float = 3.0, seed: int = 0) -> NDArray[np.uint8]:
        """Pictures uint8 (N, SIZE, SIZE, 3) by DDIM."""
        said = torch.from_numpy(reader(self.folder)(prompts).astype(np.int64)).to(self.device)
        both = torch.cat([self.empty.expand_as(said), said])
        side = SIZE // SHRINK
        generator = torch.Generator("cpu").manual_seed(seed)
        x = torch.randn(len(prompts), CHANNELS, side, side, generator=generator).to(self.device)
        bar = alpha_bar().to(self.device)
        times = (torch.arange(steps, 0, -1) * len(bar) / steps).round().long() - 1
        for i, t in enumerate(times.tolist()):
            with self.fast():
                v = self.painter(torch.cat([x, x]), torch.full((2 * len(x),), t, device=self.device), both).float()
            v = v[: len(x)] + guidance * (v[len(x) :] - v[: len(x)])
            signal, sigma = bar[t].sqrt(), (1 - bar[t]).sqrt()
            clean, noise = signal * x - sigma * v, sigma * x + signal * v
            after = bar[times[i + 1]] if i + 1 < steps else torch.ones((), device=self.device)
            x = after.sqrt() * clean + (1 - after).sqrt() * noise
        with self.fast():
            rgb = torch.cat([self.vae.decoder(part) for part in x.split(8)])
        return ((rgb.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


SHOWN = (
    "a red apple on a blue background", "two dogs", "three bananas on a white background", "a grey elephant on a grey background", "kitten",
    "a red car on a yellow background", "a cat left of a dog", "a tree above a house on grass", "a bike by the sea", "an astronaut in space",
    "a photo of a fox, 4k", "A Blue Car", "four stars at night", "a pizza and a beer on a table", "smiley", "a shark underwater", "a bicyle",
    "a small mouse on pink", "a huge whale in the sea", "a penguin in the snow", "a rocket to the right of a planet in space", "an owl in the forest",
    "a green frog under an umbrella", "a robot on a turquoise background",
)  # fmt: skip


def train(stickers: Path, folder: Path, device: torch.device, seconds: float, size: Size, steps: int | None = None) -> None:
    """All phases into `folder`: weights in parts, and sheet.jpg to look at."""
    from PIL import Image

    training = Training(stickers, folder, device, size, steps)
    try:
        training.learn_autoencoder(SHARES["autoencoder"] * seconds)
        training._fold()
        training.learn_painter(SHARES["painter"] * seconds)
        training.save(training.painter.state_dict())
        training.polish_decoder(SHARES["decoder"] * seconds)
        training.save(training.painter.state_dict())
        training.painter.eval()
        pictures = training.paint(SHOWN if not size.probe == 1 else SHOWN[:2], 12 if size.probe > 1 else 2)[:, ::2, ::2]
        rows = [np.concatenate(list(pictures[i : i + 6]), axis=1) for i in range(0, len(pictures), 6)]
        Image.fromarray(np.concatenate(rows)).save(folder / "sheet.jpg", quality=85)
    finally:
        training.source.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stickers", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--steps", type=int, help="so many in each phase, instead of seconds")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pool", type=int, default=40_000, help="scenes at hand at a time")
    parser.add_argument("--small", action="store_true", help="tiny batches, to try it out")
    parser.add_argument("--rehearse", action="store_true", help="only try the recorded UNet; see Training.rehearse")
    given = parser.parse_args()
    size = Size(4, 4, 16, 4, 1, 1) if given.small else Size(pool=given.pool)
    if given.rehearse:
        training = Training(given.stickers, given.folder, torch.device(given.device), size._replace(workers=0), None)
        return training.rehearse()
    train(given.stickers, given.folder, torch.device(given.device), given.seconds, size, given.steps)


if __name__ == "__main__":
    main()
