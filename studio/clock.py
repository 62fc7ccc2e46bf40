"""What time it is, for deleting by age: a clock that jumped ahead is not believed at once.

A board without a battery, a dual boot or a slip of the hand sets a clock days or years ahead, and then everything
looks old. So the last time seen is kept in a file, and a jump of more than a day counts only once it has lasted a day.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from studio import files

JUMP_S = 86_400.0


class Clock:
    """Args:
    file: where it is kept.
    newest: the time of the newest thing that is known, seconds since the epoch; 0 for none. Counts where there is no
        file yet.
    """

    def __init__(self, file: Path, newest: float = 0.0) -> None:
        self._file = file
        self._seen, self._since = self._read(newest if newest else time.time())
        self._at = time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch, never later than can be believed. Raises DiskFull."""
        real, uptime = time.time(), time.monotonic() - self._at
        expected = self._seen + uptime
        if real <= expected + JUMP_S or self._has_lasted(real):
            self._seen, self._since = real, 0.0
        else:
            self._seen, self._since = expected, self._since or real
        self._at += uptime
        files.write(self._file, json.dumps({"seen": self._seen, "since": self._since}).encode())
        return self._seen

    def _has_lasted(self, real: float) -> bool:
        return 0 < self._since <= real - JUMP_S

    def _read(self, newest: float) -> tuple[float, float]:
        try:
            data = json.loads(self._file.read_bytes())
            return float(data["seen"]), float(data["since"])
        except (OSError, ValueError, KeyError, TypeError):
            return newest, 0.0
