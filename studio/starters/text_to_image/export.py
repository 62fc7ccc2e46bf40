"""The trained parts as a float16 `StableDiffusionPipeline` folder with the graphs and facts that the studio serves.

python -m studio.starters.text_to_image.export OUT models/starter-text-to-image
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from studio.nets import torchvision_guard
from studio.starters import words
from studio.starters.text_to_image import autoencoder, recipe

SHARD = "9MB"
"""Files stay below the 10 MB that a repository of a Space takes without LFS."""


def painter(folder: Path) -> tuple[Any, Any, Any]:
    """The trained painter, autoencoder and tokenizer, in float32."""
    tokenizer = recipe.make_tokenizer(folder)
    parts = [torch.load(folder / name, weights_only=True, map_location="cpu") for name in recipe.PARTS]
    made = recipe.Painter(len(tokenizer), tokenizer.eos_token_id)
    made.load_state_dict({**parts[0], **parts[1], **parts[2]["text"]})
    vae = autoencoder.network()
    vae.load_state_dict(parts[2]["vae"])
    return made.float().eval(), vae.float().eval(), tokenizer


def export(folder: Path, to: Path) -> None:
    """Writes the pipeline. It opens in float32 where nothing else is asked for, text encoder included."""
    torchvision_guard.install()
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    made, vae, tokenizer = painter(folder)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=made.text_encoder,
        tokenizer=tokenizer,
        unet=made.unet,
        scheduler=DDIMScheduler(**recipe.SCHEDULE, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)
    pipeline.save_pretrained(to, safe_serialization=True, max_shard_size=SHARD)
    config = to / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
    for path in to.rglob("*.safetensors"):
        path.chmod(0o644)
    (to / "facts.json").write_text(json.dumps(facts(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def facts() -> dict[str, Any]:
    """What the weights know."""
    return {
        "things": [thing.name for thing in words.painted()],
        "colours": [*words.COLOURS, *words.COLOUR_NAMES],
        "relations": [said for ways in words.RELATIONS.values() for said in dict.fromkeys(ways)],
        "grounds": [said for ways in words.GROUNDS.values() for said in ways],
        "words": {
            "synonyms": {word: thing.name for thing in words.painted() for word in thing.synonyms},
            "fillers": sorted(words.FILLERS | {*words.SMALL, *words.BIG}),
            "counts": [said for ways in words.NUMBERS.values() for said in dict.fromkeys(ways)],
        },
        "size": recipe.SIZE,
        "recipe": "python -m studio.starters.text_to_image",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("to", type=Path)
    given = parser.parse_args()
    export(given.folder, given.to)


if __name__ == "__main__":
    main()
