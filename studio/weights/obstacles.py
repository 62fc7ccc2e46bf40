"""Models that are kept although nothing here can run them, and why: derived from the card, so that an engine that comes
later makes them ready without another import."""

from __future__ import annotations

from studio.cards import Card
from studio.engines.base import ENGINES

WHY = {  # engine of the card -> what is in the way
    "lora": "a LoRA changes a Stable Diffusion model while that is loaded, and no model here can be given one",
    "textual-inversion": "a textual inversion teaches a Stable Diffusion model a word, and no model here can learn one",
    "taesd": "a tiny decoder takes the place of a Stable Diffusion model's own, and no model here can be given one",
    "component": "it is one part of a pipeline; import the whole diffusers folder",
    "gguf": "there is no engine for GGUF files",
    "upscale": "there is no engine for upscalers of this kind",
    "sam2": "there is no engine for Segment Anything 2",
    "efficientsam": "there is no engine for EfficientSAM",
}
SINGLE_FILE = (
    "a checkpoint in a single file lacks its configuration and its tokenizer, and nothing here supplies them; "
    "import the same model as a diffusers folder"
)


def obstacle(card: Card) -> str:
    """Why nothing here can run the model, one sentence; empty where something can."""
    why = ""
    if card.engine not in ENGINES:
        why = WHY.get(card.engine, f"there is no engine called {card.engine!r}")
    elif card.options.get("layout") == "single-file" and "config" not in card.options:
        why = SINGLE_FILE
    return f"Kept, but nothing here can run it yet: {why}." if why else ""
