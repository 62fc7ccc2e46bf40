"""Recipes of the shipped weights that are trained on a GPU: each a module with `python -m studio.starters.NAME`.

Every recipe takes `--seconds` (its whole budget, after which the rate has fallen to zero), `--device`, `--out` and
writes its averaged weights there once a minute and at the end.
"""
