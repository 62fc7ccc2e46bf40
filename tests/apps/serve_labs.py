"""Serves a real studio that can only train: python -m tests.apps.serve_labs FOLDER PORT."""

import shutil
import sys
from pathlib import Path

from apps.serve import launch
from studio.config import ROOT, Config
from studio.device import probe
from studio.studio import Studio


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    models = folder / "models"
    models.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "models" / "train.toml", models / "train.toml")
    config = Config(home=folder / "home", cache=folder / "cache", models=models, port=port, prewarm=False)
    launch(Studio(config, probe("cpu")), config)


if __name__ == "__main__":
    main()
