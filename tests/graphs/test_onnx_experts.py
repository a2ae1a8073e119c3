"""Mixtures of experts of com.microsoft, counted by hand."""

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from graphs import Graph
from graphs.importers.onnx_models.model import import_onnx_model

TOKENS, HIDDEN, INNER, EXPERTS = 6, 32, 64, 8
FLOAT, BYTE = TensorProto.FLOAT, TensorProto.UINT8
#: Of one layer of one expert, for all tokens.
LAYER = 2 * TOKENS * HIDDEN * INNER


def experts(op_type: str, inputs: list[Any], **attributes: Any) -> Graph:
    """One op; inputs as `(type, shape)` after tokens and router, None where absent."""
    given = [(FLOAT, (TOKENS, HIDDEN)), (FLOAT, (TOKENS, EXPERTS)), *inputs]
    names = ["" if item is None else f"x{index}" for index, item in enumerate(given)]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["y"], "op", domain="com.microsoft", **attributes)],
        "g",
        [
            helper.make_tensor_value_info(name, *item)
            for name, item in zip(names[:2], given[:2], strict=True)
            if item is not None
        ],
        [onnx.ValueInfoProto(name="y")],
        [
            _absent(name, *item)
            for name, item in zip(names[2:], given[2:], strict=True)
            if item is not None
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return import_onnx_model(model, {}, "experts")


def _absent(name: str, elem_type: int, shape: tuple[int, ...]) -> onnx.TensorProto:
    """A weight of known size whose values lie in a file that is not there."""
    tensor = TensorProto(name=name, data_type=elem_type, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="absent.bin")
    return tensor


def flops(graph: Graph) -> float:
    return float(graph.flops[graph.op_index["op"]])


FIRST, SECOND = (FLOAT, (EXPERTS, INNER, HIDDEN)), (FLOAT, (EXPERTS, HIDDEN, INNER))


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_only_the_experts_that_tokens_are_sent_to_compute(chosen: int) -> None:
    graph = experts("MoE", [FIRST, None, SECOND], k=chosen)
    assert flops(graph) == chosen * 2 * LAYER


def test_biases_are_no_layers() -> None:
    bias = [(FLOAT, (EXPERTS, INNER)), (FLOAT, (EXPERTS, HIDDEN))]
    assert flops(experts("MoE", [FIRST, bias[0], SECOND, bias[1]], k=1)) == 2 * LAYER


def test_a_fused_gate_makes_the_first_layer_twice_as_wide() -> None:
    first = (FLOAT, (EXPERTS, 2 * INNER, HIDDEN))
    graph = experts("MoE", [first, None, SECOND], k=1, activation_type="swiglu", swiglu_fusion=1)
    assert flops(graph) == 3 * LAYER


def test_a_gate_with_weights_of_its_own_is_a_third_layer() -> None:
    graph = experts("MoE", [FIRST, None, SECOND, None, FIRST], k=1, activation_type="swiglu")
    assert flops(graph) == 3 * LAYER


@pytest.mark.parametrize(("bits", "packed"), [(4, 2), (8, 1), (2, 4)])
def test_packed_weights_count_as_many_as_they_are(bits: int, packed: int) -> None:
    weights = [
        (BYTE, (EXPERTS, INNER, HIDDEN // packed)),
        (FLOAT, (EXPERTS, INNER)),
        None,
        (BYTE, (EXPERTS, HIDDEN, INNER // packed)),
        (FLOAT, (EXPERTS, HIDDEN)),
    ]
    assert flops(experts("QMoE", weights, k=2, expert_weight_bits=bits)) == 2 * 2 * LAYER


def test_four_bits_are_the_default_and_layers_may_differ() -> None:
    weights = [
        (BYTE, (EXPERTS, INNER, HIDDEN // 2)),
        (FLOAT, (EXPERTS, INNER)),
        None,
        (BYTE, (EXPERTS, HIDDEN, INNER)),
        (FLOAT, (EXPERTS, HIDDEN)),
    ]
    assert flops(experts("QMoE", weights, k=1, fc2_expert_weight_bits=8)) == 2 * LAYER


def test_a_quantised_fused_gate_with_scales_and_zero_points_by_block() -> None:
    blocks = 2
    weights = [
        (BYTE, (EXPERTS, 2 * INNER, HIDDEN // 2)),
        (FLOAT, (EXPERTS, 2 * INNER, blocks)),
        None,
        (BYTE, (EXPERTS, HIDDEN, INNER // 2)),
        (FLOAT, (EXPERTS, HIDDEN, 2 * blocks)),
        None,
        None,
        None,
        None,
        (BYTE, (EXPERTS, 2 * INNER, blocks // 2)),
        (BYTE, (EXPERTS, HIDDEN, blocks)),
    ]
    graph = experts("QMoE", weights, k=1, block_size=16, activation_type="swiglu", swiglu_fusion=1)
    assert flops(graph) == 3 * LAYER


def test_one_byte_floats_are_not_packed() -> None:
    kind = TensorProto.FLOAT8E4M3FN
    weights = [
        (kind, (EXPERTS, INNER, HIDDEN)),
        None,
        None,
        (kind, (EXPERTS, HIDDEN, INNER)),
    ]
    assert flops(experts("QMoE", weights, k=1, quant_type="fp8")) == 2 * LAYER


def test_experts_that_nobody_chose_are_not_read() -> None:
    stored = 2 * EXPERTS * INNER * HIDDEN * 4
    every = experts("MoE", [FIRST, None, SECOND], k=2)
    assert every.resident_bytes[every.op_index["op"]] == stored
    given = (TOKENS * HIDDEN + TOKENS * EXPERTS) * 4
    assert every.bytes_read[every.op_index["op"]] == given + stored  # 12 choices of 8 experts
    some = experts("MoE", [FIRST, None, SECOND], k=1)
    assert some.bytes_read[some.op_index["op"]] == given + stored * TOKENS / EXPERTS
