"""Portable model packs: one uncompressed tar that carries models to a device without a network.

    manifest.json            first; cards, and for every file its size and sha256
    <id>/<file>              the files, in the order of the manifest

A pack is read from front to back into a hidden folder. Nothing of it is listed before all of it was checked.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files
from studio.cards import Card
from studio.errors import DiskFull, IntegrityError, UnsafeFile, Unsupported
from studio.intake import convert
from studio.weights.hubcache import safe_name
from studio.weights.pull import make_room
from studio.weights.store import Store

MANIFEST = "manifest.json"
FORMAT = "image-studio-pack"
MAX_MANIFEST = 8 * 2**20  # bytes
CHUNK = 1 << 20


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a pack says it holds. Keys of `files` are "<id>/<file>"."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: str
    version: int = Field(ge=1)
    cards: tuple[Card, ...] = Field(min_length=1, max_length=1000)
    files: dict[str, Entry] = Field(min_length=1, max_length=100_000)


def pack(store: Store, cards: Sequence[Card], out: Path, tick: convert.Tick = None) -> Path:
    """Writes the models, whole and verified, to `out`.

    Raises IntegrityError, NotFound, OfflineError for what is not here; Unsupported for cards without files; DiskFull.
    """
    sources, entries = {}, {}
    for card in cards:
        if card.source.kind == "none":
            raise Unsupported(f"{card.title} needs no weights.", "Leave it out of the pack; it is everywhere.")
        store.verify(card, tick)
        folder = store.path(card)
        for name, file in sorted(store.files(card).items()):
            sources[f"{card.id}/{name}"] = folder / name
            entries[f"{card.id}/{name}"] = Entry(size=file.size, sha256=file.sha256)
    manifest = Manifest(format=FORMAT, version=1, cards=tuple(cards), files=entries)
    make_room(out.parent, sum(entry.size for entry in entries.values()), out.name)
    with files.whole(out) as part:
        _write(part, manifest, sources, tick)
    return out


def _write(path: Path, manifest: Manifest, sources: dict[str, Path], tick: convert.Tick) -> None:
    head = manifest.model_dump_json(indent=1).encode()
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(MANIFEST, len(head)), io.BytesIO(head))
        for name, source in sources.items():
            with source.open("rb") as data:
                tar.addfile(_member(name, manifest.files[name].size), data)
            if tick is not None:
                tick()


def _member(name: str, size: int) -> tarfile.TarInfo:
    """The same bytes for the same models, whoever packs them and when."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def read_manifest(file: Path) -> Manifest:
    """What a pack says it holds, to be shown before it is unpacked. Raises as `unpack`."""
    with _opened(file) as tar:
        return _manifest(tar, file)


def unpack(store: Store, file: Path, tick: convert.Tick = None) -> list[Card]:
    """Brings the models of a pack into the store and returns their cards; all of them or none.

    Raises:
        UnsafeFile: a name that leaves its folder, a link, a device, a repeated name, a format that can hold code.
        IntegrityError: truncated, or bytes that differ from the manifest.
        Unsupported: not a pack of this studio. DiskFull.
    """
    with ExitStack() as stack:
        with _opened(file) as tar:
            manifest = _manifest(tar, file)
            stages: dict[str, Path] = {}
            for card in manifest.cards:
                stages[card.id] = store.stage()
                stack.callback(convert.discard, stages[card.id])
            first = next(iter(stages.values()))
            make_room(first, sum(entry.size for entry in manifest.files.values()), file.name)
            _extract(tar, file, manifest, stages, tick)
        for card in manifest.cards:
            _check_card(store, card, manifest)
            convert.check_folder(stages[card.id], _names(manifest, card))
        return [store.take(stages[card.id], card) for card in manifest.cards]


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    """An uncompressed tar, with everything the reader can raise turned into IntegrityError or DiskFull."""
    try:
        tar = tarfile.open(file, mode="r:")  # noqa: SIM115 - two kinds of failure, told apart
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise Unsupported(f"{file.name} is not a model pack.", "Choose a file made with Pack.") from error
    with tar:
        try:
            yield tar
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("The disk is full; nothing was unpacked.", "Free some space and retry.") from error
            raise IntegrityError(f"{file.name} is cut off or damaged.", "Copy the pack again.") from error


def _manifest(tar: tarfile.TarFile, file: Path) -> Manifest:
    member = tar.next()
    if member is None or member.name != MANIFEST or not member.isreg() or member.size > MAX_MANIFEST:
        raise Unsupported(f"{file.name} is not a model pack: it has no manifest.", "Choose a file made with Pack.")
    try:
        found: Any = json.loads(_data(tar, member).read())
        manifest = Manifest.model_validate(found)
    except (ValidationError, ValueError, RecursionError) as error:
        raise IntegrityError(f"The manifest of {file.name} is damaged.", "Copy the pack again.") from error
    if manifest.format != FORMAT or manifest.version != 1:
        raise Unsupported(f"{file.name} was made by another version.", "Update the studio, or pack it again.")
    _check_names(manifest)
    return manifest


def _check_names(manifest: Manifest) -> None:
    ids = [card.id for card in manifest.cards]
    seen: set[str] = set()
    for name in manifest.files:
        safe_name(name)
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen or name.split("/")[0] not in ids or "/" not in name:
            raise UnsafeFile(f"The pack names {name[:80]!r} twice or for no model.", "Do not use this pack.")
        seen.add(folded)
    if len(set(ids)) != len(ids) or any(not any(name.startswith(f"{id_}/") for name in manifest.files) for id_ in ids):
        raise UnsafeFile("The pack lists a model twice or without files.", "Do not use this pack.")


def _extract(tar: tarfile.TarFile, file: Path, manifest: Manifest, stages: dict[str, Path], tick: convert.Tick) -> None:
    waiting = dict(manifest.files)
    while (member := tar.next()) is not None:
        entry = waiting.pop(member.name, None)
        if entry is None or not member.isreg() or member.issparse():
            raise UnsafeFile(
                f"{file.name} holds {member.name[:80]!r}, which is not a plain file of its manifest.",
                "Do not use this pack.",
            )
        id_, _, name = member.name.partition("/")
        if member.size != entry.size or _save(_data(tar, member), stages[id_] / name, tick) != entry.sha256:
            raise IntegrityError(f"{member.name} of {file.name} is damaged.", "Copy the pack again.")
    if waiting:
        raise IntegrityError(f"{file.name} is cut off: {next(iter(waiting))} is missing.", "Copy the pack again.")


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    data = tar.extractfile(member)
    if data is None:
        raise UnsafeFile(f"{member.name[:80]!r} is not a plain file.", "Do not use this pack.")
    return data


def _save(data: IO[bytes], target: Path, tick: convert.Tick) -> str:
    """Writes the bytes and returns their sha256."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        while chunk := data.read(CHUNK):
            out.write(chunk)
            digest.update(chunk)
            if tick is not None:
                tick()
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _names(manifest: Manifest, card: Card) -> list[str]:
    return [name.removeprefix(f"{card.id}/") for name in manifest.files if name.startswith(f"{card.id}/")]


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value of a card, at any depth; keys are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


def _check_card(store: Store, card: Card, manifest: Manifest) -> None:
    """A pack may not point an engine out of its folder, nor bring other bytes than those whose hashes are published."""
    options = {name: value for name, value in card.options.items() if name != "names"}  # classes may be called anything
    for text in _texts({**options, "path": card.source.path}):
        if ".." in text or text.startswith(("/", "\\", "~")) or PureWindowsPath(text).drive:
            raise UnsafeFile(f"The card {card.id} points out of its folder.", "Do not use this pack.")
    if "fast" in card.options:
        raise UnsafeFile(f"The card {card.id} names folders of another machine.", "Do not use this pack.")
    known = store.cards().get(card.id)
    published = known.sha256 if known is not None and known.source.kind == "hub" else {}
    for name, digest in published.items():
        entry = manifest.files.get(f"{card.id}/{name}")
        if entry is not None and entry.sha256 != digest:
            raise IntegrityError(f"{card.id}/{name} is not the published file.", "Download it instead.")
