"""Checkpoints are read without running them, and a real one comes out as the same network."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from studio.errors import IntegrityError, UnsafeFile, Unsupported

torch = pytest.importorskip("torch")
from studio.engines import export_yolo  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent


class Trap:
    """Runs `call(*arguments)` in whoever unpickles it carelessly."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.fixture
def network(monkeypatch):
    """A class that pickles as ultralytics' own, whose constructor and methods would leave a trace."""
    ran = []

    class DetectionModel(torch.nn.Module):
        def __init__(self, *arguments):
            ran.append(arguments)
            super().__init__()

        def __setstate__(self, state):
            ran.append(state)

    DetectionModel.__module__, DetectionModel.__qualname__ = "ultralytics.nn.tasks", "DetectionModel"
    module = types.ModuleType("ultralytics.nn.tasks")
    module.DetectionModel = DetectionModel
    for name in ("ultralytics", "ultralytics.nn"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", module)
    made = DetectionModel()
    made.model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    made.yaml = {"nc": 2, "backbone": [[-1, 1, "Conv", [4]]], "head": [[-1, 1, "Detect", [2]]]}
    made.names = {0: "cat", 1: "dog"}
    ran.clear()
    return made, ran


def save(path, network, **more):
    torch.save({"model": network, "ema": None, **more}, path)
    return path


def test_a_checkpoint_is_read_without_running_it(network, tmp_path):
    made, ran = network
    more = {"fitness": np.float64(0.5), "train_args": {"data": pathlib.PurePosixPath("a")}, "bias": np.dtype("float32")}
    record = export_yolo.read_checkpoint(save(tmp_path / "a.pt", made, **more))
    assert ran == []
    found = dict(export_yolo.tensors(record))
    assert found.keys() == made.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in made.state_dict().items())
    assert export_yolo.architecture(record) == made.yaml


@pytest.mark.parametrize("call", [os.system, eval, exec, __import__, print])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(network, tmp_path, call, zipped):
    made, _ = network
    trace = tmp_path / "ran"
    argument = {os.system: f"touch {trace}", __import__: "os"}.get(call, f"open({str(trace)!r}, 'w')")
    file = tmp_path / "a.pt"
    content = {"model": made, "x": Trap(call, argument)}
    if zipped:
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps({"x": Trap(call, argument)}))
    with pytest.raises(UnsafeFile):
        export_yolo.read_checkpoint(file)
    assert not trace.exists()


def test_allowed_names_do_nothing_when_called(network, tmp_path):
    made, ran = network
    trap = [Trap(type(made), {"activation": "1/0"}), Trap(getattr, made, "forward"), Trap(torch.nn.Conv2d, 3, 10**9, 9)]
    save(tmp_path / "a.pt", made, x=trap)
    export_yolo.read_checkpoint(tmp_path / "a.pt")
    assert ran == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation", "__import__('os').system('touch /tmp/x')"),
        ("activation", "nn.SiLU(), print(1)"),
        ("head", [[-1, 1, "os.system", ["x"]]]),
        ("head", [[-1, 1, "TorchVision", ["x"]]]),
    ],
)
def test_a_description_that_is_code_is_refused(network, tmp_path, key, value):
    made, _ = network
    made.yaml[key] = value
    record = export_yolo.read_checkpoint(save(tmp_path / "a.pt", made))
    with pytest.raises(UnsafeFile):
        export_yolo.architecture(record)


@pytest.mark.parametrize("description", [None, 3, {}, {"backbone": 1, "head": 2}, {"backbone": [[]], "head": []}])
def test_a_description_that_is_none(network, tmp_path, description):
    made, _ = network
    made.yaml = description
    record = export_yolo.read_checkpoint(save(tmp_path / "a.pt", made))
    with pytest.raises(Unsupported):
        export_yolo.architecture(record)


def test_files_that_are_no_checkpoints(network, tmp_path):
    file = tmp_path / "a.pt"
    made, _ = network
    whole = save(file, made).read_bytes()
    for content in (b"", b"GIF89a", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises((IntegrityError, UnsafeFile), match=r"a\.pt"):
            export_yolo.read_checkpoint(file)
    for odd in ([1, 2], {"model": {"weight": torch.ones(2)}}, {}):
        torch.save(odd, file)
        with pytest.raises(Unsupported, match=r"a\.pt"):
            export_yolo.read_checkpoint(file)


def test_an_old_yolov5_network_that_is_no_detector_is_named(monkeypatch, tmp_path):
    kind = type("SegmentationModel", (torch.nn.Module,), {"__module__": "models.yolo"})
    for name in ("models", "models.yolo"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["models.yolo"].SegmentationModel = kind
    with pytest.raises(Unsupported, match="SegmentationModel; only detectors"):
        export_yolo.export(save(tmp_path / "seg.pt", kind()), tmp_path / "seg.onnx")
    assert not (tmp_path / "seg.onnx").exists()


def test_an_old_yolov5_checkpoint_whose_layers_do_not_fit_is_refused(shared_weights, monkeypatch, tmp_path):
    builder = types.SimpleNamespace(parse_model=lambda *_, **__: (torch.nn.Sequential(torch.nn.Identity()), []))
    monkeypatch.setattr(export_yolo, "_ultralytics", lambda: builder)
    with pytest.raises(Unsupported, match="do not fit their description"):
        export_yolo.export(shared_weights / "detect" / "yolov5n.pt", tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_wrong(tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Trap(os.system, f"touch {tmp_path / 'ran'}")))
    command = [sys.executable, "-m", "studio.engines.export_yolo", "a.pt", "b.onnx"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["error"] == "UnsafeFile"
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


MAKE = """
import os, sys
os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_CONFIG_DIR=os.getcwd())
from studio.nets import torchvision_guard
torchvision_guard.install()
import numpy as np, torch
from pathlib import Path
from ultralytics.nn.tasks import DetectionModel
from studio.engines.export_yolo import export
torch.manual_seed(0)
down = [-1, 1, "Conv", [8, 3, 2]]
plan = {"nc": 2, "scales": {"n": [1, 1, 64]}, "scale": "n"}
plan |= {"backbone": [down, down, down, [-1, 1, "C3k2", [8, True]], down, down]}
plan |= {"head": [[[3, 4, 5], 1, "Detect", ["nc"]]]}
model = DetectionModel(plan, verbose=False).eval()
model.names, model.args = {0: "cat", 1: "dog"}, {}
for layer in model.modules():
    if isinstance(layer, torch.nn.BatchNorm2d):
        layer.running_mean.normal_(0, 0.3); layer.running_var.uniform_(0.5, 2)
torch.save({"model": model, "ema": None, "train_args": {}}, "a.pt")
picture = torch.rand(1, 3, 64, 96)
np.save("picture.npy", picture.numpy()); np.save("expected.npy", model(picture)[0].detach().numpy())
export(Path("a.pt"), Path("out/b.onnx"), 64)
"""


def test_a_real_checkpoint_comes_out_as_the_same_network(tmp_path):
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    onnxruntime = pytest.importorskip("onnxruntime")
    (tmp_path / "out").mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", MAKE], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "b.onnx"))
    found = session.run(None, {"images": np.load(tmp_path / "picture.npy")})[0]
    np.testing.assert_allclose(found, np.load(tmp_path / "expected.npy"), rtol=1e-3, atol=1e-3)
    assert "'dog'" in session.get_modelmeta().custom_metadata_map["names"]
