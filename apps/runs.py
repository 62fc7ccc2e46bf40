"""Runs: every training on this device, compared, continued, kept as a model, or deleted."""

from __future__ import annotations

from apps import pieces
from apps.widgets import Face


def build(face: Face) -> None:
    """One piece; it follows the runs by `/face/runs` and opens labs by their tab's key."""
    pieces.piece("runs", "runs", elem_classes=["page"])
