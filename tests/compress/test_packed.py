"""Packed files: as small as the arithmetic says on the weights that ship, whole or not there."""

import glob

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from studio.compress.packed import read_packed, stored, uniform, write_packed
from studio.compress.precisions import find
from studio.errors import Cancelled, IntegrityError
from tests.conftest import ROOT

LIMITS = {"int8-weights": 0.27, "int4-asym": 0.16, "int2": 0.10, "int1": 0.06}
SHIPPED = {
    "text-to-image": "starter-text-to-image/unet/*.safetensors",
    "text-encoder": "starter-text-to-image/text_encoder/*.safetensors",
    "autoencoder": "starter-text-to-image/vae/*.safetensors",
    "segmenter": "starter-segmenter/*.safetensors",
}


def shipped(pattern):
    files = sorted(glob.glob(str(ROOT / "models" / pattern)))
    return {name: array for file in files for name, array in load_file(file).items()}


@pytest.fixture(scope="module", params=SHIPPED)
def weights(request):
    found = shipped(SHIPPED[request.param])
    if not found:
        pytest.skip("the starter weights are not here")
    return found


def test_bytes_on_disk_against_fp32(weights, tmp_path):
    full = 4 * sum(array.size for array in weights.values())
    for id_, limit in LIMITS.items():
        plan = uniform(weights, find(id_))
        assert write_packed(tmp_path / f"{id_}.safetensors", weights, plan) / full <= limit, id_


def test_a_file_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    weights = {"a.weight": rng.normal(size=(64, 32)), "a.bias": rng.normal(size=64), "scalar": np.float32(3)}
    plan = uniform(weights, find("int8-weights"))
    file = tmp_path / "w.safetensors"
    seen = []
    size = write_packed(file, weights, plan, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert size == file.stat().st_size
    assert {name: str(array.scheme) for name, array in stored(file)} == {
        "a.weight": "s8g128", "a.bias": "f16", "scalar": "f16"
    }  # fmt: skip
    back = read_packed(file)
    assert back["scalar"] == 3
    assert np.abs(back["a.weight"] - weights["a.weight"]).max() < 0.02
    again = tmp_path / "again.safetensors"
    write_packed(again, back, plan)
    assert all(np.array_equal(array, back[name]) for name, array in read_packed(again).items())


def test_cancelled_or_damaged_leaves_nothing(tmp_path):
    def stop(done, total):
        raise Cancelled

    weights = {"a": np.ones((64, 64), np.float32)}
    with pytest.raises(Cancelled):
        write_packed(tmp_path / "w.safetensors", weights, uniform(weights, find("int4")), stop)
    weights["a"][0, 0] = np.nan
    with pytest.raises(IntegrityError, match="a holds NaN"):
        write_packed(tmp_path / "w.safetensors", weights, uniform(weights, find("int4")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("note", ["", "s4g32", "s4g32 4,-4 0", "s99g32 64,64 0", "s4g32 64,64 9999", "s4g32 640,64 0"])
def test_a_wrong_description_is_refused(note, tmp_path):
    file = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(100, np.uint8)}, file, {"format": "studio-packed-1", "a": note})
    with pytest.raises(IntegrityError):
        read_packed(file)


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(100, np.float32)}, file)
    for wrong in (file, tmp_path / "absent", tmp_path):
        with pytest.raises(IntegrityError):
            read_packed(wrong)
