"""Requests that no page makes: python -m tests.bench.fuzz_http [--requests 20000] [--pictures 20000] [--seed 0]

Bodies of every POST route and Gradio's calls, mutated, and pictures with flipped, cut and doubled bytes. Prints the
number of answers of each code, those of 500 and above, hangs over ten seconds, and how the memory grew.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.bench.serving import Served, loads, page_config, served

HANG_S = 10.0
ODD = (
    None, True, -1, 0, 10**30, 1e308, "NaN", "-Infinity", "", "x" * 5000, "../" * 50, "\\ud800", "\u0000", "🍕", [], {},
    [[]], {"a": {"a": {}}}, "C:\\", "//host/share", "local", "a" * 64, "0" * 32,
)  # fmt: skip
SEEDS: dict[str, list[Any]] = {
    "/face/explore/starter": [{"op": "sample", "args": {"count": 1}, "image": None}],
    "/face/run/vae-1/continue": [{"minutes": 5, "steps": None}],
    "/face/run/vae-1/adopt": [{"title": "Mine", "pictures": True}],
    "/face/run/vae-1/pause": [{}],
    "/face/run/vae-1/delete": [{}],
    "/face/compress/starter/compare": [{"variants": ["onnx.fp32"], "anyway": False}],
    "/face/compress/starter/use/onnx.fp32": [{}],
    "/face/models/starter/verify": [{}],
    "/face/models/room": [{}],
    "/face/keep/0123": [{}],
    "/face/job/0123/cancel": [{}],
    "/api/v1/generate": [{"prompt": "x", "steps": 3, "seed": 0}],
    "/api/v1/detect": [{"image": "a" * 64, "confidence": 0.2}],
    "/api/v1/segment": [{"image": "a" * 64, "box": [1, 2, 3, 4]}],
}
FORMATS = (("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB"))


def mutated(value: Any, rng: random.Random) -> Any:
    """The value with one place changed to something odd."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        changed = {**value, key: mutated(value[key], rng)}
        if rng.random() < 0.1:
            changed[str(rng.choice(ODD))] = rng.choice(ODD)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        k = rng.randrange(len(value))
        return [*value[:k], mutated(value[k], rng), *value[k + 1 :]]
    return rng.choice(ODD)


def body_of(value: Any, rng: random.Random) -> bytes:
    """As JSON; now and then with what is none: NaN, half a letter, an end too soon."""
    text = json.dumps(value)
    if rng.random() < 0.1:
        text = text.replace('"NaN"', "NaN").replace("\\\\ud800", "\\ud800")
    if rng.random() < 0.05:
        text = text[: rng.randrange(len(text) + 1)]
    return text.encode()


def requests(calls: list[tuple[int, list[Any]]], count: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Path and body of each."""
    paths = list(SEEDS)
    for _ in range(count):
        if calls and rng.random() < 0.5:
            number, values = rng.choice(calls)
            call = {"fn_index": number, "data": values, "session_hash": "abc", "event_data": {"index": 0}}
            yield "/gradio_api/run/predict", body_of(mutated(call, rng), rng)
        else:
            path = rng.choice(paths)
            yield path, body_of(mutated(rng.choice(SEEDS[path]), rng), rng)


def originals() -> list[bytes]:
    """A small picture in every format."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    found = []
    for format, mode in FORMATS:
        image = Image.fromarray(noise).convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, format)
        found.append(buffer.getvalue())
    return found


def broken(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut off, doubled."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    if rng.random() < 0.2:
        del changed[rng.randrange(1, len(changed)) :]
    if rng.random() < 0.1:
        changed += changed[: rng.randrange(len(changed))]
    return bytes(changed)


def press(server: Served, count: int, pictures: int, seed: int, threads: int = 4) -> dict[str, Any]:
    """Sends all of it."""
    rng = random.Random(seed)
    first = httpx.get(server.url, timeout=60)
    headers = {"cookie": first.headers.get("set-cookie", "").partition(";")[0], "content-type": "application/json"}
    config = page_config(first.text)
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    calls = [(k, [values.get(input_) for input_ in one["inputs"]]) for k, one in enumerate(config["dependencies"])]
    assert loads(config), "a page calls something when it is opened"
    codes: Counter[int] = Counter()
    failures: list[str] = []
    hangs = 0

    with httpx.Client(timeout=60, base_url=server.url, headers=headers) as client, ThreadPoolExecutor(threads) as pool:

        def send(asked: tuple[str, bytes]) -> None:
            nonlocal hangs
            began = time.monotonic()
            answer = client.post(asked[0], content=asked[1])
            hangs += time.monotonic() - began > HANG_S
            codes[answer.status_code] += 1
            if answer.status_code >= 500 or "Traceback" in answer.text:
                failures.append(f"{answer.status_code} {asked[0]} {asked[1][:200]!r} -> {answer.text[:200]}")

        def all_of(make: Callable[[], Iterator[tuple[str, bytes]]]) -> None:
            list(pool.map(send, make()))

        def uploads(many: int) -> Iterator[tuple[str, bytes]]:
            sources = originals()
            for _ in range(many):
                kind = rng.choice(("image", "mask", "text"))
                yield f"/face/upload?kind={kind}", broken(rng.choice(sources), rng)

        all_of(lambda: requests(calls, 200, rng))  # warm
        all_of(lambda: uploads(100))
        before = server.memory()
        codes.clear()
        all_of(lambda: requests(calls, count, rng))
        between, asked = server.memory(), dict(sorted(codes.items()))
        codes.clear()
        all_of(lambda: uploads(pictures))
        after, brought = server.memory(), dict(sorted(codes.items()))
    return {
        "requests": asked,
        "pictures": brought,
        "500 and above": len(failures),
        "hangs": hangs,
        "MB before, between, after": [round(one, 1) for one in (before, between, after)],
        "failures": failures[:20],
        "log bytes": server.log.stat().st_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", default="local")
    given = parser.parse_args()
    with served(given.mode, pace=0.0) as server:
        print(json.dumps(press(server, given.requests, given.pictures, given.seed), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
