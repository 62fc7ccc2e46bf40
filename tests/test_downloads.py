import threading
import time

import pytest

from studio.downloads import Downloads
from studio.errors import DownloadError
from tests.fakes import paced_card


def settled(downloads, id_="paced"):
    for _ in range(200):
        found = downloads.get(id_)
        if found.state != "running":
            return found
        time.sleep(0.01)
    raise AssertionError("still running")


def test_progress_then_done(tmp_path):
    go = threading.Event()

    def pull(card, progress):
        progress(5, 10, 2.0)
        go.wait(5)
        return tmp_path

    downloads = Downloads(pull)
    downloads.start(paced_card())
    while downloads.get("paced").done != 5:
        time.sleep(0.01)
    assert downloads.get("paced").remaining == 2.0
    assert downloads.start(paced_card()).done == 5  # asked twice, fetched once
    go.set()
    assert settled(downloads).state == "done"


def test_cancel_stops_at_the_next_chunk(tmp_path):
    def pull(card, progress):
        for n in range(10_000):
            progress(n, 10_000, None)
            time.sleep(0.001)
        return tmp_path

    downloads = Downloads(pull)
    downloads.start(paced_card())
    downloads.cancel("paced")
    assert settled(downloads).state == "cancelled"


@pytest.mark.parametrize("error", [DownloadError("The line went dead.", "Try again."), ValueError("a bug")])
def test_failure_is_told_and_can_be_tried_again(tmp_path, error):
    failures = [error]

    def pull(card, progress):
        if failures:
            raise failures.pop()
        return tmp_path

    downloads = Downloads(pull)
    downloads.start(paced_card())
    failed = settled(downloads)
    assert failed.state == "failed"
    assert failed.message
    assert failed.hint
    downloads.start(paced_card())
    assert settled(downloads).state == "done"


def test_unknown_is_none():
    assert Downloads(lambda card, progress: None).get("nobody") is None
