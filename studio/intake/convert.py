"""What may be brought in, and how: told by the first bytes of a file, never by its name. One table, SNIFF -> HANDLERS.

Nothing of a file is run. Readers that trust their input (onnx, gguf, torch) work in a child process with limits.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studio.errors import DiskFull, IntegrityError, NotFound, UnsafeFile, Unsupported
from studio.intake import child, detectors, pickles
from studio.intake.pipelines import INDEX, PARTS, check_pipeline, read_json, weights_of
from studio.intake.recognise import Finding, recognise
from studio.intake.safeheader import read_header
from studio.intake.values import refuse_nan
from studio.weights.hubcache import safe_name

Tick = Callable[[], None] | None
Handler = Callable[[Path, Path, Tick], Finding]
BARE = "graphs"  # folder of networks whose weights are in the model's safetensors files
BESIDE = ("config.json", "facts.json")  # what engines read beside a single file
KEPT = {".json", ".txt", ".safetensors", ".model", ".md"}  # what is taken of a diffusers folder
ENDINGS = {".safetensors", ".onnx", ".gguf", ".pt", ".pth", ".ckpt", ".bin"}  # names of files that claim to be models
GRAPHS = {".onnx": "onnx", ".gguf": "gguf"}  # read in a child process
LABS: tuple[tuple[str, dict[str, str | None]], ...] = (  # engine, what config.json holds beside its models; None: any
    ("vae", {"network": None, "arguments": None}),
    ("vae", {"_class_name": "AutoencoderTiny"}),
    ("gan", {"kind": None, "options": None, "names": None}),
    ("diffusion-lab", {"process": None, "levels": None, "schedule": None}),
)
LONE = {"safetensors": "model.safetensors", "torch": "model.safetensors", "onnx": detectors.FILE, "gguf": "model.gguf"}

MAGIC: tuple[tuple[int, bytes, str], ...] = (  # offset, bytes, kind
    (0, b"GGUF", "gguf"),
    (0, b"PK\x03\x04", "torch"),
    (0, b"PK", "zip"),
    (0, b"\x80\x02", "torch"),
    (0, b"\x80\x03", "torch"),
    (0, b"\x80\x04", "torch"),
    (0, b"\x80\x05", "torch"),
    (257, b"ustar", "tar"),
    (0, b"\x1f\x8b", "packed"),
    (0, b"7z\xbc\xaf\x27\x1c", "packed"),
    (0, b"BZh", "packed"),
    (0, b"\xfd7zXZ", "packed"),
    (0, b"Rar!", "packed"),
    (0, b"\x89HDF\r\n", "hdf5"),
    (0, b"\x93NUMPY", "numpy"),
    (4, b"TFL3", "tflite"),
    (0, b"\x89PNG", "picture"),
    (0, b"\xff\xd8\xff", "picture"),
    (8, b"WEBP", "picture"),
    (0, b"version https://git-lfs", "pointer"),
)

_ONNX_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)  # tags of the fields that follow ir_version
_OTHER = "Import .safetensors, .onnx, .gguf, a diffusers folder, or a torch file of plain weights."
REFUSED: dict[str, tuple[str, str]] = {  # kind -> what it is, what to do
    "empty": ("is empty (0 bytes)", "Copy or download it again."),
    "zip": ("is an empty or odd archive", "Unpack it and import the model file inside."),
    "tar": ("is a tar archive", "If it is a model pack, unpack it; otherwise import the file inside."),
    "packed": ("is a packed archive", "Unpack it and import the model file inside."),
    "hdf5": ("is a Keras/HDF5 file, which can hold code", _OTHER),
    "numpy": ("is a numpy array, not a model", _OTHER),
    "tflite": ("is a TensorFlow Lite file, for which there is no engine", "Export it as ONNX."),
    "picture": ("is a picture, not a model", "Use it in Generate, Detect or Segment instead."),
    "pointer": ("is a Git LFS pointer, not the file itself", "Fetch it with git lfs pull, or download it again."),
    "unknown": ("is of no kind the studio knows", _OTHER),
}

def sniff(path: Path) -> str:
    """The kind of a file or folder by its content: a key of HANDLERS or REFUSED."""
    if path.is_dir():
        return "diffusers" if (path / INDEX).is_file() else "folder"
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "empty"
    for offset, magic, kind in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if len(head) > 8 and head[8:9] == b"{" and head[6:8] == b"\0\0":
        return "safetensors"
    # An ONNX file starts with its ir_version (field 1, a small number), then another field of ModelProto.
    is_onnx = len(head) > 8 and head[0] == 0x08 and 3 <= head[1] <= 20 and head[2] in _ONNX_FIELDS
    return "onnx" if is_onnx else "unknown"


def bring(source: Path, out: Path, tick: Tick = None, names: Sequence[str] = ()) -> Finding:
    """Reads, checks and, where needed, converts a model of the user's into the empty folder `out`.

    Args:
        names: class names of a detector whose file has none.

    Raises NotFound, UnsafeFile, IntegrityError, Unsupported, DiskFull; what is in `out` then is to be thrown away.
    CardError for names that do not fit.
    """
    if not source.exists():
        raise NotFound(f"There is nothing at {source.name}.", "Check the path.")
    if source.is_symlink() or not (source.is_file() or source.is_dir()):
        raise UnsafeFile(f"{source.name} is a link or a special file.", "Import the file itself.")
    kind = sniff(source)
    if kind == "unknown" and source.suffix.lower() in ENDINGS:
        raise IntegrityError(
            f"{source.name} is damaged, or not a {source.suffix} file at all.", "Copy or download it again."
        )
    if kind in REFUSED:
        what, hint = REFUSED[kind]
        raise Unsupported(f"{source.name} {what}.", hint)
    try:
        found = HANDLERS[kind](source, out, tick)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full; nothing was imported.", "Free some space and try again.") from error
        raise IntegrityError(f"{source.name} cannot be read: {error.strerror}.", "Check the file.") from error
    if found.engine == "yolo":
        return detectors.settled(found, out, names, tick)
    if names:
        raise Unsupported(f"{source.name} is no detector, so it has no classes to name.", "Import it without names.")
    if found.kind == "sam-custom" and not (out / "config.json").is_file():
        raise Unsupported(
            f"{source.name} is a Segment Anything network of a size of its own, without its config.json.",
            "Import the folder that holds both.",
        )
    return found


def check_folder(folder: Path, names: list[str]) -> None:
    """Refuses model files that are anything but safe formats; for packs and downloads.

    Args:
        names: the files to look at; others in the folder belong to someone else.

    Raises UnsafeFile, IntegrityError.
    """
    for path in (folder / safe_name(name) for name in sorted(names)):
        kind = sniff(path)
        if kind in ("torch", "packed", "tar", "zip", "hdf5", "pointer") or path.suffix == ".py":
            raise UnsafeFile(f"{path.name} may run code when it is opened.", "Do not use this model.")
        if kind == "safetensors" or path.suffix == ".safetensors":
            read_header(path)
            refuse_nan(path)
        if kind == "empty" and path.suffix != ".txt":
            raise IntegrityError(f"{path.name} is empty.", "Download it again.")
        if kind in GRAPHS.values() or path.suffix in GRAPHS:
            _read(GRAPHS.get(path.suffix, kind), path, None)
    if INDEX in names:
        check_pipeline(folder)


def _copy(source: Path, target: Path, tick: Tick) -> None:
    """Copies the bytes of a plain file; never follows a link."""
    if source.is_symlink() or not source.is_file():
        raise UnsafeFile(f"{source.name} is a link or a special file.", "Import the file itself.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as src, target.open("wb") as dst:
        while chunk := src.read(1 << 20):
            dst.write(chunk)
            if tick is not None:
                tick()
        dst.flush()
        os.fsync(dst.fileno())


def _safetensors(source: Path, out: Path, tick: Tick) -> Finding:
    found = _recognised(source.name, source)
    _copy(source, out / LONE["safetensors"], tick)
    return found


def _recognised(name: str, file: Path) -> Finding:
    """What a safetensors file holds, every number of it looked at. Raises IntegrityError, Unsupported."""
    tensors = read_header(file).tensors
    found = recognise(tensors)
    if found is None:
        names = ", ".join(list(tensors)[:3])
        raise Unsupported(f"{name} is sound, but of no network the studio knows ({names[:120]}).", _OTHER)
    refuse_nan(file)
    return found


def _torch(source: Path, out: Path, tick: Tick) -> Finding:
    found = pickles.globals_of(pickles.read_opcodes(source))
    if pickles.is_detector(found):
        return _ultralytics(source, out, tick)
    pickles.refuse_globals(source.name, found)
    target = out / LONE["torch"]
    unpickle(source, target, tick)
    return _recognised(source.name, target)


def unpickle(source: Path, target: Path, tick: Tick = None) -> None:
    """Writes the tensors of a torch file as safetensors, in a child process. Raises UnsafeFile, IntegrityError."""
    pickles.refuse_globals(source.name, pickles.globals_of(pickles.read_opcodes(source)))
    size = source.stat().st_size
    memory, seconds = 8 * child.GB + 4 * size, 120 + size / 20e6
    target.parent.mkdir(parents=True, exist_ok=True)
    child.run("studio.intake.convert_pickle", source.resolve(), target, seconds=seconds, memory=memory, tick=tick)
    read_header(target)


def _ultralytics(source: Path, out: Path, tick: Tick) -> Finding:
    """A whole YOLO network: its own converter reads it as inert records and exports it to ONNX."""
    target = out / LONE["onnx"]
    child.run("studio.engines.export_yolo", source.resolve(), target, seconds=600, memory=16 * child.GB, tick=tick)
    return detectors.finding(_read("onnx", target, tick), target.name)


def _onnx(source: Path, out: Path, tick: Tick) -> Finding:
    facts = _read("onnx", source, tick)
    if facts["bare"]:
        raise Unsupported(f"{source.name} is a network without its weights.", "Import the folder that holds both.")
    found = detectors.finding(facts, source.name)
    _copy(source, out / LONE["onnx"], tick)
    for name in facts["side"]:
        _copy(source.parent / safe_name(name), out / name, tick)
    return found


def _gguf(source: Path, out: Path, tick: Tick) -> Finding:
    facts = _read("gguf", source, tick)
    _copy(source, out / LONE["gguf"], tick)
    text = f"A GGUF file ({facts['arch'] or 'no architecture named'}, {', '.join(facts['types'])})."
    return Finding("gguf", "gguf", ("generate",), text, {"file": LONE["gguf"], "arch": facts["arch"]})


def _read(kind: str, path: Path, tick: Tick) -> dict:
    memory = 4 * child.GB + 4 * path.stat().st_size
    said = child.run("studio.intake.inspect_graph", kind, path.absolute(), seconds=120, memory=memory, tick=tick)
    return dict(json.loads(said))


def _diffusers(source: Path, out: Path, tick: Tick) -> Finding:
    """Copies what the pipeline needs, and converts the `.bin` weights of older folders."""
    _refuse_links(source)
    parts = check_pipeline(source, pickles=True)
    _copy(source / INDEX, out / INDEX, tick)
    index = read_json(source / INDEX)
    for name in parts:
        part = PARTS[(str(index[name][0]), str(index[name][1]))]
        weights = weights_of(source / name, part, pickles=True) if part.weights else []
        for file in sorted((source / name).iterdir()):
            if file.suffix in KEPT and (file.suffix != ".safetensors" or file.name in weights):
                _copy(file, out / name / file.name, tick)
        for file_name in weights:
            if file_name.endswith(".bin"):
                unpickle(source / name / file_name, out / name / f"{part.weights}.safetensors", tick)
            else:
                read_header(source / name / file_name)
        for file in sorted((out / name).glob("*.safetensors")):
            refuse_nan(file)
    _copy_extras(source, out, tick)
    check_pipeline(out)
    family = "sdxl" if "XL" in str(index["_class_name"]) else "sd1"
    options = {"layout": "diffusers", "family": family}
    return Finding("pipeline", "diffusion", ("generate",), f"A diffusers folder: {index['_class_name']}.", options)


def _copy_extras(source: Path, out: Path, tick: Tick) -> None:
    """What ships beside a model's parts: what it knows of itself, and graphs that take their weights from the parts."""
    for name in BESIDE:
        if (source / name).is_file():
            read_json(source / name)
            _copy(source / name, out / name, tick)
    for file in sorted((source / BARE).glob("*.onnx")):
        if _read("onnx", file, tick)["bare"]:
            _copy(file, out / BARE / file.name, tick)


def _folder(source: Path, out: Path, tick: Tick) -> Finding:
    """A folder around one model file, e.g. an ONNX file with its side files."""
    _refuse_links(source)
    files = [path for path in sorted(source.iterdir()) if path.is_file() and sniff(path) in LONE]
    if len(files) != 1:
        raise Unsupported(
            f"{source.name} has no {INDEX} and holds {len(files)} model files, so it is not clear what it is.",
            "Import one of the files, or the whole diffusers folder.",
        )
    found = _lab(source, files[0], out, tick) or HANDLERS[sniff(files[0])](files[0], out, tick)
    _copy_extras(source, out, tick)
    return found


def _lab(source: Path, weights: Path, out: Path, tick: Tick) -> Finding | None:
    """A model that a training of the studio exported, told by its config.json; None where it is none."""
    if sniff(weights) != "safetensors" or not (source / "config.json").is_file():
        return None
    config = read_json(source / "config.json")
    engine = next((engine for engine, wanted in LABS if _fits(config, wanted)), None)
    if engine is None:
        return None
    read_header(weights)
    refuse_nan(weights)
    _copy(weights, out / weights.name, tick)
    return Finding(f"lab-{engine}", engine, ("explore",), "A model for the labs.")


def _fits(config: dict[str, Any], wanted: dict[str, str | None]) -> bool:
    return all(name in config and value in (None, config[name]) for name, value in wanted.items())


def _refuse_links(folder: Path) -> None:
    for count, path in enumerate(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UnsafeFile(f"{path.name} is a link or a special file.", "Copy the real files into the folder.")
        if count > 10_000:
            raise Unsupported(f"{folder.name} holds more than 10,000 files.", "Import the folder of one model.")


HANDLERS: dict[str, Handler] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "gguf": _gguf,
    "torch": _torch,
    "diffusers": _diffusers,
    "folder": _folder,
}


def discard(folder: Path) -> None:
    """Removes a folder that is not wanted any more; what cannot be removed stays unlisted."""
    shutil.rmtree(folder, ignore_errors=True)
