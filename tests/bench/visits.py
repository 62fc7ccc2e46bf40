"""What visits leave behind: python -m tests.bench.visits [--visits 5000] [--mode space]

A visit opens the page's long connection, calls what the page calls when it is opened, and closes the connection.
Prints the memory of the page's process before, on the way and after.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.bench.serving import Served, loads, page_config, served


def visit(server: Served, client: httpx.Client, calls: list[tuple[int, list[object]]], cookie: str) -> int:
    """One visit; how many of its calls failed."""
    session = secrets.token_hex(6)
    headers = {"cookie": cookie} if cookie else {}
    failed = 0
    with client.stream("GET", f"{server.url}/gradio_api/heartbeat/{session}", headers=headers) as beats:
        next(beats.iter_raw())
        for number, values in calls:
            body = {"data": values, "fn_index": number, "session_hash": session, "event_data": None}
            answer = client.post(f"{server.url}/gradio_api/run/predict", json=body, headers=headers)
            failed += answer.status_code != 200
    return failed


def measure(visits: int, mode: str, warm: int = 100, threads: int = 4) -> dict[str, object]:
    """Memory in MB after `warm` visits, and at each fifth of the others."""
    with served(mode) as server, httpx.Client(timeout=30) as client:
        first = client.get(server.url)
        calls = loads(page_config(first.text))
        cookie = first.headers.get("set-cookie", "").partition(";")[0]
        with ThreadPoolExecutor(threads) as pool:

            def some(count: int) -> int:
                return sum(pool.map(lambda _: visit(server, client, calls, cookie), range(count)))

            failed = some(warm)
            memory, begun = [server.memory()], time.monotonic()
            for _ in range(5):
                failed += some(visits // 5)
                memory.append(server.memory())
            seconds = time.monotonic() - begun
        return {
            "visits": visits,
            "calls a visit": len(calls),
            "failed": failed,
            "MB": [round(one, 1) for one in memory],
            "grew MB": round(memory[-1] - memory[0], 1),
            "visits a second": round(visits / seconds, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=5000)
    parser.add_argument("--mode", default="space")
    given = parser.parse_args()
    print(json.dumps(measure(given.visits, given.mode), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
