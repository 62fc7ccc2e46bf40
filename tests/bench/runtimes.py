"""What the runtimes gain on this machine, each claim with its ratio. Run by hand, on a quiet machine:

    python -m tests.bench.runtimes [--part yolo|unet|turbo|text|sam|starter|memory] [--runs 15] [--cores 2]
                                   [--encoder vit_b] [--small]

Every side of a comparison lives in a process of its own and the runs take turns. Networks whose weights are not here
get random weights of the real size: speed and memory do not depend on the values. Large networks are converted once
into `--work` (kept; about 6 GB for the UNet, 8 GB of memory while it is made). Prints one JSON object a part.

    yolo     YOLO11n, 640 px: ultralytics on torch, ONNX Runtime fp32, int8 on ONNX Runtime and OpenVINO, bytes to boxes
    unet     one step of an SD 1.5-size UNet, 64 x 64 latents: diffusers on torch fp32 and bf16, OpenVINO int8
    turbo    text to image at 512 px, one step, an SD 1.5-size pipeline with a tiny decoder: torch, OpenVINO int8
    text     an SD 1.5-size text encoder with weights in 8 and 4 bits that stay so in memory
    sam      the encoder of --encoder (mobile, vit_b): torch, OpenVINO fp32 and int8; and a click's decode
    starter  the starter text to image, click to picture in a warm worker: torch, and each runtime without it
    memory   predicted and measured peak of eight pairs of model and precision
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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from studio.device import probe

SMALL = "small"  # a folder, and in it a file that `tests.bench.big_networks` looks for
ROOT = Path(__file__).resolve().parent.parent.parent
WARM_UPS = 2
SLOW_S = 2.0  # a run that takes longer is warm after one
T = TypeVar("T")
Run = Callable[[], object]


# ── the children: each returns what is to be timed ───────────────────────────


def child_torch_unet(work: Path, cores: int) -> Run:
    import torch

    from studio.runtimes.torch_runtime import compute_in_bf16
    from tests.bench.big_networks import unet

    torch.set_num_threads(cores)
    model, inputs = unet(work)
    if os.environ.get("BENCH_PRECISION") == "bf16":
        compute_in_bf16(model.model)

    def run() -> object:
        with torch.inference_mode():
            return model(*inputs)

    return run


def child_torch_sam(work: Path, cores: int) -> Run:
    import torch

    from tests.bench.big_networks import sam

    torch.set_num_threads(cores)
    model, pixels = sam(work, os.environ["BENCH_ENCODER"])

    def run() -> object:
        with torch.inference_mode():
            return model.image_encoder(pixels)

    return run


def child_file(work: Path, cores: int) -> Run:
    """A network's file on a runtime, with the inputs that were kept beside it."""
    import numpy as np

    from studio.runtimes.base import Settings, runtime

    name, file = os.environ["BENCH_RUNTIME"], work / os.environ["BENCH_FILE"]
    with np.load(work / os.environ["BENCH_INPUTS"]) as arrays:
        feed = {key: arrays[key] for key in arrays.files}
    shapes = {key: value.shape for key, value in feed.items()}
    precision = os.environ.get("BENCH_PRECISION", "fp32")
    session = runtime(name).load(file, Settings(cores, work / "compiled", shapes, precision=precision))
    return lambda: session.run(feed)


def child_engine(work: Path, cores: int) -> Run:
    """A task on an engine, from the card in BENCH_CARD; the runtime from its options."""
    import importlib

    from studio.cards import Card
    from studio.compress.conversion import Calls
    from studio.engines.base import ENGINES
    from studio.ops.pictures import decode
    from studio.tasks import make_task

    facts = json.loads((work / os.environ["BENCH_CARD"]).read_text())
    card = Card.model_validate(facts["card"])
    module, _, kind = ENGINES[facts["engine"]].target.partition(":")
    device = replace(probe("cpu"), cores=cores, memory=0)
    engine = getattr(importlib.import_module(module), kind)(card, Path(facts["folder"]), device)
    data = Path(facts["image"]).read_bytes() if facts.get("image") else b""
    task = make_task(facts["kind"], {**facts["fields"], **({"image": "0" * 64} if data else {})})
    return lambda: engine.run(task, Calls({"0" * 64: decode(data)} if data else {}, work / "cache"))


def child_ultralytics(work: Path, cores: int) -> Run:
    from tests.bench.detect_speed import theirs

    run = theirs(work, None, cores)
    data = Path(os.environ["BENCH_IMAGE"]).read_bytes()
    return lambda: run(data)


CHILDREN: dict[str, Callable[[Path, int], Run]] = {
    "torch_unet": child_torch_unet,
    "torch_sam": child_torch_sam,
    "file": child_file,
    "engine": child_engine,
    "ultralytics": child_ultralytics,
}


def serve(kind: str, work: Path, cores: int) -> None:
    """Child: loads, warms up, then one timed run for every line that comes in; after the last its peak."""
    from studio.compress.measuring import peak_mb
    from studio.worker import prepare_environment

    prepare_environment()
    started = time.perf_counter()
    run = CHILDREN[kind](work, cores)
    loaded = time.perf_counter() - started
    for _ in range(WARM_UPS):
        begin = time.perf_counter()
        run()
        if time.perf_counter() - begin > SLOW_S:
            break
    print(json.dumps({"load_s": loaded}), flush=True)  # noqa: T201
    for line in sys.stdin:
        if line.strip() != "run":
            break
        begin = time.perf_counter()
        run()
        print(json.dumps({"ms": 1000 * (time.perf_counter() - begin)}), flush=True)  # noqa: T201
    print(json.dumps({"peak_mb": peak_mb()}), flush=True)  # noqa: T201


# ── the parent ───────────────────────────────────────────────────────────────


class Side:
    """One side of a comparison in a process of its own, loaded and warm once this returns."""

    def __init__(self, name: str, kind: str, work: Path, cores: int, **env: str) -> None:
        self.name = name
        self.times: list[float] = []
        command = [sys.executable, "-m", "tests.bench.runtimes", "--child", kind, "--work", str(work)]
        self._process = subprocess.Popen(
            [*command, "--cores", str(cores)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **env},
        )
        self.facts = self._read()

    def run(self) -> None:
        self._write("run")
        self.times.append(self._read()["ms"])

    def end(self) -> None:
        self._write("end")
        self.facts |= self._read()
        self._process.communicate()

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith('{"'):
                return dict(json.loads(line))
        raise SystemExit(f"{self.name} ended with {self._process.wait()}")


def compare(sides: Sequence[Callable[[], Side]], runs: int, *, together: bool = True) -> dict[str, Any]:
    """Medians and ratios to the first side. Sides too large to live together are run one after the other."""
    made: list[Side] = []
    for groups in [sides] if together else [[side] for side in sides]:
        group = [side() for side in groups]
        for _ in range(runs):
            for side in group:
                side.run()
        for side in group:
            side.end()
        made += group
    medians = {side.name: statistics.median(side.times) for side in made}
    base = next(iter(medians.values()))
    return {
        "median_ms": {name: round(value, 1) for name, value in medians.items()},
        "fastest_ms": {side.name: round(min(side.times), 1) for side in made},
        "ratio": {name: round(value / base, 3) for name, value in medians.items()},
        "peak_mb": {side.name: round(side.facts["peak_mb"]) for side in made},
        "load_s": {side.name: round(side.facts["load_s"], 2) for side in made},
        "runs": runs,
    }


def describe(work: Path, name: str, **facts: Any) -> str:
    """Writes what an engine's child reads."""
    (work / f"{name}.card.json").write_text(json.dumps(facts))
    return f"{name}.card.json"


def in_bf16(*what: T) -> tuple[T, ...]:
    """What is compared besides where the processor computes in bf16."""
    return what if probe().computes("bf16") else ()


def told(card: Any, place: Any) -> Any:
    return card.model_copy(update={"options": {**card.options, "fast": place.to_option()}}).model_dump(mode="json")


def part_yolo(work: Path, runs: int, cores: int, encoder: str) -> dict[str, Any]:
    from studio.cards import Card, Source
    from studio.compress import convert
    from studio.compress.networks import Place
    from studio.compress.variants import Variants
    from studio.errors import StudioError

    folder = work / "yolo11n"
    picture = ROOT / "assets" / "examples" / "cat.jpg"
    if not (folder / "model.onnx").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.bench.detect_speed", str(picture), "--side", "prepare"]
        subprocess.run([*command, "--folder", str(folder)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    card = Card(id="yolo11n", title="YOLO11n", tasks=("detect",), engine="yolo", licence="AGPL-3.0",
                source=Source(kind="none"), options={"imgsz": 640})  # fmt: skip
    facts = {"engine": "yolo", "folder": str(folder), "kind": "detect", "fields": {}, "image": str(picture)}
    sides = [lambda: Side("ultralytics torch", "ultralytics", folder, cores, BENCH_IMAGE=str(picture))]
    plain = describe(work, "yolo-plain", card=card.model_dump(mode="json"), **facts)
    sides.append(lambda: Side("onnxruntime-fp32", "engine", work, cores, BENCH_CARD=plain))
    notes: dict[str, str] = {}
    for name in ("openvino-fp32", *in_bf16("openvino-bf16"), "onnxruntime-int8", "openvino-int8"):
        try:
            made = convert.make(card, folder, "bench", name, Variants(work))
        except StudioError as error:
            notes[name] = str(error)
            continue
        place = Place(made.runtime, made.precision, made.folder, work / "compiled")
        file = describe(work, f"yolo-{name}", card=told(card, place), **facts)
        sides.append(lambda name=name, file=file: Side(name, "engine", work, cores, BENCH_CARD=file))
    found = compare(sides, runs)
    plain_ms = found["median_ms"]["onnxruntime-fp32"]
    found["ratio_to_onnxruntime"] = {k: round(v / plain_ms, 3) for k, v in found["median_ms"].items()}
    return {**found, "notes": notes}


def part_unet(work: Path, runs: int, cores: int, encoder: str) -> dict[str, Any]:
    _prepare(work, "unet")
    env, half = {"BENCH_INPUTS": "unet.inputs.npz", "BENCH_RUNTIME": "openvino"}, {"BENCH_PRECISION": "bf16"}
    sides = [
        lambda: Side("torch-fp32", "torch_unet", work, cores),
        *in_bf16(
            lambda: Side("torch-bf16", "torch_unet", work, cores, **half),
            lambda: Side("openvino-bf16", "file", work, cores, **env, **half, BENCH_FILE="unet-fp32.xml"),
        ),
        lambda: Side("openvino-int8", "file", work, cores, **env, BENCH_FILE="unet-int8.xml"),
        lambda: Side("openvino-int8-weights", "file", work, cores, **env, BENCH_FILE="unet-int8-weights.xml"),
    ]
    found = compare(sides, max(3, runs // 5), together=False)
    sizes = {name: (work / f"unet-{name}.bin").stat().st_size for name in ("fp32", "int8", "int8-weights")}
    return {**found, "bytes": sizes, "bytes_ratio": {k: round(v / sizes["fp32"], 3) for k, v in sizes.items()}}


def part_turbo(work: Path, runs: int, cores: int, encoder: str) -> dict[str, Any]:
    from tests.bench.big_networks import turbo_card

    folder = work / "turbo"
    _prepare(work, "turbo")
    facts = {"folder": str(folder), "kind": "generate"}
    facts["fields"] = {"prompt": "a red apple", "seed": 1, "steps": 1, "guidance_scale": 0.0}
    plain = describe(work, "turbo-torch", card=turbo_card(work), engine="diffusion", **facts)
    fast = describe(work, "turbo-fast", card=json.loads((work / "turbo-card.json").read_text()),
                    engine="fast-diffusion", **facts)  # fmt: skip
    sides = [
        lambda: Side("torch-fp32", "engine", work, cores, BENCH_CARD=plain),
        lambda: Side("openvino-int8", "engine", work, cores, BENCH_CARD=fast),
    ]
    return compare(sides, max(3, runs // 5), together=False)


def part_text(work: Path, runs: int, cores: int, encoder: str) -> dict[str, Any]:
    from tests.bench.big_networks import TEXT_WAYS

    _prepare(work, "text")
    sides, sizes = [], {}
    for runtime, precision in TEXT_WAYS:
        name, suffix = f"{runtime}-{precision}", "onnx" if runtime == "onnxruntime" else "xml"
        env = {"BENCH_INPUTS": "text.inputs.npz", "BENCH_RUNTIME": runtime}
        file = f"text/{name}/text_encoder.{suffix}"
        sides.append(lambda name=name, env=env, file=file: Side(name, "file", work, cores, **env, BENCH_FILE=file))
        sizes[name] = sum(one.stat().st_size for one in (work / "text" / name).iterdir())
    return {**compare(sides, runs, together=False), "bytes": sizes}


def part_sam(work: Path, runs: int, cores: int, encoder: str) -> dict[str, Any]:
    _prepare(work, f"sam-{encoder}")
    env = {"BENCH_INPUTS": f"sam-{encoder}.inputs.npz", "BENCH_ENCODER": encoder}
    sides = [lambda: Side("torch-fp32", "torch_sam", work, cores, **env)]
    for runtime, precision, suffix in (
        ("onnxruntime", "fp32", "onnx"),
        ("openvino", "fp32", "xml"),
        ("openvino", "int8", "xml"),
    ):
        file = f"sam-{encoder}-{precision}.{suffix}"
        sides.append(
            lambda r=runtime, p=precision, f=file: Side(
                f"{r}-{p}", "file", work, cores, **env, BENCH_RUNTIME=r, BENCH_FILE=f
            )
        )
    found = {"encoder": compare(sides, max(3, runs // 4), together=False)}
    click = {"BENCH_INPUTS": f"sam-{encoder}-decoder.inputs.npz", "BENCH_RUNTIME": "onnxruntime"}
    decode = compare([lambda: Side("decode", "file", work, 1, **click, BENCH_FILE=f"sam-{encoder}-decoder.onnx")], runs)
    return {**found, "decode_ms": decode["median_ms"]["decode"]}


def part_starter(work: Path, runs: int, cores: int, encoder: str) -> dict[str, Any]:
    from studio.cards import load_cards
    from studio.compress import convert
    from studio.compress.networks import Place
    from studio.compress.variants import Variants

    card = load_cards(ROOT / "models")["starter-text-to-image"]
    folder = ROOT / "models" / card.source.path
    facts = {"folder": str(folder), "kind": "generate", "fields": {"prompt": "a red apple", "seed": 7}}
    plain = describe(work, "starter-torch", card=card.model_dump(mode="json"), engine="diffusion", **facts)
    sides = [lambda: Side("torch-fp32", "engine", work, cores, BENCH_CARD=plain)]
    half = describe(work, "starter-bf16", card=told(card, Place("torch", "bf16")), engine="diffusion", **facts)
    sides += in_bf16(lambda: Side("torch-bf16", "engine", work, cores, BENCH_CARD=half))
    for name in ("onnxruntime-fp32", "openvino-fp32", *in_bf16("openvino-bf16"), "onnxruntime-int8", "openvino-int8"):
        made = convert.make(card, folder, "bench", name, Variants(work))
        place = Place(made.runtime, made.precision, made.folder, work / "compiled")
        file = describe(work, f"starter-{name}", card=told(card, place), engine="fast-diffusion", **facts)
        sides.append(lambda name=name, file=file: Side(name, "engine", work, cores, BENCH_CARD=file))
    return {**compare(sides, runs), "steps": card.defaults["steps"]}


def part_memory(work: Path, runs: int, cores: int, encoder: str) -> dict[str, Any]:
    from studio.cards import load_cards
    from studio.compress import plan
    from studio.compress.bench import Bench
    from studio.device import probe

    cards, rows = load_cards(ROOT / "models"), []
    pairs = {
        "starter-detector": ("onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32"),
        "starter-segmenter": ("torch-fp32", "onnxruntime-fp32"),
        "starter-text-to-image": ("torch-fp32", "onnxruntime-fp32", "openvino-fp32"),
    }
    for id_, names in pairs.items():
        card = cards[id_]
        folder = ROOT / "models" / card.source.path
        model = plan.anatomy(card, folder)
        bench = Bench(work, work / "cache", probe("cpu"))
        for row in bench.compare(card, folder, "bench", names, runs=2, anyway=True):
            name = f"{row['runtime']}-{row['precision']}"
            if name in names and not row.get("error"):
                predicted = plan.predict(model, name) / 2**20
                off = predicted / row["peak_mb"] - 1
                rows.append({"card": id_, "variant": name, "predicted_mb": round(predicted),
                             "measured_mb": round(row["peak_mb"]), "off": round(off, 3)})  # fmt: skip
    return {"pairs": rows, "within_20_percent": sum(abs(row["off"]) <= 0.2 for row in rows)}


PARTS: dict[str, Callable[[Path, int, int, str], dict[str, Any]]] = {
    "yolo": part_yolo,
    "unet": part_unet,
    "turbo": part_turbo,
    "text": part_text,
    "sam": part_sam,
    "starter": part_starter,
    "memory": part_memory,
}


def _prepare(work: Path, what: str) -> None:
    """Converts a large network once, in a child that ends with it."""
    if (work / f"{what}.done").is_file():
        return
    subprocess.run([sys.executable, "-m", "tests.bench.big_networks", what, str(work)], cwd=ROOT, check=True)
    (work / f"{what}.done").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--encoder", choices=["mobile", "vit_b"], default="mobile")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "studio-bench")
    parser.add_argument(
        "--small", action="store_true", help="small networks: does it all run? Its figures mean nothing"
    )
    parser.add_argument("--child", choices=[*CHILDREN], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        serve(given.child, given.work, given.cores)
        return
    given.work = given.work / SMALL if given.small else given.work
    given.work.mkdir(parents=True, exist_ok=True)
    if given.small:
        (given.work / SMALL).touch()
    for name in PARTS if given.part == "all" else [given.part]:
        found = PARTS[name](given.work, given.runs, given.cores, given.encoder)
        load = round(os.getloadavg()[0], 1)
        print(json.dumps({"part": name, **found, "cores": given.cores, "load": load}))  # noqa: T201


if __name__ == "__main__":
    main()
