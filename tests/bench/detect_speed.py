"""Picture bytes to boxes: the studio's engine against ultralytics' own predict, same weights, same picture, this CPU.

    python -m tests.bench.detect_speed PICTURE [--runs 15] [--cores N] [--checkpoint yolo11n.pt]

Run by hand. Each side lives in a process of its own, so that neither's idle threads slow the other; the runs alternate,
so that what else the machine does hits both. Without a checkpoint YOLO11n gets random weights, which cost the same.
Prints one JSON object; "ratio" is the studio's median over ultralytics' median. On a machine that is busy with other
things compare "processor_ms" (time on all cores together) and "fastest_ms" instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WARM_UPS = 3


def make_weights(folder: Path) -> Path:
    """YOLO11n with random weights as ultralytics saves it."""
    import torch
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    torch.manual_seed(0)
    model = DetectionModel(yaml_model_load("yolo11n.yaml"), nc=80, verbose=False)
    model.names, model.args = {i: f"class {i}" for i in range(80)}, {}
    torch.save({"model": model, "ema": None, "train_args": {}}, folder / "yolo11n.pt")
    return folder / "yolo11n.pt"


def prepare(folder: Path, checkpoint: Path | None, cores: int) -> None:
    """Child: puts model.pt and model.onnx into the folder."""
    _import_ultralytics()
    from studio.engines.export_yolo import export

    source = checkpoint if checkpoint is not None else make_weights(folder)
    (folder / "model.pt").write_bytes(source.read_bytes())
    export(source, folder / "model.onnx", 640)


def theirs(folder: Path, checkpoint: Path | None, cores: int) -> Callable[[bytes], int]:
    _import_ultralytics()
    import cv2
    import numpy as np
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(cores)
    model = YOLO(folder / "model.pt")

    def run(data: bytes) -> int:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        found = model.predict(picture, imgsz=640, conf=0.25, iou=0.45, device="cpu", verbose=False)[0]
        return len(found.boxes.xyxy.numpy())

    return run


def ours(folder: Path, checkpoint: Path | None, cores: int) -> Callable[[bytes], int]:
    from studio.cards import Card, Source
    from studio.device import Device
    from studio.engines.yolo import Yolo
    from studio.ops.pictures import decode
    from studio.tasks import Detect
    from tests.fakes import FakeReport

    card = Card(id="x", title="X", tasks=("detect",), engine="yolo", licence="X", source=Source(kind="none"))
    engine = Yolo(card, folder, Device("this", cores, 0, "cpu"))

    def run(data: bytes) -> int:
        task = Detect(image="0" * 64)
        return len(engine.run(task, FakeReport({task.image: decode(data)})).data["boxes"])

    return run


SIDES = {"theirs": theirs, "ours": ours}


def serve(side: str, folder: Path, picture: Path, cores: int) -> None:
    """Child: one timed run for every line that comes in."""
    run, data = SIDES[side](folder, None, cores), picture.read_bytes()
    for _ in range(WARM_UPS):
        run(data)
    for _ in sys.stdin:
        started, worked = time.perf_counter(), time.process_time()
        count = run(data)
        spent = time.perf_counter() - started, time.process_time() - worked
        print(json.dumps([*spent, count]), flush=True)  # noqa: T201


def measure(folder: Path, picture: Path, runs: int, cores: int) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.bench.detect_speed", str(picture), "--folder", str(folder)]
    command += ["--cores", str(cores)]
    children = {
        side: subprocess.Popen(
            [*command, "--side", side], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for side in SIDES
    }
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    processor: dict[str, list[float]] = {side: [] for side in SIDES}
    counts: dict[str, int] = {}
    for _ in range(runs):
        for side, child in children.items():
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            line = child.stdout.readline()
            while not line.startswith("["):  # ultralytics prints words of its own
                line = child.stdout.readline()
            spent, worked, counts[side] = json.loads(line)
            seconds[side].append(spent)
            processor[side].append(worked)
    for child in children.values():
        child.communicate()
    median = {side: statistics.median(values) for side, values in seconds.items()}
    return {
        "ratio": round(median["ours"] / median["theirs"], 3),
        "median_ms": {side: round(1000 * value, 1) for side, value in median.items()},
        "processor_ms": {side: round(1000 * statistics.median(values), 1) for side, values in processor.items()},
        "fastest_ms": {side: round(1000 * min(values), 1) for side, values in seconds.items()},
        "boxes": counts,
        "runs": runs,
        "cores": cores,
        "load": os.getloadavg()[0],
    }


def _import_ultralytics() -> None:
    os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_VERBOSE="false")
    from studio.nets import torchvision_guard

    torchvision_guard.install()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=["prepare", *SIDES], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side == "prepare":
        prepare(given.folder, given.checkpoint, given.cores)
    elif given.side is not None:
        serve(given.side, given.folder, given.picture, given.cores)
    else:
        with tempfile.TemporaryDirectory() as name:
            os.environ["YOLO_CONFIG_DIR"] = name
            command = [
                sys.executable,
                "-m",
                "tests.bench.detect_speed",
                str(given.picture.resolve()),
                "--side",
                "prepare",
            ]
            command += ["--folder", name] + (["--checkpoint", str(given.checkpoint)] if given.checkpoint else [])
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            print(json.dumps(measure(Path(name), given.picture.resolve(), given.runs, given.cores)))  # noqa: T201


if __name__ == "__main__":
    main()
