"""Gradients of the ops that layers use, as TensorFlow writes them."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import NamedTuple

from graphs.families.tape import Tape
from graphs.families.values import Shape, TapeOp, TapeValue
from graphs.kinds import DType

Gradients = Sequence[TapeValue | None]
"""One for each input of an op; None where there is none."""


class Rule(NamedTuple):
    """The gradient of an op type."""

    function: Callable[[Tape, TapeOp, Gradients], Gradients]
    """Takes the gradients of the op's outputs, of which at least one is there."""
    ops: int
    """About how many ops it appends."""


def _given(gradients: Gradients) -> TapeValue:
    return next(value for value in gradients if value is not None)


def _matmul(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    """`x [..., k] @ w [k, n]`: one product for each factor that was trained."""
    g, (x, w) = _given(gradients), node.inputs
    left = tape.op("MatMul", (g, w), x.shape) if x.trained else None
    right = tape.op("MatMul", (x, g), w.shape) if w.trained else None
    return left, right


def _batch_matmul(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    """`a @ b` or, with `adj_y`, `a @ b^T`, over leading batch dimensions."""
    g, (a, b) = _given(gradients), node.inputs
    left = tape.op("BatchMatMulV2", (g, b), a.shape) if a.trained else None
    first, second = (g, a) if node.attributes.get("adj_y") else (a, g)
    right = (
        tape.op("BatchMatMulV2", (first, second), b.shape, {"adj_x": True}) if b.trained else None
    )
    return left, right


def _reduce(tape: Tape, g: TapeValue, shape: Shape) -> TapeValue:
    """The gradient of something broadcast: summed over what was repeated."""
    if g.shape == shape:
        return g
    total = tape.op("Sum", (g, tape.constant((max(len(g.shape), 1),))), _squeeze(shape))
    if total.shape != shape:
        total = tape.op("Reshape", (total, tape.constant((len(shape),))), shape)
    return total


def _squeeze(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _add(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g = _given(gradients)
    return [_reduce(tape, g, value.shape) if value.trained else None for value in node.inputs]


def _subtract(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g, (a, b) = _given(gradients), node.inputs
    left = _reduce(tape, g, a.shape) if a.trained else None
    right = _reduce(tape, tape.op("Neg", (g,)), b.shape) if b.trained else None
    return left, right


def _multiply(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g, (a, b) = _given(gradients), node.inputs
    made: list[TapeValue | None] = []
    for own, other in ((a, b), (b, a)):
        if own.trained:
            made.append(_reduce(tape, tape.op("Mul", (g, other), g.shape), own.shape))
        else:
            made.append(None)
    return made


def _squared_difference(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g, (a, b) = _given(gradients), node.inputs
    scaled = tape.op("Mul", (g, tape.constant((), DType.FLOAT32)))
    difference = tape.op("Sub", (a, b), node.outputs[0].shape)
    product = tape.op("Mul", (scaled, difference), difference.shape)
    left = _reduce(tape, product, a.shape) if a.trained else None
    right = _reduce(tape, tape.op("Neg", (product,)), b.shape) if b.trained else None
    return left, right


def _activation(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    return (tape.op(f"{node.op_type}Grad", (node.outputs[0], _given(gradients))),)


def _exponential(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    return (tape.op("Mul", (_given(gradients), node.outputs[0])),)


def _softmax(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g, y = _given(gradients), node.outputs[0]
    weighted = tape.op("Mul", (g, y))
    total = tape.op("Sum", (weighted, tape.constant()), (*y.shape[:-1], 1))
    return (tape.op("Mul", (tape.op("Sub", (g, total)), y)),)


def _bias(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g = _given(gradients)
    return g, tape.op("BiasAddGrad", (g,), node.inputs[1].shape)


def _view(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    shape = node.inputs[0].shape
    return (tape.op("Reshape", (_given(gradients), tape.constant((len(shape),))), shape),)


def _transpose(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g = _given(gradients)
    return (tape.op("Transpose", (g, node.inputs[1]), node.inputs[0].shape), None)


def _concat(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    """A slice of the gradient for each part, at offsets that the host works out."""
    g, parts = _given(gradients), node.inputs[:-1]
    rank = len(g.shape)
    axis = tape.op("FloorMod", (node.inputs[-1], tape.constant()), (), dtype=DType.INT32)
    sizes = [tape.constant((rank,)) for _ in parts]
    specs = [tape.spec((rank,), DType.INT32)] * len(parts)
    offsets = tape.multi_op("ConcatOffset", (axis, *sizes), specs)
    slices: list[TapeValue | None] = [
        tape.op("Slice", (g, size, offset), part.shape) if part.trained else None
        for part, size, offset in zip(parts, sizes, offsets, strict=True)
    ]
    return [*slices, None]


def _zeros(tape: Tape, value: TapeValue) -> TapeValue:
    return tape.op("ZerosLike", (value,))


def _split(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    axis, x = node.inputs
    parts = [g or _zeros(tape, y) for g, y in zip(gradients, node.outputs, strict=True)]
    return (None, tape.op("ConcatV2", (*parts, axis), x.shape))


def _unpack(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    parts = [g or _zeros(tape, y) for g, y in zip(gradients, node.outputs, strict=True)]
    return (tape.op("Pack", parts, node.inputs[0].shape),)


def _pack(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    specs = [value.spec for value in node.inputs]
    return tape.multi_op("Unpack", (_given(gradients),), specs)


def _strided_slice(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    x, *bounds = node.inputs
    size = tape.constant((len(x.shape),))
    grown = tape.op("StridedSliceGrad", (size, *bounds, _given(gradients)), x.shape)
    return (grown, *(None for _ in bounds))


def _pad(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    x, rank = node.inputs[0], len(node.inputs[0].shape)
    bounds = (tape.constant((rank,)), tape.constant((rank,)))
    return tape.op("Slice", (_given(gradients), *bounds), x.shape), None


def _gather(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    """Rows of a table: the gradient stays sparse (rows and their numbers) until the update."""
    table, rows = node.inputs[0], node.inputs[1]
    g = _given(gradients)
    count = prod(rows.shape)
    width = table.shape[1:]
    flat = tape.op("Reshape", (g, tape.constant((len(table.shape),))), (count, *width))
    return flat, None, None


def _gather_rows(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    """Rows of an activation: the gradient is added into a tensor of the full size."""
    x, rows = node.inputs
    operands = (_given(gradients), rows, tape.constant())
    return tape.op("UnsortedSegmentSum", operands, x.shape), None


def _segment_sum(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    x, rows, _ = node.inputs
    return tape.op("GatherNd", (_given(gradients), rows), x.shape), None, None


def _convolution(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g, (x, filters) = _given(gradients), node.inputs
    name = "Conv2D" if node.op_type == "Conv2D" else "DepthwiseConv2dNative"
    sizes = tape.multi_op(
        "ShapeN", (), [tape.spec((4,), DType.INT32)] * 2, controls=(x.op, filters.op)
    )
    left = None
    if x.trained:
        left = tape.op(f"{name}BackpropInput", (sizes[0], filters, g), x.shape)
    right = tape.op(f"{name}BackpropFilter", (x, sizes[1], g), filters.shape)
    return left, right


def _batch_norm(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    x, scale = node.inputs[:2]
    reserve = node.outputs[3:]
    empty = tape.spec((0,))
    outputs = (x.spec, scale.spec, scale.spec, empty, empty)
    operands = (_given(gradients), x, scale, *reserve)
    return (*tape.multi_op("FusedBatchNormGradV3", operands, outputs)[:3], None, None)


def _max_pool(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    operands = (node.inputs[0], node.outputs[0], _given(gradients))
    return (tape.op("MaxPoolGrad", operands, node.inputs[0].shape, node.attributes),)


def _average_pool(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    operands = (tape.constant((4,)), _given(gradients))
    return (tape.op("AvgPoolGrad", operands, node.inputs[0].shape, node.attributes),)


def _resize(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    operands = (_given(gradients), tape.constant((2,)))
    return tape.op("ResizeNearestNeighborGrad", operands, node.inputs[0].shape), None


def _reduction(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    """`Mean` and `Sum`: the gradient is repeated, and for a mean divided by the count."""
    x, g = node.inputs[0], _given(gradients)
    rank = len(x.shape)
    kept = node.attributes.get("kept", (1,) * rank)
    column = tape.op("Reshape", (g, tape.constant((rank,))), kept)
    tiled = tape.op("Tile", (column, tape.constant((rank,))), x.shape)
    if node.op_type == "Mean":
        tiled = tape.op("RealDiv", (tiled, tape.constant((), DType.FLOAT32)))
    return tiled, None


def _cross_entropy(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    g, logits = _given(gradients), node.inputs[0]
    column = tape.op("ExpandDims", (g, tape.constant()), (*g.shape, 1))
    return tape.op("Mul", (node.outputs[1], column), logits.shape), None


def _select(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    mask, _, other = node.inputs
    g = _given(gradients)
    return None, tape.op("SelectV2", (mask, g, other), g.shape), None


def _sum_of_all(tape: Tape, node: TapeOp, gradients: Gradients) -> Gradients:
    return [_given(gradients)] * len(node.inputs)


GRADIENTS: Mapping[str, Rule] = {
    "MatMul": Rule(_matmul, 2),
    "BatchMatMulV2": Rule(_batch_matmul, 2),
    "AddV2": Rule(_add, 0),
    "Sub": Rule(_subtract, 3),
    "Mul": Rule(_multiply, 2),
    "SquaredDifference": Rule(_squared_difference, 5),
    **dict.fromkeys(
        ("Relu", "Relu6", "Tanh", "Sigmoid", "Softplus", "Rsqrt"), Rule(_activation, 1)
    ),
    "Exp": Rule(_exponential, 1),
    "Softmax": Rule(_softmax, 5),
    "BiasAdd": Rule(_bias, 1),
    **dict.fromkeys(("Reshape", "ExpandDims", "Squeeze", "Identity"), Rule(_view, 2)),
    "Transpose": Rule(_transpose, 1),
    "ConcatV2": Rule(_concat, 7),
    "Split": Rule(_split, 1),
    "Unpack": Rule(_unpack, 1),
    "Pack": Rule(_pack, 1),
    "StridedSlice": Rule(_strided_slice, 2),
    "Pad": Rule(_pad, 3),
    "GatherV2": Rule(_gather, 2),
    "GatherNd": Rule(_gather_rows, 2),
    "UnsortedSegmentSum": Rule(_segment_sum, 1),
    "Conv2D": Rule(_convolution, 3),
    "DepthwiseConv2dNative": Rule(_convolution, 3),
    "FusedBatchNormV3": Rule(_batch_norm, 1),
    "MaxPool": Rule(_max_pool, 1),
    "AvgPool": Rule(_average_pool, 2),
    "ResizeNearestNeighbor": Rule(_resize, 2),
    "Mean": Rule(_reduction, 6),
    "Sum": Rule(_reduction, 4),
    "SparseSoftmaxCrossEntropyWithLogits": Rule(_cross_entropy, 3),
    "SelectV2": Rule(_select, 1),
    "AddN": Rule(_sum_of_all, 0),
}
