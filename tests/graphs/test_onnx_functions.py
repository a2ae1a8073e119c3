"""A model's own functions: what calls itself, or doubles without end, is never inlined."""

from collections.abc import Sequence

import pytest
from onnx import ModelProto, TensorProto, helper

from graphs import ModelError
from graphs.importers.onnx_models.model import import_onnx_model


def calling(*callees: Sequence[str]) -> ModelProto:
    """A model that calls `F0`, of functions `F0`, `F1`... that call others one after another."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    functions = []
    for number, called in enumerate(callees):
        names = ["a", *(f"t{at}" for at in range(1, len(called))), "b"]
        body = [
            helper.make_node(
                callee, [names[at]], [names[at + 1]], domain="local" if "F" in callee else ""
            )
            for at, callee in enumerate(called)
        ]
        functions.append(helper.make_function("local", f"F{number}", ["a"], ["b"], body, opsets))
    graph = helper.make_graph(
        [helper.make_node("F0", ["x"], ["y"], domain="local")],
        "calls",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    return helper.make_model(graph, opset_imports=opsets, functions=functions)


@pytest.mark.parametrize("callees", [[("F0",)], [("F1",), ("Relu", "F2"), ("F0", "Relu")]])
def test_functions_that_call_themselves(callees: list[tuple[str, ...]]) -> None:
    with pytest.raises(ModelError, match="functions call themselves, such as 'F"):
        import_onnx_model(calling(*callees), {}, "recursive")


def test_functions_that_double_their_calls() -> None:
    doubling = [(f"F{number + 1}",) * 2 for number in range(20)]
    small = import_onnx_model(calling(*doubling[:3], ("Relu", "Relu")), {}, "small")
    assert small.op_types.count("Relu") == 16
    with pytest.raises(ModelError, match=r"inlined it has 2,097,152 nodes; at most 2,000,000"):
        import_onnx_model(calling(*doubling, ("Relu", "Relu")), {}, "large")
