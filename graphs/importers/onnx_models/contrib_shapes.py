"""Output shapes of ops that onnx does not infer: mostly com.microsoft's and the training ops."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from graphs.importers.onnx_models.values import OnnxValue

Shape = tuple[int, ...]
Inputs = Sequence[OnnxValue | None]
Attributes = Mapping[str, Any]
#: Shape and element type for each output that a rule knows, in order.
Outputs = list[tuple[Shape, int] | None]
Rule = Callable[[Inputs, Attributes], Outputs]

#: What a rule raises on inputs that do not fit it; the shape then stays unknown.
_RULE_ERRORS = (IndexError, KeyError, ValueError, TypeError, ZeroDivisionError)


def contrib_outputs(op_type: str, inputs: Inputs, attributes: Attributes) -> Outputs:
    """Shapes and types of the outputs, as far as there is a rule."""
    rule = _RULES.get(op_type)
    if rule is None:
        return []
    try:
        return rule(inputs, attributes)
    except _RULE_ERRORS:
        return []


def _at(inputs: Inputs, position: int) -> OnnxValue:
    value = inputs[position]
    if value is None:
        raise ValueError("a required input is absent")
    return value


def _like(*positions: int) -> Rule:
    """Output `i` has the shape and type of the input at `positions[i]`."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        outputs: Outputs = []
        for position in positions:
            value = inputs[position] if position < len(inputs) else None
            outputs.append(None if value is None else (value.spec.shape, value.elem_type))
        return outputs

    return rule


def _each_like(first: int) -> Rule:
    """Every output is like the input in the same position, counted from `first`."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        return _like(*range(first, len(inputs)))(inputs, attributes)

    return rule


def _broadcast(*positions: int) -> Rule:
    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        shapes = [_at(inputs, position).spec.shape for position in positions]
        return [(np.broadcast_shapes(*shapes), _at(inputs, positions[-1]).elem_type)]

    return rule


def _product(left: int, right: int, elem_type: int | None = None) -> Rule:
    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        a, b = _at(inputs, left).spec.shape, _at(inputs, right).spec.shape
        a = (*a[:-2], a[-1], a[-2]) if attributes.get("transA") else a
        b = (*b[:-2], b[-1], b[-2]) if attributes.get("transB") else b
        batch = np.broadcast_shapes(a[:-2], b[:-2])
        return [((*batch, a[-2], b[-1]), elem_type or _at(inputs, left).elem_type)]

    return rule


def _low_bit_product(inputs: Inputs, attributes: Attributes) -> Outputs:
    left = _at(inputs, 0)
    return [((*left.spec.shape[:-1], attributes["N"]), left.elem_type)]


def _normalize(statistics: int, sum_at: int) -> Rule:
    """The first output like the input, then reduced statistics, then the residual sum."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        value = _at(inputs, 0)
        full = (value.spec.shape, value.elem_type)
        reduced = ((*value.spec.shape[:-1], 1), int(TensorProto.FLOAT))
        return [full if i in (0, sum_at) else reduced for i in range(max(statistics, sum_at) + 1)]

    return rule


def _attention(inputs: Inputs, attributes: Attributes) -> Outputs:
    tokens, weights = _at(inputs, 0), _at(inputs, 1).spec.shape
    batch, length = tokens.spec.shape[:2]
    sizes = attributes.get("qkv_hidden_sizes")
    hidden = sizes[2] if sizes else weights[-1] // 3
    heads = attributes["num_heads"]
    past = inputs[4] if len(inputs) > 4 else None
    total = length + (past.spec.shape[-2] if past is not None else 0)
    elem_type = int(TensorProto.FLOAT) if tokens.spec.dtype.element_bytes == 1 else tokens.elem_type
    present = ((2, batch, heads, total, hidden // heads), elem_type)
    return [((batch, length, hidden), elem_type), present]


def _multi_head_attention(inputs: Inputs, attributes: Attributes) -> Outputs:
    query, heads = _at(inputs, 0), attributes["num_heads"]
    key = inputs[1] if len(inputs) > 1 else None
    value = inputs[2] if len(inputs) > 2 else None
    batch, length = query.spec.shape[:2]
    hidden = heads * query.spec.shape[-1] if len(query.spec.shape) == 5 else query.spec.shape[-1]
    if value is not None:
        rank = len(value.spec.shape)
        hidden = value.spec.shape[2] if rank == 3 else value.spec.shape[1] * value.spec.shape[3]
    keys = length if key is None else key.spec.shape[1 if len(key.spec.shape) != 4 else 2]
    past = inputs[6] if len(inputs) > 6 else None
    total = keys + (past.spec.shape[2] if past is not None else 0)
    present = ((batch, heads, total, hidden // heads), query.elem_type)
    return [((batch, length, hidden), query.elem_type), present, present]


def _group_query_attention(inputs: Inputs, attributes: Attributes) -> Outputs:
    query = _at(inputs, 0)
    heads, groups = attributes["num_heads"], attributes["kv_num_heads"]
    batch, length, width = query.spec.shape
    packed = len(inputs) < 2 or inputs[1] is None
    size = width // (heads + 2 * groups) if packed else width // heads
    past = inputs[3] if len(inputs) > 3 else None
    total = length + (past.spec.shape[2] if past is not None else 0)
    present = ((batch, groups, total, size), query.elem_type)
    return [((batch, length, heads * size), query.elem_type), present, present]


def _embedding_norm(inputs: Inputs, attributes: Attributes) -> Outputs:
    tokens, words = _at(inputs, 0), _at(inputs, 2)
    summed = ((*tokens.spec.shape, words.spec.shape[1]), words.elem_type)
    return [summed, (tokens.spec.shape[:1], int(TensorProto.INT32)), summed]


def _concatenate(inputs: Inputs, attributes: Attributes) -> Outputs:
    """`QLinearConcat`: scale and zero point, then triples of tensor, scale and zero point."""
    parts = [_at(inputs, position) for position in range(2, len(inputs), 3)]
    shape, axis = list(parts[0].spec.shape), attributes["axis"]
    shape[axis] = sum(part.spec.shape[axis] for part in parts)
    return [(tuple(shape), parts[0].elem_type)]


def _pool_globally(inputs: Inputs, attributes: Attributes) -> Outputs:
    value = _at(inputs, 0)
    shape = value.spec.shape
    kept = shape[:1] if attributes.get("channels_last") else shape[:2]
    ones = (1,) * (len(shape) - 2)
    last = shape[-1:] if attributes.get("channels_last") else ()
    return [((*kept, *ones, *last), value.elem_type)]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "BiasGelu", "FastGelu", "Gelu", "QuickGelu", "QLinearSigmoid", "QLinearLeakyRelu",
            "QLinearSoftmax", "BiasSoftmax", "RotaryEmbedding", "BiasAdd", "Inverse",
            "GroupNorm", "Trilu", "ReluGrad", "GeluGrad", "FastGeluGrad", "SigmoidGrad",
            "TanhGrad", "QuickGeluGrad", "SoftmaxGrad", "SoftmaxGrad_13", "LogSoftmaxGrad",
            "LogSoftmaxGrad_13", "BiasGeluGrad_dX", "BiasFastGeluGrad_dX", "PassThrough",
        ),
        _like(0),
    ),
    "FusedMatMul": _product(0, 1),
    "TransposeMatMul": _product(0, 1),
    "FusedGemm": _product(0, 1),
    "GemmFastGelu": _product(0, 1),
    "QGemm": _product(0, 3),
    "DynamicQuantizeMatMul": _product(0, 1),
    "MatMulIntegerToFloat": _product(0, 1, int(TensorProto.FLOAT)),
    "MatMulInteger16": _product(0, 1, int(TensorProto.INT32)),
    "MatMulNBits": _low_bit_product,
    "MatMulBnb4": _low_bit_product,
    "MoE": _like(0),
    "QMoE": _like(0),
    "Attention": _attention,
    "QAttention": _attention,
    "MultiHeadAttention": _multi_head_attention,
    "DecoderMaskedMultiHeadAttention": _multi_head_attention,
    "GroupQueryAttention": _group_query_attention,
    "SkipLayerNormalization": _normalize(2, 3),
    "SkipSimplifiedLayerNormalization": _normalize(2, 3),
    "LayerNormalization": _normalize(2, 0),
    "SimplifiedLayerNormalization": _normalize(1, 0),
    "EmbedLayerNormalization": _embedding_norm,
    "QLinearAdd": _broadcast(0, 3),
    "QLinearMul": _broadcast(0, 3),
    "QLinearConcat": _concatenate,
    "QLinearGlobalAveragePool": _pool_globally,
    "ConvGrad": _like(1, 2),
    "LayerNormalizationGrad": _like(1, 2, 2),
    "SimplifiedLayerNormalizationGrad": _like(1, 2),
    "DropoutGrad": _like(0),
    "SoftmaxCrossEntropyLossGrad": _like(1),
    "SoftmaxCrossEntropyLossInternalGrad": _like(1),
    "Gradient": _each_like(0),
    # Standard, but its oldest versions infer nothing for the mask.
    "Dropout": _like(0, 0),
}  # fmt: skip
