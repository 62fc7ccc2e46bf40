"""Serves a real studio with the models it comes with: python -m tests.apps.serve_starters FOLDER PORT."""

import sys
from pathlib import Path

from apps.serve import launch
from studio.config import Config
from studio.device import probe
from studio.studio import Studio


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    config = Config(home=folder / "home", cache=folder / "cache", port=port, prewarm=False)
    launch(Studio(config, probe("cpu")), config)


if __name__ == "__main__":
    main()
