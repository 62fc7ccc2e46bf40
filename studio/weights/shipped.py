"""The hashes of the weights that ship with the studio: `models/checksums.json`, made by a maintainer with `seal`."""

from __future__ import annotations

import json
from pathlib import Path

from studio import files
from studio.cards import Card
from studio.errors import CardError
from studio.weights.records import FileRecord, Record, survey

CHECKSUMS = "checksums.json"


def seal(models: Path) -> dict[str, FileRecord]:
    """Hashes every shipped weight file and writes `checksums.json`. For maintainers, after training or copying.

    Returns what was written, by path relative to `models`.
    """
    folders = sorted(path for path in models.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {f"{folder.name}/{name}": file for folder in folders for name, file in survey(folder).items()}
    table = {name: {"size": file.size, "sha256": file.sha256} for name, file in sorted(found.items())}
    files.write(models / CHECKSUMS, (json.dumps(table, indent=1) + "\n").encode())
    return found


def sealed(models: Path, folder: str) -> dict[str, FileRecord]:
    """The recorded files of one shipped folder, by name in it; empty where it was never sealed. Raises CardError."""
    try:
        table = json.loads((models / CHECKSUMS).read_text(encoding="utf-8"))
        rows = {name: FileRecord(size=row["size"], sha256=row["sha256"]) for name, row in table.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CardError(f"{CHECKSUMS} cannot be read ({error}).", "Reinstall the studio.") from error
    return {name.removeprefix(f"{folder}/"): row for name, row in rows.items() if name.startswith(f"{folder}/")}


def builtin_record(models: Path, card: Card, known: Record | None) -> Record | None:
    """The record of a shipped model, or None where its folder is not there.

    What was hashed before stays known as long as `checksums.json` still says the same.
    """
    folder = models / card.source.path
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    files = sealed(models, card.source.path)
    old = known.files if known is not None else {}
    merged = {name: old[name] if _same(old.get(name), file) else file for name, file in files.items()}
    base = known if known is not None else Record(place="builtin")
    return base.model_copy(update={"place": "builtin", "files": merged, "complete": True})


def _same(known: FileRecord | None, sealed_file: FileRecord) -> bool:
    return known is not None and (known.size, known.sha256) == (sealed_file.size, sealed_file.sha256)
