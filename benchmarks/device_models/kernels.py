"""ONNX models of many independent ops and short chains, with shapes drawn from a seed."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

UNARY = ("Relu", "Sigmoid", "Tanh", "Exp", "Erf", "Neg", "Abs", "LeakyRelu", "Softplus", "Sqrt")
BINARY = ("Add", "Mul", "Sub", "Div", "Max")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax")


class ModelOfKernels:
    """Collects ops; every chain has inputs of its own, and its last tensor is an output."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.weights: list[TensorProto] = []
        self.outputs: list[str] = []

    def whole(self, low: int, high: int) -> int:
        """A whole number between, small ones as often as large ones."""
        return round(2 ** self.random.uniform(np.log2(low), np.log2(high)))

    def pick(self, choices: tuple) -> object:
        return choices[int(self.random.integers(len(choices)))]

    def input(self, *shape: int) -> str:
        name = f"in{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def weight(self, *shape: int) -> str:
        """A weight whose values are in no file; whoever runs the model draws them."""
        name = f"w{len(self.weights)}"
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="no-such-file")
        self.weights.append(tensor)
        return name

    def numbers(self, *values: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, inputs, names, f"{kind}{len(self.nodes)}", **attributes)
        )
        return names[0]

    def model(self) -> onnx.ModelProto:
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output if name not in read]
        outputs = [onnx.ValueInfoProto(name=name) for name in made]
        graph = helper.make_graph(self.nodes, "kernels", self.inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _plane(k: ModelOfKernels, most: int = 1 << 20) -> tuple[int, int, int, int]:
    """Batch, channels and sides of an image-like tensor of at most so many elements."""
    while True:
        shape = (k.whole(1, 8), k.whole(4, 512), side := k.whole(4, 112), side)
        if np.prod(shape) <= most:
            return shape


def _table(k: ModelOfKernels, most: int = 1 << 20) -> tuple[int, int]:
    while True:
        shape = (k.whole(4, 4096), k.whole(16, 4096))
        if np.prod(shape) <= most:
            return shape


def unary(k: ModelOfKernels) -> None:
    x = k.input(*(_plane(k) if k.random.random() < 0.5 else _table(k)))
    for _ in range(int(k.random.integers(1, 4))):
        x = k.op(str(k.pick(UNARY)), x)


def binary(k: ModelOfKernels) -> None:
    shape = _table(k)
    x = k.input(*shape)
    other = k.input(*shape) if k.random.random() < 0.6 else k.weight(shape[1])
    x = k.op(str(k.pick(BINARY)), x, other)
    if k.random.random() < 0.5:
        x = k.op(str(k.pick(UNARY)), x)
    if k.random.random() < 0.3:
        k.op(str(k.pick(BINARY)), x, k.input(*shape))


def product(k: ModelOfKernels) -> None:
    while True:
        rows, inner, columns = k.whole(1, 1024), k.whole(16, 2048), k.whole(16, 2048)
        if rows * inner * columns < 1 << 28 and inner * columns < 1 << 21:
            break
    x = k.input(rows, inner)
    x = k.op("MatMul", x, k.weight(inner, columns))
    if k.random.random() < 0.5:
        x = k.op("Add", x, k.weight(columns))
        if k.random.random() < 0.7:
            k.op(str(k.pick(UNARY)), x)


def gemm(k: ModelOfKernels) -> None:
    while True:
        rows, inner, columns = k.whole(1, 1024), k.whole(16, 2048), k.whole(16, 2048)
        if rows * inner * columns < 1 << 28 and inner * columns < 1 << 21:
            break
    across = int(k.random.integers(2))
    weight = k.weight(columns, inner) if across else k.weight(inner, columns)
    k.op("Gemm", k.input(rows, inner), weight, k.weight(columns), transB=across)


def batched_product(k: ModelOfKernels) -> None:
    while True:
        batch, rows, inner, columns = (k.whole(1, 32), *(k.whole(8, 512) for _ in range(3)))
        if batch * rows * inner * columns < 1 << 27 and batch * inner * columns < 1 << 20:
            break
    k.op("MatMul", k.input(batch, rows, inner), k.input(batch, inner, columns))


def convolution(k: ModelOfKernels) -> None:
    while True:
        batch, channels, side, _ = _plane(k)
        kernel, outputs = int(k.pick((1, 1, 3, 3, 3, 5, 7))), k.whole(8, 256)
        stride = int(k.pick((1, 1, 1, 2)))
        if batch * side**2 * channels * outputs * kernel**2 / stride**2 < 1 << 28:
            break
    x = k.input(batch, channels, side, side)
    depthwise = k.random.random() < 0.15
    weight = k.weight(
        channels if depthwise else outputs, 1 if depthwise else channels, kernel, kernel
    )
    groups = channels if depthwise else 1
    outputs = channels if depthwise else outputs
    pad = kernel // 2
    inputs = [x, weight] + ([k.weight(outputs)] if k.random.random() < 0.5 else [])
    x = k.op(
        "Conv",
        *inputs,
        kernel_shape=[kernel] * 2,
        pads=[pad] * 4,
        strides=[stride] * 2,
        group=groups,
    )
    if k.random.random() < 0.4:
        x = k.op("BatchNormalization", x, *(k.weight(outputs) for _ in range(4)))
    if k.random.random() < 0.5:
        k.op("Relu", x)


def normalised(k: ModelOfKernels) -> None:
    shape = _table(k)
    if k.random.random() < 0.5:
        k.op("Softmax", k.input(*shape), axis=-1)
    else:
        k.op("LayerNormalization", k.input(*shape), k.weight(shape[1]), k.weight(shape[1]), axis=-1)


def batch_normalised(k: ModelOfKernels) -> None:
    shape = _plane(k)
    x = k.op("BatchNormalization", k.input(*shape), *(k.weight(shape[1]) for _ in range(4)))
    if k.random.random() < 0.5:
        k.op("Relu", x)


def reduction(k: ModelOfKernels) -> None:
    shape = _table(k)
    x = k.input(*shape)
    if k.random.random() < 0.4:
        x = k.op(str(k.pick(UNARY)), x)
    kind, axis = str(k.pick(REDUCTIONS)), int(k.random.integers(2))
    if kind == "ReduceSum":
        k.op(kind, x, k.numbers(axis), keepdims=1)
    else:
        k.op(kind, x, axes=[axis], keepdims=1)


def pooled(k: ModelOfKernels) -> None:
    shape = _plane(k)
    kind = str(k.pick(("MaxPool", "AveragePool", "GlobalAveragePool")))
    if kind == "GlobalAveragePool":
        k.op(kind, k.input(*shape))
    else:
        stride = int(k.pick((1, 2)))
        k.op(kind, k.input(*shape), kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2)


def moved(k: ModelOfKernels) -> None:
    kind = str(k.pick(("Transpose", "Concat", "Split", "Slice", "Pad", "Gather")))
    rows, columns = _table(k)
    if kind == "Transpose":
        batch, heads = k.whole(1, 16), k.whole(1, 16)
        shape = (batch, max(1, rows // 16), heads, max(4, columns // 16))
        k.op(kind, k.input(*shape), perm=list(k.pick(((0, 2, 1, 3), (0, 2, 3, 1), (0, 3, 1, 2)))))
    elif kind == "Concat":
        count = int(k.random.integers(2, 5))
        axis = int(k.random.integers(2))
        k.op(kind, *(k.input(rows, columns) for _ in range(count)), axis=axis)
    elif kind == "Split":
        parts = int(k.pick((2, 3, 4)))
        k.op(kind, k.input(rows, parts * max(1, columns // parts)), outputs=parts, axis=1)
    elif kind == "Slice":
        begin, end = k.numbers(0), k.numbers(max(1, columns // 2))
        k.op(kind, k.input(rows, columns), begin, end, k.numbers(1))
    elif kind == "Pad":
        k.op(kind, k.input(rows, columns), k.numbers(1, 1, 1, 1))
    else:
        table = k.weight(rows, columns)
        picked = k.numbers(*k.random.integers(0, rows, k.whole(4, 512)).tolist())
        k.op(kind, table, k.op("Identity", picked))


TEMPLATES: Mapping[str, tuple[Callable[[ModelOfKernels], None], int]] = {
    "unary": (unary, 4), "binary": (binary, 4), "product": (product, 5), "gemm": (gemm, 5),
    "batched product": (batched_product, 3), "convolution": (convolution, 7),
    "normalised": (normalised, 3), "batch normalised": (batch_normalised, 2),
    "reduction": (reduction, 3), "pooled": (pooled, 2), "moved": (moved, 5),
}  # fmt: skip


def write_kernels(path: Path, seed: int) -> Path:
    """A model with a few kernels of each template."""
    kernels = ModelOfKernels(seed)
    for template, count in TEMPLATES.values():
        for _ in range(count):
            template(kernels)
    path.write_bytes(kernels.model().SerializeToString())
    return path
