"""Sequences of tensors in ONNX models: element by element, as large as all of them together."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as rt
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphs import Graph
from graphs.importers.onnx_models.model import import_onnx_model

node = helper.make_node


def _info(name: str, shape: Any, elem_type: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: list[str],
    weights: dict[str, Any] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [_info(name, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _graph(*args: Any) -> Graph:
    return import_onnx_model(_model(*args), {}, "toy")


def _bytes(graph: Graph, op: str) -> int:
    (tensor,) = graph.outputs_of(graph.op_index[op])
    return int(graph.tensor_bytes[tensor])


SPLITS = [
    pytest.param(None, {"axis": 0}, 1, id="singly"),
    pytest.param(None, {"axis": 0, "keepdims": 0}, 1, id="singly, without the axis"),
    pytest.param(2, {"axis": 0}, 2, id="in chunks"),
    pytest.param(4, {"axis": 0}, 4, id="in uneven chunks"),
    pytest.param([1, 3, 2], {"axis": 0}, 1, id="as stated"),
]


@pytest.mark.parametrize(("split", "attributes", "rows"), SPLITS)
def test_a_product_with_one_tensor_of_a_split(
    split: Any, attributes: dict[str, int], rows: int
) -> None:
    """Six rows are split; what is taken out is as large as onnxruntime makes it."""
    weights = {"w": np.zeros((8, 16), np.float32), "at": np.array(0)}
    names = ["x"]
    if split is not None:
        weights["split"] = np.array(split)
        names.append("split")
    nodes = [
        node("SplitToSequence", names, ["s"], "split", **attributes),
        node("SequenceAt", ["s", "at"], ["t"], "at"),
        node("Reshape", ["t", "flat"], ["r"], "view"),
        node("MatMul", ["r", "w"], ["y"], "fc"),
    ]
    weights["flat"] = np.array([-1, 8])
    model = _model(nodes, {"x": [6, 8]}, ["y"], weights)
    graph = import_onnx_model(model, {}, "toy")
    assert _bytes(graph, "split") == 6 * 8 * 4
    assert graph.flops[graph.op_index["fc"]] == 2 * rows * 8 * 16
    assert graph.report.unknown_shapes == ()
    got = rt.InferenceSession(model.SerializeToString()).run(
        None, {"x": np.zeros((6, 8), np.float32)}
    )
    assert got[0].nbytes == _bytes(graph, "fc")


def test_a_sequence_is_all_of_its_tensors() -> None:
    nodes = [
        node("SequenceConstruct", ["a", "b", "c"], ["s"], "make"),
        node("SequenceInsert", ["s", "a"], ["longer"], "insert"),
        node("SequenceErase", ["longer", "one"], ["shorter"], "erase"),
        node("ConcatFromSequence", ["shorter"], ["y"], "join", axis=0),
    ]
    inputs = {"a": [2, 4], "b": [3, 4], "c": [5, 4]}
    graph = _graph(nodes, inputs, ["y"], {"one": 1})
    rows = {op: _bytes(graph, op) // 16 for op in ("make", "insert", "erase", "join")}
    assert rows == {"make": 10, "insert": 12, "erase": 9, "join": 9}
    assert graph.bytes_written[graph.op_index["make"]] == 10 * 16
    assert graph.output_shapes[graph.op_index["join"]].tolist() == [1, 1, 9, 4]


def test_positions_that_are_open_take_the_largest() -> None:
    nodes = [
        node("SequenceConstruct", ["a", "b"], ["s"], "make"),
        node("SequenceAt", ["s", "i"], ["t"], "at"),
        node("Relu", ["t"], ["y"], "relu"),
    ]
    model = _model(nodes, {"a": [2, 4], "b": [3, 4]}, ["y"])
    model.graph.input.append(_info("i", [], TensorProto.INT64))
    graph = import_onnx_model(model, {}, "toy")
    assert graph.flops[graph.op_index["relu"]] == 12


def test_the_length_is_known_and_stacks_have_a_new_axis() -> None:
    nodes = [
        node("SplitToSequence", ["x"], ["s"], "split", axis=1, keepdims=0),
        node("SequenceLength", ["s"], ["n"], "length"),
        node("Expand", ["one", "n1"], ["e"], "expand"),
        node("Unsqueeze", ["n", "zero"], ["n1"], "shape"),
        node("ConcatFromSequence", ["s"], ["stack"], "stack", axis=1, new_axis=1),
    ]
    weights = {"one": np.ones(1, np.float32), "zero": np.array([0])}
    graph = _graph(nodes, {"x": [2, 7, 3]}, ["e", "stack"], weights)
    assert graph.output_shapes[graph.op_index["expand"]].tolist() == [1, 1, 1, 7]
    assert graph.output_shapes[graph.op_index["stack"]].tolist() == [1, 2, 7, 3]


def _mapped() -> onnx.GraphProto:
    return helper.make_graph(
        [node("MatMul", ["t", "w"], ["m"]), node("Relu", ["m"], ["r"])],
        "body",
        [onnx.ValueInfoProto(name="t")],
        [onnx.ValueInfoProto(name="r")],
    )


def test_a_map_runs_its_body_on_every_tensor() -> None:
    nodes = [
        node("SequenceConstruct", ["a", "b", "a"], ["s"], "make"),
        node("SequenceMap", ["s"], ["m"], "map", body=_mapped()),
        node("ConcatFromSequence", ["m"], ["y"], "join", axis=0),
    ]
    weights = {"w": np.zeros((4, 8), np.float32)}
    graph = _graph(nodes, {"a": [2, 4], "b": [3, 4]}, ["y"], weights)
    op = graph.op_index["map"]
    assert graph.flops[op] == 7 * (2 * 4 * 8 + 8)
    assert graph.launches[op] == 3 * 2
    assert _bytes(graph, "map") == 7 * 8 * 4
    assert graph.output_shapes[graph.op_index["join"]].tolist() == [1, 1, 7, 8]


def test_a_loop_that_collects_tensors() -> None:
    body = helper.make_graph(
        [
            node("Relu", ["x"], ["r"]),
            node("SequenceInsert", ["s", "r"], ["next"]),
            node("Identity", ["go"], ["again"]),
        ],
        "body",
        [_info("i", [], TensorProto.INT64), _info("go", [], TensorProto.BOOL),
         helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)],
        [onnx.ValueInfoProto(name=name) for name in ("again", "next")],
    )  # fmt: skip
    nodes = [
        node("SequenceEmpty", [], ["empty"], "empty"),
        node("Loop", ["n", "", "empty"], ["all"], "loop", body=body),
        node("ConcatFromSequence", ["all"], ["y"], "join", axis=0),
    ]
    graph = _graph(nodes, {"x": [2, 6]}, ["y"], {"n": 5})
    assert _bytes(graph, "loop") == 5 * 2 * 6 * 4
    assert graph.output_shapes[graph.op_index["join"]].tolist() == [1, 1, 10, 6]


def test_a_sequence_of_unknown_length_is_said() -> None:
    nodes = [
        node("SplitToSequence", ["x", "n"], ["s"], "split", axis=0),
        node("SequenceAt", ["s", "at"], ["y"], "at"),
    ]
    model = _model(nodes, {"x": [6, 8]}, ["y"], {"at": 0})
    model.graph.input.append(_info("n", [], TensorProto.INT64))
    graph = import_onnx_model(model, {}, "toy")
    assert any("Sequences of unknown length" in note for note in graph.report.notes)


def test_a_sequence_that_is_given_is_of_unknown_length() -> None:
    nodes = [node("SequenceAt", ["s", "at"], ["y"], "at")]
    model = _model(nodes, {}, ["y"], {"at": 0})
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2, 3]))
    graph = import_onnx_model(model, {}, "toy")
    assert graph.output_shapes[graph.op_index["at"]].tolist() == [1, 1, 2, 3]
    assert any("Sequences of unknown length" in note for note in graph.report.notes)
