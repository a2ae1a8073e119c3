"""What the ONNX importer guesses of ops without rules, and what settles or contradicts it."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphs.importers.onnx_models.model import import_onnx_model
from graphs.importers.onnx_models.steps import onnx_steps

node = helper.make_node


def _model(
    nodes: list[onnx.NodeProto],
    value_info: list[onnx.ValueInfoProto] | None = None,
    weights: dict[str, Any] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [4, 8])],
        [onnx.ValueInfoProto(name="out")],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
        value_info=value_info or [],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


FOREIGN = node("Embed", ["x"], ["e"], "embed", domain="my")


def test_a_guess_counts_as_unknown() -> None:
    graph = import_onnx_model(_model([FOREIGN, node("Identity", ["e"], ["out"], "copy")]), {}, "m")
    assert "e" in graph.report.unknown_shapes


def test_a_reader_settles_the_type_of_a_foreign_op() -> None:
    """`Add` takes two tensors of one type, and its other operand is a float weight."""
    nodes = [FOREIGN, node("Relu", ["e"], ["r"], "relu"), node("Add", ["r", "b"], ["out"], "add")]
    model = _model(nodes, weights={"b": np.zeros(8, np.float32)})
    steps = onnx_steps(model, {}, "m", None)
    # Relu has no part in it: what follows from a settled type is settled too.
    assert steps.values["out"].elem_type == TensorProto.FLOAT
    direct = [FOREIGN, node("Add", ["e", "b"], ["s"], "add"), node("Relu", ["s"], ["out"], "relu")]
    steps = onnx_steps(_model(direct, weights={"b": np.zeros(8, np.float32)}), {}, "m", None)
    assert steps.values["e"].elem_type == TensorProto.FLOAT
    assert not steps.values["out"].guessed_type


def test_an_op_that_takes_one_type_only_settles_it() -> None:
    nodes = [FOREIGN, node("Not", ["e"], ["out"], "not")]
    steps = onnx_steps(_model(nodes), {}, "m", None)
    assert steps.values["e"].elem_type == TensorProto.BOOL


def test_a_type_that_no_reader_takes_is_reported() -> None:
    nodes = [FOREIGN, node("Softmax", ["e"], ["out"], "softmax")]
    graph = import_onnx_model(_model(nodes), {}, "m")
    assert any("'e'" in note and "softmax" in note for note in graph.report.notes)


def test_a_shape_that_no_reader_takes_is_reported() -> None:
    nodes = [FOREIGN, node("Cast", ["e"], ["c"], to=1), node("MatMul", ["c", "w"], ["out"], "fc")]
    model = _model(nodes, weights={"w": np.zeros((16, 3), np.float32)})
    graph = import_onnx_model(model, {}, "m")
    assert any("'fc'" in note and "assumed" in note for note in graph.report.notes)


def test_what_the_file_states_is_believed_over_a_guess() -> None:
    stated = helper.make_tensor_value_info("e", TensorProto.FLOAT, [4, 8, 16])
    nodes = [FOREIGN, node("Relu", ["e"], ["out"], "relu")]
    steps = onnx_steps(_model(nodes, [stated]), {}, "m", None)
    assert steps.values["out"].spec.shape == (4, 8, 16)
    assert steps.values["out"].elem_type == TensorProto.FLOAT
    assert not steps.context.unknown_shapes


def test_what_the_file_states_against_a_rule_is_reported() -> None:
    gelu = node("Gelu", ["c"], ["g"], "gelu", domain="com.microsoft")
    nodes = [node("Cast", ["x"], ["c"], to=1), gelu, node("Relu", ["g"], ["out"])]
    stated = helper.make_tensor_value_info("g", TensorProto.FLOAT, [4, 9])
    graph = import_onnx_model(_model(nodes, [stated]), {}, "m")
    assert any("'g'" in note and "[4, 9]" in note for note in graph.report.notes)


def test_a_whole_model_in_one_op_is_opaque() -> None:
    decoder = helper.make_graph(
        [node("Identity", ["i"], ["o"])],
        "decoder",
        [onnx.ValueInfoProto(name="i")],
        [onnx.ValueInfoProto(name="o")],
        [numpy_helper.from_array(np.zeros((8, 16), np.float32), "w")],
    )
    search = node("GreedySearch", ["x", "n"], ["out"], "search", domain="com.microsoft",
                  decoder=decoder, eos_token_id=1, pad_token_id=0)  # fmt: skip
    model = _model([search], weights={"n": np.array([20], np.int32)})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    graph = import_onnx_model(model, {}, "m")
    op = graph.op_index["search"]
    assert dict(graph.report.opaque_ops) == {"com.microsoft.GreedySearch": 1}
    assert graph.resident_bytes[op] == 8 * 16 * 4 + 4
    assert graph.tensor_bytes[graph.outputs_of(op)[0]] == 4 * 20 * 4
