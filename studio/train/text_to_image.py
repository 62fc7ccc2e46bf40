"""Recipe: the starter text-to-image model, a whole `StableDiffusionPipeline` for 128 px trained on the starter world.

Parts: the starter autoencoder (128 px <-> 16x16x8), a BPE tokenizer in CLIP's format, a two-layer CLIP text encoder
and a small UNet, the last two trained together. The UNet predicts v on the usual linear noise schedule, so the usual
diffusers schedulers paint with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from studio.nets import torchvision_guard
from studio.train import autoencoder, judge, loop, world

WORDS = 24
"""Tokens in a caption, padding included."""

TEXT_WIDTH = 192
MERGES = 1200
SCHEDULE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}


class Painter(nn.Module):
    """What is trained: tokens and noisy latents in, v out."""

    def __init__(self, vocabulary: int, end: int) -> None:
        super().__init__()
        torchvision_guard.install()
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        self.text_encoder: Any = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=TEXT_WIDTH,
                intermediate_size=2 * TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=WORDS,
                bos_token_id=end - 1,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
        self.unet: Any = UNet2DConditionModel(
            sample_size=16,
            in_channels=autoencoder.CHANNELS,
            out_channels=autoencoder.CHANNELS,
            block_out_channels=(64, 128, 192),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            # The caption, pooled, also joins the timestep in every block: with little training that says what to paint
            # much sooner than cross-attention does, which is left to say where.
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


def train(
    folder: Path,
    *,
    minutes: float | None = 75.0,
    steps: int | None = None,
    autoencoder_minutes: float = 25.0,
    captions: int = 4,
    batch: int = 20,
    lanes: int = 2,
    rate: float = 1e-3,
    muon_rate: float | None = 0.02,
    seed: int = 0,
    resume: bool = True,
    report: loop.Report | None = None,
) -> dict[str, float]:
    """Trains whatever of autoencoder, tokenizer and painter `folder` lacks, and exports to `folder`/pipeline.

    Every step learns from `lanes` batches side
    by side. `steps` bounds every phase instead of minutes. Raises Unsupported without an emoji font.
    """
    torch.manual_seed(seed)
    if not (folder / "encoder").is_dir():
        budget: dict[str, Any] = {"steps": steps, "minutes": 0.65 * autoencoder_minutes}
        autoencoder.train(
            folder, **budget, decoder_minutes=0.35 * autoencoder_minutes, seed=seed, resume=resume, report=report
        )
    tokenizer = make_tokenizer(folder)
    latents, tokens = dataset(folder, tokenizer, captions, seed)
    painter = Painter(len(tokenizer), tokenizer.eos_token_id)
    empty = tokenize(tokenizer, [""])[0]
    plan = loop.Plan(
        steps=steps,
        minutes=None if steps is not None else minutes,
        rate=rate,
        muon_rate=muon_rate,
        ema=0.995,
        weight_decay=0.01,
    )
    metrics = loop.fit(
        painter,
        _loss(painter, latents, tokens, empty, batch),
        plan,
        checkpoint=folder / "painter.pt",
        seed=seed,
        resume=resume,
        report=report,
        lanes=lanes,
    )
    export(folder, folder / "pipeline")
    metrics.update(evaluate(folder / "pipeline"))
    write_facts(folder / "pipeline", metrics)
    return metrics


def _loss(painter: Painter, latents: Tensor, tokens: Tensor, empty: Tensor, batch: int) -> loop.Loss:
    kept = alpha_bar()

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Any]]:
        which = torch.randint(len(latents), (batch,), generator=generator)
        clean, said = latents[which].float(), tokens[which]
        said = torch.where(torch.rand((batch, 1), generator=generator) < 0.1, empty, said)
        strata = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch  # one timestep of each stratum
        timesteps = (strata * len(kept)).long()
        signal = kept[timesteps].sqrt()[:, None, None, None]
        sigma = (1 - kept[timesteps]).sqrt()[:, None, None, None]
        noise = torch.randn(clean.shape, generator=generator)
        v = signal * noise - sigma * clean
        error = (painter(signal * clean + sigma * noise, timesteps, said) - v).square().mean(dim=(1, 2, 3))  # (batch,)
        return error.mean(), {"late": error[: batch // 3].mean(), "early": error[-batch // 3 :].mean()}

    return loss


def alpha_bar() -> Tensor:
    """How much of the clean latent's variance is left after each of the 1000 timesteps, float32 (1000,)."""
    betas = torch.linspace(SCHEDULE["beta_start"], SCHEDULE["beta_end"], SCHEDULE["num_train_timesteps"])
    return torch.cumprod(1 - betas, dim=0)


def make_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer with one token for each word of the world's captions; kept in `folder`/tokenizer."""
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
    """Text that holds every word of the world, things more often than once."""
    said = [world.canonical(thing.name, colour) for thing in world.THINGS for colour in world.COLOURS]
    return said + [
        world.scene(seed, mode=mode, size=16).caption for seed in range(500) for mode in ("portrait", "pair")
    ]


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """int64 (N, WORDS)."""
    encoded = tokenizer(list(texts), padding="max_length", truncation=True, max_length=WORDS, return_tensors="pt")
    return encoded.input_ids


def dataset(folder: Path, tokenizer: Any, captions: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents float16 (N, CHANNELS, 16, 16) and tokens (N, WORDS), drawn once and kept in `folder`.

    Every pair that is not held out is drawn once, steady, and told in so many `captions`; one scene in sixteen shows
    two things.
    """
    kept = folder / f"latents-{captions}-{seed}.pt"
    if kept.is_file():
        held = torch.load(kept, weights_only=True)
        return held["latents"], held["tokens"]
    rng, net, parts, said = np.random.default_rng(seed), _vae(folder), [], []
    for thing in world.THINGS:
        shown = [colour for colour in world.COLOURS if not world.held_out(thing.name, colour)]
        alone = [world.portrait(thing, colour, rng, steady=True).picture for colour in shown]
        pairs = [world.pair(rng, steady=True) for _ in range(max(1, captions * len(shown) // 15))]
        latents = autoencoder.encode(net, np.stack(alone + [one.picture for one in pairs])).half()
        parts += [latents[: len(shown)].repeat_interleave(captions, dim=0), latents[len(shown) :]]
        said += [world.say(rng, thing.name, colour) for colour in shown for _ in range(captions)]
        said += [one.caption for one in pairs]
    held = {"latents": torch.cat(parts), "tokens": tokenize(tokenizer, said)}
    torch.save(held, kept)
    return held["latents"], held["tokens"]


def _vae(folder: Path) -> Any:
    torchvision_guard.install()
    from diffusers import AutoencoderTiny

    place = folder / "vae" if (folder / "vae").is_dir() else folder / "encoder"
    return AutoencoderTiny.from_pretrained(place, torch_dtype=torch.float32).eval()


def export(folder: Path, to: Path) -> None:
    """Writes the averaged weights of `folder`'s checkpoint as a float16 `StableDiffusionPipeline` folder.

    It opens in float32 where nothing else is asked for, text encoder included.
    """
    tokenizer = make_tokenizer(folder)
    painter = Painter(len(tokenizer), tokenizer.eos_token_id)
    painter.load_state_dict(torch.load(folder / "painter.pt", weights_only=True)["average"])
    pipeline = assemble(painter, _vae(folder), tokenizer).to(torch.float16)
    pipeline.save_pretrained(to, safe_serialization=True, max_shard_size="15MB")
    config = to / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    for path in to.rglob("*.safetensors"):
        path.chmod(0o644)


def write_facts(folder: Path, metrics: Mapping[str, float]) -> None:
    """`folder`/facts.json: what the weights know, how good they are and how they were made."""
    facts = {
        "things": [thing.name for thing in world.THINGS],
        "colours": list(world.COLOURS),
        "relations": list(world.RELATIONS),
        "metrics": dict(metrics),
        "recipe": "python app.py train text-to-image",
        "minutes": round(metrics.get("minutes", 0.0), 1),
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def assemble(painter: Painter, vae: Any, tokenizer: Any) -> Any:
    """The parts as a `StableDiffusionPipeline` with a DDIM scheduler and no safety checker."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=painter.text_encoder.eval(),
        tokenizer=tokenizer,
        unet=painter.unet.eval(),
        scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load(folder: Path, scheduler: str | None = None) -> Any:
    """The exported pipeline in float32; `scheduler` is a diffusers class name that replaces the saved one."""
    torchvision_guard.install()
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.text_encoder.float()
    pipeline.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    return pipeline


def evaluate(
    folder: Path,
    *,
    count: int = 100,
    steps: int = 20,
    guidance: float = 3.0,
    scheduler: str | None = None,
    seed: int = 7,
    sheet: Path | None = None,
) -> dict[str, float]:
    """How often an exported pipeline paints what held-out prompts ask for, in percent, by `studio.train.judge`.

    The prompts are "a THING on a COLOUR background" for `count` random held-out pairs. `sheet` names a PNG for the
    first 36 pictures.
    """
    pipeline, known = load(folder, scheduler), judge.templates()
    pairs = held_out_pairs(count, seed)
    pictures: list[NDArray[np.uint8]] = []
    for start in range(0, len(pairs), 25):
        made = pipeline(
            [world.canonical(*pair) for pair in pairs[start : start + 25]],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed + start),
            output_type="np",
        ).images  # (25, 128, 128, 3) in [0, 1]
        pictures += list((made * 255).round().astype(np.uint8))
    if sheet is not None:
        Image.fromarray(contact_sheet(pictures[:36])).save(sheet)
    return {**score(pictures, pairs, known), **autoencoder.evaluate(folder)}


def score(
    pictures: Sequence[NDArray[np.uint8]], pairs: Sequence[tuple[str, str]], known: judge.Templates
) -> dict[str, float]:
    """Percent of pictures whose thing is the judge's first, is among its first five, and whose background is right."""
    ranks = [judge.ranking(picture, known).index(name) for picture, (name, _) in zip(pictures, pairs, strict=True)]
    grounds = [judge.background(picture)[0] == colour for picture, (_, colour) in zip(pictures, pairs, strict=True)]
    return {
        "thing_top1_percent": round(100 * float(np.mean(np.array(ranks) < 1)), 1),
        "thing_top5_percent": round(100 * float(np.mean(np.array(ranks) < 5)), 1),
        "background_percent": round(100 * float(np.mean(grounds)), 1),
    }


def held_out_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` random (thing, colour) pairs that training never shows."""
    pairs = [(t.name, colour) for t in world.THINGS for colour in world.COLOURS if world.held_out(t.name, colour)]
    return [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))[:count]]


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], columns: int = 9) -> NDArray[np.uint8]:
    """Pictures of one size, row by row, as one picture."""
    rows = [np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)]
    return np.concatenate([row for row in rows if row.shape == rows[0].shape], axis=0)
