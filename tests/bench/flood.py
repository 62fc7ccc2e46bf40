"""Visitors who press on everybody: python -m tests.bench.flood [--questions 60] [--half-open 1000] [--mode space]

Many heavy questions to a lab at once, their clients leaving, the same again and a termination signal; and connections
that never send the head of a request. Prints how long the page took for somebody else meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import time
from collections import Counter

import httpx

from tests.bench.serving import Served, raise_files, served

QUESTION = {"op": "sample", "args": {"method": "ddpm", "count": 16, "steps": 1000}}
SMALL = {"op": "sample", "args": {"method": "ddim", "count": 1, "steps": 5}}
SUBJECT = "starter-ddpm"


def cookies(server: Served, visitors: int) -> list[dict[str, str]]:
    """Headers of so many visitors."""
    found = [httpx.get(server.url, timeout=30).headers.get("set-cookie", "") for _ in range(visitors)]
    return [{"cookie": one.partition(";")[0]} for one in found]


async def looks(server: Served, headers: dict[str, str], stop: asyncio.Event) -> list[float]:
    """Seconds that the status line took, again and again."""
    took = []
    async with httpx.AsyncClient(timeout=30) as client:
        while not stop.is_set():
            began = time.monotonic()
            (await client.get(f"{server.url}/face/status", headers=headers)).raise_for_status()
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.1)
    return took


async def ask(client: httpx.AsyncClient, server: Served, headers: dict[str, str], wait: float) -> tuple[str, float]:
    began = time.monotonic()
    try:
        url = f"{server.url}/face/explore/{SUBJECT}"
        answer = await client.post(url, json=QUESTION, headers=headers, timeout=wait)
        return str(answer.status_code), time.monotonic() - began
    except httpx.TimeoutException:
        return "left", time.monotonic() - began
    except httpx.HTTPError:
        return "cut", time.monotonic() - began


async def flood(server: Served, visitors: list[dict[str, str]], questions: int, wait: float) -> dict[str, object]:
    stop = asyncio.Event()
    looking = asyncio.create_task(looks(server, visitors[0], stop))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits) as client:
        many = (ask(client, server, visitors[k % len(visitors)], wait) for k in range(questions))
        answers = await asyncio.gather(*many)
    stop.set()
    took = await looking
    refused = [seconds for code, seconds in answers if code == "429"]
    return {
        "answers": dict(Counter(code for code, _ in answers)),
        "refused after s, at most": round(max(refused, default=0.0), 2),
        "status s, median and most": [round(statistics.median(took), 3), round(max(took), 3)],
    }


async def afterwards(server: Served, headers: dict[str, str], most: float = 60) -> float | None:
    """Seconds until somebody else's small question is answered."""
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=most) as client:
        while time.monotonic() - began < most:
            with contextlib.suppress(httpx.TimeoutException):
                answer = await client.post(f"{server.url}/face/explore/{SUBJECT}", json=SMALL, headers=headers)
                if answer.status_code == 200:
                    return round(time.monotonic() - began, 2)
            await asyncio.sleep(0.5)
    return None


def half_open(server: Served, count: int, seconds: float) -> dict[str, object]:
    """Connections that send half a head and stay."""
    before = server.log.stat().st_size
    opened: list[socket.socket] = []
    took, failed = [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while len(opened) < count:
            with contextlib.suppress(OSError):
                one = socket.create_connection(("127.0.0.1", server.port), timeout=2)
                one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
                opened.append(one)
        began = time.monotonic()
        try:
            httpx.get(f"{server.url}/face/ready", timeout=10).raise_for_status()
            took.append(time.monotonic() - began)
        except httpx.HTTPError:
            failed += 1
        time.sleep(0.2)
    for one in opened:
        one.close()
    return {
        "connections": count,
        "answer s, median and most": [round(statistics.median(took), 3), round(max(took), 3)] if took else None,
        "unanswered": failed,
        "log grew bytes": server.log.stat().st_size - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--half-open", type=int, default=1000)
    parser.add_argument("--mode", default="space")
    given = parser.parse_args()
    raise_files()
    with served(given.mode, module="tests.bench.serve_real") as server:
        found: dict[str, object] = {"half-open": half_open(server, given.half_open, 30)}
        visitors = cookies(server, 15)
        found["first"] = asyncio.run(flood(server, visitors, given.questions, 5))
        found["small question answered after s"] = asyncio.run(afterwards(server, visitors[0]))

        async def ended() -> float | None:
            pressing = asyncio.create_task(flood(server, visitors, given.questions, 30))
            await asyncio.sleep(3)
            took = await asyncio.to_thread(server.end, 60)
            with contextlib.suppress(httpx.HTTPError):
                await pressing
            return took

        took = asyncio.run(ended())
        found["ended after s"] = None if took is None else round(took, 1)
        found["log bytes"] = server.log.stat().st_size
        found["log tail"] = server.log.read_text(encoding="utf-8", errors="replace")[-1500:]
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
