"""A file on its way in stops before the disk is full, whether or not it said how large it is."""

import shutil
from collections import namedtuple

import pytest

from apps import uploads
from studio.errors import DiskFull, StudioError
from tests.apps.test_serve import run_elsewhere

Usage = namedtuple("Usage", "total used free")


async def chunks(count, size=2**20):
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("announced", [0, 64 * 2**20])
def test_a_body_is_counted_while_it_comes(tmp_path, monkeypatch, announced):
    free = 40 * 2**20
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: Usage(0, 0, free - sum(f.stat().st_size for f in tmp_path.iterdir()))
    )
    with pytest.raises(DiskFull):
        run_elsewhere(uploads.receive(chunks(64), tmp_path / "file", announced, floor=8 * 2**20))
    assert (tmp_path / "file").stat().st_size <= 33 * 2**20


def test_what_fits_is_written(tmp_path):
    run_elsewhere(uploads.receive(chunks(3, 10), tmp_path / "file", 0, floor=0))
    assert (tmp_path / "file").read_bytes() == b"x" * 30


def test_a_place_that_takes_no_file_says_so(tmp_path):
    with pytest.raises(StudioError):
        run_elsewhere(uploads.receive(chunks(1), tmp_path / "no" / "file", 0, floor=0))
