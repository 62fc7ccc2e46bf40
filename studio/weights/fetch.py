"""The network: the only file that knows huggingface_hub and opens a connection to another machine.

Bytes go into the standard Hugging Face cache. huggingface_hub 2.x starts a broken download again from the first byte
(its temporary file has a random name), so the transfer itself is done here: it resumes, is hashed while it
arrives, can be cancelled between two chunks, and becomes visible only when it is whole and right.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from studio import files
from studio.errors import DiskFull, DownloadError, IntegrityError, NotAllowed, NotFound, OfflineError, StudioError
from studio.weights.hubcache import Repo, default_cache, git_hash, pieces, safe_name

ATTEMPTS = 4  # tries in a row that bring no new byte
TIMEOUT = 20.0  # seconds without an answer
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class RemoteFile:
    """One file as the hub lists it. `sha256` is empty for small files, which the hub keeps by git blob id instead."""

    name: str
    size: int
    sha256: str = ""
    blob_id: str = ""

    @property
    def etag(self) -> str:
        return self.sha256 or self.blob_id


@dataclass(frozen=True)
class Listing:
    """What a repository offers at one commit."""

    commit: str
    files: tuple[RemoteFile, ...]
    licence: str
    gated: bool


class Hub:
    """One hub and the cache in front of it.

    Args:
        offline: refuse every call with OfflineError before anything is opened.
        cache: the Hugging Face cache; the machine's own where None.
        endpoint: base address of the hub; HF_ENDPOINT or huggingface.co where None.
        pause: seconds to wait after a broken connection, growing with each try.
    """

    def __init__(
        self, offline: bool = False, cache: Path | None = None, endpoint: str | None = None, pause: float = 1.0
    ) -> None:
        self.cache = cache if cache is not None else default_cache()
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        self._offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        self._pause = pause

    @property
    def is_offline(self) -> bool:
        return self._offline

    def repo(self, name: str) -> Repo:
        return Repo(self.cache, name)

    def listing(self, repo: str, revision: str, include: tuple[str, ...]) -> Listing:
        """The files of a repository that match any of the patterns (all of them where there are none).

        Raises OfflineError, NotFound, NotAllowed (gated), DownloadError.
        """
        self._online(repo)
        from huggingface_hub import HfApi
        from huggingface_hub.utils import filter_repo_objects

        with translated(repo, self.endpoint):
            info = HfApi(endpoint=self.endpoint).model_info(
                repo, revision=revision, files_metadata=True, timeout=TIMEOUT
            )
            names = [sibling.rfilename for sibling in info.siblings or ()]
            wanted = set(filter_repo_objects(names, allow_patterns=list(include) or None))
            files = tuple(_remote(sibling) for sibling in info.siblings or () if sibling.rfilename in wanted)
            commit = str(info.sha)
        if not files:
            raise NotFound(f"{repo} has none of the files this card names.", "The repository may have been reordered.")
        return Listing(commit, files, _licence(info), bool(info.gated))

    def download(self, repo: str, commit: str, file: RemoteFile, on_bytes: Callable[[int], None]) -> str:
        """Brings one file into the cache and returns its sha256.

        Args:
            on_bytes: called with the bytes of this file that are here so far; may raise to cancel, what is here stays.

        Raises:
            IntegrityError: the bytes differ from the published hash, twice; they are removed.
            DownloadError, OfflineError, NotAllowed, DiskFull
        """
        self._online(repo)
        local = self.repo(repo)
        partial = local.partial(file.etag)
        partial.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            with translated(repo, self.endpoint, partial):
                digest, right = self._transfer(repo, commit, file, partial, on_bytes)
            if right:
                break
            partial.unlink(missing_ok=True)  # resuming a wrong prefix would only bring the same again
            if last:
                raise IntegrityError(
                    f"{file.name} of {repo} arrived damaged twice.", "The bytes were removed; try again later."
                )
        os.replace(partial, local.blob(file.etag))
        files.sync(partial.parent)
        local.link(commit, file.name, file.etag)
        return digest

    def _online(self, repo: str) -> None:
        if self._offline:
            raise OfflineError(
                f"The studio is offline, so {repo} cannot be reached.",
                "Import a model pack, or go online and try again.",
            )

    def _transfer(
        self, repo: str, commit: str, file: RemoteFile, partial: Path, on_bytes: Callable[[int], None]
    ) -> tuple[str, bool]:
        """Appends to the partial file until it is whole. The sha256, and whether it is what the hub published."""
        if partial.exists() and partial.stat().st_size > file.size:
            partial.unlink()
        hashes = _Hashes(file.size)
        if partial.exists():
            for piece in pieces(partial):
                hashes.update(piece)
                on_bytes(hashes.count)
        with partial.open("ab") as sink:
            failures = 0
            while hashes.count < file.size:
                before = hashes.count
                try:
                    self._stream(repo, commit, file, sink, hashes, on_bytes)
                except _transport_errors():
                    if hashes.count == before and failures >= ATTEMPTS - 1:
                        raise
                failures = failures + 1 if hashes.count == before else 0
                if hashes.count < file.size:
                    self._wait(file, failures)
            sink.flush()
            os.fsync(sink.fileno())
        return hashes.sha256(), hashes.matches(file)

    def _wait(self, file: RemoteFile, failures: int) -> None:
        if failures >= ATTEMPTS:
            raise DownloadError(
                f"{file.name} stopped arriving before its end.", "What is here is kept; download it again to continue."
            )
        time.sleep(self._pause * failures)

    def _stream(
        self,
        repo: str,
        commit: str,
        file: RemoteFile,
        sink: BinaryIO,
        hashes: _Hashes,
        on_bytes: Callable[[int], None],
    ) -> None:
        """One request for what is missing. A server that ignores the range sends all, and is followed."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = hf_hub_url(repo, file.name, revision=commit, endpoint=self.endpoint)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # a packed answer cannot be resumed
        if hashes.count:
            headers["Range"] = f"bytes={hashes.count}-"
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
            hf_raise_for_status(answer)
            if hashes.count and answer.status_code != 206:
                sink.seek(0)
                sink.truncate()
                hashes.reset()
            for chunk in answer.iter_bytes():  # as it arrives: a larger chunk would be lost when the line breaks
                chunk = chunk[: file.size - hashes.count]
                if not chunk:
                    break
                sink.write(chunk)
                hashes.update(chunk)
                on_bytes(hashes.count)


class _Hashes:
    """Both hashes a hub may have published, of one stream of bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self._sha256 = hashlib.sha256()
        self._git = git_hash(self._size)

    def update(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._git.update(chunk)
        self.count += len(chunk)

    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def matches(self, file: RemoteFile) -> bool:
        found = self._sha256.hexdigest() if file.sha256 else self._git.hexdigest()
        return self.count == file.size and found == file.etag


@contextmanager
def translated(repo: str, endpoint: str, partial: Path | None = None) -> Iterator[None]:
    """Turns what huggingface_hub and the network raise into our errors, most specific first."""
    from huggingface_hub import errors

    try:
        yield
    except StudioError:
        raise
    except errors.GatedRepoError as error:
        raise NotAllowed(
            f"{repo} asks you to accept its licence first.",
            f"Accept it at {endpoint}/{repo}, set HF_TOKEN to your token, and try again.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotFound(f"The hub shows no repository {repo}.", "Check its name and your token.") from error
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise NotFound(f"{repo} no longer has that revision or file.", "Choose another revision.") from error
    except errors.OfflineModeIsEnabled as error:
        raise OfflineError(f"huggingface_hub is offline; {repo} is out of reach.", "Unset HF_HUB_OFFLINE.") from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"The hub answered: {str(error).splitlines()[0][:200]}", "Try again later.") from error
    except errors.HTTPError as error:
        if type(error).__name__.startswith("Connect"):
            said = "Hugging Face could not be reached.", "Check the network, or import a file or a pack."
        else:
            said = "The connection to Hugging Face broke.", "What is here is kept; try again."
        raise DownloadError(*said) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"The download could not be written: {error}.", "Check the cache folder.") from error
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise DiskFull("The disk is full; the download stopped.", "Free space or evict models, then retry.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DownloadError(f"{endpoint} did not answer like a hub.", "Check HF_ENDPOINT and the proxy.") from error


def _transport_errors() -> tuple[type[BaseException], ...]:
    """What a broken connection raises: huggingface_hub's HTTP errors that carry no answer."""
    from huggingface_hub.errors import HTTPError

    return tuple(kind for kind in HTTPError.__subclasses__() if kind.__name__ == "RequestError")


def _remote(sibling: Any) -> RemoteFile:
    """Checks one entry of a listing. Raises UnsafeFile, DownloadError."""
    sha256 = str(sibling.lfs.sha256) if sibling.lfs else ""
    file = RemoteFile(safe_name(sibling.rfilename), int(sibling.size), sha256, str(sibling.blob_id or ""))
    if not all(char in "0123456789abcdef" for char in file.etag) or len(file.etag) not in (40, 64) or file.size < 0:
        raise DownloadError(f"The hub lists {file.name} without a hash.", "It cannot be checked, so it is not loaded.")
    return file


def _licence(info: Any) -> str:
    data = getattr(info, "card_data", None)
    found = data.get("license") if data is not None else None
    return str(found) if found else ""
