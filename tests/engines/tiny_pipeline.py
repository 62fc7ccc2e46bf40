"""Diffusers folders with random weights that run in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from studio.nets import torchvision_guard

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,-'"
MAX_TOKENS = 16
TEXT_WIDTH = 32
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def write_tokenizer(folder: Path, name: str = "tokenizer") -> Any:
    """A CLIP tokenizer that knows single characters; `MAX_TOKENS` long."""
    from transformers import CLIPTokenizer

    raw = folder / f"raw-{name}"
    raw.mkdir(parents=True)
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (raw / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (raw / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(raw / "vocab.json"), str(raw / "merges.txt"), model_max_length=MAX_TOKENS)


def components(
    folder: Path, channels: int = 4, in_channels: int | None = None, tiny_vae: bool = True
) -> dict[str, Any]:
    """Parts of a Stable Diffusion pipeline for 64 px pictures, the same in every call."""
    torchvision_guard.install()
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    vae: Any = (
        diffusers.AutoencoderTiny(
            latent_channels=channels,
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
        )
        if tiny_vae
        else diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=channels,
            scaling_factor=0.5,
        )
    )
    tokenizer = write_tokenizer(folder)
    return {
        "vae": vae,
        "unet": diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=channels if in_channels is None else in_channels,
            out_channels=channels,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=8,
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=TEXT_WIDTH,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=MAX_TOKENS,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=tokenizer.bos_token_id,
            )
        ),
        "tokenizer": tokenizer,
        "scheduler": diffusers.DDIMScheduler(**SCHEDULE),
    }


def write_sd(folder: Path, *, prediction: str = "epsilon", variant: str | None = None, **parts: Any) -> Path:
    """A whole `StableDiffusionPipeline` folder."""
    made = components(folder / "raw", **parts)
    import diffusers

    made["scheduler"] = diffusers.DDIMScheduler(**SCHEDULE, prediction_type=prediction)
    pipe = diffusers.StableDiffusionPipeline(
        **made, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    if variant is not None:
        pipe.to(torch.float16)
    pipe.save_pretrained(folder / "pipe", variant=variant)
    return folder / "pipe"


def write_sdxl(folder: Path) -> Path:
    """A whole `StableDiffusionXLPipeline` folder."""
    made = components(folder / "raw", tiny_vae=False)
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(1)
    tokenizer = write_tokenizer(folder / "raw", "tokenizer_2")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=TEXT_WIDTH,
        eos_token_id=tokenizer.eos_token_id,
    )
    made["unet"] = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * TEXT_WIDTH,
        attention_head_dim=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH,
    )
    pipe = diffusers.StableDiffusionXLPipeline(
        **made, text_encoder_2=CLIPTextModelWithProjection(config), tokenizer_2=tokenizer, add_watermarker=False
    )
    pipe.save_pretrained(folder / "pipe")
    return folder / "pipe"
