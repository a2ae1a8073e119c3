"""Control flow of ONNX models: what a branch, a loop, a scan and their bodies cost."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_toys import imported, node, op_of, tensor_info, toy_model

from graphs import Graph, OpKind
from graphs.importers.onnx_models.model import import_onnx_model


def _branches() -> tuple[onnx.GraphProto, onnx.GraphProto]:
    dear = helper.make_graph(
        [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["t"])],
        "dear", [], [onnx.ValueInfoProto(name="t")],
        [numpy_helper.from_array(np.zeros((1, 8), np.float32), "b")],
    )  # fmt: skip
    cheap = helper.make_graph(
        [node("Relu", ["x"], ["e"])], "cheap", [], [onnx.ValueInfoProto(name="e")]
    )
    return dear, cheap


def test_an_if_costs_its_dearer_branch_and_reads_what_it_captures() -> None:
    dear, cheap = _branches()
    nodes = [
        node("Greater", ["s", "s"], ["c"]),
        node("If", ["c"], ["y"], then_branch=cheap, else_branch=dear),
    ]
    weights = {"w": np.zeros((8, 8), np.float32)}
    graph = imported(nodes, {"x": [2, 8], "s": []}, ["y"], weights)
    op = op_of(graph, "y")
    assert graph.kinds[op] == OpKind.CONTROL_FLOW
    assert graph.flops[op] == 2 * 2 * 8 * 8 + 16
    assert graph.resident_bytes[op] == 256 + 32
    read = {graph.op_names[graph.tensor_producers[t]] for t in graph.inputs_of(op)}
    assert read == {"x", "c"}
    assert graph.report.composite_ops == {"If": 1}


def test_an_if_with_a_known_condition_costs_the_branch_taken() -> None:
    dear, cheap = _branches()
    nodes = [node("If", ["c"], ["y"], then_branch=cheap, else_branch=dear)]
    weights = {"w": np.zeros((8, 8), np.float32), "c": np.array(True)}
    graph = imported(nodes, {"x": [2, 8]}, ["y"], weights)
    assert graph.flops[op_of(graph, "y")] == 16


def _loop(trips: str) -> list[onnx.NodeProto]:
    body = helper.make_graph(
        [
            node("Add", ["state", "x"], ["next"]),
            node("Relu", ["next"], ["row"]),
            node("Identity", ["go"], ["again"]),
        ],
        "body",
        [tensor_info("i", [], TensorProto.INT64), tensor_info("go", [], TensorProto.BOOL),
         onnx.ValueInfoProto(name="state")],
        [onnx.ValueInfoProto(name=name) for name in ("again", "next", "row")],
    )  # fmt: skip
    return [node("Loop", [trips, "", "x"], ["last", "rows"], body=body)]


def test_a_loop_costs_its_trips() -> None:
    graph = imported(_loop("n"), {"x": [2, 6]}, ["last", "rows"], {"n": np.array(5)})
    op = op_of(graph, "last")
    assert graph.flops[op] == 5 * (12 + 12)
    assert graph.tensor_bytes[list(graph.outputs_of(op))].tolist() == [48, 5 * 48]
    model = toy_model(_loop("n"), {"x": [2, 6]}, ["last", "rows"])
    model.graph.input.append(tensor_info("n", [], TensorProto.INT64))
    graph = import_onnx_model(model, {}, "open loop")
    assert graph.flops[op_of(graph, "last")] == 24
    assert any("one trip" in note for note in graph.report.notes)


def test_a_scan_knows_its_trips_from_shapes() -> None:
    body = helper.make_graph(
        [node("Add", ["state", "slice"], ["next"]), node("Relu", ["next"], ["row"])],
        "body",
        [onnx.ValueInfoProto(name="state"), onnx.ValueInfoProto(name="slice")],
        [onnx.ValueInfoProto(name="next"), onnx.ValueInfoProto(name="row")],
    )
    nodes = [node("Scan", ["s", "x"], ["last", "rows"], body=body, num_scan_inputs=1)]
    graph = imported(nodes, {"s": [3], "x": [7, 3]}, ["last", "rows"])
    op = op_of(graph, "last")
    assert graph.flops[op] == 7 * 6
    assert graph.tensor_bytes[list(graph.outputs_of(op))].tolist() == [12, 7 * 12]
    assert graph.report.unknown_shapes == ()


def _recurrence(trips: int, *, scanned: bool) -> Graph:
    """`h = tanh(x[i] + h w)` as a scan or unrolled; the states are also stacked."""
    weights = {"w": np.zeros((16, 16), np.float32)}
    inputs = {"x": [trips, 4, 16], "start": [4, 16]}
    if scanned:
        body = helper.make_graph(
            [
                node("MatMul", ["h", "w"], ["hw"]),
                node("Add", ["xi", "hw"], ["sum"]),
                node("Tanh", ["sum"], ["next"]),
                node("Identity", ["next"], ["row"]),
            ],
            "body",
            [onnx.ValueInfoProto(name="h"), onnx.ValueInfoProto(name="xi")],
            [onnx.ValueInfoProto(name="next"), onnx.ValueInfoProto(name="row")],
        )
        nodes = [node("Scan", ["start", "x"], ["last", "rows"], body=body, num_scan_inputs=1)]
        return imported(nodes, inputs, ["last"], weights)
    nodes, state = [], "start"
    for i in range(trips):
        weights[f"i{i}"] = np.array(i)
        nodes += [
            node("Gather", ["x", f"i{i}"], [f"x{i}"], axis=0),
            node("MatMul", [state, "w"], [f"m{i}"]),
            node("Add", [f"x{i}", f"m{i}"], [f"s{i}"]),
            node("Tanh", [f"s{i}"], [f"h{i}"]),
        ]
        state = f"h{i}"
    return imported(nodes, inputs, [state], weights)


def test_a_scan_launches_what_the_unrolled_recurrence_does() -> None:
    scan, unrolled = _recurrence(50, scanned=True), _recurrence(50, scanned=False)
    kernels = int(unrolled.launches[unrolled.kinds != OpKind.INPUT].sum())
    assert scan.launches[op_of(scan, "last")] == 4 * 50
    assert kernels - 3 <= 4 * 50 <= kernels
    assert scan.flops.sum() == unrolled.flops.sum()


def test_a_loop_launches_its_body_once_per_trip() -> None:
    graph = imported(_loop("n"), {"x": [2, 6]}, ["last", "rows"], {"n": np.array(5)})
    assert graph.launches[op_of(graph, "last")] == 5 * 2  # the condition is the host's


def test_a_loop_within_a_loop_multiplies() -> None:
    inner = _loop("m")
    body = helper.make_graph(
        [*inner, node("Identity", ["go"], ["again"])],
        "outer",
        [tensor_info("j", [], TensorProto.INT64), tensor_info("go", [], TensorProto.BOOL),
         onnx.ValueInfoProto(name="x")],
        [onnx.ValueInfoProto(name=name) for name in ("again", "last")],
    )  # fmt: skip
    nodes = [node("Loop", ["n", "", "start"], ["end"], body=body)]
    weights = {"n": np.array(3), "m": np.array(5)}
    graph = imported(nodes, {"start": [2, 6]}, ["end"], weights)
    assert graph.launches[op_of(graph, "end")] == 3 * 5 * 2


def test_a_branch_launches_its_kernels() -> None:
    then = helper.make_graph(
        [node("Relu", ["x"], ["a"]), node("Exp", ["a"], ["b"]), node("Neg", ["b"], ["t"])],
        "then", [], [onnx.ValueInfoProto(name="t")],
    )  # fmt: skip
    other = helper.make_graph(
        [node("Identity", ["x"], ["e"])], "else", [], [onnx.ValueInfoProto(name="e")]
    )
    nodes = [node("If", ["flag"], ["y"], then_branch=then, else_branch=other)]
    model = toy_model(nodes, {"x": [4, 4]}, ["y"])
    model.graph.input.append(tensor_info("flag", [], TensorProto.BOOL))
    graph = import_onnx_model(model, {}, "m")
    assert graph.launches[op_of(graph, "y")] == 3


def test_a_function_launches_what_its_body_does() -> None:
    body = [node("Relu", ["a"], ["b"]), node("Exp", ["b"], ["c"])]
    function = helper.make_function("my", "Two", ["a"], ["c"], body, [helper.make_opsetid("", 20)])
    nodes = [helper.make_node("Two", ["x"], ["y"], domain="my")]
    model = toy_model(nodes, {"x": [4]}, ["y"], functions=[function])
    model.opset_import.append(helper.make_opsetid("my", 1))
    graph = import_onnx_model(model, {}, "m")
    assert int(graph.launches[graph.kinds != OpKind.INPUT].sum()) == 2


def _constant(name: str, *shape: int) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.zeros(shape, np.float32), name)
    return helper.make_node("Constant", [], [name], value=value)


def test_constants_inside_of_bodies_are_parameters() -> None:
    """Both branches hold weights of their own, as those of a voice detector for two rates."""
    branches = [
        helper.make_graph(
            [_constant(f"w{size}", 16, size), node("MatMul", ["x", f"w{size}"], [f"m{size}"]),
             node("ReduceSum", [f"m{size}"], [f"y{size}"])],
            f"branch{size}", [], [onnx.ValueInfoProto(name=f"y{size}")],
        )
        for size in (32, 64)
    ]  # fmt: skip
    nodes = [node("If", ["flag"], ["y"], then_branch=branches[0], else_branch=branches[1])]
    model = toy_model(nodes, {"x": [4, 16]}, ["y"])
    model.graph.input.append(tensor_info("flag", [], TensorProto.BOOL))
    graph = import_onnx_model(model, {}, "m")
    assert graph.resident_bytes[op_of(graph, "y")] == (32 + 64) * 16 * 4
    assert any("inside control-flow bodies" in note for note in graph.report.notes)


def test_weights_of_nested_bodies_count_once() -> None:
    inner = helper.make_graph(
        [_constant("w", 16, 16), node("MatMul", ["x", "w"], ["t"])],
        "inner", [], [onnx.ValueInfoProto(name="t")],
    )  # fmt: skip
    other = helper.make_graph(
        [node("Relu", ["x"], ["e"])], "other", [], [onnx.ValueInfoProto(name="e")]
    )
    body = helper.make_graph(
        [node("If", ["go"], ["next"], then_branch=inner, else_branch=other),
         node("Identity", ["go"], ["again"])],
        "outer",
        [tensor_info("i", [], TensorProto.INT64), tensor_info("go", [], TensorProto.BOOL),
         onnx.ValueInfoProto(name="x")],
        [onnx.ValueInfoProto(name=name) for name in ("again", "next")],
    )  # fmt: skip
    nodes = [node("Loop", ["n", "", "start"], ["end"], body=body)]
    graph = imported(nodes, {"start": [4, 16]}, ["end"], {"n": np.array(3)})
    assert graph.resident_bytes[op_of(graph, "end")] == 16 * 16 * 4 + 8
    assert any("1,024 bytes of weights" in note for note in graph.report.notes)


def test_weights_that_callers_may_replace_are_said() -> None:
    model = toy_model([node("MatMul", ["x", "w"], ["y"])], {"x": [4, 16], "w": [16, 16]}, ["y"],
                   {"w": np.zeros((16, 16), np.float32)})  # fmt: skip
    graph = import_onnx_model(model, {}, "m")
    assert graph.resident_bytes.sum() == 16 * 16 * 4
    assert any("1 weights are inputs too" in note for note in graph.report.notes)
    model.ir_version = 3
    assert not any("inputs too" in n for n in import_onnx_model(model, {}, "m").report.notes)
