"""Shapes of com.microsoft's attention ops: the output, and the keys and values that are kept."""

from graphs.importers.onnx_models.contrib_shapes.rules import (
    Attributes,
    Inputs,
    Outputs,
    Rule,
    known_at,
    like,
    number,
    numbers_at,
    optional,
    required,
    shape_at,
    type_at,
)


def _with_projection(past_at: int, typed_like: int = 0) -> Rule:
    """Projects its input to queries, keys and values; keeps keys and values in one tensor."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        batch, length = shape_at(inputs, 0)[:2]
        kind = type_at(inputs, typed_like)
        hidden = _value_width(inputs, attributes)
        heads = number(attributes, "num_heads")
        past = optional(inputs, past_at)
        total = length
        if past is not None:
            shared = attributes.get("past_present_share_buffer")
            total = past.spec.shape[-2] + (0 if shared else length)
        present = (2, batch, heads, total, hidden // heads)
        return [((batch, length, hidden), kind), (present, kind)]

    return rule


def _value_width(inputs: Inputs, attributes: Attributes) -> int:
    sizes = attributes.get("qkv_hidden_sizes")
    return int(sizes[2] if sizes else shape_at(inputs, 1)[-1] // 3)


def _packed_with_projection(inputs: Inputs, attributes: Attributes) -> Outputs:
    return [((shape_at(inputs, 0)[0], _value_width(inputs, attributes)), type_at(inputs, 0))]


def _packed_multi_head(inputs: Inputs, attributes: Attributes) -> Outputs:
    """Tokens without padding: `[tokens, hidden]`, or `[tokens, heads, 3, size]` for all three."""
    query, value = required(inputs, 0), optional(inputs, 2)
    shape = query.spec.shape
    hidden = shape[1] * shape[3] if len(shape) == 4 else shape[1]
    hidden = hidden if value is None else value.spec.shape[-1]
    return [((shape[0], hidden), query.elem_type)]


def _key_count(inputs: Inputs, length: int) -> int:
    """Keys given as `[batch, n, hidden]`, `[batch, heads, n, size]` or packed with values."""
    key = optional(inputs, 1)
    if key is None:
        return length
    return key.spec.shape[2 if len(key.spec.shape) == 4 else 1]


def _multi_head(past_at: int) -> Rule:
    """Projected inputs, or all three packed in five dimensions `[batch, n, heads, 3, size]`."""

    def rule(inputs: Inputs, attributes: Attributes) -> Outputs:
        query, value, heads = (
            required(inputs, 0),
            optional(inputs, 2),
            number(attributes, "num_heads"),
        )
        batch, length = query.spec.shape[:2]
        width = query.spec.shape[-1] * (heads if len(query.spec.shape) == 5 else 1)
        hidden = width
        if value is not None:
            shape = value.spec.shape
            hidden = shape[2] if len(shape) == 3 else shape[1] * shape[3]
        total, past = _key_count(inputs, length), optional(inputs, past_at)
        if past is not None:
            shared = attributes.get("past_present_share_buffer")
            total = past.spec.shape[2] + (0 if shared else total)
        kind = query.elem_type
        return [
            ((batch, length, hidden), kind),
            ((batch, heads, total, width // heads), kind),
            ((batch, heads, total, hidden // heads), kind),
            ((batch, heads, length, total), kind),
        ]

    return rule


def _group_query(inputs: Inputs, attributes: Attributes) -> Outputs:
    query, key = required(inputs, 0), optional(inputs, 1)
    heads, groups = number(attributes, "num_heads"), number(attributes, "kv_num_heads")
    batch, length, width = query.spec.shape
    size = width // (heads + 2 * groups) if key is None else width // heads
    past, past_value = optional(inputs, 3), optional(inputs, 4)
    total = length + (past.spec.shape[2] if past is not None else 0)
    present = [
        # quantised caches have types and packed sizes of their own
        ((batch, groups, total, size), query.elem_type)
        if cache is None
        else ((batch, groups, total, cache.spec.shape[-1]), cache.elem_type)
        for cache in (past, past_value)
    ]
    return [
        ((batch, length, heads * size), query.elem_type),
        *present,
        ((batch, heads, length, total), query.elem_type),
    ]


def _sparse(inputs: Inputs, attributes: Attributes) -> Outputs:
    """Caches are as long as they will ever be, and written in place."""
    query, key = required(inputs, 0), optional(inputs, 1)
    heads, groups = number(attributes, "num_heads"), number(attributes, "kv_num_heads")
    batch, length, width = query.spec.shape
    hidden = width if key is not None else width // (heads + 2 * groups) * heads
    return [((batch, length, hidden), query.elem_type), known_at(inputs, 3), known_at(inputs, 4)]


def _paged(inputs: Inputs, attributes: Attributes) -> Outputs:
    query, key = required(inputs, 0), optional(inputs, 1)
    heads, groups = number(attributes, "num_heads"), number(attributes, "kv_num_heads")
    tokens, width = query.spec.shape
    size = width // (heads if key is not None else heads + 2 * groups)
    value_size = number(attributes, "v_head_size", 0) or size
    caches: Outputs = like(3, 4)(inputs, attributes)
    return [((tokens, heads * value_size), query.elem_type), *caches]


def _decoder(inputs: Inputs, attributes: Attributes) -> Outputs:
    """Time comes first here: `[length, batch, hidden]`."""
    query, key = required(inputs, 0), required(inputs, 1)
    _, batch, hidden = query.spec.shape
    heads = number(attributes, "num_heads")
    cache = ((batch, heads, key.spec.shape[0], hidden // heads), query.elem_type)
    return [known_at(inputs, 0), cache, cache]


def _relative_bias(inputs: Inputs, attributes: Attributes) -> Outputs:
    table, queries, keys = required(inputs, 0), numbers_at(inputs, 1), numbers_at(inputs, 2)
    known = queries is not None and keys is not None
    shape = (1, table.spec.shape[1], *queries, *keys) if queries and keys and known else None
    return [(shape, table.elem_type)]


def _gated_relative_bias(inputs: Inputs, attributes: Attributes) -> Outputs:
    batch, length = shape_at(inputs, 0)[:2]
    if optional(inputs, 6) is not None:  # tokens without padding
        batch, length = shape_at(inputs, 6)[:2]
    return [((batch, number(attributes, "num_heads"), length, length), type_at(inputs, 0))]


ATTENTION_RULES: dict[str, Rule] = {
    "Attention": _with_projection(past_at=4),
    "QAttention": _with_projection(past_at=8, typed_like=3),
    "DecoderMaskedSelfAttention": _with_projection(past_at=4),
    "PackedAttention": _packed_with_projection,
    "PackedMultiHeadAttention": _packed_multi_head,
    "MultiHeadAttention": _multi_head(past_at=6),
    "DecoderMaskedMultiHeadAttention": _multi_head(past_at=5),
    "GroupQueryAttention": _group_query,
    "SparseAttention": _sparse,
    "PagedAttention": _paged,
    "DecoderAttention": _decoder,
    "LongformerAttention": like(0),
    "QOrderedAttention": like(0),
    "QOrderedLongformerAttention": like(0),
    "RelativePositionBias": _relative_bias,
    "GatedRelativePositionBias": _gated_relative_bias,
}
