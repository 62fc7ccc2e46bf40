"""Pages of a mapped file leave this process's memory, and what is in the file can still be read."""

from __future__ import annotations

import mmap

import pytest

from studio.runtimes import pages

MAPS = """7f00-7f10 r--s 00000000 fe:00 215 /home/a model.bin
7f20-7f28 rw-s 00000000 fe:00 215 /home/a model.bin
7f30-7f38 r--p 00000000 fe:00 216 /home/other.bin
7f40-7f48 rw-p 00000000 00:00 0
"""


def test_where_a_file_is_mapped():
    assert pages.mapped(MAPS, "/home/a model.bin") == [(0x7F00, 0x10)]
    assert pages.mapped("", "/home/a model.bin") == []


@pytest.mark.skipif(not pages.MAPS.is_file(), reason="only where the system tells what is mapped")
def test_what_was_read_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "LARGE", 2**20)
    file = tmp_path / "weights.bin"
    file.write_bytes(b"x" * 2**23)

    def held() -> int:
        """Bytes of the file in this process's memory."""
        text = pages.MAPS.with_name("smaps").read_text(encoding="utf-8")
        rest = text[text.index(str(file)) :]
        return 1024 * int(rest[rest.index("Rss:") :].split()[1])

    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        with pages.given_back(file):
            assert mapped[:].count(b"x") == 2**23
        assert held() < 2**20
        assert mapped[-1:] == b"x"


def test_a_small_file_and_none_are_left_alone(tmp_path):
    with pages.given_back(tmp_path / "none.bin"):
        pass
