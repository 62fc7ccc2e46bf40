"""SQLite as the studio uses it: one file, write-ahead log, one connection a thread, short transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.errors import DiskFull, StudioError


class Database:
    """A SQLite file shared by threads of this process and by other processes.

    Args:
        file: created with its folder when absent.
        schema: statements that create what is missing (`CREATE ... IF NOT EXISTS`).
    """

    def __init__(self, file: Path, schema: str) -> None:
        self._file = file
        self._local = threading.local()
        file.parent.mkdir(parents=True, exist_ok=True)
        with self.transaction() as connection:
            connection.executescript(schema)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises DiskFull when there is no room, StudioError when the file is unusable."""
        try:
            with self._connection() as connection:
                yield connection
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "disk I/O" in str(error):
                raise DiskFull("The disk is full; nothing was saved.", "Free some room and run it again.") from error
            raise StudioError(f"The studio's records cannot be used: {error}.", f"Look at {self._file}.") from error
        except sqlite3.DatabaseError as error:
            raise StudioError(
                f"The studio's records are damaged: {error}.", f"Move {self._file} away; your pictures stay."
            ) from error

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        with self.transaction() as connection:
            return connection.execute(query, values).fetchall()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._file, timeout=20)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")
            self._local.connection = connection
        return connection
