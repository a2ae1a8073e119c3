"""Shapes of com.microsoft's products: matrices, quantised and low-bit ones, experts, spectra."""

import numpy as np

from graphs.importers.onnx_models.contrib_shapes.rules import (
    FLOAT,
    INT8,
    INT32,
    Attributes,
    Inputs,
    Outputs,
    Rule,
    Shape,
    known_at,
    like,
    number,
    numbers_at,
    optional,
    required,
    shape_at,
    type_at,
)


def _operand(shape: Shape, attributes: Attributes, side: str) -> Shape:
    """A matrix or a stack of them after the transpositions that attributes ask for."""
    if attributes.get(f"transBatch{side}") and len(shape) > 2:
        shape = (*shape[1:-1], shape[0], shape[-1])
    if attributes.get(f"trans{side}") and len(shape) > 1:
        shape = (*shape[:-2], shape[-1], shape[-2])
    return shape


def _multiplied(left: Shape, right: Shape) -> Shape:
    """NumPy's `matmul`, which drops the axis that it adds to a vector."""
    rows = () if len(left) == 1 else left[-2:-1]
    columns = () if len(right) == 1 else right[-1:]
    inner = right[-1] if len(right) == 1 else right[-2]
    if left[-1] != inner:
        raise ValueError("the inner sizes differ")
    return (*np.broadcast_shapes(left[:-2], right[:-2]), *rows, *columns)


def product(left: int, right: int, typed_like: int = 0, elem_type: int | None = None) -> Rule:
    """A product of two inputs."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        kind = elem_type or type_at(inputs, typed_like)
        a = _operand(shape_at(inputs, left), attributes, "A")
        b = _operand(shape_at(inputs, right), attributes, "B")
        return [(_multiplied(a, b), kind)]

    return rule


def _quantised_gemm(inputs: Inputs, attributes: Attributes) -> Outputs:
    """`QGemm` gives whole numbers only where it is told the zero point of its result."""
    return product(0, 3, elem_type=type_at(inputs, 8, FLOAT))(inputs, attributes)


def _float8_gemm(inputs: Inputs, attributes: Attributes) -> Outputs:
    return product(0, 1, elem_type=number(attributes, "dtype", FLOAT))(inputs, attributes)


def _with_columns(*names: str) -> Rule:
    """Outputs like the first input, with another last size each, which an attribute states."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        left = required(inputs, 0)
        return [
            ((*left.spec.shape[:-1], number(attributes, name)), left.elem_type) for name in names
        ]

    return rule


def _with_residual(*names: str) -> Rule:
    """The same, and then the sum of input and residual."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        return [*_with_columns(*names)(inputs, attributes), known_at(inputs, 0)]

    return rule


def _packed_blocks(inputs: Inputs, attributes: Attributes) -> Outputs:
    """`MatMulFpQ4`: the shape of the packed matrix is an input."""
    left, shape = required(inputs, 0), numbers_at(inputs, 2)
    known = None if shape is None else _multiplied(left.spec.shape, tuple(shape))
    return [(known, left.elem_type)]


def _columns_by_row(inputs: Inputs, attributes: Attributes) -> Outputs:
    """The second input holds one row per column of the product, however it is packed."""
    left = required(inputs, 0)
    return [((*left.spec.shape[:-1], shape_at(inputs, 1)[0]), left.elem_type)]


def _distances(inputs: Inputs, attributes: Attributes) -> Outputs:
    left, right = required(inputs, 0), shape_at(inputs, 1)
    return [((left.spec.shape[0], right[0]), left.elem_type)]


def _spectrum(inputs: Inputs, attributes: Attributes) -> Outputs:
    """Half of the frequencies of a real signal, each as two numbers."""
    value = required(inputs, 0)
    size = value.spec.shape[-1]
    kept = size // 2 + 1 if attributes.get("onesided", 1) else size
    return [((*value.spec.shape[:-1], kept, 2), value.elem_type)]


def _signal(inputs: Inputs, attributes: Attributes) -> Outputs:
    value = required(inputs, 0)
    size = value.spec.shape[-2]
    full = 2 * (size - 1) if attributes.get("onesided", 1) else size
    return [((*value.spec.shape[:-2], full), value.elem_type)]


def _recurrent(inputs: Inputs, attributes: Attributes) -> Outputs:
    """`DynamicQuantizeLSTM` and `AttnLSTM`: all states, the last one, the last cell."""
    steps, batch = shape_at(inputs, 0)[:2]
    directions, hidden = shape_at(inputs, 1)[0], number(attributes, "hidden_size")
    kind = type_at(inputs, 0)
    last = ((directions, batch, hidden), kind)
    return [((steps, directions, batch, hidden), kind), last, last]


def _causal_convolution(inputs: Inputs, attributes: Attributes) -> Outputs:
    """The output like the input, and the last elements of it that the next call needs."""
    value, kernel = required(inputs, 0), shape_at(inputs, 1)
    past = optional(inputs, 3)
    if past is not None:
        return [known_at(inputs, 0), (past.spec.shape, past.elem_type)]
    length = (kernel[-1] - 1) * number(attributes, "dilation", 1)
    last = -1 if attributes.get("channels_last") else 1
    state = (value.spec.shape[0], value.spec.shape[last], length)
    window = number(attributes, "state_window", 0)
    known = len(value.spec.shape) == 3
    shape = ((window, *state) if window else state) if known else None
    return [known_at(inputs, 0), (shape, value.elem_type)]


def _linear_attention(inputs: Inputs, attributes: Attributes) -> Outputs:
    query, key, value = (required(inputs, position) for position in range(3))
    heads, groups = number(attributes, "q_num_heads"), number(attributes, "kv_num_heads")
    batch, length, width = query.spec.shape
    key_size, value_size = width // heads, value.spec.shape[-1] // groups
    past = optional(inputs, 3)
    state = (batch, groups, key_size, value_size)
    window = number(attributes, "state_window", 0)
    present = (window, *state) if window else state
    return [
        ((batch, length, max(heads, groups) * value_size), query.elem_type),
        (present, key.elem_type if past is None else past.elem_type),
    ]


PRODUCT_RULES: dict[str, Rule] = {
    "FusedMatMul": product(0, 1),
    "FusedMatMulActivation": product(0, 1),
    "TransposeMatMul": product(0, 1),
    "SparseToDenseMatMul": product(0, 1, typed_like=1),
    "FusedGemm": product(0, 1),
    "GemmFastGelu": product(0, 1),
    "GemmFloat8": _float8_gemm,
    "QGemm": _quantised_gemm,
    "QOrderedMatMul": product(0, 2, elem_type=INT8),
    "DynamicQuantizeMatMul": product(0, 1),
    "MatMulIntegerToFloat": product(0, 1, typed_like=2),
    "MatMulInteger16": product(0, 1, elem_type=INT32),
    "MatMulFpQ4": _packed_blocks,
    "MatMulNBits": _with_columns("N"),
    "MatMulBnb4": _with_columns("N"),
    "MatMulNBitsQkv": _with_residual("Nq", "Nkv", "Nkv"),
    "MatMulNBitsMlp": _with_residual("N"),
    "MatMulBlockQuantizedFp8Weight": _columns_by_row,
    "MatMulBlockQuantizedFp4Weight": _columns_by_row,
    "MoE": like(0),
    "QMoE": like(0),
    "Inverse": like(0),
    "CDist": _distances,
    "Rfft": _spectrum,
    "Irfft": _signal,
    "DynamicQuantizeLSTM": _recurrent,
    "AttnLSTM": _recurrent,
    "CausalConvWithState": _causal_convolution,
    "LinearAttention": _linear_attention,
}
