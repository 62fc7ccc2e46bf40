"""Recipe of the starter text-to-image model, a whole `StableDiffusionPipeline` for 512 px trained on drawn scenes.

Parts: an autoencoder, a BPE tokenizer in CLIP's format, a small CLIP text encoder and a UNet, the last two trained
together. The UNet predicts v on the usual linear noise schedule, so the usual diffusers schedulers paint with it.

    python -m studio.starters.text_to_image --atlas painted.zip --out OUT --seconds 560
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from studio.nets import torchvision_guard
from studio.starters import atlas, budget, scenes, words
from studio.starters.composer import Composer
from studio.starters.scenes import Batch
from studio.starters.stream import Read, Stream
from studio.starters.text_to_image import autoencoder
from studio.starters.text_to_image.autoencoder import CHANNELS, SHRINK

SIZE = 512
WORDS = 32
"""Tokens in a caption, padding included."""
TEXT_WIDTH = 192
MERGES = 2600
PARTS = ("painter-1.pt", "painter-2.pt", "rest.pt")
EVERY = 4
"""Steps between fresh scenes in the painter's pool."""
SHARES = {"autoencoder": 0.25, "painter": 0.69, "decoder": 0.06}
"""Of the budget."""
GAIN = 3.0
"""dB by which whole pictures must come back better than their mean, or nothing is painted."""
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

    picture: int = SIZE
    piece: int = 256
    pieces: int = 48
    batch: int = 640
    pool: int = 40_000
    fresh: int = 24
    workers: int = 12
    probe: int = 32


TINY = Size(128, 64, 4, 4, 16, 4, 0, 4)


# ── networks ─────────────────────────────────────────────────────────────────


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
    names = [name for thing in words.painted() for name in (thing.name, *thing.synonyms)]
    texts = [scenes.draw(rng).caption for _ in range(30_000)]
    texts += [text for name in names for text in (name, words.plural(name)) for _ in range(10)]
    texts += [text for name in (*words.COLOURS, *words.COLOUR_NAMES) for text in (name,) * 20]
    return texts + [text for said in words.GROUNDS.values() for text in said] * 10


def reader(folder: Path) -> Read:
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


# ── training ─────────────────────────────────────────────────────────────────


class Training:
    """The recipe, phase after phase, on one device, as `budget.arguments` says."""

    def __init__(self, given: Any, size: Size) -> None:
        self.folder, self.size, self.steps = given.out, size, given.steps
        make_tokenizer(self.folder)
        read = functools.partial(reader, self.folder)
        self.stream = Stream(read, scenes.PAINTED, workers=size.workers, count=max(size.fresh, 4), seed=given.seed)
        self.stream.take(1)  # the workers have begun before a GPU is touched
        self.device = budget.prepare(given.device, given.seed)
        self.journal = budget.Journal(self.folder / "text_to_image.log")
        self.composer = Composer(atlas.read(given.atlas), (), self.device, seed=given.seed)
        self.vae = autoencoder.network().to(self.device, memory_format=torch.channels_last)
        self.empty = torch.from_numpy(read()([""])[0].astype(np.int64)).to(self.device)
        end = int(self.empty[-1])
        self.painter = Painter(end + 1, end).to(self.device)

    def pictures(self, batch: Batch) -> Tensor:
        """float32 (N, 3, S, S) in [-1, 1]."""
        made = self.composer.paint(batch, self.size.picture).mul_(2).sub_(1)
        return made.contiguous(memory_format=torch.channels_last)

    def pieces(self, count: int) -> Tensor:
        """Pieces of fresh scenes, float32 (count, 3, P, P) in [-1, 1]: four of each picture."""
        pictures, side = self.pictures(self.stream.take(max(1, count // 4))[0]), self.size.piece
        corners = np.random.default_rng().integers(0, self.size.picture - side + 1, (count, 2))
        cut = [
            pictures[i // 4 % len(pictures), :, y : y + side, x : x + side] for i, (y, x) in enumerate(corners.tolist())
        ]
        return torch.stack(cut).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """Latents float16 (N, CHANNELS, S / SHRINK, S / SHRINK)."""
        return self.vae.encoder(self.pictures(batch)).half().contiguous()

    @torch.no_grad()
    def worth(self) -> tuple[float, float]:
        """PSNR in dB of whole pictures that went through the autoencoder, and of the mean picture."""
        wanted = self.pictures(self.stream.take(self.size.probe)[0])
        made = self.vae.decoder(self.vae.encoder(wanted))
        mean = wanted.mean(dim=(0, 2, 3), keepdim=True).expand_as(wanted)
        return autoencoder.psnr(made, wanted), autoencoder.psnr(mean, wanted)

    def learn_autoencoder(self, seconds: float) -> None:
        """In float32: bf16 has too few digits for thirty layers without normalisation. Raises Collapse."""

        def loss(progress: float, share: float) -> tuple[Tensor, Mapping[str, Tensor], int]:
            wanted = self.pieces(max(1, round(self.size.pieces * share)))
            return autoencoder.loss(self.vae, wanted), {}, len(wanted)

        wanted = self.pieces(2 * self.size.pieces)
        trivial = float(autoencoder.difference(wanted.mean(dim=(0, 2, 3), keepdim=True).expand_as(wanted), wanted))
        plan = budget.Budget(
            seconds, rate=1e-3, weight_decay=0.0, warmup=200, flat=0.25, ema=0.998, steps=self.steps, keep_s=20
        )
        guard = budget.Guard("autoencoder", trivial)
        budget.descend(
            self.vae,
            loss,
            plan,
            self.journal,
            lambda: None,
            lambda: "{:.2f} dB of {:.2f}".format(*self.worth()),
            guard=guard,
        )
        reached, mean = self.worth()
        if reached < mean + GAIN:
            raise budget.Collapse(
                f"The autoencoder gives back {reached:.1f} dB, the mean picture {mean:.1f} dB.",
                "Train it longer or look at its rates: a painter on its latents would learn nothing.",
            )
        latents = torch.cat([self.encode(self.stream.take(self.size.probe)[0]) for _ in range(8)])
        self.journal(f"smallest deviation of a latent channel {autoencoder.standardise(self.vae, latents):.3f}")
        self.vae.requires_grad_(False)

    def learn_painter(self, seconds: float) -> None:
        begun, size = time.monotonic(), self.size
        side, count = size.picture // SHRINK, size.batch
        pool = torch.zeros(size.pool, CHANNELS, side, side, dtype=torch.float16, device=self.device)
        tokens = torch.zeros(size.pool, WORDS, dtype=torch.int64, device=self.device)

        def fill(at: int, number: int) -> None:
            batch, _, said = self.stream.take(number)
            pool[at : at + number] = self.encode(batch)
            tokens[at : at + number] = torch.from_numpy(said.astype(np.int64)).to(self.device)

        piece = min(128, size.pool)
        for at in range(0, size.pool - piece + 1, piece):
            fill(at, piece)
        self.journal(f"pool of {size.pool} latents filled in {time.monotonic() - begun:.0f} s")
        bar, fresh, step = alpha_bar().to(self.device), min(EVERY * size.fresh, size.pool), 0

        def loss(progress: float, share: float) -> tuple[Tensor, Mapping[str, Tensor], int]:
            nonlocal step
            if step % EVERY == 0:
                fill((step // EVERY % (size.pool // fresh)) * fresh, fresh)
            step, number = step + 1, max(1, round(count * share))
            which = torch.randint(len(pool), (number,), device=self.device)
            clean = pool[which].float()
            said = torch.where(torch.rand(number, 1, device=self.device) < 0.08, self.empty, tokens[which])
            strata = (torch.arange(number, device=self.device) + torch.rand(number, device=self.device)) / number
            timesteps = (strata * len(bar)).long().clamp(max=len(bar) - 1)
            signal, sigma = (part.sqrt()[:, None, None, None] for part in (bar[timesteps], 1 - bar[timesteps]))
            noise = torch.randn_like(clean)
            with budget.fast(self.device):
                made = self.painter(signal * clean + sigma * noise, timesteps, said)
            return (made.float() - (signal * noise - sigma * clean)).square().mean(), {}, number

        plan = budget.Budget(
            seconds - (time.monotonic() - begun), rate=1e-3, muon_rate=0.015, warmup=150, flat=0.25, ema=0.999,
            steps=self.steps,
        )  # fmt: skip
        guard = budget.Guard("painter", 0.95)  # v of standard latents has variance 1
        budget.descend(self.painter, loss, plan, self.journal, self.save, lambda: "kept", guard=guard)

    def polish_decoder(self, seconds: float) -> None:
        """Tunes the decoder alone on latents a little off, as the painter's are."""

        def loss(progress: float, share: float) -> tuple[Tensor, Mapping[str, Tensor], int]:
            wanted = self.pieces(max(1, round(self.size.pieces * share)))
            with torch.no_grad():
                latents = self.vae.encoder(wanted).float()
                off = 0.1 * torch.rand(len(latents), 1, 1, 1, device=self.device) * torch.randn_like(latents)
            return autoencoder.difference(self.vae.decoder(latents + off).float(), wanted), {}, len(wanted)

        self.vae.decoder.requires_grad_(True)
        plan = budget.Budget(seconds, rate=5e-4, weight_decay=0.0, warmup=100, ema=0.995, steps=self.steps)
        guard = budget.Guard("decoder", math.inf)
        budget.descend(
            self.vae.decoder,
            loss,
            plan,
            self.journal,
            self.save,
            lambda: "{:.2f} dB of {:.2f}".format(*self.worth()),
            guard=guard,
        )
        self.vae.decoder.requires_grad_(False)

    def save(self) -> None:
        """The weights as they are, in float16, in parts of which none is large."""
        half = budget.half(self.painter.state_dict())
        unet = [name for name in half if name.startswith("unet.")]
        middle = len(unet) // 2
        parts: tuple[Any, ...] = (
            {name: half[name] for name in unet[:middle]},
            {name: half[name] for name in unet[middle:]},
            {
                "text": {name: value for name, value in half.items() if not name.startswith("unet.")},
                "vae": budget.half(self.vae.state_dict()),
            },
        )
        for name, part in zip(PARTS, parts, strict=True):
            budget.save(part, self.folder / name)

    @torch.no_grad()
    def paint(self, prompts: Sequence[str], steps: int = 12, guidance: float = 3.0, seed: int = 0) -> NDArray[np.uint8]:
        """Pictures uint8 (N, S, S, 3) by DDIM."""
        said = torch.from_numpy(reader(self.folder)(prompts).astype(np.int64)).to(self.device)
        both = torch.cat([self.empty.expand_as(said), said])
        side = self.size.picture // SHRINK
        generator = torch.Generator("cpu").manual_seed(seed)
        x = torch.randn(len(prompts), CHANNELS, side, side, generator=generator).to(self.device)
        bar = alpha_bar().to(self.device)
        times = (torch.arange(steps, 0, -1) * len(bar) / steps).round().long() - 1
        for i, t in enumerate(times.tolist()):
            with budget.fast(self.device):
                v = self.painter(torch.cat([x, x]), torch.full((2 * len(x),), t, device=self.device), both).float()
            v = v[: len(x)] + guidance * (v[len(x) :] - v[: len(x)])
            signal, sigma = bar[t].sqrt(), (1 - bar[t]).sqrt()
            clean, noise = signal * x - sigma * v, sigma * x + signal * v
            after = bar[times[i + 1]] if i + 1 < steps else torch.ones((), device=self.device)
            x = after.sqrt() * clean + (1 - after).sqrt() * noise
        rgb = torch.cat([self.vae.decoder(part) for part in x.split(8)])
        return ((rgb.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


SHOWN = (
    "a red apple on a blue background", "two dogs", "three bananas on a white background",
    "a grey elephant on a grey background", "kitten", "a red car on a yellow background", "a cat left of a dog",
    "a tree above a house on grass", "a bike by the sea", "an astronaut in space", "a photo of a fox, 4k",
    "A Blue Car", "four stars at night", "a pizza and a beer on a table", "smiley", "a shark underwater",
    "a bicyle", "a small mouse on pink", "a huge whale in the sea", "a penguin in the snow",
    "a rocket to the right of a planet in space", "an owl in the forest", "a green frog under an umbrella",
    "a robot on a turquoise background",
)  # fmt: skip


def train(given: Any, size: Size) -> None:
    """All phases: weights in parts, and sheet.jpg to look at, in `out`. Raises Collapse."""
    training = Training(given, size)
    training.learn_autoencoder(SHARES["autoencoder"] * given.seconds)
    training.learn_painter(SHARES["painter"] * given.seconds)
    training.polish_decoder(SHARES["decoder"] * given.seconds)
    training.painter.eval()
    pictures = training.paint(SHOWN[: 6 * (1 if given.tiny else 4)], 2 if given.tiny else 12)[:, ::2, ::2]
    rows = [np.concatenate(list(pictures[i : i + 6]), axis=1) for i in range(0, len(pictures), 6)]
    Image.fromarray(np.concatenate(rows)).save(given.out / "sheet.jpg", quality=85)


def main() -> None:
    given = budget.arguments(__doc__).parse_args()
    train(given, TINY if given.tiny else Size())
