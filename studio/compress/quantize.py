"""Networks in fewer bits by the tools that do it well: ONNX Runtime (QDQ per channel), OpenVINO and NNCF.

Imported only in the child process of a conversion. Every function reads the fp32 ONNX file of a part and writes one
that a runtime loads; `feeds` are what the network was asked on calibration inputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from studio.compress import graphs, precisions
from studio.compress.variants import PartFile
from studio.errors import Unsupported

PRODUCTS = ("Conv", "MatMul", "Gemm")
# What lies between a detector's convolutions: left in floats, each would go to floats and back (80 ms instead of 63).
BETWEEN = ("Sigmoid", "Mul", "Add", "Concat", "MaxPool", "Resize", "Split")
Feeds = Sequence[Mapping[str, NDArray[Any]]]
TRANSFORMERS = ("unet", "encoder", "text_encoder")  # parts with attention, whose activations NNCF treats with more care


class Job(NamedTuple):
    """One part to convert: its name, its fp32 file, the folder to write to, and calibration inputs."""

    part: str
    source: Path
    out: Path
    feeds: Feeds


def onnx_fp32(job: Job) -> PartFile:
    graphs.save(graphs.read(job.source), job.out / f"{job.part}.onnx")
    return PartFile(f"{job.part}.onnx", "onnxruntime", "fp32")


def onnx_fp16(job: Job) -> PartFile:
    """Weights in 16 bits, computed in 32: a CPU gains nothing from computing in 16."""
    model = graphs.read(job.source)
    casts = []
    for item in model.graph.initializer:
        array = onnx.numpy_helper.to_array(item)
        if array.dtype != np.float32 or array.size < graphs.SMALL:
            continue
        name = item.name
        half = np.clip(array, -65504, 65504).astype(np.float16)
        item.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *kept])
    graphs.save(model, job.out / f"{job.part}.onnx")
    return PartFile(f"{job.part}.onnx", "onnxruntime", "fp16")


def onnx_int8(job: Job) -> PartFile:
    """Weights per channel and activations per tensor in 8 bits, with QDQ nodes. Raises Unsupported."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """The feeds, one at a time."""

        def __init__(self, feeds: Feeds) -> None:
            self._rows: Iterator[Any] = iter(feeds)

        def get_next(self) -> Any:
            return next(self._rows, None)

    graphs.refuse_quantized(graphs.read(job.source), "This network")
    ready, out = job.out / f".{job.part}.ready.onnx", job.out / f"{job.part}.onnx"
    try:
        quant_pre_process(str(job.source), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(out),
            Reader(job.feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=[*PRODUCTS, *BETWEEN] if job.part == "network" else [*PRODUCTS],
            nodes_to_exclude=_last_layers(ready) if job.part == "network" else [],
        )
    finally:
        ready.unlink(missing_ok=True)
    graphs.save(graphs.read(out), out)
    return PartFile(out.name, "onnxruntime", "int8")


def _last_layers(file: Path) -> list[str]:
    """A detector's head behind its last convolutions: boxes in pixels and scores in 0..1 share a tensor there, and one
    scale cannot serve both."""
    model = onnx.load(str(file), load_external_data=False)
    makers = {name: node for node in model.graph.node for name in node.output}
    seen: set[str] = set()
    queue = [output.name for output in model.graph.output]
    while queue:
        node = makers.get(queue.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type != "Conv":
            queue += list(node.input)
    return sorted(seen)


def openvino_float(job: Job, is_half: bool) -> PartFile:
    ov = _openvino()
    ov.save_model(ov.Core().read_model(str(job.source)), str(job.out / f"{job.part}.xml"), compress_to_fp16=is_half)
    return PartFile(f"{job.part}.xml", "openvino", "fp16" if is_half else "fp32")


def openvino_int8(job: Job) -> PartFile:
    """Weights and activations in 8 bits by NNCF, static, calibrated. Raises Unsupported."""
    nncf, ov = _nncf(), _openvino()
    graphs.refuse_quantized(onnx.load(str(job.source), load_external_data=False), "This network")
    model = ov.Core().read_model(str(job.source))
    is_transformer = job.part in TRANSFORMERS
    options: dict[str, Any] = {"model_type": nncf.ModelType.TRANSFORMER} if is_transformer else {}
    if job.part == "network":
        names = set(_last_layers(job.source))
        options["ignored_scope"] = nncf.IgnoredScope(names=sorted(names), validate=False)
    feeds = [dict(feed) for feed in job.feeds]
    quantized = nncf.quantize(
        model, nncf.Dataset(feeds), preset=nncf.QuantizationPreset.MIXED, subset_size=len(feeds), **options
    )
    ov.save_model(quantized, str(job.out / f"{job.part}.xml"), compress_to_fp16=True)
    return PartFile(f"{job.part}.xml", "openvino", "int8")


def openvino_weights(job: Job) -> PartFile:
    """Weights alone in 8 bits: a quarter of the memory, computed in floats."""
    nncf, ov = _nncf(), _openvino()
    model = nncf.compress_weights(ov.Core().read_model(str(job.source)), mode=nncf.CompressWeightsMode.INT8_SYM)
    ov.save_model(model, str(job.out / f"{job.part}.xml"), compress_to_fp16=True)
    return PartFile(f"{job.part}.xml", "openvino", "int8-weights")


def packed(job: Job, runtime: str, precision: str) -> PartFile:
    """The graph without weights, and the weights in any precision of the table, really packed."""
    from studio.compress.packed import uniform, write_packed

    model = graphs.read(job.source)
    graphs.refuse_quantized(model, "This network")
    weights = graphs.weights_of(model)
    graphs.save(graphs.strip(model, set(weights)), job.out / f"{job.part}.onnx")
    file = job.out / f"{job.part}.packed.safetensors"
    write_packed(file, weights, uniform(weights, precisions.find(precision)))
    return PartFile(f"{job.part}.onnx", runtime, precision, weights=file.name)


def _openvino() -> Any:
    from studio.runtimes.openvino_runtime import library

    return library()


def _nncf() -> Any:
    """NNCF without its telemetry and its words."""
    _openvino()
    try:
        import nncf
    except ImportError as error:
        raise Unsupported("NNCF is not installed here.", "Install requirements.txt again.") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


# (runtime, precision) -> how; what is not here is packed weights on a plain graph.
WAYS: dict[tuple[str, str], Callable[[Job], PartFile]] = {
    ("onnxruntime", "fp32"): onnx_fp32,
    ("onnxruntime", "fp16"): onnx_fp16,
    ("onnxruntime", "int8"): onnx_int8,
    ("openvino", "fp32"): lambda job: openvino_float(job, is_half=False),
    ("openvino", "fp16"): lambda job: openvino_float(job, is_half=True),
    ("openvino", "int8"): openvino_int8,
    ("openvino", "int8-weights"): openvino_weights,
}
CALIBRATED = ("int8",)
# What a part becomes that is too small, or too near the picture, for 8-bit arithmetic.
GENTLER: dict[tuple[str, str], str] = {("onnxruntime", "int8"): "int8-weights", ("openvino", "int8"): "int8-weights"}


def way(runtime: str, precision: str) -> Callable[[Job], PartFile]:
    """How a part gets that precision for that runtime. Raises InvalidTask for precisions nobody knows."""
    precisions.find(precision)
    known = WAYS.get((runtime, precision))
    return known if known is not None else lambda job: packed(job, runtime, precision)
