"""ONNX models of many independent ops and short chains, with shapes drawn from a seed.

Every template draws from wide ranges; none was made after a particular model.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from benchmarks.hardware.device_models.kernel_model import ModelOfKernels

Shape = tuple[int, ...]

UNARY = (
    "Relu", "Sigmoid", "Tanh", "Exp", "Erf", "Neg", "Abs", "LeakyRelu", "Softplus", "Reciprocal",
    "Sin", "Cos", "Elu", "HardSwish", "HardSigmoid", "Clip", "Pow", "Log", "Sqrt", "Identity",
)  # fmt: skip
BINARY = ("Add", "Add", "Mul", "Mul", "Sub", "Div", "Max", "Min")
REDUCTIONS = ("ReduceMean", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
COMPARISONS = ("Greater", "Less", "Equal")
#: Elements of a tensor, and multiplications of a kernel, at most.
MOST_ELEMENTS = 1 << 22
MOST_PRODUCTS = 1 << 29


def plane(k: ModelOfKernels, most: int = MOST_ELEMENTS) -> Shape:
    """Batch, channels and sides of an image-like tensor."""
    while True:
        batch = 1 if k.chance(0.5) else k.whole(2, 16)
        shape = (batch, k.whole(3, 1280), side := k.whole(3, 160), side)
        if np.prod(shape) <= most:
            return shape


def table(k: ModelOfKernels, most: int = MOST_ELEMENTS) -> Shape:
    """Two to four dimensions, as of tokens, of tokens in a batch, of scores of attention."""
    while True:
        match int(k.random.integers(4)):
            case 0 | 1:
                shape: Shape = (k.whole(1, 4096), k.whole(8, 4096))
            case 2:
                shape = (k.whole(1, 16), k.whole(4, 1024), k.whole(8, 3072))
            case _:
                shape = (k.whole(1, 8), k.whole(1, 16), k.whole(4, 512), k.whole(8, 512))
        if 256 <= np.prod(shape) <= most:
            return shape


def shape_of(k: ModelOfKernels) -> Shape:
    """Of an image or of a table."""
    return plane(k) if k.chance(0.4) else table(k)


def one_input(k: ModelOfKernels, x: str) -> str:
    """A pointwise op of one input."""
    kind = str(k.pick(UNARY))
    if kind in ("Log", "Sqrt"):
        x = k.op("Abs", x)
    if kind == "Clip":
        return k.op(kind, x, k.scalar(0.0), k.scalar(6.0))
    if kind == "Pow":
        return k.op(kind, x, k.scalar(2.0))
    if kind == "Identity" and k.opset >= 20:
        return k.op("Gelu", x)
    return k.op(kind, x)


def unary(k: ModelOfKernels) -> None:
    """A chain of pointwise ops."""
    x = k.input(*shape_of(k))
    for _ in range(int(k.random.integers(1, 4))):
        x = one_input(k, x)


def binary(k: ModelOfKernels) -> None:
    """A pointwise op of two inputs that are alike, or one of which is broadcast."""
    shape = shape_of(k)
    x = k.input(*shape)
    match int(k.random.integers(7)):
        case 0 | 1 | 2:
            other = k.input(*shape)
        case 3:
            other = k.weight(shape[-1])
        case 4:
            other = k.scalar(float(k.random.uniform(0.5, 2)))
        case 5:
            other = k.input(*shape[:-1], 1)
        case _:
            smaller = (1, shape[1], 1, 1) if len(shape) == 4 else (1, *shape[1:])
            other = k.weight(*smaller) if k.chance(0.5) else k.input(*smaller)
    x = k.op(str(k.pick(BINARY)), x, other)
    if k.chance(0.5):
        x = one_input(k, x)
    if k.chance(0.3):
        k.op(str(k.pick(BINARY)), x, k.input(*shape))


def compared(k: ModelOfKernels) -> None:
    """Masks, what is chosen by them, and changes of type."""
    shape = shape_of(k)
    x, other = k.input(*shape), k.input(*shape)
    match int(k.random.integers(3)):
        case 0:
            mask = k.op(str(k.pick(COMPARISONS)), x, k.scalar(0.0) if k.chance(0.5) else other)
            k.op("Where", mask, x, other if k.chance(0.5) else k.scalar(0.0))
        case 1:
            mask = k.op(str(k.pick(COMPARISONS)), x, k.scalar(0.0))
            k.op("Mul", k.op("Cast", mask, to=TensorProto.FLOAT), other)
        case _:
            kind = int(k.pick((TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)))  # type: ignore[call-overload]
            k.op("Cast", x, to=kind)


def gelu(k: ModelOfKernels, x: str) -> str:
    """As exported where there is no op for it."""
    y = k.op("Erf", k.op("Div", x, k.scalar(1.4142135)))
    return k.op("Mul", k.op("Mul", x, k.op("Add", y, k.scalar(1.0))), k.scalar(0.5))


def activated(k: ModelOfKernels, shape: Shape) -> None:
    """A chain as it occurs between products: GELU, SiLU, gates, root mean squares."""
    x = k.input(*shape)
    match int(k.random.integers(4)):
        case 0:
            gelu(k, x)
        case 1:
            k.op("Mul", x, k.op("Sigmoid", x))
        case 2:
            forget = k.op("Mul", k.op("Sigmoid", x), k.input(*shape))
            enter = k.op("Mul", k.op("Sigmoid", k.input(*shape)), k.op("Tanh", k.input(*shape)))
            k.op("Mul", k.op("Tanh", k.op("Add", forget, enter)), k.op("Sigmoid", k.input(*shape)))
        case _:
            square = k.op("Pow", x, k.scalar(2.0)) if k.chance(0.5) else k.op("Mul", x, x)
            mean = reduced(k, "ReduceMean", square, [-1], 1)
            root = k.op("Sqrt", k.op("Add", mean, k.scalar(1e-6)))
            k.op("Mul", k.op("Div", x, root), k.weight(shape[-1]))


def reduced(k: ModelOfKernels, kind: str, x: str, axes: list[int], keep: int) -> str:
    """A reduction as the model's opset writes it."""
    if kind == "ReduceSum" or k.opset >= 18:
        return k.op(kind, x, k.numbers(*axes), keepdims=keep)
    return k.op(kind, x, axes=axes, keepdims=keep)


def chains(k: ModelOfKernels) -> None:
    """See `activated`."""
    activated(k, table(k, 1 << 21))


def product(k: ModelOfKernels) -> None:
    """A product with a weight, in two or three dimensions, with what may follow."""
    while True:
        rows, inner, columns = k.whole(1, 2048), k.whole(8, 4096), k.whole(8, 4096)
        if rows * inner * columns < MOST_PRODUCTS and inner * columns < MOST_ELEMENTS:
            break
    if rows > 8 and k.chance(0.4):
        batch = int(k.pick((1, 2, 4, 8)))  # type: ignore[call-overload]
        x = k.input(batch, rows // batch, inner)
    else:
        x = k.input(rows, inner)
    x = k.op("MatMul", x, k.weight(inner, columns))
    if k.chance(0.5):
        x = k.op("Add", x, k.weight(columns))
        if k.chance(0.3):
            gelu(k, x)
        elif k.chance(0.6):
            one_input(k, x)


def gemm(k: ModelOfKernels) -> None:
    """A fully connected layer."""
    while True:
        rows, inner, columns = k.whole(1, 2048), k.whole(8, 4096), k.whole(8, 4096)
        if rows * inner * columns < MOST_PRODUCTS and inner * columns < MOST_ELEMENTS:
            break
    across = int(k.random.integers(2))
    weight = k.weight(columns, inner) if across else k.weight(inner, columns)
    x = k.op("Gemm", k.input(rows, inner), weight, k.weight(columns), transB=across)
    if k.chance(0.3):
        k.op("Relu", x)


def batched_product(k: ModelOfKernels) -> None:
    """Products of activations, as in attention and in gradients."""
    while True:
        batch, rows, inner, columns = (k.whole(1, 96), *(k.whole(8, 1024) for _ in range(3)))
        largest = batch * max(rows * inner, inner * columns, rows * columns)
        if batch * rows * inner * columns < MOST_PRODUCTS and largest < MOST_ELEMENTS:
            break
    outer = (batch,) if k.chance(0.4) else (1, batch)
    if batch == 1 and k.chance(0.7):
        outer = ()
    x = k.op("MatMul", k.input(*outer, rows, inner), k.input(*outer, inner, columns))
    if k.chance(0.3):
        x = k.op(str(k.pick(("Div", "Mul"))), x, k.scalar(0.125))
        k.op("Softmax", x, axis=-1)


def convolution(k: ModelOfKernels) -> None:
    """A convolution in the plane, with what may follow."""
    sides = ((1, 1),) * 6 + ((3, 3),) * 8 + ((5, 5),) * 2 + (
        (7, 7), (1, 7), (7, 1), (1, 3), (3, 1), (2, 2), (4, 4), (16, 16)
    )  # fmt: skip
    while True:
        batch, channels, side, _ = plane(k, 1 << 21)
        kernel: tuple[int, int] = k.pick(sides)  # type: ignore[assignment]
        outputs, groups = k.whole(8, 1280), 1
        stride = kernel[0] if kernel in ((2, 2), (4, 4), (16, 16)) else int(k.pick((1, 1, 1, 2)))  # type: ignore[call-overload]
        if k.chance(0.15) and kernel[0] == kernel[1] < 16:
            groups = outputs = channels
        elif k.chance(0.08):
            groups = int(k.pick((2, 4, 8, 32)))  # type: ignore[call-overload]
            channels, outputs = -(-channels // groups) * groups, -(-outputs // groups) * groups
        spread = channels // groups * kernel[0] * kernel[1]
        products = batch * side**2 * outputs * spread / stride**2
        largest = max(outputs * spread, batch * outputs * side**2, spread * side**2 // stride**2)
        if products < MOST_PRODUCTS and largest < MOST_ELEMENTS * 2 and side >= kernel[0]:
            break
    dilation = 2 if max(kernel) == 3 and side > 8 and k.chance(0.06) else 1
    pads = [(dilation * (size - 1) // 2 if size != stride else 0) for size in kernel] * 2
    x = k.input(batch, channels, side, side)
    inputs = [x, k.weight(outputs, channels // groups, *kernel)]
    inputs += [k.weight(outputs)] if k.chance(0.5) else []
    x = k.op(
        "Conv", *inputs, kernel_shape=list(kernel), pads=pads, strides=[stride] * 2,
        dilations=[dilation] * 2, group=groups,
    )  # fmt: skip
    if k.chance(0.4):
        x = k.op("BatchNormalization", x, *(k.weight(outputs) for _ in range(4)))
    if k.chance(0.5):
        k.op("Relu", x)


def line_convolution(k: ModelOfKernels) -> None:
    """A convolution along a sequence."""
    while True:
        batch, channels, length, outputs = (
            k.whole(1, 8), k.whole(8, 1536), k.whole(16, 3000), k.whole(8, 1024),
        )  # fmt: skip
        kernel, alone = int(k.pick((1, 3, 4, 5))), k.chance(0.4)  # type: ignore[call-overload]
        outputs = channels if alone else outputs
        inner = kernel * (1 if alone else channels)
        size = batch * length * max(channels, outputs, inner)
        if batch * length * outputs * inner < MOST_PRODUCTS and size < MOST_ELEMENTS:
            break
    weight = k.weight(outputs, 1 if alone else channels, kernel)
    groups = channels if alone else 1
    pads = [(kernel - 1) // 2, kernel // 2]
    k.op("Conv", k.input(batch, channels, length), weight, kernel_shape=[kernel], pads=pads,
         group=groups)  # fmt: skip


def normalised(k: ModelOfKernels) -> None:
    """Softmax, or normalisation of layers."""
    shape = table(k)
    if k.chance(0.5):
        k.op("Softmax" if k.chance(0.9) else "LogSoftmax", k.input(*shape), axis=-1)
    else:
        weights = [k.weight(shape[-1]) for _ in range(2)]
        k.op("LayerNormalization", k.input(*shape), *weights, axis=-1)


def residual(k: ModelOfKernels) -> None:
    """What is added before layers are normalised, and scores that are masked before a softmax."""
    shape = table(k, 1 << 21)
    if len(shape) == 2 and k.chance(0.5):
        shape = (1, *shape)
    x = k.input(*shape)
    if k.chance(0.5):
        x = k.op("Add", x, k.weight(shape[-1])) if k.chance(0.5) else x
        x = k.op("Add", x, k.input(*shape))
        weights = [k.weight(shape[-1]) for _ in range(2)]
        k.op("LayerNormalization", x, *weights, axis=-1)
    else:
        x = k.op(str(k.pick(("Mul", "Div"))), x, k.scalar(8.0)) if k.chance(0.5) else x
        mask = shape[-2:] if len(shape) > 2 and k.chance(0.7) else shape
        k.op("Softmax", k.op("Add", x, k.input(*mask)), axis=-1)


def summed(k: ModelOfKernels) -> None:
    """Sums of several tensors, biases before an activation, normalisation across channels."""
    match int(k.random.integers(3)):
        case 0:
            shape = shape_of(k)
            x = k.op("Sum", *(k.input(*shape) for _ in range(int(k.random.integers(2, 4)))))
            k.op("Relu", x)
        case 1:
            shape = table(k)
            x = k.op("Add", k.input(*shape), k.weight(shape[-1]))
            if k.opset >= 20:
                k.op("Gelu", x)
            else:
                gelu(k, x)
        case _:
            k.op("LRN", k.input(*plane(k, 1 << 20)), size=5)


def batch_normalised(k: ModelOfKernels) -> None:
    """Normalisation of channels."""
    shape = plane(k)
    x = k.op("BatchNormalization", k.input(*shape), *(k.weight(shape[1]) for _ in range(4)))
    if k.chance(0.5):
        k.op("Relu", x)


def reduction(k: ModelOfKernels) -> None:
    """Sums and the like over some of the dimensions."""
    shape = shape_of(k)
    x = k.input(*shape)
    if k.chance(0.3):
        x = one_input(k, x)
    kind, rank = str(k.pick(REDUCTIONS)), len(shape)
    axes = [[rank - 1], [rank - 1], [0], [rank - 2], list(range(rank)), [rank - 2, rank - 1]]
    chosen: list[int] = k.pick(axes)  # type: ignore[assignment]
    keep = int(k.random.integers(2))
    reduced(k, kind, x, chosen, keep)


def pooled(k: ModelOfKernels) -> None:
    """Pooling in the plane."""
    shape = plane(k)
    kind = str(k.pick(("MaxPool", "MaxPool", "AveragePool", "GlobalAveragePool")))
    if kind == "GlobalAveragePool" or shape[2] < 4:
        k.op("GlobalAveragePool", k.input(*shape))
    else:
        side, stride = k.pick(((2, 2), (3, 1), (3, 2), (3, 2)))  # type: ignore[misc]
        pads = [side // 2 if side == 3 else 0] * 4
        x = k.input(*shape)
        k.op(kind, x, kernel_shape=[side] * 2, pads=pads, strides=[stride] * 2)


def transposed(k: ModelOfKernels) -> None:
    """Two to four dimensions in another order."""
    shape = table(k) if k.chance(0.7) else plane(k)
    usual = {2: [(1, 0)], 3: [(0, 2, 1), (1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0)],
             4: [(0, 2, 1, 3), (0, 2, 1, 3), (0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 3, 1), (0, 3, 1, 2),
                 (0, 1, 3, 2), (2, 0, 1, 3), (1, 0, 2, 3)]}  # fmt: skip
    k.op("Transpose", k.input(*shape), perm=list(k.pick(usual[len(shape)])))  # type: ignore[call-overload]


def cut_and_joined(k: ModelOfKernels) -> None:
    """Concat, Split and Slice along any dimension."""
    shape, axis = list(shape_of(k)), 0
    axis = int(k.random.integers(len(shape)))
    match int(k.random.integers(3)):
        case 0:
            sizes = [k.whole(1, max(2, shape[axis])) for _ in range(int(k.random.integers(2, 5)))]
            parts = [k.input(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
            k.op("Concat", *parts, axis=axis)
        case 1:
            count = int(k.pick((2, 3, 4, 8)))  # type: ignore[call-overload]
            shape[axis] = max(1, shape[axis] // count) * count
            more = {"num_outputs": count} if k.opset >= 18 else {}
            k.op("Split", k.input(*shape), outputs=count, axis=axis, **more)
        case _:
            begin = int(k.random.integers(0, max(1, shape[axis] // 2)))
            end = max(begin + 1, shape[axis] - int(k.random.integers(0, max(1, shape[axis] // 2))))
            step = 2 if end - begin > 4 and k.chance(0.1) else 1
            bounds = [k.numbers(value) for value in (begin, end, axis, step)]
            k.op("Slice", k.input(*shape), *bounds)


def spread(k: ModelOfKernels) -> None:
    """Padding, repetition and picking."""
    shape = list(shape_of(k))
    while np.prod(shape) > MOST_ELEMENTS // 4:
        shape = list(shape_of(k))
    rank = len(shape)
    match int(k.random.integers(5)):
        case 0:
            k.op("Pad", k.input(*shape), k.numbers(*([0] * (rank - 1) + [1]) * 2))
        case 1:
            lead = k.input(1, *shape[1:])
            k.op("Expand", lead, k.numbers(*shape))
        case 2:
            times = [1] * rank
            times[int(k.random.integers(rank))] = 2
            k.op("Tile", k.input(*shape), k.numbers(*times))
        case 3 if rank == 4:
            scales = f"w{len(k.weights)}"
            k.weights.append(helper.make_tensor(scales, TensorProto.FLOAT, [4], [1, 1, 2, 2]))
            mode = str(k.pick(("nearest", "linear")))
            k.op("Resize", k.input(*shape), "", scales, mode=mode)
        case _:
            rows, columns = k.whole(16, 8192), k.whole(16, 1024)
            ids = k.input(k.whole(1, 16), k.whole(4, 512), kind=TensorProto.INT64)
            k.op("Gather", k.weight(rows, columns), ids)


TEMPLATES: Mapping[str, tuple[Callable[[ModelOfKernels], None], int]] = {
    "unary": (unary, 4), "binary": (binary, 6), "compared": (compared, 2), "chains": (chains, 3),
    "product": (product, 7), "gemm": (gemm, 5), "batched product": (batched_product, 6),
    "convolution": (convolution, 12), "line convolution": (line_convolution, 1),
    "normalised": (normalised, 4), "residual": (residual, 3), "summed": (summed, 2),
    "batch normalised": (batch_normalised, 2),
    "reduction": (reduction, 4), "pooled": (pooled, 4), "transposed": (transposed, 6),
    "cut and joined": (cut_and_joined, 4), "spread": (spread, 2),
}  # fmt: skip


def write_kernels(path: Path, seed: int) -> Path:
    """A model with a few kernels of each template."""
    kernels = ModelOfKernels(seed)
    for template, count in TEMPLATES.values():
        for _ in range(count):
            template(kernels)
    path.write_bytes(kernels.model().SerializeToString())
    return path
