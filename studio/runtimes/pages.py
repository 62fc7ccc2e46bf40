"""Pages of a mapped file that were read and are not needed any more, given back to the system.

OpenVINO maps the weights' file and copies it, layer by layer, into the order that the processor wants. The pages it
read stay counted as this process's memory until something needs their room: with a large network that is the weights a
second time, at the very moment when most is held.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGE = 64 * 2**20  # bytes; a smaller file is not worth it
EVERY_S = 0.05
DONTNEED = 4  # of madvise(2): what is mapped from a file is read again if it is asked for again
MAPS = Path("/proc/self/maps")


@contextmanager
def given_back(file: Path) -> Iterator[None]:
    """While the block runs, and once more at its end, gives back the pages that were read of a large mapped file.

    Nothing happens where the system does not tell what is mapped, or the file is small.
    """
    if not MAPS.is_file() or not file.is_file() or file.stat().st_size < LARGE:
        yield
        return
    name, done = str(file.resolve()), threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_S):
            _give_back(name)

    thread = threading.Thread(target=watch, name="pages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _give_back(name)


def mapped(maps: str, name: str) -> list[tuple[int, int]]:
    """Where a file is mapped: first address and length of each read-only piece, from the text of /proc/self/maps."""
    found = []
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)  # addresses, rights, offset, device, inode, and a path where there is one
        if len(fields) == 6 and fields[5] == name and fields[1].startswith("r--"):
            first, last = (int(number, 16) for number in fields[0].split("-"))
            found.append((first, last - first))
    return found


def _give_back(name: str) -> None:
    libc = ctypes.CDLL(None)
    for first, length in mapped(MAPS.read_text(encoding="utf-8", errors="replace"), name):
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), DONTNEED)
