"""Shapes of com.microsoft's pointwise, normalising, quantising and moving ops."""

from math import ceil

from graphs.importers.onnx_models.contrib_shapes.rules import (
    BOOL,
    FLOAT,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT32,
    Attributes,
    Inputs,
    Outputs,
    Rule,
    broadcast,
    like,
    number,
    numbers_at,
    reduction,
    required,
    shape_at,
    type_at,
    typed,
)


def _normalize(statistics: int, sum_at: int) -> Rule:
    """The first output like the input, then reduced statistics, then the residual sum."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        value = required(inputs, 0)
        shape = value.spec.shape
        axis = number(attributes, "axis", -1) % max(len(shape), 1)
        reduced = ((*shape[:axis], *[1] * (len(shape) - axis)), FLOAT)
        full = (shape, value.elem_type)
        return [full if i in (0, sum_at) else reduced for i in range(max(statistics, sum_at) + 1)]

    return rule


def _embedding_norm(typed_like: int) -> Rule:
    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        tokens, words = shape_at(inputs, 0), shape_at(inputs, 2)
        summed = ((*tokens, words[1]), type_at(inputs, typed_like))
        return [summed, (tokens[:1], INT32), summed]

    return rule


def _quantised(inputs: Inputs, attributes: Attributes) -> Outputs:
    """The type of the zero point; without one unsigned bytes."""
    return [(shape_at(inputs, 0), type_at(inputs, 2, UINT8))]


def _dequantised(inputs: Inputs, attributes: Attributes) -> Outputs:
    """The type of the scale."""
    return [(shape_at(inputs, 0), type_at(inputs, 1))]


def _block_float(inputs: Inputs, attributes: Attributes) -> Outputs:
    rank = (len(shape_at(inputs, 0)),)
    return [(None, UINT8), (rank, INT64), (rank, INT64)]


def _from_block_float(inputs: Inputs, attributes: Attributes) -> Outputs:
    shape = numbers_at(inputs, 1)
    return [(None if shape is None else tuple(shape), number(attributes, "dtype", FLOAT))]


def _to_type(name: str) -> Rule:
    """Like the first input, in a type that an attribute states."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        return [(shape_at(inputs, 0), number(attributes, name, FLOAT))]

    return rule


def _concatenate(inputs: Inputs, attributes: Attributes) -> Outputs:
    """`QLinearConcat`: scale and zero point, then triples of tensor, scale and zero point."""
    parts = [shape_at(inputs, position) for position in range(2, len(inputs), 3)]
    shape, axis = list(parts[0]), number(attributes, "axis")
    shape[axis] = sum(part[axis] for part in parts)
    return [(tuple(shape), type_at(inputs, 1))]


def _pool_globally(inputs: Inputs, attributes: Attributes) -> Outputs:
    value = required(inputs, 0)
    shape = value.spec.shape
    if attributes.get("channels_last"):
        return [((shape[0], *[1] * (len(shape) - 2), shape[-1]), value.elem_type)]
    return [((*shape[:2], *[1] * (len(shape) - 2)), value.elem_type)]


def _dropout(*, packed: bool) -> Rule:
    """The mask is a truth value per element, or a bit in words of 32."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        value = required(inputs, 0)
        words = (ceil(value.spec.elements / 32),)
        mask = (words, UINT32) if packed else (value.spec.shape, BOOL)
        return [(value.spec.shape, value.elem_type), mask]

    return rule


def _split_gelu(inputs: Inputs, attributes: Attributes) -> Outputs:
    value = required(inputs, 0)
    return [((*value.spec.shape[:-1], value.spec.shape[-1] // 2), value.elem_type)]


def _gather_blocks(inputs: Inputs, attributes: Attributes) -> Outputs:
    """Rows of a table of a few bits, dequantised: the scales' type, with every packed value."""
    table, picked = required(inputs, 0), shape_at(inputs, 1)
    shape = list(table.spec.shape)
    if table.elem_type == UINT8:
        shape[-1] *= 8 // number(attributes, "bits", 4)
    axis = number(attributes, "gather_axis", 0) % len(shape)
    return [((*shape[:axis], *picked, *shape[axis + 1 :]), type_at(inputs, 2))]


def _embed(inputs: Inputs, attributes: Attributes) -> Outputs:
    table = required(inputs, 0)
    return [((*shape_at(inputs, 1), table.spec.shape[-1]), table.elem_type)]


def _expand_dims(inputs: Inputs, attributes: Attributes) -> Outputs:
    value, axis = required(inputs, 0), numbers_at(inputs, 1)
    if not axis:
        return [(None, value.elem_type)]
    shape = list(value.spec.shape)
    shape.insert(axis[0] if axis[0] >= 0 else len(shape) + 1 + axis[0], 1)
    return [(tuple(shape), value.elem_type)]


def _unfold(inputs: Inputs, attributes: Attributes) -> Outputs:
    value = required(inputs, 0)
    shape, size = list(value.spec.shape), number(attributes, "size")
    axis = number(attributes, "dim", -1) % len(shape)
    shape[axis] = (shape[axis] - size) // number(attributes, "step", 1) + 1
    return [((*shape, size), value.elem_type)]


def _unique(inputs: Inputs, attributes: Attributes) -> Outputs:
    value = required(inputs, 0)
    return [(None, value.elem_type), ((value.spec.elements,), INT64), (None, INT64)]


def _remove_padding(inputs: Inputs, attributes: Attributes) -> Outputs:
    """At most as many tokens as there are places for them."""
    value = required(inputs, 0)
    batch, length, hidden = value.spec.shape
    kind = type_at(inputs, 1)
    tokens = ((batch * length, hidden), value.elem_type)
    return [tokens, ((batch, length), kind), ((batch + 1,), kind), ((1,), kind)]


def _restore_padding(inputs: Inputs, attributes: Attributes) -> Outputs:
    value = required(inputs, 0)
    return [((*shape_at(inputs, 1), value.spec.shape[-1]), value.elem_type)]


def _crop(inputs: Inputs, attributes: Attributes) -> Outputs:
    value, size = required(inputs, 0), numbers_at(inputs, 3)
    regions = shape_at(inputs, 1)[0]
    shape = None if size is None else (regions, value.spec.shape[1], *size)
    return [(shape, value.elem_type)]


def _words(inputs: Inputs, attributes: Attributes) -> Outputs:
    size = number(attributes, "embedding_size", 0) or shape_at(inputs, 1)[0]
    return [((*shape_at(inputs, 0)[:-1], size), type_at(inputs, 1))]


def _hash(inputs: Inputs, attributes: Attributes) -> Outputs:
    return [(shape_at(inputs, 0), UINT32 if attributes.get("positive", 1) else INT32)]


def _generated(inputs: Inputs, attributes: Attributes) -> Outputs:
    """Search ops give as many words as they may."""
    longest = numbers_at(inputs, 1)
    shape = None if not longest else (shape_at(inputs, 0)[0], longest[0])
    return [(shape, INT32)]


def _all_finite(inputs: Inputs, attributes: Attributes) -> Outputs:
    return [((), BOOL)]


ELEMENTWISE_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "BiasGelu", "FastGelu", "Gelu", "QuickGelu", "QLinearSigmoid", "QLinearLeakyRelu",
            "QLinearSoftmax", "BiasSoftmax", "RotaryEmbedding", "MRotaryEmbedding", "BiasAdd",
            "GroupNorm", "Trilu", "ScaledSiLU", "GatedAdd", "GatedRMSNorm", "BranchwiseRMSNorm",
            "QOrderedGelu", "QOrderedLayerNormalization", "SampleOp",
        ),
        like(0),
    ),
    "SkipGroupNorm": like(0, 0),
    "GemmaRotaryEmbedding": like(1, 3),
    "NGramRepeatBlock": like(1),
    "BiasSplitGelu": _split_gelu,
    "SkipLayerNormalization": _normalize(2, 3),
    "SkipSimplifiedLayerNormalization": _normalize(2, 3),
    "LayerNormalization": _normalize(2, 0),
    "SimplifiedLayerNormalization": _normalize(1, 0),
    "EmbedLayerNormalization": _embedding_norm(2),
    "QEmbedLayerNormalization": _embedding_norm(8),
    "QLinearAdd": broadcast(0, 3, typed_like=0),
    "QLinearMul": broadcast(0, 3, typed_like=0),
    "QLinearWhere": broadcast(0, 1, 4, typed_like=1),
    "MulInteger": broadcast(0, 2, typed_like=0, elem_type=INT32),
    "ComplexMul": broadcast(0, 1, typed_like=0),
    "ComplexMulConj": broadcast(0, 1, typed_like=0),
    "QLinearConcat": _concatenate,
    "QLinearGlobalAveragePool": _pool_globally,
    "QLinearReduceMean": reduction(),
    "ReduceSumInteger": reduction(INT32),
    "QuantizeLinear": _quantised,
    "DequantizeLinear": _dequantised,
    "QuantizeBFP": _block_float,
    "DequantizeBFP": _from_block_float,
    "QuantizeWithOrder": like(0, elem_type=INT8),
    "DequantizeWithOrder": _to_type("to"),
    "BiasDropout": _dropout(packed=False),
    "BitmaskDropout": _dropout(packed=True),
    "BitmaskBiasDropout": _dropout(packed=True),
    "GatherBlockQuantized": _gather_blocks,
    "TorchEmbedding": _embed,
    "ExpandDims": _expand_dims,
    "UnfoldTensor": _unfold,
    "Unique": _unique,
    "RemovePadding": _remove_padding,
    "RestorePadding": _restore_padding,
    "CropAndResize": _crop,
    "WordConvEmbedding": _words,
    "MurmurHash3": _hash,
    "GreedySearch": _generated,
    "Sampling": _generated,
    "IsAllFinite": _all_finite,
    "DynamicTimeWarping": lambda inputs, attributes: [(None, INT32)],
    "ConvTransposeWithDynamicPads": typed(0),
}  # fmt: skip
