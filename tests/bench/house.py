"""The house under its own weights, seen from outside: first picture, later pictures, memory before and after.

    python -m tests.bench.house [--jobs 10]

Starts the studio with an empty home, opens it in a headless browser, clicks an example at once and waits for the
picture. Then starts it again, waits until it is at rest, runs jobs over HTTP and unloads all models. Prints one JSON
object. Memory is the proportional set size of the whole process tree (shared pages count once), in MB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

from tests.bench.startup import ROOT, facts, free_port, stop

PICTURE = ROOT / "assets" / "examples"


def call(url: str, data: bytes | None = None) -> Any:
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        return json.load(answer)


def tree_mb(pid: int) -> float:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes) / 2**20


def settled_mb(pid: int) -> float:
    """Memory once it stopped changing."""
    before, now = 0.0, tree_mb(pid)
    while abs(now - before) > 1:
        time.sleep(2)
        before, now = now, tree_mb(pid)
    return now


def run_job(root: str, kind: str, card: str, fields: dict[str, Any]) -> float:
    """Seconds from the request to the finished job."""
    began = time.perf_counter()
    job = call(f"{root}api/v1/{kind}?card={card}", json.dumps(fields).encode())
    while job["state"] in ("queued", "running"):
        time.sleep(0.02)
        job = call(f"{root}api/v1/jobs/{job['id']}")
    if job["state"] != "done":
        raise SystemExit(f"{card}: {job['message']} {job['hint']}")
    return time.perf_counter() - began


def first_picture(root: str) -> tuple[float, float]:
    """Seconds from the click on an example to the picture on screen; seconds of a second click."""
    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(root)
        page.wait_for_selector("#generate-stage .examples button")
        times = []
        for start in ("#generate-stage .examples button", "#generate-run button.primary"):
            page.wait_for_selector("#generate-run button.primary")
            before = page.evaluate("document.querySelector('#generate-stage .figure img:not(.preview)')?.src ?? ''")
            began = time.perf_counter()
            page.click(start)
            page.wait_for_function(
                """before => { const i = document.querySelector('#generate-stage .figure img:not(.preview)');
                return i && i.src !== before && i.complete && i.naturalWidth > 0
                    && document.querySelector('#generate-stage a.button') }""",
                arg=before,
            )
            times.append(time.perf_counter() - began)
        browser.close()
    return times[0], times[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10)
    jobs = parser.parse_args().jobs
    found = {}
    with studio() as (root, pid, page_s):
        found["page_s"] = round(page_s, 2)
        found["first_picture_s"], found["second_picture_s"] = first_picture(root)
    with studio() as (root, pid, _):
        found |= memory(root, pid, jobs)
    print(json.dumps(found))  # noqa: T201


@contextmanager
def studio() -> Iterator[tuple[str, int, float]]:
    """A running studio with an empty home: its address, its process, the seconds until its page was ready."""
    port = free_port()
    root = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "app.py", "--port", str(port), "--home", home]
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            while not is_ready(root):
                time.sleep(0.05)
            yield root, process.pid, time.perf_counter() - began
        finally:
            stop(process)


def is_ready(root: str) -> bool:
    try:
        return bool(call(f"{root}face/ready")["ready"])
    except OSError:
        return False


def memory(root: str, pid: int, jobs: int) -> dict[str, Any]:
    time.sleep(20)  # the libraries are got ready in the background
    before = settled_mb(pid)
    photo = call_asset(root, next(PICTURE.glob("*.jpg")))
    pictures = [
        run_job(root, "generate", "starter-text-to-image", {"prompt": "a rocket on a yellow background", "seed": n})
        for n in range(jobs - 2)
    ]
    run_job(root, "detect", "starter-detector", {"image": photo})
    run_job(root, "segment", "starter-segmenter", {"image": photo, "points": [[200, 200, 1]]})
    loaded, page = tree_mb(pid), facts(pid)
    call(f"{root}face/unload", b"{}")
    after = settled_mb(pid)
    return {
        "later_pictures_s": round(statistics.median(pictures[1:]), 2),
        "tree_mb_before": round(before),
        "tree_mb_loaded": round(loaded),
        "tree_mb_after_unload": round(after),
        "after_to_before": round(after / before, 3),
        **{f"page_{name}": value for name, value in page.items()},
    }


def call_asset(root: str, file: Path) -> str:
    request = urllib.request.Request(f"{root}api/v1/assets?name={file.name}", file.read_bytes())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["id"])


if __name__ == "__main__":
    main()
