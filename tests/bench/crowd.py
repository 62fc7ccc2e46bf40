"""Many visitors beside a training: python -m tests.bench.crowd [--clients 200] [--seconds 60] [--train vae]

Each client is a visitor who looks at the status line, loads a picture, and now and then begins a job; a training in a
process of its own takes the processor, as one in the studio does. Prints requests a second, and the median and 95th
percentile in ms of each kind. `--root` measures another working copy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from studio.ops.pictures import encode_png
from tests.bench.serving import ROOT, Served, page_config, raise_files, served


def submit_call(config: dict[str, Any], prompt: str) -> dict[str, Any]:
    """What the page posts when Generate is pressed."""
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    values |= {one["id"]: "a" * 32 for one in config["components"] if one["type"] == "browserstate"}  # of older pages
    bar = next(one["id"] for one in config["components"] if one["props"].get("elem_id") == "generate-run")
    number, callback = next(
        (k, one) for k, one in enumerate(config["dependencies"]) if [bar, "run"] in [list(t) for t in one["targets"]]
    )
    prompts = {one["id"] for one in config["components"] if one["props"].get("label") == "Prompt"}
    data = [prompt if id_ in prompts else values.get(id_) for id_ in callback["inputs"]]
    return {"fn_index": number, "data": data, "event_data": None, "trigger_id": bar}


async def client(
    server: Served, number: int, picture: bytes, config: dict[str, Any], end: float, cookie: str,
    took: dict[str, list[float]], codes: Counter[str],
) -> None:  # fmt: skip
    rng = random.Random(number)
    headers = {"cookie": cookie} if cookie else {}

    async def timed(kind: str, method: str, path: str, **more: Any) -> httpx.Response | None:
        began = time.monotonic()
        try:
            answer = await web.request(method, path, **more)
        except httpx.HTTPError as error:
            codes[f"{kind} {type(error).__name__}"] += 1
            return None
        took[kind].append(time.monotonic() - began)
        codes[f"{kind} {answer.status_code}"] += 1
        return answer

    async with httpx.AsyncClient(base_url=server.url, timeout=30, headers=headers) as web:
        await asyncio.sleep(rng.random() * 3)
        brought = await timed("upload", "POST", "/face/upload?kind=image", content=picture)
        asset = brought.json().get("id") if brought is not None and brought.status_code == 200 else None
        while time.monotonic() < end:
            await timed("status", "GET", "/face/status")
            if asset:
                await timed("asset", "GET", f"/face/asset/{asset}.webp")
            if rng.random() < 0.1:
                call = submit_call(config, f"crowd {number}") | {"session_hash": f"crowd{number}"}
                await timed("submit", "POST", "/gradio_api/run/predict", json=call)
            await asyncio.sleep(rng.uniform(1.0, 2.0))


async def crowd(server: Served, clients: int, seconds: float) -> dict[str, Any]:
    first = httpx.get(server.url, timeout=60)
    config = page_config(first.text)
    cookies = [first.headers.get("set-cookie", "").partition(";")[0]]
    while len(cookies) < 15:
        cookies.append(httpx.get(server.url, timeout=60).headers.get("set-cookie", "").partition(";")[0])
    picture = encode_png(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8))
    took: dict[str, list[float]] = defaultdict(list)
    codes: Counter[str] = Counter()
    begun = time.monotonic()
    await asyncio.gather(
        *(
            client(server, k, picture, config, begun + seconds, cookies[k % len(cookies)], took, codes)
            for k in range(clients)
        )
    )
    lasted = time.monotonic() - begun
    return {
        "clients": clients,
        "requests a second": round(sum(map(len, took.values())) / lasted, 1),
        "ms, median and p95": {
            kind: [round(1000 * statistics.median(one)), round(1000 * sorted(one)[int(0.95 * (len(one) - 1))])]
            for kind, one in took.items()
        },
        "answers": dict(sorted(codes.items())),
    }


@contextlib.contextmanager
def training(recipe: str, folder: Path, seconds: float) -> Iterator[None]:
    """The recipe, trained meanwhile; nothing for an empty name."""
    if not recipe:
        yield
        return
    environment = {**os.environ, "STUDIO_HOME": str(folder / "other"), "STUDIO_CACHE": str(folder / "other-cache")}
    command = [sys.executable, "app.py", "train", recipe, "--minutes", f"{seconds / 60 + 1:.2f}"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet) as one:
        try:
            time.sleep(15)  # its libraries are loaded by then
            yield
        finally:
            one.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--train", default="vae", help="empty: none")
    parser.add_argument("--root", type=Path, default=ROOT)
    given = parser.parse_args()
    raise_files()
    with served("space", pace=0.2, root=given.root) as server, training(given.train, server.folder, given.seconds):
        print(json.dumps(asyncio.run(crowd(server, given.clients, given.seconds)), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
