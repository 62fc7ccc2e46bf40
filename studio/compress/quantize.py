"""Networks in fewer bits by the tools that do it well: ONNX Runtime (QDQ per channel), OpenVINO and NNCF.

Imported only in the child process of a conversion. Every function reads the fp32 ONNX file of a part and writes one
that a runtime loads; `feeds` are what the network was asked on calibration inputs.
"""

from __future__ import annotations

import gzip
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from studio.compress import graphs, precisions, schemes
from studio.compress.networks import ZIPPED
from studio.compress.schemes import Scheme
from studio.compress.variants import PartFile
from studio.errors import Unsupported

PRODUCTS = ("Conv", "MatMul", "Gemm")
# What lies between a detector's convolutions: left in floats, each would go to floats and back (80 ms instead of 63).
BETWEEN = ("Sigmoid", "Mul", "Add", "Concat", "MaxPool", "Resize", "Split")
GROUP4 = 32  # weights that share a scale in 4 bits
SQUEEZED = 64 * 2**20  # bytes; a larger part is read from the disk as it is, and its graph is a small share of it
Feeds = Sequence[Mapping[str, NDArray[Any]]]
TRANSFORMERS = ("unet", "encoder", "text_encoder")  # parts with attention, whose activations NNCF treats with more care


class Job(NamedTuple):
    """One part to convert: its name, its fp32 file, the folder to write to, and calibration inputs; `tick` is told how
    much is done of how much by what takes minutes."""

    part: str
    source: Path
    out: Path
    feeds: Feeds
    tick: Callable[[int, int], None] | None = None


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
    graphs.save(_with_weights8(graphs.read(out)), out)
    return PartFile(out.name, "onnxruntime", "int8")


def onnx_int4(job: Job) -> PartFile:
    """The weights of matrix products in 4 bits per 32 with a scale (MatMulNBits), read as they are when it runs;
    convolutions stay in fp32. Raises Unsupported where there is no such product."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer, logger

    logger.setLevel(logging.ERROR)  # it tells of every node
    model = graphs.straight(_parted(job)[0])
    quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=GROUP4, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    made = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in made.graph.node):
        raise Unsupported("No product of matrices in this network has weights of its own.", "Choose int8.")
    graphs.save(made, job.out / f"{job.part}.onnx")
    return PartFile(f"{job.part}.onnx", "onnxruntime", "int4-weights")


def _with_weights8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of convolutions that compute in floats, stored in 8 bits with a scale per output channel. In place."""
    arrays = {item.name: item for item in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        item = arrays.get(node.input[1]) if node.op_type == "Conv" else None
        if (
            item is not None
            and item.data_type == onnx.TensorProto.FLOAT
            and np.prod(item.dims) >= precisions.KEEP_BELOW
        ):
            array = onnx.numpy_helper.to_array(item)
            scale = np.maximum(np.abs(array).reshape(len(array), -1).max(axis=1), 1e-12).astype(np.float32) / 127
            codes = np.rint(array / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
            name = item.name
            item.CopyFrom(onnx.numpy_helper.from_array(codes, f"{name}.codes"))
            model.graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}.scale"))
            made = [f"{name}.codes", f"{name}.scale"]
            nodes.append(onnx.helper.make_node("DequantizeLinear", made, [name], axis=0))
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])
    return model


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


def openvino_float(job: Job, precision: str) -> PartFile:
    """bf16 is stored as fp16, which has more digits of what fits into both."""
    ov, is_half = _openvino(), precision != "fp32"
    ov.save_model(ov.Core().read_model(str(job.source)), str(job.out / f"{job.part}.xml"), compress_to_fp16=is_half)
    return PartFile(f"{job.part}.xml", "openvino", precision)


def openvino_int8(job: Job) -> PartFile:
    """Weights and activations in 8 bits by NNCF, static, calibrated. Raises Unsupported."""
    nncf, ov = _nncf(), _openvino()
    graphs.refuse_quantized(onnx.load(str(job.source), load_external_data=False), "This network")
    model = _read(ov, job)
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
    model = nncf.compress_weights(_read(ov, job), mode=nncf.CompressWeightsMode.INT8_SYM)
    ov.save_model(model, str(job.out / f"{job.part}.xml"), compress_to_fp16=True)
    return PartFile(f"{job.part}.xml", "openvino", "int8-weights")


def openvino_int4(job: Job) -> PartFile:
    """Weights of matrix products in 4 bits per 32, those of convolutions in 8; computed in floats."""
    nncf, ov = _nncf(), _openvino()
    mode, model = nncf.CompressWeightsMode.INT4_SYM, _read(ov, job)
    model = nncf.compress_weights(model, mode=mode, group_size=GROUP4, ratio=1.0, all_layers=True)
    ov.save_model(model, str(job.out / f"{job.part}.xml"), compress_to_fp16=True)
    return PartFile(f"{job.part}.xml", "openvino", "int4-weights")


def packed(job: Job, runtime: str, precision: str) -> PartFile:
    """The graph without weights, and the weights in any precision of the table, really packed."""
    from studio.compress.packed import uniform

    model, weights = _parted(job)
    return _stored(job, model, weights, uniform(weights, precisions.find(precision)), runtime, precision)


def mixed(job: Job, runtime: str, precision: str) -> PartFile:
    """As `packed`, the bits by layer or by block. Raises Unsupported where measuring them would take hours."""
    from studio.compress.mixed import plan

    model, weights = _parted(job)
    chosen = plan(job.source, weights, job.feeds, precisions.find(precision), job.tick)
    return _stored(job, model, weights, chosen, runtime, precision)


def without_channels(job: Job, runtime: str, precision: str) -> PartFile:
    """A smaller graph: whole channels are cut out, the rest is fp16. Raises Unsupported where none may leave."""
    from studio.compress.channels import prune

    model, weights = _parted(job)
    scheme = precisions.find(precision).matrix
    assert scheme is not None
    left = prune(model, weights, scheme.bits / 100)
    made = _stored(job, model, left.weights, dict.fromkeys(left.weights, schemes.F16), runtime, precision)
    gone = 1 - sum(array.size for array in left.weights.values()) / sum(array.size for array in weights.values())
    asked = scheme.bits / 100
    few = f"{gone:.0%} of the {job.part}'s weights went, {asked:.0%} were asked for: the rest is tied to other layers."
    return replace(made, layers=left.errors, note=few if gone < 0.9 * asked else "")


def as_gguf(job: Job, runtime: str, precision: str) -> PartFile:
    """The graph without weights, and the weights as a GGUF file, which its other readers open too."""
    from studio.compress.gguf_file import write_gguf

    model, weights = _parted(job)
    graphs.save(graphs.strip(model, set(weights)), job.out / f"{job.part}.onnx")
    file = job.out / f"{job.part}.gguf"
    write_gguf(file, weights, precisions.find(precision).gguf, architecture=job.part, fold=True)
    return PartFile(f"{job.part}.onnx", runtime, precision, weights=file.name)


def _parted(job: Job) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """The graph, and its weights beside it. Raises Unsupported for what is quantized already."""
    model = graphs.read(job.source)
    graphs.refuse_quantized(model, "This network")
    return model, graphs.weights_of(model)


def _stored(
    job: Job,
    model: onnx.ModelProto,
    weights: Mapping[str, NDArray[np.float32]],
    plan: Mapping[str, Scheme],
    runtime: str,
    precision: str,
) -> PartFile:
    from studio.compress.packed import write_packed

    graphs.save(graphs.strip(model, set(weights)), job.out / f"{job.part}.onnx")
    file = job.out / f"{job.part}.packed.safetensors"
    write_packed(file, weights, plan)
    return PartFile(f"{job.part}.onnx", runtime, precision, weights=file.name)


def _read(ov: Any, job: Job) -> Any:
    """The network with its weights as they are used."""
    with tempfile.TemporaryDirectory(dir=job.out.parent) as folder:
        file = Path(folder) / job.source.name
        graphs.save(graphs.straight(graphs.read(job.source)), file)
        return ov.Core().read_model(str(file))


def squeezed(out: Path, made: PartFile) -> PartFile:
    """The part with the graph of a small network written tersely: it is a fourth of such a file at 8 bits."""
    file = out / made.file
    beside = (file.with_suffix(".bin"), file.with_name(f"{file.name}.weights"))
    if file.stat().st_size + sum(one.stat().st_size for one in beside if one.is_file()) > SQUEEZED:
        return made
    if file.suffix == ".onnx" and not made.weights:
        graphs.save(graphs.terse(graphs.read(file)), file)
        return made
    zipped = file.with_name(file.name + ZIPPED)
    zipped.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    file.unlink()
    return replace(made, file=zipped.name)


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
    ("onnxruntime", "int4-weights"): onnx_int4,
    ("openvino", "fp32"): lambda job: openvino_float(job, "fp32"),
    ("openvino", "fp16"): lambda job: openvino_float(job, "fp16"),
    ("openvino", "bf16"): lambda job: openvino_float(job, "bf16"),
    ("openvino", "int8"): openvino_int8,
    ("openvino", "int8-weights"): openvino_weights,
    ("openvino", "int4-weights"): openvino_int4,
}
# What a part becomes that is too small, or too near the picture, for 8-bit arithmetic.
GENTLER: dict[tuple[str, str], str] = {
    ("onnxruntime", "int8"): "int8-weights",
    ("onnxruntime", "int4-weights"): "int8-weights",
    ("openvino", "int8"): "int8-weights",
}
UNPRUNED = "fp16"  # a part none of whose channels may leave


# What a family of precisions needs besides packing; a kind of pruning counts as a family of its own.
FAMILIES: dict[str, Callable[[Job, str, str], PartFile]] = {
    "gguf": as_gguf,
    "mixed": mixed,
    "rows": without_channels,
}


def gentler(runtime: str, precision: str) -> str:
    """What a part becomes that cannot have that precision, "" where there is nothing."""
    matrix = precisions.find(precision).matrix
    return UNPRUNED if matrix is not None and matrix.kind == "rows" else GENTLER.get((runtime, precision), "")


def way(runtime: str, precision: str) -> Callable[[Job], PartFile]:
    """How a part gets that precision for that runtime. Raises InvalidTask for precisions nobody knows."""
    found = precisions.find(precision)
    known = WAYS.get((runtime, precision))
    if known is not None:
        return known
    kind = found.matrix.kind if found.matrix is not None and found.matrix.kind in FAMILIES else found.family
    made = FAMILIES.get(kind, packed)
    return lambda job: made(job, runtime, precision)
