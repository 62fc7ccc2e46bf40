import sqlite3

import pytest

from studio.database import Database
from studio.errors import StudioError

FIRST = "CREATE TABLE IF NOT EXISTS thing (id INTEGER PRIMARY KEY)"
SECOND = "ALTER TABLE thing ADD COLUMN name TEXT NOT NULL DEFAULT 'x'; CREATE INDEX thing_name ON thing (name)"


def test_a_file_from_before_versions_is_brought_forward(tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as old:
        old.execute("CREATE TABLE thing (id INTEGER PRIMARY KEY)")
        old.execute("INSERT INTO thing VALUES (7)")
    old.close()
    database = Database(tmp_path / "a.db", (FIRST, SECOND))
    assert [tuple(row) for row in database.rows("SELECT id, name FROM thing")] == [(7, "x")]
    again = Database(tmp_path / "a.db", (FIRST, SECOND))
    assert again.rows("PRAGMA user_version")[0][0] == 2


def test_a_newer_file_is_refused_in_words_and_left_alone(tmp_path):
    Database(tmp_path / "a.db", (FIRST, SECOND))
    with pytest.raises(StudioError, match="newer studio"):
        Database(tmp_path / "a.db", (FIRST,))
    assert Database(tmp_path / "a.db", (FIRST, SECOND)).rows("SELECT name FROM thing") == []


def test_a_migration_that_fails_leaves_the_version_before(tmp_path):
    Database(tmp_path / "a.db", (FIRST,))
    broken = "ALTER TABLE thing ADD COLUMN name TEXT; CREATE INDEX wrong ON nothing (x)"
    with pytest.raises(StudioError):
        Database(tmp_path / "a.db", (FIRST, broken))
    assert Database(tmp_path / "a.db", (FIRST, SECOND)).rows("SELECT name FROM thing") == []


def test_what_was_confirmed_is_synced(tmp_path):
    database = Database(tmp_path / "a.db", (FIRST,))
    assert database.rows("PRAGMA synchronous")[0][0] == 2  # FULL
    assert database.rows("PRAGMA journal_mode")[0][0] == "wal"


def test_a_block_that_raises_changes_nothing(tmp_path):
    database = Database(tmp_path / "a.db", (FIRST,))
    with pytest.raises(ZeroDivisionError), database.transaction() as db:
        db.execute("INSERT INTO thing VALUES (?)", (1 // len(db.execute("SELECT 1 WHERE 0").fetchall()),))
    assert database.rows("SELECT * FROM thing") == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_home_that_cannot_be_made_is_told_in_words(tmp_path, place):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StudioError, match="cannot be used"):
        Database(tmp_path / place / "a.db", (FIRST,))
