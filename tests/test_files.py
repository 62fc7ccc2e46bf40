import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio import files
from studio.errors import DiskFull, StudioError
from tests.fakes import FullDisk


def test_a_file_is_whole_and_nothing_is_left_beside_it(tmp_path):
    files.write(tmp_path / "a" / "b.json", b"one")
    files.write(tmp_path / "a" / "b.json", b"two")
    assert (tmp_path / "a" / "b.json").read_bytes() == b"two"
    assert os.listdir(tmp_path / "a") == ["b.json"]


def test_file_and_folder_are_synced_before_a_write_returns(tmp_path, monkeypatch):
    synced, sync = [], files.sync
    monkeypatch.setattr(files, "sync", lambda path: (synced.append(str(path)), sync(path)))
    files.write(tmp_path / "new" / "a", b"x")
    assert [Path(path).name for path in synced][-2:] == [Path(synced[-2]).name, "new"]
    assert Path(synced[-2]).name.startswith(".a.")
    assert str(tmp_path) in synced  # a folder that was made is in its own folder after a power cut


def test_a_file_takes_its_place_between_the_two_syncs(tmp_path, monkeypatch):
    """After a power cut the name leads to the whole old file or the whole new one."""
    order, sync, replace = [], files.sync, os.replace
    monkeypatch.setattr(files, "sync", lambda path: (order.append("folder" if path.is_dir() else "file"), sync(path)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    files.write(tmp_path / "a", b"x")
    assert order == ["file", "replace", "folder"]


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    files.write(tmp_path / "a", b"old")
    disk = FullDisk(monkeypatch)
    disk.fill()
    with pytest.raises(DiskFull):
        files.write(tmp_path / "a", b"new")
    disk.free()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_library_that_tells_of_a_full_disk_in_words_is_understood(tmp_path):
    with pytest.raises(DiskFull), files.whole(tmp_path / "a"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(ZeroDivisionError), files.whole(tmp_path / "a"):
        raise ZeroDivisionError


def test_what_a_killed_writer_left_is_swept_and_what_is_being_written_stays(tmp_path):
    path = f"Path({str(tmp_path)!r}) / 'a'"
    code = f"from pathlib import Path; from studio import files; files.draft({path}).write_text('')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    (tmp_path / "below").mkdir()
    stage = files.draft(tmp_path / "below" / "stage")
    stage.mkdir()
    old, young = tmp_path / "b.png.0123456789abcdef.part", tmp_path / "c.tmp"
    old.touch()
    young.touch()
    os.utime(old, (1, 1))
    assert files.sweep(tmp_path) == 2
    assert sorted(os.listdir(tmp_path)) == ["below", "c.tmp"]
    assert stage.is_dir()


def test_the_files_of_a_model_are_never_swept(tmp_path):
    file = tmp_path / "models" / "mine" / "weights.part"
    file.parent.mkdir(parents=True)
    file.touch()
    os.utime(file, (1, 1))
    assert files.sweep(tmp_path) == 0
    assert file.exists()


def test_folders_are_for_this_user_only(tmp_path):
    files.make(tmp_path / "home" / "assets")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("home", "home/assets")] == [0o700, 0o700]


def test_a_published_folder_takes_nobodys_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    files.publish(tmp_path / "one", tmp_path / "place")
    with pytest.raises(FileExistsError):
        files.publish(tmp_path / "two", tmp_path / "place")
    assert (tmp_path / "place" / "file").read_text() == "one"


def test_room_is_asked_for_before_it_is_taken(tmp_path):
    files.require_room(tmp_path / "not" / "there", 1, 1)
    with pytest.raises(DiskFull, match="stay free"):
        files.require_room(tmp_path, 0, 2**60)


def test_a_folder_that_is_a_file_is_told_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudioError, match="cannot be used"):
        files.usable(tmp_path / "file")


def test_other_troubles_are_told_in_words(tmp_path):
    with pytest.raises(StudioError, match="could not be saved"), files.whole(tmp_path / "a"):
        raise OSError(errno.EIO, "Input/output error")
