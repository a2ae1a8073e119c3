"""Costs of HLO, the ops into which StableHLO is lowered before XLA compiles it."""

from collections.abc import Mapping
from math import log2

from graphs.costs.formulas import (
    DIVISION,
    POWER,
    SIMPLE,
    TRANSCENDENTAL,
    copying,
    free,
    input_elements,
    matmul_flops,
    output_elements,
    per_output_element,
    scattering,
    streaming,
)
from graphs.costs.work import Formula, Signature, Work

#: Flops per element of the ops that XLA fuses with their neighbours.
FUSED_FLOPS: Mapping[str, float] = {
    **dict.fromkeys(
        (
            "add", "subtract", "multiply", "negate", "abs", "sign", "maximum", "minimum",
            "compare", "and", "or", "xor", "not", "select", "floor", "ceil", "round-nearest-afz",
            "round-nearest-even", "real", "imag", "is-finite", "shift-left",
            "shift-right-arithmetic", "shift-right-logical", "popcnt", "population-count",
            "count-leading-zeros", "stochastic-convert",
        ),
        SIMPLE,
    ),
    "clamp": 2.0,
    **dict.fromkeys(("divide", "remainder", "sqrt", "rsqrt", "complex"), DIVISION),
    **dict.fromkeys(
        (
            "exponential", "exponential-minus-one", "log", "log-plus-one", "sine", "cosine", "tan",
            "tanh", "logistic", "atan2", "erf", "cbrt", "asin", "acos", "atan", "asinh", "acosh",
            "atanh", "sinh", "cosh",
        ),
        TRANSCENDENTAL,
    ),
    "power": POWER,
    **dict.fromkeys(
        ("convert", "bitcast-convert", "reduce-precision", "broadcast", "iota", "map"), 0.0
    ),
}  # fmt: skip


def _product(op: Signature) -> Work:
    return streaming(matmul_flops(op.outputs[0].elements, op.integer("inner"), 1), op)


def _convolution(op: Signature) -> Work:
    """`taps` are the multiply-adds of an element: of the kernel and of its group's channels."""
    return streaming(2.0 * op.outputs[0].elements * op.figure("taps"), op)


def _reduce(op: Signature) -> Work:
    """Half of the inputs are initial values; the reducer runs once for each element."""
    reduced = sum(tensor.elements for tensor in op.inputs[: len(op.inputs) // 2])
    return streaming(op.figure("reducer") * reduced / max(len(op.outputs), 1), op)


def _reduce_window(op: Signature) -> Work:
    points = op.outputs[0].elements * op.integer("window")
    return streaming(op.figure("reducer") * points, op)


def _select_and_scatter(op: Signature) -> Work:
    """One comparison for each point of the window and element of the source."""
    return streaming(float(op.inputs[1].elements * op.integer("window")), op)


def _sort(op: Signature) -> Work:
    """n log2 n comparisons along the sorted axis."""
    shape = op.inputs[0].shape
    length = max(shape[op.integer("axis", len(shape) - 1)] if shape else 1, 2)
    return streaming(op.inputs[0].elements * log2(length), op)


def _gather(op: Signature) -> Work:
    """Reads the indices and as much as it writes."""
    return Work(0.0, op.output_bytes + op.inputs[1].bytes, op.output_bytes)


def _scatter(op: Signature) -> Work:
    """Adds updates in place; operands, indices and updates, as many operands as updates."""
    updates = op.inputs[len(op.inputs) // 2 + 1 :]
    works = [scattering(tensor) for tensor in updates]
    return Work(
        sum(work.flops for work in works),
        sum(work.bytes_read for work in works) + op.inputs[len(op.inputs) // 2].bytes,
        sum(work.bytes_written for work in works),
    )


def _update_slice(op: Signature) -> Work:
    """Writes the update into the operand's buffer."""
    return Work(0.0, op.inputs[1].bytes, op.inputs[1].bytes)


def _fourier(op: Signature) -> Work:
    length = max(op.integer("length", 2), 2)
    return streaming(5.0 * max(input_elements(op), output_elements(op)) * log2(length), op)


def _cholesky(op: Signature) -> Work:
    """n^3 / 3 for each matrix."""
    return streaming(op.inputs[0].elements * op.inputs[0].shape[-1] / 3.0, op)


def _triangular_solve(op: Signature) -> Work:
    """n^2 for each right-hand side."""
    return streaming(float(op.inputs[0].shape[-1] * op.outputs[0].elements), op)


def _per_element_of_data(flops: float) -> Formula:
    return lambda op: streaming(flops * op.inputs[0].elements, op)


#: Ops that are kernels of their own.
KERNELS: Mapping[str, Formula] = {
    "dot": _product,
    "ragged-dot": _product,
    "convolution": _convolution,
    "reduce": _reduce,
    "reduce-window": _reduce_window,
    "select-and-scatter": _select_and_scatter,
    "sort": _sort,
    "topk": _sort,
    "gather": _gather,
    "scatter": _scatter,
    "dynamic-update-slice": _update_slice,
    "fft": _fourier,
    "cholesky": _cholesky,
    "triangular-solve": _triangular_solve,
    "batch-norm-training": _per_element_of_data(8.0),
    "batch-norm-inference": _per_element_of_data(2.0),
    "batch-norm-grad": _per_element_of_data(12.0),
    "rng": per_output_element(10.0),
    "rng-bit-generator": per_output_element(10.0),
    "rng-get-and-update-state": free,
    **dict.fromkeys(
        (
            "transpose", "concatenate", "pad", "reverse", "slice", "dynamic-slice",
            "dynamic-reshape", "all-gather", "all-to-all", "collective-permute",
            "collective-broadcast", "all-gather-start", "collective-permute-start",
        ),
        copying,
    ),
    **dict.fromkeys(
        ("all-reduce", "all-reduce-start", "reduce-scatter", "scan"), per_output_element(1.0)
    ),
}  # fmt: skip

#: Custom calls that only say where values lie, or check something.
FREE_TARGETS = frozenset(
    {
        "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "shape_assertion",
        "annotate_device_placement", "LayoutConstraint", "MoveToHost", "MoveToDevice",
        "xla.sdy.FuncResultSharding", "xla.sdy.GlobalToLocalShape", "xla.sdy.LocalToGlobalShape",
    }
)  # fmt: skip
#: Custom calls that sort.
SORTING_TARGETS = frozenset({"TopK", "ApproxTopK", "PartialReduce", "__gpu$TopK", "mhlo.topk"})
#: Custom calls that make random numbers, a counter's few integer operations for each.
RANDOM_TARGETS = frozenset({"cu_threefry2x32", "cu_threefry2x32_ffi"})
