"""One file from a hub: resumed, hashed, cancelled, translated."""

import errno
import hashlib
import os

import pytest

from studio.errors import (
    Cancelled,
    DiskFull,
    DownloadError,
    IntegrityError,
    NotAllowed,
    NotFound,
    OfflineError,
    UnsafeFile,
)
from studio.weights.fetch import Hub, RemoteFile
from studio.weights.hubcache import Repo, default_cache, safe_name
from tests.hub import COMMIT, FakeHub

BIG = os.urandom(900_000)


@pytest.fixture
def fake():
    with FakeHub() as hub:
        hub.add("owner/name", {"model.onnx": BIG, "config.json": b"{}", "sub/a.txt": b"hello", "other.bin": b"x" * 500})
        yield hub


@pytest.fixture
def hub(fake, tmp_path):
    return Hub(cache=tmp_path / "cache", endpoint=fake.url, pause=0.01)


def take(hub, name="model.onnx", on_bytes=lambda count: None):
    file = next(file for file in hub.listing("owner/name", "main", (name,)).files)
    return hub.download("owner/name", COMMIT, file, on_bytes)


def test_listing_has_what_the_patterns_name_and_nothing_else(hub):
    listing = hub.listing("owner/name", "main", ("*.onnx", "sub/*"))
    assert {file.name for file in listing.files} == {"model.onnx", "sub/a.txt"}
    assert (listing.commit, listing.licence, listing.gated) == (COMMIT, "mit", False)
    assert next(file.sha256 for file in listing.files if file.size > 1000) == hashlib.sha256(BIG).hexdigest()


def test_a_download_lands_in_the_standard_cache_where_huggingface_hub_finds_it(hub):
    from huggingface_hub import hf_hub_download

    assert take(hub) == hashlib.sha256(BIG).hexdigest()
    hub.repo("owner/name").remember("main", COMMIT)
    found = hf_hub_download("owner/name", "model.onnx", cache_dir=hub.cache, local_files_only=True)
    with open(found, "rb") as file:
        assert file.read() == BIG


def test_small_files_are_checked_by_their_git_id(hub, fake):
    assert take(hub, "config.json") == hashlib.sha256(b"{}").hexdigest()
    fake.flip = 2
    with pytest.raises(IntegrityError, match=r"sub/a\.txt"):
        take(hub, "sub/a.txt")


def test_a_broken_connection_is_resumed_where_it_broke(hub, fake):
    fake.cut = [400_000, 200_000]
    assert take(hub) == hashlib.sha256(BIG).hexdigest()
    ranges = [asked for _, path, asked in fake.requests if "resolve" in path]
    assert ranges[0] == ""
    assert 0 < int(ranges[1].split("=")[1][:-1]) <= 400_000
    assert len(ranges) == 3


def test_a_cancelled_download_goes_on_later_in_another_process(hub, fake, tmp_path):
    def stop(count):
        if count > 300_000:
            raise Cancelled

    with pytest.raises(Cancelled):
        take(hub, on_bytes=stop)
    partial = hub.repo("owner/name").partial(hashlib.sha256(BIG).hexdigest())
    assert 300_000 < partial.stat().st_size < len(BIG)
    fake.requests.clear()
    take(Hub(cache=tmp_path / "cache", endpoint=fake.url))
    assert next(asked for _, path, asked in fake.requests if "resolve" in path).startswith("bytes=")


def test_a_server_without_ranges_starts_over(hub, fake):
    fake.cut, fake.ignore_range = [500_000], True
    assert take(hub) == hashlib.sha256(BIG).hexdigest()


def test_one_flipped_bit_is_fetched_again_and_two_are_an_error(hub, fake):
    fake.flip = 1
    take(hub)
    hub.repo("owner/name").blob(hashlib.sha256(BIG).hexdigest()).unlink()
    fake.flip = 2
    with pytest.raises(IntegrityError, match="arrived damaged"):
        take(hub)
    assert not list((hub.repo("owner/name").folder / "blobs").glob("*"))


def test_a_connection_that_never_gets_through_ends_with_what_is_here_kept(hub, fake):
    fake.cut = [100_000] + [0] * 20
    with pytest.raises(DownloadError, match=r"stopped arriving|broke"):
        take(hub)
    assert hub.repo("owner/name").partial(hashlib.sha256(BIG).hexdigest()).stat().st_size > 0


def test_offline_opens_nothing(fake, tmp_path):
    with pytest.raises(OfflineError):
        Hub(offline=True, cache=tmp_path, endpoint=fake.url).listing("owner/name", "main", ())
    assert fake.requests == []


def test_what_the_hub_says_becomes_our_errors(hub, fake):
    with pytest.raises(NotFound, match="nobody/nothing"):
        hub.listing("nobody/nothing", "main", ())
    with pytest.raises(NotFound, match="none of the files"):
        hub.listing("owner/name", "main", ("*.nothing",))
    fake.gated = True
    with pytest.raises(NotAllowed, match="licence"):
        hub.listing("owner/name", "main", ())
    fake.gated, fake.status = False, 500
    with pytest.raises(DownloadError):
        hub.listing("owner/name", "main", ())


def test_an_error_instead_of_a_file_becomes_ours_too(hub, fake):
    file = hub.listing("owner/name", "main", ("model.onnx",)).files[0]
    for field, value, error in (("status", 500, DownloadError), ("gated", True, NotAllowed)):
        setattr(fake, field, value)
        with pytest.raises(error):
            hub.download("owner/name", COMMIT, file, lambda count: None)
        setattr(fake, field, 0)
    gone = RemoteFile("gone.onnx", 10, "0" * 64)
    with pytest.raises(NotFound):
        hub.download("owner/name", COMMIT, gone, lambda count: None)


def test_a_hub_that_cannot_be_reached(tmp_path):
    hub = Hub(cache=tmp_path, endpoint="http://127.0.0.1:9", pause=0.01)
    with pytest.raises(DownloadError, match="could not be reached"):
        hub.listing("owner/name", "main", ())
    with pytest.raises(DownloadError, match="could not be reached"):
        hub.download("owner/name", COMMIT, RemoteFile("a", 10, "0" * 64), lambda count: None)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "C:/x", "a\\b", "a//b", "", "./a"])
def test_a_hub_that_names_files_outside_is_refused(hub, fake, name):
    with pytest.raises(UnsafeFile):
        safe_name(name)
    fake.listing = {
        "id": "owner/name",
        "sha": COMMIT,
        "siblings": [{"rfilename": name or "/", "size": 1, "blobId": "0" * 40}],
    }
    with pytest.raises(UnsafeFile):
        hub.listing("owner/name", "main", ())


def test_something_that_is_no_hub_is_told_apart(hub, fake):
    fake.listing = ["not", "a", "hub"]
    with pytest.raises(DownloadError, match="like a hub"):
        hub.listing("owner/name", "main", ())


def test_a_full_disk_stops_and_leaves_no_partial(hub, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("studio.weights.fetch.os.fsync", full)
    with pytest.raises(DiskFull):
        take(hub)
    assert not list((hub.repo("owner/name").folder / "blobs").glob("*"))


def test_where_links_are_not_allowed_the_file_itself_is_there(hub, monkeypatch):
    def refuse(*_):
        raise OSError("not allowed")

    monkeypatch.setattr("studio.weights.hubcache.os.symlink", refuse)
    take(hub)
    pointer = hub.repo("owner/name").snapshot(COMMIT) / "model.onnx"
    assert pointer.read_bytes() == BIG
    assert not pointer.is_symlink()


def test_removing_leaves_what_another_revision_shows(tmp_path):
    repo = Repo(tmp_path, "a/b")
    repo.blob("e" * 40).parent.mkdir(parents=True)
    repo.blob("e" * 40).write_bytes(b"12345")
    for commit in ("1" * 40, "2" * 40):
        repo.link(commit, "sub/file", "e" * 40)
    assert repo.remove("1" * 40, ["sub/file"]) == 0
    assert repo.blob("e" * 40).exists()
    assert repo.remove("2" * 40, ["sub/file"]) == 5
    assert not repo.folder.exists()


def test_the_cache_is_the_one_that_huggingface_hub_uses(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "x"))
    assert default_cache() == tmp_path / "x"


def test_a_listing_without_hashes_is_not_trusted(hub, fake):
    fake.listing = {"id": "o/n", "sha": COMMIT, "siblings": [{"rfilename": "a.onnx", "size": 1, "blobId": "zz"}]}
    with pytest.raises(DownloadError, match="without a hash"):
        hub.listing("owner/name", "main", ())


def test_etag_prefers_the_sha256():
    assert RemoteFile("a", 1, "s", "b").etag == "s"
    assert RemoteFile("a", 1, "", "b").etag == "b"
