"""The composition root: settings, machine, studio, faces. Starts everything, decides nothing."""

from __future__ import annotations

import os
import sys

# Before any library reads them: no telemetry, no analytics, no share tunnel.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if "SPACE_ID" in os.environ:  # a Hugging Face Space runs `python app.py` without flags
    os.environ.setdefault("STUDIO_MODE", "space")
    os.environ.setdefault("STUDIO_HOST", "0.0.0.0")


def main() -> None:
    try:
        from apps.cli import cli

        cli(prog_name="python app.py")
    except KeyboardInterrupt:  # while the libraries were still being read
        sys.exit(130)


if __name__ == "__main__":
    main()
