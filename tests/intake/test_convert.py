"""What may be brought in: told by content, checked before it is read, converted once, refused with a reason."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save_file

from studio.cards import load_cards
from studio.compress import graphs
from studio.config import ROOT
from studio.errors import Cancelled, IntegrityError, NotFound, StudioError, UnsafeFile, Unsupported
from studio.intake import child, convert, detectors, pickles
from studio.intake.inspect_graph import gguf_facts, onnx_facts
from studio.intake.pipelines import check_pipeline
from studio.intake.recognise import recognise
from studio.intake.safeheader import Tensor, read_header
from studio.ops import pictures

MODELS = ROOT / "models"
CARDS = load_cards(MODELS)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# ── safetensors ──────────────────────────────────────────────────────────────


def raw(header, data=b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin, end, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


BAD_HEADERS = {
    "overlap": raw({"a": entry(0, 8), "b": entry(4, 12)}, b"\0" * 12),
    "hole": raw({"a": entry(0, 4), "b": entry(8, 12)}, b"\0" * 12),
    "not at zero": raw({"a": entry(4, 8)}, b"\0" * 8),
    "past the end": raw({"a": entry(0, 400)}, b"\0" * 12),
    "bytes behind": raw({"a": entry(0, 4)}, b"\0" * 12),
    "shape lies": raw({"a": entry(0, 8, [3])}, b"\0" * 8),
    "huge shape": raw({"a": entry(0, 8, [2**40, 2**40])}, b"\0" * 8),
    "negative": raw({"a": entry(0, 8, [-2])}, b"\0" * 8),
    "float shape": raw({"a": entry(0, 8, [2.0])}, b"\0" * 8),
    "bool shape": raw({"a": entry(0, 4, [True])}, b"\0" * 4),
    "unknown type": raw({"a": entry(0, 8, dtype="PICKLE")}, b"\0" * 8),
    "extra field": raw({"a": {**entry(0, 8), "code": "x"}}, b"\0" * 8),
    "repeated name": raw(
        b'{"a":' + json.dumps(entry(0, 4)).encode() + b',"a":' + json.dumps(entry(0, 4)).encode() + b"}", b"\0" * 4
    ),
    "no tensors": raw({"__metadata__": {"a": "b"}}),
    "metadata not text": raw({"__metadata__": {"a": 1}, "a": entry(0, 4)}, b"\0" * 4),
    "not json": raw(b"{nonsense}"),
    "deep json": raw(b'{"a":' + b"[" * 100_000),
    "list": raw(b"[]"),
    "long header": struct.pack("<Q", 2**40) + b"{}",
    "cut header": struct.pack("<Q", 1000) + b"{}",
    "short": b"\1\2",
}  # fmt: skip


@pytest.mark.parametrize("data", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_every_lie_of_a_safetensors_header_is_refused(tmp_path, data):
    with pytest.raises(IntegrityError, match=r"x\.safetensors"):
        read_header(write(tmp_path / "x.safetensors", data))


def test_a_true_header_is_read_as_the_library_reads_it(tmp_path):
    save_file({"a": np.zeros((2, 3), np.float16), "b": np.ones(4, np.int64)}, tmp_path / "x", metadata={"k": "v"})
    header = read_header(tmp_path / "x")
    assert header.tensors == {"a": Tensor("F16", (2, 3)), "b": Tensor("I64", (4,))}
    assert header.metadata == {"k": "v"}


FIRST = {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}
SAM = {"prompt_encoder.a": (1,), "mask_decoder.iou_token.weight": (1, 256)}
PATCH = "image_encoder.patch_embed.proj.weight"
NETWORKS = (
    ({**FIRST, "cond_stage_model.transformer.x": (1,)}, "checkpoint"),
    ({**FIRST, "conditioner.embedders.1.model.x": (1,)}, "checkpoint"),
    ({**SAM, PATCH: (1024, 3, 16, 16)}, "sam-vit_l"),
    ({**SAM, PATCH: (96, 3, 16, 16)}, "sam-custom"),
    ({**SAM, "image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3)}, "sam-mobile"),
    ({**SAM, PATCH: (192, 3, 16, 16), "mask_decoder.mlp.layers.0.0.weight": (1,)}, "efficientsam"),
    ({"lora_unet_down_blocks_0_attn2_to_k.lora_down.weight": (8, 2048)}, "lora"),
    (
        {"down_blocks.0.x": (1,), "mid_block.y": (1,), "conv_in.weight": (1,), "time_embedding.z": (1,)},
        "component-unet",
    ),
    ({"image_encoder.trunk.x": (1,), "sam_mask_decoder.y": (1,)}, "sam2"),
    ({"*": (4, 768)}, "textual-inversion"),
    ({"emb_params": (2, 1024)}, "textual-inversion"),
    ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "textual-inversion"),
)


@pytest.mark.parametrize(("names", "kind"), NETWORKS)
def test_networks_are_told_by_their_tensors(names, kind):
    assert recognise({name: Tensor("F32", shape) for name, shape in names.items()}).kind == kind


LORA_FILES = {
    "diffusion/lora_sd1_pokemon.safetensors": "A LoRA for SD 1.x, rank 4, in the layout of diffusers.",
    "diffusion/lora_sd1_disney_cloneofsimo.safetensors": "A LoRA for SD 1.x, rank 1, in the layout of cloneofsimo, "
    "with the words <s1>, <s2>.",
    "diffusion/textual_inversion_frida.bin": "A textual inversion for SD 1.x, 10 vectors: <frida>.",
    "diffusion/taesd_decoder.safetensors": "A tiny decoder (TAESD) for latents of 4 channels.",
}


@pytest.mark.parametrize(("name", "text"), LORA_FILES.items(), ids=LORA_FILES)
def test_what_changes_another_model_is_named(shared_weights, out, name, text):
    assert convert.bring(shared_weights / name, out).summary == text


def test_a_textual_inversion_of_a1111_is_named(tmp_path, out):
    saved = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.zeros(3, 768)}, "name": "cat", "step": 500}
    torch.save(saved, tmp_path / "cat.pt")
    found = convert.bring(tmp_path / "cat.pt", out)
    assert (found.kind, found.summary) == ("textual-inversion", "A textual inversion for SD 1.x, 3 vectors.")


def test_a_textual_inversion_of_the_first_kind_is_named(tmp_path, out):
    words = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 768))})
    torch.save({"string_to_token": {"*": 265}, "string_to_param": words}, tmp_path / "cat.pt")
    assert convert.bring(tmp_path / "cat.pt", out).summary == "A textual inversion for SD 1.x, 2 vectors."
    assert load_file(out / "model.safetensors")["*"].sum() == 2 * 768


def test_what_torch_refuses_is_said_without_its_advice(tmp_path, out):
    file = write(tmp_path / "x.pt", pickle.dumps({"a": OrderedDict}, protocol=4))
    with pytest.raises(UnsafeFile) as caught:
        convert.bring(file, out)
    assert "weights_only" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "Unsupported operand" in caught.value.message


def test_a_lora_saved_as_a_list_of_matrices_is_named(tmp_path, out):
    sides = ((320, 320),) * 4 + ((320, 2560), (320, 320), (1024, 320))  # the first block of SD 2.x: inputs, outputs
    matrices = [m for inputs, outputs in sides for m in (torch.zeros(outputs, 4), torch.zeros(4, inputs))]
    torch.save(matrices, tmp_path / "lora.pt")
    found = convert.bring(tmp_path / "lora.pt", out)
    assert found.summary == "A LoRA for SD 2.x, rank 4, in the layout of cloneofsimo."
    torch.save(matrices[:-1], tmp_path / "list.pt")
    with pytest.raises(Unsupported, match="no named tensors"):
        convert.bring(tmp_path / "list.pt", out)


def test_a_relative_of_lora_is_refused_by_its_name(tmp_path, out):
    save_file({"lora_unet_x.hada_w1_a": np.zeros((4, 4), np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(Unsupported, match="LoHa"):
        convert.bring(tmp_path / "x.safetensors", out)


def test_a_sound_file_of_nothing_known_is_refused(tmp_path, out):
    save_file({"nothing": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(Unsupported, match="of no network"):
        convert.bring(tmp_path / "x.safetensors", out)


# ── what is refused by its first bytes ───────────────────────────────────────

JUNK = {
    b"": "empty",
    b"\x1f\x8b\x08rest": "packed archive",
    b"7z\xbc\xaf\x27\x1c": "packed archive",
    b"\x89HDF\r\n\x1a\n": "Keras",
    b"\x93NUMPY\x01\x00": "numpy array",
    b"\x89PNG\r\n": "picture",
    b"version https://git-lfs.github.com/spec/v1\n": "LFS pointer",
    b"just some text\n": "damaged, or not a",
    b"\0" * 257 + b"ustar\0": "tar archive",
}


@pytest.mark.parametrize(("data", "word"), JUNK.items(), ids=JUNK.values())
@pytest.mark.parametrize("name", ["m.safetensors", "m.onnx"])
def test_the_name_does_not_matter_only_the_bytes(tmp_path, out, data, word, name):
    with pytest.raises((Unsupported, IntegrityError), match=word) as caught:
        convert.bring(write(tmp_path / name, data), out)
    assert caught.value.hint


def test_a_file_that_claims_to_be_nothing_known_is_refused(tmp_path, out):
    with pytest.raises(Unsupported, match="no kind"):
        convert.bring(write(tmp_path / "notes.txt", b"just some text\n"), out)


def test_links_and_missing_files(tmp_path, out):
    write(tmp_path / "real", b"x")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real")
    with pytest.raises(UnsafeFile, match="link"):
        convert.bring(tmp_path / "link.onnx", out)
    with pytest.raises(NotFound):
        convert.bring(tmp_path / "nothing", out)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafeFile):
        convert.bring(tmp_path / "pipe", out)


# ── pickles ──────────────────────────────────────────────────────────────────


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


def torch_zip(path: Path, data: bytes, extra=()) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("archive/data.pkl", data), ("archive/version", b"3\n"), *extra):
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_does_not(tmp_path, out, protocol, zipped):
    mark = tmp_path / "touched"
    data = pickle.dumps({"weights": Evil(mark)}, protocol=protocol)
    file = torch_zip(tmp_path / "evil.pth", data) if zipped else write(tmp_path / "evil.pth", data)
    with pytest.raises((UnsafeFile, IntegrityError)) as caught:
        convert.bring(file, out)
    assert "system" in str(caught.value) or (protocol == 0 and not zipped)
    assert not mark.exists()
    assert list(out.iterdir()) == []


def test_the_child_itself_refuses_it_too(tmp_path, out):
    file = torch_zip(tmp_path / "evil.pth", pickle.dumps(Evil(tmp_path / "touched")))
    with pytest.raises(UnsafeFile, match=r"posix\.system"):
        child.run("studio.intake.convert_pickle", file, out / "x", seconds=60, memory=8 * child.GB)
    assert not (tmp_path / "touched").exists()


def test_a_name_hidden_behind_harmless_ones_is_not_believed():
    # The stack holds "os", "system" while the strings seen last are harmless and were popped again.
    hidden = b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x0bcollections\x8c\x0bOrderedDict00\x93."
    assert pickles.globals_of(hidden) == {"?"}
    with pytest.raises(UnsafeFile):
        pickles.refuse_globals("x", pickles.globals_of(hidden))


def test_an_archive_behind_a_pickle_does_not_hide_it(tmp_path, out):
    harmless = torch_zip(tmp_path / "zip", pickle.dumps({})).read_bytes()
    both = pickle.dumps(Evil(tmp_path / "touched"), protocol=2) + harmless
    with pytest.raises(UnsafeFile, match="system"):
        convert.bring(write(tmp_path / "both.pt", both), out)
    assert not (tmp_path / "touched").exists()


def test_dotted_names_do_not_walk_out_of_the_allow_list():
    data = b"\x80\x04\x8c\x0ccollections\x8c\x10OrderedDict.x.os\x93.".replace(b"\x0c", b"\x0b", 1)
    with pytest.raises(UnsafeFile):
        pickles.refuse_globals("x", pickles.globals_of(data))


ARCHIVES = {
    "path outside": [("archive/../../evil", b"x")],
    "two folders": [("other/data/0", b"x")],
    "nested zip by name": [("archive/inner.zip", b"PK\x03\x04")],
    "torchscript": [("archive/code/__torch__.py", b"x")],
    "second pickle": [("archive/extra.pkl", b"x")],
}


@pytest.mark.parametrize("extra", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_archives_of_anything_but_weights_are_refused(tmp_path, out, extra):
    file = torch_zip(tmp_path / "x.pt", pickle.dumps({}), extra)
    with pytest.raises(UnsafeFile):
        convert.bring(file, out)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, out):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(80 * 2**20))
    with pytest.raises(UnsafeFile, match="far more"):
        convert.bring(tmp_path / "bomb.pt", out)


def test_a_cut_archive_is_damaged(tmp_path, out):
    whole = torch_zip(tmp_path / "x.pt", pickle.dumps({"a": 1})).read_bytes()
    with pytest.raises(IntegrityError):
        convert.bring(write(tmp_path / "cut.pt", whole[:60]), out)


def test_a_link_inside_an_archive_is_refused(tmp_path, out):
    link = zipfile.ZipInfo("archive/data/0")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeFile, match="link"):
        convert.bring(tmp_path / "x.pt", out)


def test_a_real_upscaler_is_converted(shared_weights, out):
    found = convert.bring(shared_weights / "enhance" / "realesr-animevideov3.pth", out)
    assert found.kind == "realesrgan"
    assert load_file(out / "model.safetensors")["body.0.weight"].shape == (64, 3, 3, 3)


def test_a_real_yolov5_pickle_becomes_the_network_that_its_own_export_is(shared_weights, out):
    found = convert.bring(shared_weights / "detect" / "yolov5n.pt", out)
    assert found.summary == "A detector in ONNX, read as YOLOv5 or v7. It knows 80 classes by name."
    assert found.options["names"][:3] == ["person", "bicycle", "car"]
    picture = pictures.decode((shared_weights / "segment" / "truck.jpg").read_bytes())
    square = np.ascontiguousarray(picture[:640, :640]).transpose(2, 0, 1)[None].astype(np.float32) / 255
    assert square.shape == (1, 3, 640, 640)
    theirs, ours = (
        onnxruntime.InferenceSession(file).run(None, {"images": square})[0]
        for file in (shared_weights / "detect" / "yolov5n_640.onnx", out / "model.onnx")
    )
    np.testing.assert_allclose(ours[..., :4], theirs[..., :4], atol=0.01)  # px
    np.testing.assert_allclose(ours[..., 4:], theirs[..., 4:], atol=1e-4)


# ── onnx, gguf ───────────────────────────────────────────────────────────────


def detector(
    path: Path, outputs=(("output0", [1, 84, 8400]),), names="{0: 'cat', 1: 'dog'}", location="", domain=""
) -> Path:
    size = int(np.prod(outputs[0][1]))
    weight = helper.make_tensor("w", TensorProto.FLOAT, outputs[0][1], np.zeros(size, np.float32))
    if location:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
        weight.external_data.add(key="length", value=str(size * 4))
    node = helper.make_node("Identity", ["w"], [outputs[0][0]], domain=domain)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 640, 640])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [weight],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model.metadata_props.add(key="names", value=names)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_onnx_detector_brings_its_names(tmp_path, out):
    found = convert.bring(detector(tmp_path / "m.bin"), out)
    assert (found.engine, found.options["names"]) == ("yolo", ["cat", "dog"])
    assert (out / "model.onnx").is_file()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", ""])
def test_onnx_tensors_outside_of_the_folder_are_refused(tmp_path, name):
    write(tmp_path.parent / "secret", b"x" * 100)
    with pytest.raises(UnsafeFile):
        onnx_facts(detector(tmp_path / "m.onnx", location=name or ".."))


def test_a_link_beside_an_onnx_file_is_not_copied(tmp_path, out):
    write(tmp_path / "secret", bytes(84 * 8400 * 4))
    (tmp_path / "m.data").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeFile, match="link"):
        convert.bring(detector(tmp_path / "m.onnx", location="m.data"), out)


def test_onnx_tensors_beside_the_file_come_along(tmp_path, out):
    source = tmp_path / "model"
    source.mkdir()
    detector(source / "m.onnx", location="m.data")
    with pytest.raises(IntegrityError, match=r"needs m\.data"):
        convert.bring(source, out)
    write(source / "m.data", bytes(84 * 8400 * 4))
    convert.bring(source, out)
    assert {path.name for path in out.iterdir()} == {"model.onnx", "m.data"}


def test_onnx_with_foreign_operators_or_outputs_is_refused(tmp_path, out):
    with pytest.raises(Unsupported, match=r"evil\.ops"):
        onnx_facts(detector(tmp_path / "a.onnx", domain="evil.ops"))
    with pytest.raises(Unsupported, match="no detector"):
        convert.bring(detector(tmp_path / "b.onnx", outputs=(("embedding", [1, 512]),)), out)


def bare(path: Path) -> Path:
    """A detector whose weights were taken out, as shipped models keep their graphs."""
    model = onnx.load(detector(path))
    graphs.save(graphs.strip(model, {"w"}), path)
    return path


def test_a_graph_without_its_weights_is_known_for_one(tmp_path, out):
    assert onnx_facts(bare(tmp_path / "m.onnx"))["bare"]
    convert.check_folder(tmp_path, ["m.onnx"])
    with pytest.raises(Unsupported, match="without its weights"):
        convert.bring(tmp_path / "m.onnx", out)


def test_a_graph_without_weights_that_is_broken_is_still_found(tmp_path):
    model = onnx.load(bare(tmp_path / "m.onnx"))
    model.graph.node[0].input[0] = "nobody"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(IntegrityError, match="not a valid ONNX"):
        onnx_facts(tmp_path / "m.onnx")


IMPORTABLE = {"diffusion", "yolo", "sam", "vae", "gan", "diffusion-lab"}  # engines whose folders tell what they are
COPIES = [card for card in CARDS.values() if card.source.kind == "builtin" and card.engine in IMPORTABLE]


@pytest.mark.parametrize("card", COPIES, ids=lambda card: card.id)
def test_a_copy_of_every_shipped_folder_can_be_imported(card, tmp_path, out):
    source = shutil.copytree(MODELS / card.source.path, tmp_path / "copy")
    found = convert.bring(source, out)
    assert (found.engine, found.tasks) == (card.engine, card.tasks)
    graphs_of = [path.name for path in sorted((source / "graphs").glob("*.onnx"))]
    assert [path.name for path in sorted((out / "graphs").glob("*.onnx"))] == graphs_of
    assert (out / "facts.json").is_file() == (source / "facts.json").is_file()


PLACES = {
    "word": ("offset", "here"),
    "negative": ("offset", "-5"),
    "fraction": ("length", "1.5"),
    "far": ("offset", "9" * 30),
}


@pytest.mark.parametrize(("key", "value"), PLACES.values(), ids=PLACES)
def test_a_tensor_at_an_impossible_place_is_refused_by_name(tmp_path, key, value):
    model = onnx.load(detector(tmp_path / "m.onnx", location="m.data"), load_external_data=False)
    write(tmp_path / "m.data", bytes(84 * 8400 * 4))
    data = model.graph.initializer[0].external_data
    kept = [(item.key, item.value) for item in data if item.key != key]
    del data[:]
    for name, text in [*kept, (key, value)]:
        data.add(key=name, value=text)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(IntegrityError, match=r"m\.onnx|m\.data"):
        convert._read("onnx", tmp_path / "m.onnx", None)


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, out):
    values = np.zeros(300, np.float32)
    values[200] = np.nan
    for dtype in (np.float16, np.float32, np.float64):
        save_file({"good": np.array([np.inf], dtype), "body": values.astype(dtype)}, tmp_path / "x.safetensors")
        with pytest.raises(IntegrityError, match=r"'body'.*NaN"):
            convert.check_folder(tmp_path, ["x.safetensors"])
    model = onnx.load(detector(tmp_path / "m.onnx"))
    numbers = np.zeros(84 * 8400, np.float32)
    numbers[7] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(numbers.reshape(1, 84, 8400), "w"))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(IntegrityError, match=r"'w'.*NaN"):
        convert.bring(tmp_path / "m.onnx", out)


def test_a_nan_in_a_file_beside_an_onnx_network_is_found(tmp_path):
    detector(tmp_path / "m.onnx", location="m.data")
    numbers = np.zeros(84 * 8400, np.float32)
    numbers[-1] = np.nan
    write(tmp_path / "m.data", numbers.tobytes())
    with pytest.raises(IntegrityError, match=r"'w'.*NaN"):
        onnx_facts(tmp_path / "m.onnx")


def test_class_names_that_are_code_are_only_text(tmp_path):
    assert onnx_facts(detector(tmp_path / "a.onnx", names="__import__('os').getcwd()"))["names"] == []


def test_a_cut_onnx_file_is_damaged(tmp_path, out):
    whole = detector(tmp_path / "m.onnx").read_bytes()
    with pytest.raises(IntegrityError):
        convert.bring(write(tmp_path / "cut.onnx", whole[: len(whole) // 2]), out)


def test_an_onnx_name_that_is_no_text_is_damage(tmp_path):
    data = detector(tmp_path / "m.onnx").read_bytes()
    assert data.count(b"Identity") == 1
    with pytest.raises(IntegrityError, match="not a sound ONNX"):
        onnx_facts(write(tmp_path / "x.onnx", data.replace(b"Identity", b"\xff\xfe\xfdntity")))


def test_real_detectors_are_recognised(shared_weights, out):
    for name in ("detect/yolov5n_640.onnx", "faces/version-RFB-320.onnx"):
        facts = onnx_facts(shared_weights / name)
        assert detectors.finding(facts, name).engine == "yolo"


def test_a_gguf_file_is_kept_and_named(tmp_path, out):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "flux")
    writer.add_tensor("w", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = convert.bring(tmp_path / "m.gguf", out)
    assert (found.engine, found.options["arch"]) == ("gguf", "flux")
    assert found.summary == "A GGUF file (flux, F32)."
    data = (tmp_path / "m.gguf").read_bytes()
    offset = data.index(struct.pack("<QQIQ", 4, 4, 0, 0)) + 20
    architecture = data.index(b"general.architecture") + len(b"general.architecture")
    lies = {
        "cut": data[:-20],
        "count": data[:8] + b"\xff" * 8 + data[16:],
        "offset below the file": data[:offset] + struct.pack("<Q", 2**64 - 64) + data[offset + 8 :],
        "list bomb": data[:architecture] + struct.pack("<IIQ", 9, 9, 2**40) + data[architecture:],
        "string bomb": data[:architecture] + struct.pack("<IIQ", 9, 8, 2**40) + data[architecture:],
        "long text": data[:architecture] + struct.pack("<IQ", 8, 2**63) + data[architecture:],
        "number bomb": data[:architecture] + struct.pack("<IIQ", 9, 4, 2**62) + data[architecture:],
    }
    for name, lie in lies.items():
        with pytest.raises(IntegrityError, match="GGUF"):
            gguf_facts(write(tmp_path / f"{name}.gguf", lie))


# ── diffusers folders ────────────────────────────────────────────────────────


def pipeline(folder: Path, **changes) -> Path:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        **changes,
    }
    files = {
        "model_index.json": json.dumps(index),
        "scheduler/scheduler_config.json": "{}",
        "tokenizer/vocab.json": "{}",
        "tokenizer/merges.txt": "#version",
        "unet/config.json": "{}",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    save_file({"w": np.zeros(2, np.float32)}, folder / "unet" / "diffusion_pytorch_model.safetensors")
    return folder


def test_a_diffusers_folder_is_copied_without_what_it_does_not_need(tmp_path, out):
    source = pipeline(tmp_path / "in")
    write(source / "unet" / "train.py", b"evil")
    write(source / "unet" / "diffusion_pytorch_model.bin", b"\x80\x02.")
    assert convert.bring(source, out).kind == "pipeline"
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert "unet/diffusion_pytorch_model.safetensors" in names
    assert not [name for name in names if name.endswith((".py", ".bin"))]


def test_a_real_incomplete_folder_is_refused_by_the_name_of_the_file(shared_weights, out):
    with pytest.raises(IntegrityError, match=r"unet/diffusion_pytorch_model\.safetensors is missing"):
        convert.bring(shared_weights / "diffusion" / "tiny-sd-pipeline", out)
    assert list(out.iterdir()) == []


def test_the_pickles_of_an_older_folder_are_converted(shared_weights, tmp_path, out):
    source = pipeline(tmp_path / "in")
    (source / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    real = shared_weights / "diffusion" / "textual_inversion_frida.bin"
    shutil.copy(real, source / "unet" / "diffusion_pytorch_model.bin")
    convert.bring(source, out)
    assert load_file(out / "unet" / "diffusion_pytorch_model.safetensors")["<frida>"].shape == (10, 768)


CHANGES = {
    "class name is a list": ({"_class_name": ["StableDiffusionPipeline"]}, UnsafeFile),
    "foreign pipeline": ({"_class_name": "EvilPipeline"}, UnsafeFile),
    "foreign class": ({"unet": ["diffusers", "EvilModel"]}, UnsafeFile),
    "foreign library": ({"unet": ["evil_module", "UNet2DConditionModel"]}, UnsafeFile),
    "part outside": ({"../unet": ["diffusers", "UNet2DConditionModel"]}, UnsafeFile),
    "part that is not there": ({"vae": ["diffusers", "AutoencoderKL"]}, IntegrityError),
    "malformed": ({"unet": ["diffusers"]}, UnsafeFile),
}


@pytest.mark.parametrize(("changes", "error"), CHANGES.values(), ids=CHANGES.keys())
def test_an_index_that_asks_for_something_else_is_refused(tmp_path, changes, error):
    with pytest.raises(error):
        check_pipeline(pipeline(tmp_path / "in", **changes))


def test_a_configuration_that_points_to_code_is_refused(tmp_path):
    source = pipeline(tmp_path / "in")
    (source / "unet" / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(UnsafeFile, match="code"):
        check_pipeline(source)


def test_shards_are_followed_and_may_not_lie_outside(tmp_path):
    source = pipeline(tmp_path / "in")
    weights = source / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.move(weights, source / "unet" / "part-1.safetensors")
    index = source / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "part-1.safetensors"}}))
    check_pipeline(source)
    index.write_text(json.dumps({"weight_map": {"w": "part-2.safetensors"}}))
    with pytest.raises(IntegrityError, match=r"part-2\.safetensors is missing"):
        check_pipeline(source)
    index.write_text(json.dumps({"weight_map": {"w": "../../part-1.safetensors"}}))
    with pytest.raises(UnsafeFile):
        check_pipeline(source)


def test_links_in_a_folder_are_refused(tmp_path, out):
    source = pipeline(tmp_path / "in")
    (source / "unet" / "config.json").unlink()
    (source / "unet" / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(UnsafeFile, match="link"):
        convert.bring(source, out)


# ── children ─────────────────────────────────────────────────────────────────


def test_a_child_that_takes_too_long_or_dies_is_reported(tmp_path, monkeypatch):
    write(tmp_path / "slow_child.py", b"import time; time.sleep(60)")
    write(tmp_path / "dead_child.py", b"import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    write(tmp_path / "fat_child.py", b"x = bytearray(4 * 2**30)")
    write(tmp_path / "net_child.py", b"import socket; socket.create_connection(('192.0.2.1', 80), 1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Unsupported, match="more than 1 s"):
        child.run("slow_child", seconds=1, memory=child.GB)
    for name in ("dead_child", "fat_child", "net_child"):
        with pytest.raises(StudioError, match="died"):
            child.run(name, seconds=20, memory=child.GB)

    def stop():
        raise Cancelled

    with pytest.raises(Cancelled):
        child.run("slow_child", seconds=20, memory=child.GB, tick=stop)


def test_legacy_torch_files_are_read_to_their_last_pickle():
    buffer = io.BytesIO()
    for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"a": os.getcwd}, ["key"]):
        pickle.dump(item, buffer, protocol=2)
    assert "posix.getcwd" in pickles.globals_of(buffer.getvalue())


def test_the_onnx_helper_above_is_a_valid_model(tmp_path):
    onnx.checker.check_model(onnx.load(detector(tmp_path / "m.onnx")))


@pytest.mark.parametrize("ending", convert.ENDINGS)
def test_a_file_that_is_not_what_its_name_says_is_called_damaged(tmp_path, out, ending):
    (tmp_path / f"notes{ending}").write_text("A note of mine.", encoding="utf-8")
    with pytest.raises(Unsupported, match=rf"notes\{ending} is damaged or not {convert.ENDINGS[ending]}"):
        convert.bring(tmp_path / f"notes{ending}", out)
