"""Sizes that TensorFlow does not infer: what the file says, what the data say, never weights."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphs import Graph, OpKind, Phase
from graphs.importers.tensorflow_models.graph import import_graph_def

tf1 = tf.compat.v1


def foreign(definition: Any, name: str, op_type: str = "VendorOp") -> Any:
    """Make a node one of a type that TensorFlow does not know."""
    node = next(node for node in definition.node if node.name == name)
    node.op = op_type
    return node


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    return tuple(int(size) for size in graph.output_shapes[graph.op_index[name]])


def _two_products() -> Any:
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (3, 64), "x")
        y = tf.tanh(x, name="custom")
        for name in ("first", "second"):
            y = tf.matmul(y, tf.constant(np.ones((64, 64), np.float32)), name=name)
    return live


def test_what_follows_an_unknown_op_is_as_large_as_its_data() -> None:
    definition = _two_products().as_graph_def()
    foreign(definition, "custom")
    graph = import_graph_def(definition, "custom", ["second"])
    for name in ("first", "second"):
        assert graph.flops[graph.op_index[name]] == 2 * 3 * 64 * 64
    assert graph.report.unknown_shapes == ("custom:0",)


def test_an_estimate_that_contradicts_its_readers_is_given_up() -> None:
    definition = _two_products().as_graph_def()
    del foreign(definition, "custom").input[:]
    narrow = definition.node.add(name="narrow", op="Placeholder")
    narrow.attr["dtype"].type = tf.float32.as_datatype_enum
    narrow.attr["shape"].shape.dim.add(size=7)
    next(node for node in definition.node if node.name == "custom").input.append("narrow")
    graph = import_graph_def(definition, "custom", ["second"])
    # A product of unknown rows: one, not as many as the weights have.
    assert graph.flops[graph.op_index["second"]] == 2 * 64 * 64
    assert graph.flops[graph.op_index["first"]] == 2 * 64 * 64


def test_weights_are_no_data_wherever_they_stand() -> None:
    definition = _two_products().as_graph_def()
    weights = next(node.input[1] for node in definition.node if node.name == "first")
    foreign(definition, "custom").input.insert(0, weights)
    graph = import_graph_def(definition, "custom", ["second"])
    assert _shape(graph, "custom") == (1, 1, 3, 64)


def test_an_estimate_that_contradicts_a_branch_is_given_up() -> None:
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (3, 64), "x")
        w = tf.constant(np.ones((64, 64), np.float32))
        y = tf.tanh(x, name="custom")
        chosen = tf1.placeholder(tf.bool, (), "chosen")
        z = tf1.cond(chosen, lambda: tf.matmul(y, w), lambda: tf.zeros((1, 64)))
        tf.identity(z, name="result")
    definition = live.as_graph_def()
    del foreign(definition, "custom").input[:]
    narrow = definition.node.add(name="narrow", op="Placeholder")
    narrow.attr["dtype"].type = tf.float32.as_datatype_enum
    narrow.attr["shape"].shape.dim.add(size=7)
    next(node for node in definition.node if node.name == "custom").input.append("narrow")
    graph = import_graph_def(definition, "branch", ["result"])
    (branch,) = np.flatnonzero(graph.kinds == OpKind.CONTROL_FLOW)
    assert graph.flops[branch] == 2 * 64 * 64


def test_shapes_that_the_file_states_are_read() -> None:
    definition = _two_products().as_graph_def(add_shapes=True)
    foreign(definition, "custom").ClearField("input")
    graph = import_graph_def(definition, "custom", ["second"])
    assert graph.flops[graph.op_index["second"]] == 2 * 3 * 64 * 64
    assert graph.report.unknown_shapes == ()


def test_stated_shapes_that_contradict_inference_are_noted() -> None:
    definition = _two_products().as_graph_def(add_shapes=True)
    node = next(node for node in definition.node if node.name == "first")
    node.attr["_output_shapes"].list.shape[0].dim[0].size = 5
    graph = import_graph_def(definition, "stated", ["second"])
    assert _shape(graph, "first") == (1, 1, 3, 64)
    assert any("_output_shapes" in note and "first:0" in note for note in graph.report.notes)
    clean = import_graph_def(_two_products().as_graph_def(add_shapes=True), "stated", ["second"])
    assert not any("_output_shapes" in note for note in clean.report.notes)


def test_sizes_of_a_bound_batch_contradict_nothing() -> None:
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (None, 4), "x")
        tf.tanh(x, name="y")
    definition = live.as_graph_def(add_shapes=True)
    graph = import_graph_def(definition, "bound", ["y"], {"batch": 7})
    assert _shape(graph, "y") == (1, 1, 7, 4)
    assert not any("_output_shapes" in note for note in graph.report.notes)


def test_a_search_finds_at_most_all_and_what_follows_is_as_large() -> None:
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (6, 5), "x")
        rows = tf.where(x[:, 0] > 0, name="found")
        picked = tf.gather_nd(x, rows, name="picked")
        tf.matmul(picked, tf.constant(np.ones((5, 40), np.float32)), name="product")
    graph = import_graph_def(live.as_graph_def(), "search", ["product"])
    assert graph.flops[graph.op_index["product"]] == 2 * 6 * 5 * 40
    assert graph.report.unknown_shapes == ("found:0",)


def test_a_slice_of_unknown_place_is_at_most_the_whole() -> None:
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (6, 5, 4), "x")
        starts = tf1.placeholder(tf.int32, (None,), "starts")
        begin = tf.concat([starts[:1], [0]], 0)
        tf.strided_slice(x, begin, tf.add(begin, [1, 3]), shrink_axis_mask=1, name="part")
        tf.tanh(live.get_tensor_by_name("part:0"), name="result")
    graph = import_graph_def(live.as_graph_def(), "slice", ["result"], {"batch": 2})
    assert _shape(graph, "result") == (1, 1, 5, 4)


def _train_step() -> Any:
    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones((3, 3, 2, 4)))
            self.dense = tf.Variable(tf.ones((4, 10)))

    model = Model()

    @tf.function
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            y = tf.reduce_mean(tf.nn.conv2d(x, model.kernel, 1, "SAME"), (1, 2))
            loss = tf.reduce_sum(tf.matmul(y, model.dense) ** 2.0)
        for variable, gradient in zip(
            (model.kernel, model.dense),
            tape.gradient(loss, (model.kernel, model.dense)),
            strict=True,
        ):
            variable.assign_sub(0.1 * gradient)
        return loss

    return step.get_concrete_function(tf.TensorSpec((None, 8, 8, 2))).graph


def test_a_traced_step_has_its_parameters_and_products() -> None:
    graph = import_graph_def(_train_step().as_graph_def(add_shapes=True), "step", dims={"batch": 5})
    assert graph.resident_bytes.sum() == 4 * (3 * 3 * 2 * 4 + 4 * 10)
    assert (graph.kinds == OpKind.VARIABLE).sum() == 2
    conv = 2 * 5 * 8 * 8 * 4 * 2 * 9
    assert graph.flops[graph.op_types.index("Conv2D")] == conv
    assert graph.flops[graph.op_types.index("Conv2DBackpropFilter")] == conv
    assert Phase.UPDATE in graph.phases
    variable = int(np.flatnonzero(graph.kinds == OpKind.VARIABLE)[0])
    tied = {
        graph.op_types[i] for i in np.flatnonzero(graph.colocation == graph.colocation[variable])
    }
    assert {"VarHandleOp", "ReadVariableOp", "AssignSubVariableOp"} <= tied


def test_variables_without_a_shape_are_named_with_what_to_do() -> None:
    graph = import_graph_def(_train_step().as_graph_def(), "step", dims={"batch": 5})
    (note,) = [note for note in graph.report.notes if "captured variables" in note]
    assert note.startswith("2 ")
    assert "add_shapes=True" in note
    assert any("ReadVariableOp" in name for name in graph.report.unknown_shapes)


@pytest.mark.parametrize("target", ["PyFunc"])
def test_an_op_of_unknown_rank_takes_its_data_for_a_shape(target: str) -> None:
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (3, 64), "x")
        y = tf1.py_func(lambda value: value, [x], tf.float32, name="host")
        tf.matmul(y, tf.constant(np.ones((64, 32), np.float32)), name="product")
    graph = import_graph_def(live.as_graph_def(), "host", ["product"])
    assert target in graph.op_types
    assert graph.flops[graph.op_index["product"]] == 2 * 3 * 64 * 32
