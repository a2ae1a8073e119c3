"""What depends on constants alone is computed once, when a model is loaded: no op, a weight."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_toys import node, tensor_info, toy_model

from graphs import Graph, OpKind, Storage
from graphs.importers.onnx_models.model import import_onnx_model
from graphs.importers.onnx_models.steps import onnx_steps
from placement import place
from simulator import preset

SIZE = 256
BYTES = SIZE * SIZE * 4


def _model(*args: Any, ir_version: int = 10) -> onnx.ModelProto:
    contrib = [helper.make_opsetid("com.microsoft", 1)]
    return toy_model(*args, opsets=contrib, ir_version=ir_version)


def _graph(*args: Any, **options: Any) -> Graph:
    return import_onnx_model(_model(*args, **options), {}, "toy")


def _matrix(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def _layers(count: int, name: str) -> list[onnx.NodeProto]:
    """A chain of products with transposed weights, as torch exports linear layers."""
    nodes, source = [], "x"
    for index in range(count):
        nodes.append(node("Transpose", [name.format(index)], [f"t{index}"], f"transpose{index}"))
        nodes.append(node("MatMul", [source, f"t{index}"], [f"y{index}"], f"fc{index}"))
        source = f"y{index}"
    return nodes


def test_a_transposed_weight_is_a_weight() -> None:
    weights = {"w": _matrix(8, 32)}
    nodes = [node("Transpose", ["w"], ["t"]), node("MatMul", ["x", "t"], ["y"], "fc")]
    graph = _graph(nodes, {"x": [4, 32]}, ["y"], weights)
    assert graph.op_names == ("x", "fc")
    assert graph.resident_bytes[1] == 8 * 32 * 4
    assert dict(graph.report.folded_ops) == {"Transpose": 1}
    assert any("1 ops depend on constants alone" in note for note in graph.report.notes)


def test_the_result_is_what_is_held_not_its_source() -> None:
    weights = {"w": _matrix(8, 32).astype(np.float16)}
    nodes = [node("Cast", ["w"], ["f"], to=1), node("MatMul", ["x", "f"], ["y"], "fc")]
    graph = _graph(nodes, {"x": [4, 8]}, ["y"], weights)
    assert graph.resident_bytes.tolist() == [0, 8 * 32 * 4]


def test_a_source_that_is_read_otherwise_stays_too() -> None:
    """A tied embedding: the table is looked up, its transpose multiplies."""
    nodes = [
        node("Gather", ["w", "ids"], ["x"], "embed"),
        node("Transpose", ["w"], ["t"]),
        node("MatMul", ["x", "t"], ["y"], "head"),
    ]
    model = _model(nodes, {}, ["y"], {"w": _matrix(64, 8)})
    model.graph.input.append(tensor_info("ids", [5], TensorProto.INT64))
    graph = import_onnx_model(model, {}, "tied")
    held = dict(zip(graph.op_names, graph.resident_bytes.tolist(), strict=True))
    assert held == {"ids": 0, "embed": 64 * 8 * 4, "head": 64 * 8 * 4}


def test_a_folded_constant_of_several_readers_is_never_sent() -> None:
    nodes = [
        node("Transpose", ["w"], ["t"]),
        node("MatMul", ["x", "t"], ["a"]),
        node("MatMul", ["a", "t"], ["y"]),
    ]
    graph = _graph(nodes, {"x": [4, 32]}, ["y"], {"w": _matrix(32, 32)})
    held = graph.op_index["t"]
    assert graph.op_types[held] == "FoldedConstant"
    (tensor,) = graph.outputs_of(held)
    assert graph.tensor_storage[tensor] == Storage.WEIGHT
    assert graph.tensor_bytes[tensor] == 32 * 32 * 4


def test_copies_under_other_names_are_one_weight() -> None:
    nodes = [
        node("Identity", ["w"], ["copy"]),
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["a", "copy"], ["y"]),
    ]
    graph = _graph(nodes, {"x": [4, 32]}, ["y"], {"w": _matrix(32, 32)})
    assert graph.op_names.count("w") == 1
    shared = graph.tensor_bytes[graph.tensor_storage == Storage.WEIGHT]
    assert shared.tolist() == [32 * 32 * 4]


def test_chains_fold_and_small_values_still_steer_shapes() -> None:
    nodes = [
        node("Concat", ["a", "b"], ["ab"], axis=0),
        node("Mul", ["ab", "two"], ["target"]),
        node("Reshape", ["x", "target"], ["y"], "view"),
    ]
    weights = {"a": np.array([2]), "b": np.array([4]), "two": np.array([2])}
    graph = _graph(nodes, {"x": [4, 8]}, ["y"], weights)
    assert graph.op_names == ("x", "view")
    assert graph.output_shapes[1].tolist() == [1, 1, 4, 8]


@pytest.mark.parametrize(
    "kept",
    [
        node("RandomUniformLike", ["w"], ["t"], "kept"),
        node("Bernoulli", ["w"], ["t"], "kept"),
        node("Dropout", ["w", "ratio", "training"], ["t"], "kept"),
        node("DequantizeLinear", ["q", "ratio"], ["t"], "kept"),
        node("DequantizeLinear", ["q", "ratio"], ["t"], "kept", domain="com.microsoft"),
        node("Mystery", ["w"], ["t"], "kept", domain="com.microsoft"),
        node("BiasDropout", ["w", "w"], ["t"], "kept", domain="com.microsoft"),
    ],
    ids=lambda kept: f"{kept.domain}{kept.op_type}",
)
def test_what_is_random_unknown_or_packed_stays_an_op(kept: onnx.NodeProto) -> None:
    weights = {
        "w": _matrix(32, 32),
        "q": np.ones((32, 32), np.int8),
        "ratio": np.array(0.5, np.float32),
        "training": np.array(True),
    }
    graph = _graph([kept, node("MatMul", ["x", "t"], ["y"])], {"x": [4, 32]}, ["y"], weights)
    assert "kept" in graph.op_index
    assert graph.report.folded_ops == {}


def test_a_control_flow_op_stays_and_its_body_folds() -> None:
    """Each trip reads the transposed weight and none transposes it."""
    body = helper.make_graph(
        [
            node("Transpose", ["w"], ["t"]),
            node("MatMul", ["h", "t"], ["next"]),
            node("Identity", ["go"], ["again"]),
        ],
        "body",
        [tensor_info("i", [], TensorProto.INT64), tensor_info("go", [], TensorProto.BOOL),
         onnx.ValueInfoProto(name="h")],
        [onnx.ValueInfoProto(name=name) for name in ("again", "next")],
    )  # fmt: skip
    weights = {"w": _matrix(32, 32), "n": np.array(10)}
    nodes = [node("Loop", ["n", "", "x"], ["y"], "loop", body=body)]
    graph = _graph(nodes, {"x": [4, 32]}, ["y"], weights)
    loop = graph.op_index["loop"]
    assert graph.launches[loop] == 10
    assert graph.bytes_written[loop] == 10 * 4 * 32 * 4
    assert dict(graph.report.folded_ops) == {"Transpose": 1}


def test_an_output_is_always_computed() -> None:
    nodes = [node("Transpose", ["w"], ["t"], "kept"), node("MatMul", ["x", "t"], ["y"])]
    graph = _graph(nodes, {"x": [4, 32]}, ["y", "t"], {"w": _matrix(32, 32)})
    assert "kept" in graph.op_index


def test_values_are_never_needed() -> None:
    """Weights may be anywhere: their shapes are enough."""
    model = _model(_layers(2, "w{}"), {"x": [4, SIZE]}, ["y1"])
    for index in range(2):
        tensor = TensorProto(name=f"w{index}", data_type=1, dims=[SIZE, SIZE])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="absent.bin")
        model.graph.initializer.append(tensor)
    graph = import_onnx_model(model, {}, "absent")
    assert graph.op_names == ("x", "fc0", "fc1")
    assert graph.resident_bytes.tolist() == [0, BYTES, BYTES]


@pytest.mark.parametrize("name", ["w{}", "layers.{}.weight", "arg{}"])
def test_a_model_that_two_devices_just_hold(name: str) -> None:
    """Twelve layers, weights stored or handed in: no product may need its weight twice."""
    count = 12
    names = [name.format(index) for index in range(count)]
    stored = name == "w{}"
    weights = {n: _matrix(SIZE, SIZE) for n in names} if stored else {}
    inputs = {"x": ["batch", SIZE], **({} if stored else {n: [SIZE, SIZE] for n in names})}
    graph = import_onnx_model(
        _model(_layers(count, name), inputs, [f"y{count - 1}"], weights), {"batch": 4}, "chain"
    )
    assert graph.op_count == 1 + count
    assert graph.bytes_read.sum() + graph.bytes_written.sum() < 1.1 * count * BYTES
    # Six weights fit on each device, a seventh matrix of that size would not.
    cluster = preset("2xv100-pcie@1600KiB")
    result = place(graph, cluster, placer="portfolio")
    assert result.feasible
    assert result.trace.makespan_seconds > 0


def _parameters(inputs: dict[str, Any], nodes: list[onnx.NodeProto], output: str) -> frozenset[str]:
    dims = {"n": SIZE} if any("n" in shape for shape in inputs.values()) else {}
    return onnx_steps(_model(nodes, inputs, [output]), dims, "m", None).parameters


def test_parameters_are_known_by_name_or_by_use() -> None:
    fixed = [SIZE, SIZE]
    for name in ("layers.{}.weight", "model/layer{}/kernel:0", "onnx::MatMul_{}", "arg{}"):
        names = [name.format(index) for index in range(3)]
        inputs = {"x": ["n", SIZE], **dict.fromkeys(names, fixed)}
        assert _parameters(inputs, _layers(3, name), "y2") == set(names)


def test_data_is_never_taken_for_a_parameter() -> None:
    fixed = [SIZE, SIZE]
    compare = [node("Transpose", ["b"], ["t"]), node("MatMul", ["a", "t"], ["y"])]
    assert _parameters({"a": fixed, "b": fixed}, compare, "y") == set()
    # Of open size, read in another way as well, or small.
    assert _parameters({"x": [4, SIZE], "a0": ["n", SIZE], "a1": ["n", SIZE]},
                       _layers(2, "a{}"), "y1") == set()  # fmt: skip
    both = [*_layers(2, "a{}"), node("Relu", ["a1"], ["r"]), node("Add", ["y1", "r"], ["y"])]
    assert _parameters({"x": [SIZE, SIZE], "a0": fixed, "a1": fixed}, both, "y") == set()
    small = {"x": [4, 8], "a0": [8, 8], "a1": [8, 8]}
    assert _parameters(small, _layers(2, "a{}"), "y1") == set()


def test_a_model_with_weights_of_its_own_takes_its_inputs_for_data() -> None:
    nodes = [*_layers(2, "a{}"), node("MatMul", ["y1", "w"], ["y"])]
    inputs = {"x": [4, SIZE], "a0": [SIZE, SIZE], "a1": [SIZE, SIZE]}
    model = _model(nodes, inputs, ["y"], {"w": _matrix(SIZE, 4 * SIZE)})
    steps = onnx_steps(model, {}, "m", None)
    assert steps.parameters == set()
    assert not any("parameters" in note for note in steps.context.notes)


def test_parameters_that_a_step_trains_are_said_and_stay_inputs() -> None:
    update = [
        node("MatMul", ["x", "fc.weight"], ["y"]),
        node("Gemm", ["x", "fc2.weight"], ["z"]),
        node("Adagrad", ["lr", "t", "fc.weight", "g", "h"], ["new", "new_h"],
             domain="ai.onnx.preview.training"),
    ]  # fmt: skip
    fixed = [SIZE, SIZE]
    inputs = {"x": [4, SIZE], "fc.weight": fixed, "fc2.weight": fixed, "g": fixed, "h": fixed,
              "lr": []}  # fmt: skip
    model = _model(update, inputs, ["y", "z", "new"])
    model.graph.input.append(tensor_info("t", [], TensorProto.INT64))
    model.opset_import.append(helper.make_opsetid("ai.onnx.preview.training", 1))
    graph = import_onnx_model(model, {}, "training")
    assert "fc.weight" in graph.op_index
    assert graph.kinds[graph.op_index["fc.weight"]] == OpKind.INPUT
    assert any("2 inputs" in note and "trains" in note for note in graph.report.notes)
