"""Serves the studio as it is: python -m tests.bench.serve_real FOLDER PORT PACE MODE (the pace is the machine's)."""

import sys
from pathlib import Path

from apps.serve import launch
from studio.config import Config
from studio.device import probe
from studio.studio import Studio


def main() -> None:
    folder, port, _, mode = sys.argv[1:]
    home = Path(folder)
    config = Config(home=home / "home", cache=home / "cache", mode=mode, port=int(port), offline=True)
    studio = Studio(config, probe(config.accelerator))
    launch(studio, config)


if __name__ == "__main__":
    main()
