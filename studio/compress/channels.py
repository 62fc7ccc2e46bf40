"""Structured pruning of an ONNX graph: whole channels leave, so the network gets smaller and quicker on every runtime.

A channel is one place of an axis that one layer makes and others read: an output channel of a convolution, a hidden
unit between two products. It may leave where every operator on its way treats channels alone: then it is cut out of
all weights that make or read it. Channels that are added to one another leave together; those that are reshaped, or
come out of the network, stay. Of each such group the channels with the shortest weights go.

Axes are counted from the right: -3 for channels of pictures (N, C, H, W), -1 for products of matrices (..., C).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from studio.compress import pruning
from studio.errors import Unsupported

PICTURE, MATRIX = -3, -1
ALONE = (
    "Relu", "Sigmoid", "LeakyRelu", "Clip", "Tanh", "Erf", "HardSwish", "HardSigmoid", "Elu", "Softplus", "Gelu",
    "Identity", "Cast", "Neg", "Abs", "Sqrt", "Exp", "Mish", "Dropout", "Silu", "Swish",
)  # fmt: skip
SPATIAL = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample")
PAIRED = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")


class Cut(NamedTuple):
    """Channels of a tensor: on which axis, and the number of each."""

    axis: int
    ids: list[int]


@dataclass(frozen=True)
class Pruned:
    """What is left: arrays by name, and of each changed one the length of what went over the length of all."""

    weights: dict[str, NDArray[np.float32]]
    errors: dict[str, float] = field(default_factory=dict)


def prune(model: onnx.ModelProto, weights: dict[str, NDArray[np.float32]], share: float) -> Pruned:
    """Takes the share of channels with the shortest weights out of the graph, in place, and out of its weights.

    Args:
        model: the graph with its weights.
        weights: its float arrays by name.
        share: 0..1, of each group of channels that leave together; one always stays.

    Raises Unsupported where no channel may leave, or the graph has branches; InvalidTask for the share.
    """
    pruning.check_share(share)
    walk = _Walk(model, weights)
    for node in model.graph.node:
        walk.follow(node)
    for output in model.graph.output:
        walk.stay(output.name)
    walk.stay_shared()
    gone = walk.shortest(share)
    if not gone:
        raise Unsupported("No channel of this network can leave alone.", "Choose another precision.")
    model.graph.ClearField("value_info")  # shapes in between, as they were
    return walk.without(gone)


class _Walk:
    """Follows channels through a graph, node by node, in its own order."""

    def __init__(self, model: onnx.ModelProto, weights: dict[str, NDArray[np.float32]]) -> None:
        self._graph = model.graph
        self._weights = weights
        self._ranks = _ranks(model)
        self._constants = {item.name: item for item in model.graph.initializer} | {
            node.output[0]: node.attribute[0].t
            for node in model.graph.node
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t")
        }
        self._cuts: dict[str, Cut] = {}
        self._same: list[int] = []  # union-find: channels that leave together
        self._layer: list[int] = []  # which layer made a channel
        self._bound: dict[tuple[str, int], list[int]] = {}  # (array, axis) -> a channel for each place
        self._made: list[tuple[str, int]] = []  # of these, where channels are made
        self._fixed: set[int] = set()
        self._grouped: list[tuple[onnx.NodeProto, list[int]]] = []
        self._split: list[tuple[onnx.NodeProto, list[list[int]]]] = []

    # ── following ────────────────────────────────────────────────────────────

    def follow(self, node: onnx.NodeProto) -> None:
        if any(entry.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for entry in node.attribute):
            raise Unsupported("This network branches; its channels cannot be followed.", "Choose another precision.")
        if not _FOLLOWED.get(node.op_type, _Walk._nothing)(self, node):
            for name in node.input:
                self.stay(name)

    def stay(self, name: str) -> None:
        """The channels of that tensor may not leave."""
        if name in self._cuts:
            self._fixed.update(self._cuts[name].ids)

    def stay_shared(self) -> None:
        """The channels of arrays that several operators use: not all of them may have been followed."""
        uses = Counter(name for node in self._graph.node for name in node.input)
        for (name, _), ids in self._bound.items():
            if uses[name] > 1:
                self._fixed.update(ids)

    def _nothing(self, node: onnx.NodeProto) -> bool:
        return False

    def _conv(self, node: onnx.NodeProto) -> bool:
        name, cut = node.input[1], self._cuts.get(node.input[0])
        if name not in self._weights or self._weights[name].ndim != 4:
            return False
        made, groups = len(self._weights[name]), _attribute(node, "group", 1)
        if groups > 1:
            if cut is None or cut.axis != PICTURE or not groups == made == len(cut.ids):
                return False
            self._grouped.append((node, cut.ids))
            self._cuts[node.output[0]] = cut
        else:
            if cut is not None and (cut.axis != PICTURE or not self._bind(name, 1, cut.ids)):
                return False
            self._cuts[node.output[0]] = Cut(PICTURE, self._new(made))
        return self._makes(node, name, 0, 2)

    def _matmul(self, node: onnx.NodeProto) -> bool:
        name, cut = node.input[1], self._cuts.get(node.input[0])
        if name not in self._weights or self._weights[name].ndim != 2:
            return False
        reads, makes = (1, 0) if _attribute(node, "transB", 0) else (0, 1)
        if _attribute(node, "transA", 0) or (
            cut is not None and (cut.axis != MATRIX or not self._bind(name, reads, cut.ids))
        ):
            return False
        self._cuts[node.output[0]] = Cut(MATRIX, self._new(self._weights[name].shape[makes]))
        return self._makes(node, name, makes, 2)

    def _makes(self, node: onnx.NodeProto, weight: str, axis: int, bias: int) -> bool:
        """The output's channels lie on that axis of the weights, and on the last of the bias."""
        ids = self._cuts[node.output[0]].ids
        self._made.append((weight, axis))
        whole = self._bind(weight, axis, ids)
        if len(node.input) > bias and node.input[bias]:
            whole = self._beside(node.input[bias], Cut(MATRIX, ids)) and whole
        if not whole:
            self.stay(node.output[0])
        return whole

    def _alone(self, node: onnx.NodeProto) -> bool:
        cut = self._cuts.get(node.input[0])
        if cut is not None:
            self._cuts[node.output[0]] = cut
        return True

    def _spatial(self, node: onnx.NodeProto) -> bool:
        cut = self._cuts.get(node.input[0])
        has_sizes = node.op_type == "Resize" and len(node.input) > 3 and bool(node.input[3])  # they count the channels
        return (cut is None or cut.axis == PICTURE) and not has_sizes and self._alone(node)

    def _norm(self, node: onnx.NodeProto) -> bool:
        cut = self._cuts.get(node.input[0])
        if cut is None:
            return True
        if cut.axis != PICTURE or not all(self._beside(name, Cut(MATRIX, cut.ids)) for name in node.input[1:5]):
            return False
        return self._alone(node)

    def _paired(self, node: onnx.NodeProto) -> bool:
        cuts = [self._cuts.get(name) for name in node.input]
        known = [cut for cut in cuts if cut is not None]
        if not known:
            return True
        first = known[0]
        if len(known) == 2:
            if known[1].axis != first.axis or not self._join(first.ids, known[1].ids):
                return False
        elif not all(self._beside(name, first) for name, cut in zip(node.input, cuts, strict=True) if cut is None):
            return False
        self._cuts[node.output[0]] = first
        return True

    def _concat(self, node: onnx.NodeProto) -> bool:
        cuts = [self._cuts.get(name) for name in node.input]
        if any(cut is None or cut.axis != self._axis(node, name) for cut, name in zip(cuts, node.input, strict=True)):
            return False
        found = [cut for cut in cuts if cut is not None]
        self._cuts[node.output[0]] = Cut(found[0].axis, [one for cut in found for one in cut.ids])
        return True

    def _splits(self, node: onnx.NodeProto) -> bool:
        cut = self._cuts.get(node.input[0])
        if cut is None:
            return True
        sizes = self._constants.get(node.input[1]) if len(node.input) > 1 else None
        if sizes is None or cut.axis != self._axis(node, node.input[0], 0):
            return False
        ends = np.cumsum(numpy_helper.to_array(sizes)).tolist()
        parts = [cut.ids[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        self._split.append((node, parts))
        for name, ids in zip(node.output, parts, strict=True):
            self._cuts[name] = Cut(cut.axis, ids)
        return True

    def _axis(self, node: onnx.NodeProto, name: str, default: int = 1) -> int:
        """The node's axis counted from the right; 0 where the tensor's rank is not known."""
        axis = _attribute(node, "axis", default)
        return axis if axis < 0 else axis - self._ranks[name] if name in self._ranks else 0

    # ── channels ─────────────────────────────────────────────────────────────

    def _new(self, count: int) -> list[int]:
        first, layer = len(self._same), len(self._made)
        self._same += range(first, first + count)
        self._layer += [layer] * count
        return list(range(first, first + count))

    def _root(self, one: int) -> int:
        while self._same[one] != one:
            self._same[one] = self._same[self._same[one]]
            one = self._same[one]
        return one

    def _join(self, first: Sequence[int], second: Sequence[int]) -> bool:
        if len(first) != len(second):
            return False
        for a, b in zip(first, second, strict=True):
            self._same[self._root(b)] = self._root(a)
        return True

    def _bind(self, name: str, axis: int, ids: Sequence[int]) -> bool:
        """Those channels are the places of that axis of an array; one that is used twice binds both uses."""
        if self._weights[name].shape[axis] != len(ids):
            return False
        return self._join(self._bound.setdefault((name, axis), list(ids)), ids)

    def _beside(self, name: str, cut: Cut) -> bool:
        """A constant that meets those channels: spread over all of them, or with a place for each."""
        constant = self._constants.get(name)
        if constant is None:
            return False
        shape = tuple(constant.dims)
        if len(shape) < -cut.axis or shape[cut.axis] == 1:
            return True
        return name in self._weights and self._bind(name, len(shape) + cut.axis, cut.ids)

    # ── leaving ──────────────────────────────────────────────────────────────

    def shortest(self, share: float) -> set[int]:
        """Roots of the channels that leave: of each group the share with the shortest weights that make them."""
        fixed = {self._root(one) for one in self._fixed}
        lengths: dict[int, float] = defaultdict(float)
        for name, axis in self._made:
            array = np.moveaxis(self._weights[name], axis, 0)
            squares = np.square(array.reshape(len(array), -1)).sum(axis=1, dtype=np.float64)
            for one, length in zip(self._bound[name, axis], squares.tolist(), strict=True):
                lengths[self._root(one)] += length
        makers: dict[int, set[int]] = defaultdict(set)
        for one, layer in enumerate(self._layer):
            makers[self._root(one)].add(layer)
        groups: dict[frozenset[int], list[int]] = defaultdict(list)
        for root, layers in makers.items():
            if root not in fixed:
                groups[frozenset(layers)].append(root)
        gone: set[int] = set()
        for roots in groups.values():
            ordered = sorted(roots, key=lambda root: lengths[root])
            gone.update(ordered[: min(int(share * len(roots)), len(roots) - 1)])
        return gone

    def without(self, gone: set[int]) -> Pruned:
        """Cuts the channels out of the arrays, and tells the nodes that count them."""
        kept = {key: np.array([self._root(one) not in gone for one in ids]) for key, ids in self._bound.items()}
        left, errors = dict(self._weights), {}
        for (name, axis), stays in kept.items():
            left[name] = np.ascontiguousarray(np.compress(stays, left[name], axis))
        for name, array in left.items():
            whole = float(np.square(self._weights[name]).sum(dtype=np.float64))
            if array.shape != self._weights[name].shape and whole:
                errors[name] = max(0.0, 1 - float(np.square(array).sum(dtype=np.float64)) / whole) ** 0.5
        for node, ids in self._grouped:
            next(entry for entry in node.attribute if entry.name == "group").i = self._count(ids, gone)
        for number, (node, parts) in enumerate(self._split):
            name = f"studio.split.{number}"
            sizes = np.array([self._count(ids, gone) for ids in parts], np.int64)
            self._graph.initializer.append(numpy_helper.from_array(sizes, name))
            node.input[1] = name
        for item in self._graph.initializer:
            if item.name in errors:
                item.CopyFrom(numpy_helper.from_array(left[item.name], item.name))
        return Pruned(left, errors)

    def _count(self, ids: Sequence[int], gone: set[int]) -> int:
        return sum(self._root(one) not in gone for one in ids)


_FOLLOWED: dict[str, Callable[[_Walk, onnx.NodeProto], bool]] = {
    "Conv": _Walk._conv, "MatMul": _Walk._matmul, "Gemm": _Walk._matmul, "BatchNormalization": _Walk._norm,
    "Concat": _Walk._concat, "Split": _Walk._splits,
    **dict.fromkeys(ALONE, _Walk._alone), **dict.fromkeys(SPATIAL, _Walk._spatial),
    **dict.fromkeys(PAIRED, _Walk._paired),
}  # fmt: skip


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Number of axes of each tensor that is known."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for item in bare.graph.initializer:  # shapes are enough, and a protobuf of more than 2 GB cannot be inferred
        if helper.tensor_dtype_to_np_dtype(item.data_type).kind == "f":
            item.ClearField("raw_data")
            item.ClearField("float_data")
    graph = onnx.shape_inference.infer_shapes(bare).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}
