"""Gets diffusers pipelines off the disk: folders, single checkpoints, LoRA files, tiny decoders.

diffusers and transformers are imported here and nowhere else, offline and without any code that comes with weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from studio.cards import Card
from studio.device import Device
from studio.engines import diffusers_folder
from studio.errors import IntegrityError, OutOfMemory, Unsupported
from studio.intake.safeheader import read_header
from studio.nets import torchvision_guard
from studio.ops import lora, taesd


class Family(NamedTuple):
    """Names of diffusers classes that share components, and what their constructors want besides."""

    text: str
    image: str
    inpaint: str
    extra: Mapping[str, Any]


SD = Family(
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    {"safety_checker": None, "requires_safety_checker": False},
)
SDXL = Family(
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    {"add_watermarker": False},
)
# Class named in model_index.json -> family. A latent consistency model is Stable Diffusion with one more input,
# which the ordinary pipelines fill in.
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": SD,
    "StableDiffusionImg2ImgPipeline": SD,
    "StableDiffusionInpaintPipeline": SD,
    "LatentConsistencyModelPipeline": SD,
    "LatentConsistencyModelImg2ImgPipeline": SD,
    "StableDiffusionXLPipeline": SDXL,
    "StableDiffusionXLImg2ImgPipeline": SDXL,
    "StableDiffusionXLInpaintPipeline": SDXL,
}


def place(device: Device) -> tuple[str, torch.dtype]:
    """Where to run and in which precision: half only where the hardware is made for it."""
    if device.accelerator == "auto" and torch.cuda.is_available():
        return "cuda", torch.float16
    if device.accelerator == "auto" and torch.backends.mps.is_available():
        return "mps", torch.float16
    return "cpu", torch.float32


def diffusers() -> Any:
    """The library, told to stay quiet; `worker.prepare_environment` keeps it offline."""
    torchvision_guard.install()
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    return diffusers


@contextmanager
def translated(title: str) -> Iterator[None]:
    """Errors of the libraries that running out of memory causes, as ours."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if (
            isinstance(error, MemoryError)
            or "out of memory" in text
            or "allocate memory" in text
            or "alloc_cpu" in text
        ):
            raise OutOfMemory(
                f"{title} ran out of memory.", "Make the picture smaller, or choose a smaller model."
            ) from error
        raise


def load(card: Card, folder: Path, dtype: torch.dtype) -> tuple[Family, Any]:
    if not (folder / diffusers_folder.INDEX).is_file():
        singles = sorted(folder.glob("*.safetensors"))
        if len(singles) == 1:
            return _load_single(card, folder, singles[0], dtype)
    found = diffusers_folder.inspect(folder, str(card.options.get("variant", "")))
    family = _family(found.pipeline)
    arguments = {"variant": found.variant or None, "use_safetensors": True, "local_files_only": True}
    with _damaged(card.title):
        pipe = getattr(diffusers(), family.text).from_pretrained(
            str(folder), dtype=dtype, trust_remote_code=False, **arguments, **family.extra
        )
    pipe.set_progress_bar_config(disable=True)
    return family, pipe


def _load_single(card: Card, folder: Path, file: Path, dtype: torch.dtype) -> tuple[Family, Any]:
    """A checkpoint in one file. Its configuration and tokenizer are not in it and must be on this device."""
    kind = checkpoint_kind(read_header(file).shapes)
    config = card.options.get("config")
    if config is None or not (folder / str(config) / diffusers_folder.INDEX).is_file():
        raise Unsupported(
            f"{file.name} is a {kind} checkpoint in one file, without its configuration and tokenizer.",
            "Install it as a diffusers folder, or name such a folder of the same kind in the card's options.config.",
        )
    family = SDXL if kind == "SDXL" else SD
    with _damaged(card.title):
        pipe = getattr(diffusers(), family.text).from_single_file(
            str(file), config=str(folder / str(config)), torch_dtype=dtype, local_files_only=True, **family.extra
        )
    pipe.set_progress_bar_config(disable=True)
    return family, pipe


def checkpoint_kind(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """ "SD 1.x", "SD 2.x" or "SDXL", from the layout of the original training code. Raises Unsupported."""
    if not any(name.startswith("model.diffusion_model.input_blocks.") for name in shapes):
        raise Unsupported("This file is not a Stable Diffusion checkpoint.", "Choose an SD 1.x, SD 2.x or SDXL model.")
    key = "transformer_blocks.0.attn2.to_k.weight"
    width = next((shape[1] for name, shape in shapes.items() if name.endswith(key)), 0)
    if width not in lora.BASES:
        raise Unsupported("This checkpoint is of a kind that is not known.", "Choose an SD 1.x, SD 2.x or SDXL model.")
    return lora.BASES[width]


def _family(pipeline: str) -> Family:
    if pipeline not in FAMILIES:
        raise Unsupported(
            f"Models of the kind {pipeline} cannot be run here.", "Choose a Stable Diffusion (1.x, 2.x, XL) model."
        )
    return FAMILIES[pipeline]


@contextmanager
def _damaged(title: str) -> Iterator[None]:
    """What diffusers raises on files that are whole but do not fit together."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(
            f"{title} cannot be loaded: {reason}", "Verify the model, or download it again."
        ) from error


def add_loras(pipe: Any, folder: Path, entries: Any) -> None:
    """Merges LoRA files into the weights: they cost nothing per step. Raises Unsupported where one does not fit."""
    from safetensors.torch import load_file

    scales: dict[str, float] = {}
    for number, entry in enumerate(entries):
        file = folder / str(entry["path"])
        shapes = read_header(file).shapes
        facts = lora.identify(shapes)
        width = pipe.unet.config.cross_attention_dim
        if facts.context and facts.context != width:
            raise Unsupported(
                f"{file.name} is an {facts}; it does not fit this model.", "Choose a LoRA made for the same base model."
            )
        weights = load_file(str(file))
        _add_tokens(pipe, {token: weights.pop(token) for token in facts.tokens})
        if facts.layout == "cloneofsimo":
            weights = {new: weights[old] for old, new in lora.rename(shapes).items()}
        try:
            pipe.load_lora_weights(weights, adapter_name=f"lora{number}")
        except (ValueError, KeyError, RuntimeError) as error:
            raise Unsupported(
                f"{file.name} does not fit this model.", "Choose a LoRA made for the same base model."
            ) from error
        scales[f"lora{number}"] = float(entry.get("scale", 1.0))
    if scales:
        pipe.set_adapters(list(scales), list(scales.values()))
        pipe.fuse_lora(adapter_names=list(scales))
        pipe.unload_lora_weights()


def _add_tokens(pipe: Any, tokens: Mapping[str, Tensor]) -> None:
    for token, vector in tokens.items():
        pipe.load_textual_inversion({token: vector[None]}, token=token)


def tiny_decoder(folder: Path, option: Any, dtype: torch.dtype) -> Any:
    """An AutoencoderTiny that decodes, from a TAESD file or a diffusers folder; None where the card names none."""
    if option is None:
        return None
    place = folder / str(option)
    kind = diffusers().AutoencoderTiny
    if place.is_dir():
        with _damaged(place.name):
            return kind.from_pretrained(str(place), torch_dtype=dtype, use_safetensors=True, local_files_only=True)
    from safetensors.torch import load_file

    read_header(place)
    weights = load_file(str(place))
    try:
        names = taesd.rename(weights)
        first = weights[next(old for old, new in names.items() if new == "decoder.layers.0.weight")]
        decoder = kind(latent_channels=first.shape[1])
        missing = decoder.load_state_dict({new: weights[old] for old, new in names.items()}, strict=False).missing_keys
    except (ValueError, StopIteration, RuntimeError) as error:
        raise IntegrityError(f"{place.name} is not a TAESD decoder.", "Choose taesd_decoder.safetensors.") from error
    if any(name.startswith("decoder.") for name in missing):
        raise IntegrityError(f"{place.name} is incomplete.", "Download it again.")
    return decoder.to(dtype).eval()


def limit_prompt(pipe: Any) -> None:
    """Tokenizers saved without their limit would pad to 10^30 tokens."""
    for tokenizer, encoder in (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")):
        if getattr(pipe, tokenizer, None) is not None and getattr(pipe, encoder, None) is not None:
            limit = int(getattr(pipe, encoder).config.max_position_embeddings)
            getattr(pipe, tokenizer).model_max_length = min(int(getattr(pipe, tokenizer).model_max_length), limit)
