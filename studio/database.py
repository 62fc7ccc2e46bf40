"""SQLite as the studio uses it: one file, write-ahead log, one connection a thread, short transactions.

What `transaction` returned from is on the disk, also after a power cut. The file carries its schema's version
(`PRAGMA user_version`), so an older one is brought forward and a newer one is refused instead of guessed at.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from studio import files
from studio.errors import DiskFull, StudioError


class Database:
    """A SQLite file shared by threads of this process and by other processes.

    Args:
        file: created with its folder when absent.
        migrations: statements, with semicolons between, that lead from each version of the schema to the next. The
            first makes an empty file version 1; it may meet the tables of a file from before versions.

    Raises StudioError for a file that is unusable or of a newer studio.
    """

    def __init__(self, file: Path, migrations: Sequence[str]) -> None:
        self._file = file
        self._local = threading.local()
        files.make(file.parent)
        self._migrate(migrations)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and nobody else writes meanwhile. Raises DiskFull when there is no room, StudioError when the
        file is unusable, and what the block raises."""
        with self._translated():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled back already
                    connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[sqlite3.Row]:
        with self._translated():
            return self._connection().execute(query, values).fetchall()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "disk I/O" in str(error):
                raise DiskFull("The disk is full; nothing was saved.", "Free some room and run it again.") from error
            raise StudioError(f"The studio's records cannot be used: {error}.", f"Look at {self._file}.") from error
        except sqlite3.DatabaseError as error:
            raise StudioError(
                f"The studio's records are damaged: {error}.", f"Move {self._file} away; your pictures stay."
            ) from error

    def _migrate(self, migrations: Sequence[str]) -> None:
        if self._version() < len(migrations):
            with self.transaction() as db:  # under its lock: another app may have been quicker
                for version in range(self._version() + 1, len(migrations) + 1):
                    for statement in migrations[version - 1].split(";"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {version}")
        if self._version() > len(migrations):
            raise StudioError(
                f"{self._file.name} was written by a newer studio (its records are of version {self._version()}, this "
                f"studio knows {len(migrations)}).",
                f"Use the newer studio, or move {self._file} away to begin anew.",
            )

    def _version(self) -> int:
        return int(self.rows("PRAGMA user_version")[0][0])

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._file, timeout=20, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            self._local.connection = connection
        return connection
