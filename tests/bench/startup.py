"""How soon the page answers, against a bare one-tab Gradio app in the same run; what its process holds.

    python -m tests.bench.startup [--runs 5]

Starts the two in turn, each in a fresh process, and asks `/` until it answers with the page. Prints one JSON object:
median seconds of both, the median of the pairwise ratios, and what the studio's process has mapped and holds.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = ("torch", "onnxruntime", "openvino", "diffusers", "transformers", "ultralytics")
BARE = (
    "import gradio as gr\n"
    "with gr.Blocks() as demo:\n"
    "    with gr.Tab('One'):\n"
    "        gr.Interface(lambda text: text, 'text', 'text')\n"
    "demo.launch(server_port={port}, quiet=True)"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def seconds_to_page(command: list[str], port: int, needle: bytes) -> tuple[float, subprocess.Popen[bytes]]:
    """Starts the command and asks until the answer holds `needle` (a splash does not count as the page)."""
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                if needle in answer.read():
                    return time.perf_counter() - began, process
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise SystemExit(f"{command} ended with {process.returncode}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def facts(pid: int) -> dict[str, object]:
    """Memory of the page's process, and which heavy libraries it has mapped (a library that is imported is mapped)."""
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    mapped = sorted({name for name in HEAVY if f"/{name}/" in maps})
    return {"resident_mb": round(psutil.Process(pid).memory_info().rss / 2**20), "heavy_libraries": mapped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    bare, ours, held = [], [], {}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(runs + 1):  # the first pair warms the disk and is not counted
            port = free_port()
            seconds, process = seconds_to_page([sys.executable, "-c", BARE.format(port=port)], port, b"gradio")
            stop(process)
            bare.append(seconds)
            port = free_port()
            command = [sys.executable, "app.py", "--port", str(port), "--home", home]
            seconds, process = seconds_to_page(command, port, b"gradio_config")
            held = facts(process.pid)
            stop(process)
            ours.append(seconds)
    ratios = [o / b for o, b in zip(ours[1:], bare[1:], strict=True)]
    print(  # noqa: T201
        json.dumps(
            {
                "bare_gradio_s": round(statistics.median(bare[1:]), 2),
                "studio_s": round(statistics.median(ours[1:]), 2),
                "ratio": round(statistics.median(ratios), 2),
                "ratios": [round(r, 2) for r in ratios],
                **held,
            }
        )
    )


if __name__ == "__main__":
    main()
