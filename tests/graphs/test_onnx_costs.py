"""The ONNX cost table: complete, and equal to counts made by hand."""

from collections.abc import Sequence
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from graphs import DType, Graph, OpKind
from graphs.costs.einsum import einsum_flops
from graphs.costs.onnx_ops import onnx_cost
from graphs.costs.work import Signature, TensorSpec
from graphs.importers.onnx_models.model import import_onnx_model

COMMON_FUSED = (
    "Attention", "BiasGelu", "DynamicQuantizeMatMul", "EmbedLayerNormalization", "FastGelu",
    "FusedConv", "FusedMatMul", "Gelu", "GroupQueryAttention", "LayerNormalization",
    "MatMulNBits", "MultiHeadAttention", "QAttention", "QLinearAdd", "QLinearConcat",
    "QLinearGlobalAveragePool", "QLinearMul", "QLinearSigmoid", "QuickGelu", "RotaryEmbedding",
    "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
)  # fmt: skip


def test_every_op_of_every_standard_domain_has_a_formula() -> None:
    schemas = onnx.defs.get_all_schemas_with_history()
    missing = {(s.domain, s.name) for s in schemas if onnx_cost(s.domain, s.name) is None}
    assert missing == set()


def test_common_fused_ops_have_a_formula() -> None:
    assert [name for name in COMMON_FUSED if onnx_cost("com.microsoft", name) is None] == []


def _flops(
    op_type: str,
    inputs: Sequence[tuple[int, ...]],
    outputs: Sequence[tuple[int, ...]],
    domain: str = "",
    **attributes: Any,
) -> float:
    cost = onnx_cost(domain, op_type)
    assert cost is not None
    signature = Signature(
        op_type, [TensorSpec(s) for s in inputs], [TensorSpec(s) for s in outputs], attributes
    )
    return cost.formula(signature).flops


def test_products() -> None:
    assert _flops("MatMul", [(2, 3, 4), (4, 5)], [(2, 3, 5)]) == 2 * 2 * 3 * 4 * 5
    assert _flops("Gemm", [(4, 3), (4, 5), (5,)], [(3, 5)], transA=1) == 2 * 3 * 4 * 5 + 15
    assert _flops("MatMul", [(4,), (4,)], [()]) == 8


def test_convolutions() -> None:
    grouped = _flops("Conv", [(1, 8, 6, 6), (16, 4, 3, 3), (16,)], [(1, 16, 4, 4)], group=2)
    assert grouped == 2 * 16 * 16 * 4 * 9 + 16 * 16
    # A transposed convolution scatters each input element through the filter.
    lifted = _flops("ConvTranspose", [(1, 8, 4, 4), (8, 3, 2, 2)], [(1, 3, 8, 8)])
    assert lifted == 2 * (8 * 4 * 4) * 3 * 4


def test_an_lstm_step() -> None:
    batch, inputs, hidden = 3, 5, 7
    shapes = [(1, batch, inputs), (1, 4 * hidden, inputs), (1, 4 * hidden, hidden)]
    products = 2 * batch * (inputs + hidden) * 4 * hidden
    flops = _flops("LSTM", shapes, [(1, 1, batch, hidden)], hidden_size=hidden)
    assert flops == products + 8 * 4 * batch * hidden


def test_attention_counts_past_keys() -> None:
    batch, heads, queries, keys, past, size = 2, 4, 3, 5, 6, 8
    shape = (batch, heads, queries, size)
    stored = (batch, heads, keys, size)
    cached = (batch, heads, past, size)
    joined = (batch, heads, keys + past, size)
    flops = _flops("Attention", [shape, stored, stored, cached, cached], [shape, joined, joined])
    assert flops == batch * heads * queries * (keys + past) * (2 * size + 2 * size + 5)


def test_pools_and_norms() -> None:
    assert _flops("MaxPool", [(1, 2, 8, 8)], [(1, 2, 4, 4)], kernel_shape=[3, 3]) == 32 * 9
    assert _flops("GlobalAveragePool", [(1, 2, 8, 8)], [(1, 2, 1, 1)]) == 128
    assert _flops("ReduceSum", [(4, 8)], [(4,)]) == 32
    assert _flops("LayerNormalization", [(4, 8), (8,)], [(4, 8)]) == 8 * 32


def test_a_gather_touches_only_what_it_writes() -> None:
    cost = onnx_cost("", "Gather")
    assert cost is not None
    table, indices = TensorSpec((50_000, 768)), TensorSpec((4, 8), DType.INT64)
    work = cost.formula(Signature("Gather", [table, indices], [TensorSpec((4, 8, 768))]))
    written = 4 * 8 * 768 * 4
    assert (work.flops, work.bytes_read, work.bytes_written) == (0, written + 32 * 8, written)


@pytest.mark.parametrize(
    ("equation", "shapes", "flops"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], 2 * 2 * 3 * 4),
        ("ij,jk", [(2, 3), (3, 4)], 2 * 2 * 3 * 4),
        ("bhqd, bhkd -> bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)], 2 * 2 * 3 * 4 * 6 * 5),
        ("...ij,...jk->...ik", [(7, 2, 3), (3, 4)], 2 * 7 * 2 * 3 * 4),
        ("i,j->ij", [(3,), (4,)], 12),
        ("ij->i", [(3, 4)], 12),
        ("ij->ji", [(3, 4)], 0),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], 2 * 2 * 3 * 4 + 2 * 2 * 4 * 5),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], flops: float) -> None:
    assert einsum_flops(equation, shapes) == flops


@given(st.lists(st.integers(1, 9), min_size=4, max_size=4))
@settings(max_examples=25, deadline=None)
def test_einsum_agrees_with_matmul(sizes: list[int]) -> None:
    batch, rows, inner, columns = sizes
    product = _flops(
        "MatMul", [(batch, rows, inner), (batch, inner, columns)], [(batch, rows, columns)]
    )
    shapes = [(batch, rows, inner), (batch, inner, columns)]
    assert einsum_flops("bij,bjk->bik", shapes) == product


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ijk->i", "...->"])
def test_einsum_refuses_operands_that_do_not_fit(equation: str) -> None:
    with pytest.raises(ValueError, match="einsum"):
        einsum_flops(equation, [(2, 3), (3, 4), (5, 6)])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    weights: dict[str, tuple[int, ...]],
    outputs: list[str],
) -> Graph:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [TensorProto(name=n, data_type=TensorProto.FLOAT, dims=s, raw_data=b"\0" * 4 * _size(s))
         for n, s in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return import_onnx_model(helper.make_model(graph, opset_imports=opsets), {}, "toy")


def _size(shape: tuple[int, ...]) -> int:
    elements = 1
    for size in shape:
        elements *= size
    return elements


def test_a_small_convolutional_net_counted_by_hand() -> None:
    node = helper.make_node
    graph = _model(
        [
            node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            node("Relu", ["c1"], ["r1"]),
            node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["p1", "w2"], ["c2"], group=16),
            node("GlobalAveragePool", ["c2"], ["g"]),
            node("Flatten", ["g"], ["f"]),
            node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
        ],
        {"x": (2, 3, 32, 32)},
        {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "w3": (10, 16), "b3": (10,)},
        ["y"],
    )
    flops = dict(zip(graph.op_types, graph.flops, strict=True))
    assert graph.flops.tolist() == [
        0,  # the input
        2 * (2 * 16 * 32 * 32) * 27 + 2 * 16 * 32 * 32,
        2 * 16 * 32 * 32,
        4 * 2 * 16 * 16 * 16,
        2 * (2 * 16 * 14 * 14) * 9,
        2 * 16 * 14 * 14,
        0,  # a view
        2 * 2 * 16 * 10 + 20,
    ]
    assert flops["Flatten"] == 0
    kinds = dict(zip(graph.op_names, graph.kinds, strict=True))
    assert (kinds["c1"], kinds["c2"]) == (OpKind.CONV, OpKind.DEPTHWISE_CONV)


def test_a_bert_layer_counted_by_hand() -> None:
    batch, length, width, heads = 2, 16, 32, 4
    node = helper.make_node
    domain = "com.microsoft"
    graph = _model(
        [
            node("Attention", ["x", "wqkv", "bqkv"], ["a"], domain=domain, num_heads=heads),
            node("MatMul", ["a", "wo"], ["o"]),
            node("SkipLayerNormalization", ["o", "x", "g1", "b1"], ["n"], domain=domain),
            node("MatMul", ["n", "w1"], ["h"]),
            node("FastGelu", ["h", "bh"], ["i"], domain=domain),
            node("MatMul", ["i", "w2"], ["k"]),
            node("SkipLayerNormalization", ["k", "n", "g2", "b2"], ["y"], domain=domain),
        ],
        {"x": (batch, length, width)},
        {
            "wqkv": (width, 3 * width), "bqkv": (3 * width,), "wo": (width, width),
            "g1": (width,), "b1": (width,), "w1": (width, 4 * width), "bh": (4 * width,),
            "w2": (4 * width, width), "g2": (width,), "b2": (width,),
        },
        ["y"],
    )  # fmt: skip
    tokens = batch * length
    size = width // heads
    projections = 2 * tokens * width * width * (3 + 1 + 4 + 4)
    attention = batch * heads * length * length * (2 * size + 2 * size + 5)
    pointwise = 2 * 10 * tokens * width + 18 * tokens * 4 * width
    assert graph.flops.sum() == projections + attention + pointwise
    assert graph.report.unknown_shapes == ()
    weights = 12 * width * width + 3 * width + 4 * width + 4 * width
    assert graph.resident_bytes.sum() == 4 * weights
