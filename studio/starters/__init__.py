"""Recipes for starter weights that compose their scenes on the training device, for one GPU and minutes; they run,
slowly, on any device. The shipped detector was last tuned by one of them; `studio.train` made the other weights.

    python -m studio.starters.atlas world.zip                                     # where the emoji font is
    python -m studio.starters.atlas everything.zip --of everything --cell 72
    python -m studio.starters.atlas painted.zip --of painted --cell 384
    python -m studio.starters.detector      --atlas world.zip --out OUT --seconds 480 --device cuda
    python -m studio.starters.segmenter     --atlas world.zip --out OUT
    python -m studio.starters.clip          --atlas everything.zip --out OUT
    python -m studio.starters.text_to_image --atlas painted.zip --out OUT
    python -m studio.starters.upscaler      --out OUT
    python -m studio.starters.labs NAME     --out OUT

`atlas` puts stickers and photographs into one file; `words` says what things are called; `scenes` thinks up scenes with
captions, and `stream` does so in processes of its own; `composer` makes pictures on the training device; `budget` holds
the one loop, which ends a training that learns nothing (`Collapse`). Weights are averaged, and kept once a minute in
OUT. `ship`, `text_to_image.export` and the recipes' own `--export` turn them into a model's folder, and `judge` asks it
as a user does. `--steps 20 --tiny` tries a recipe on a processor.
"""
