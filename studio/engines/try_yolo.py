"""Loads a detector once and says how it reads it, for an import: `python -m studio.intake.child ... FOLDER OPTIONS`.

Prints `studio.engines.yolo.Reading` as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from studio.cards import Card, Source
from studio.device import probe
from studio.engines.yolo import Yolo
from studio.errors import StudioError
from studio.intake.child import fail


def main(argv: list[str]) -> int:
    card = Card(
        id="this-detector",
        title="This detector",
        tasks=("detect",),
        engine="yolo",
        licence="unknown",
        source=Source(kind="none"),
        size=None,
        memory=None,
        options=json.loads(argv[1]),
    )
    try:
        engine = Yolo(card, Path(argv[0]), probe("cpu"))
    except StudioError as error:
        return fail(error)
    sys.stdout.write(json.dumps(engine.reading._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
