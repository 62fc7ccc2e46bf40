"""Serves the fake studio: python -m tests.apps.serve_fake FOLDER PORT [PACE] [MODE]."""

import sys
from pathlib import Path

from apps.serve import launch
from tests.apps.fake_compare import attach
from tests.apps.fakes import fake_studio


def main() -> None:
    folder, port, pace, mode = [*sys.argv[1:], *["0.05", "local"][len(sys.argv) - 3 :]]
    studio = attach(fake_studio(Path(folder), pace=float(pace), mode=mode, port=int(port)))
    launch(studio, studio.config)


if __name__ == "__main__":
    main()
