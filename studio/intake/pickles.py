"""What a pickle would import, found by reading its opcodes. Nothing is executed, no torch is needed."""

from __future__ import annotations

import pickletools
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.errors import IntegrityError, UnsafeFile
from studio.weights.hubcache import safe_name

MAX_PICKLE = 16 * 2**20  # bytes of opcodes; tensors are not part of them
MAX_ENTRIES = 100_000
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # how torch files began before 1.6

ALLOWED = re.compile(
    r"""(collections\.OrderedDict | (__builtin__|builtins)\.(set|frozenset|list|dict|tuple|int|float|bool|str|bytes)
      | torch\.(Float|Half|BFloat16|Double|Long|Int|Short|Char|Byte|Bool)Storage
      | torch\.(float16|bfloat16|float32|float64|int64|int32|int16|int8|uint8|bool|Size|device|Tensor)
      | torch\.nn\.parameter\.Parameter | torch\.nn\.modules\.container\.ParameterDict | torch\.storage\.UntypedStorage
      | torch\._utils\._rebuild_(tensor|tensor_v2|parameter))""",
    re.VERBOSE,
)
_ARCHIVE_NAMES = re.compile(
    r"(data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/(serialization_id)?|data/\d*)"
)
_TORCHSCRIPT = re.compile(r"(code/|constants\.pkl|constants/)")
_DETECTORS = ("ultralytics.", "models.yolo.")


def globals_of(data: bytes) -> set[str]:
    """Dotted names of everything the pickles at the start of `data` would import, "?" for one made up at run time.

    Raises IntegrityError for what is not a pickle.
    """
    found: set[str] = set()
    position = 0
    try:
        while data[position : position + 1] == b"\x80" or position == 0:
            position += _one(data[position:], found)
            if not data.startswith(LEGACY_MAGIC):
                break
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise IntegrityError(f"The pickle cannot be read ({error}).", "Copy or download it again.") from error
    return found


def _one(data: bytes, found: set[str]) -> int:
    """Adds the names of one pickle and returns its length in bytes."""
    strings: list[str] = []
    memo: dict[int, str] = {}
    end = 0
    for opcode, argument, position in pickletools.genops(data):
        end = (position or 0) + 1
        if opcode.name in ("GLOBAL", "INST"):
            found.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            found.add(".".join(strings[-2:]) if len(strings) >= 2 else "?")
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            found.add("?")
        _track(opcode.name, argument, strings, memo)
    return end


def _track(name: str, argument: Any, strings: list[str], memo: dict[int, str]) -> None:
    """Keeps the strings pushed without anything in between, through the memo: only those are surely on top of the
    stack when a STACK_GLOBAL takes two. Whatever is not clear ends as "?"."""
    if "UNICODE" in name or name in ("STRING", "BINSTRING", "SHORT_BINSTRING"):
        strings.append(str(argument))
    elif name == "MEMOIZE":
        memo[len(memo)] = strings[-1] if strings else "?"
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = strings[-1] if strings else "?"
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        strings.append(memo.get(int(argument), "?"))
    elif name not in ("FRAME", "PROTO"):
        strings.clear()


def refuse_globals(name: str, found: set[str]) -> None:
    """Raises UnsafeFile naming the first import that no file of plain weights needs."""
    strange = sorted(item for item in found if not ALLOWED.fullmatch(item))
    if not strange:
        return
    raise UnsafeFile(
        f"{name} would run {strange[0]!r} when it is opened, so it was not opened.",
        "Use the .safetensors or .onnx version of this model.",
    )


def is_detector(found: set[str]) -> bool:
    """Whether these are the classes of a whole YOLO network, which has a converter of its own."""
    return any(item.startswith(_DETECTORS) for item in found)


def reason(error: BaseException) -> str:
    """Why the restricted unpickler of torch gave up, without its advice to load the file unrestricted."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    found = re.search(r"(?:WeightsUnpickler error|weights_only error):\s*(.+)", text)
    line = found[1] if found is not None else next(iter(text.splitlines()), type(error).__name__)
    return line.split(", but got")[0][:200].rstrip(".")


def is_archive(path: Path) -> bool:
    """Told by the first bytes, as torch does: what lies behind a pickle must not make an archive of it."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def read_opcodes(path: Path) -> bytes:
    """The pickle of a torch file: `data.pkl` of an archive, or the file itself. Raises UnsafeFile, IntegrityError."""
    if not is_archive(path):
        with path.open("rb") as file:
            return file.read(MAX_PICKLE)
    try:
        with zipfile.ZipFile(path) as archive:
            name = _check_archive(path, archive)
            return archive.read(name)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, OSError, EOFError, RuntimeError) as error:
        raise IntegrityError(f"{path.name} is damaged ({error}).", "Copy or download it again.") from error


def _check_archive(path: Path, archive: zipfile.ZipFile) -> str:
    """Checks the list of an archive and gives the name of its pickle."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(entries) > MAX_ENTRIES or len(set(names)) != len(names):
        raise UnsafeFile(f"{path.name} is an archive with repeated or too many entries.", "Do not use this file.")
    for entry in entries:
        safe_name(entry.filename.rstrip("/"))
        mode = entry.external_attr >> 16
        if entry.flag_bits & 1 or (mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0)):
            raise UnsafeFile(f"{path.name} holds a link or a locked entry.", "Do not use this file.")
    if sum(entry.file_size for entry in entries) > 8 * path.stat().st_size + 64 * 2**20:
        raise UnsafeFile(f"{path.name} unpacks to far more than its size.", "Do not use this file.")
    inner = list(_inner(path, names))
    if any(_TORCHSCRIPT.match(item) for item in inner):
        raise UnsafeFile(f"{path.name} is a TorchScript program, not weights.", "Use the .safetensors version.")
    pickles = [name for name, item in zip(names, inner, strict=True) if item == "data.pkl"]
    strange = [item for item in inner if item and not _ARCHIVE_NAMES.fullmatch(item)]
    if len(pickles) != 1 or strange:
        raise UnsafeFile(
            f"{path.name} is an archive, but not one of torch weights ({(strange or ['no data.pkl'])[0][:60]!r}).",
            "Unpack it and import the model file inside.",
        )
    if archive.getinfo(pickles[0]).file_size > MAX_PICKLE:
        raise UnsafeFile(f"The pickle of {path.name} is unreasonably long.", "Do not use this file.")
    return pickles[0]


def _inner(path: Path, names: list[str]) -> Iterator[str]:
    """The names without the one folder that torch puts around them."""
    tops = {name.split("/")[0] for name in names}
    if len(tops) != 1:
        raise UnsafeFile(
            f"{path.name} is an archive, but not one of torch weights.", "Unpack it and import the model file inside."
        )
    top = tops.pop()
    return (name.removeprefix(top).removeprefix("/") for name in names)
