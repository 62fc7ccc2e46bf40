"""Serves a real studio that measures quickly, on any machine: python -m tests.apps.serve_compress FOLDER PORT.

Every model that is leased is written to FOLDER/leased.txt with the variant it runs, a line each.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from apps.serve import launch
from studio.cards import Card
from studio.compress import measure, samples
from studio.compress.networks import Place
from studio.config import Config
from studio.device import probe
from studio.studio import Studio
from studio.worker import Worker


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    measure.refuse_busy = lambda: None
    samples.COMPARED = samples.COUNTED = 2
    config = Config(home=folder / "home", cache=folder / "cache", port=port, prewarm=False)
    studio = Studio(config, probe("cpu"))
    studio.compare = partial(studio.compare, runs=2)  # type: ignore[method-assign]
    lease = studio.pool.lease

    def written(card: Card, *args: Any) -> AbstractContextManager[Worker]:
        place = Place.of(card)
        with (folder / "leased.txt").open("a", encoding="utf-8") as file:
            file.write(f"{card.id} {'as it came' if place is None else f'{place.runtime}-{place.precision}'}\n")
        return lease(card, *args)

    studio.pool.lease = written  # type: ignore[method-assign]
    launch(studio, config)


if __name__ == "__main__":
    main()
