"""Ops that hide what they do are counted, costed from their tensors, and said with what to do."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphs import Graph, OpKind
from graphs.costs.tensorflow_ops import OPAQUE_OPS
from graphs.importers.tensorflow_models.graph import import_graph_def

tf1 = tf.compat.v1


def _imported(definition: Any, fetch: str) -> Graph:
    return import_graph_def(definition, "opaque", [fetch])


def _small() -> Any:
    live = tf.Graph()
    with live.as_default():
        x = tf1.placeholder(tf.float32, (3, 64), "x")
        y = tf.tanh(x, name="hidden")
        tf.matmul(y, tf.constant(np.ones((64, 32), np.float32)), name="product")
    return live.as_graph_def()


@pytest.mark.parametrize("op_type", ["TRTEngineOp", "TPUExecute", "EagerPyFunc"])
def test_hidden_work_is_counted_and_explained(op_type: str) -> None:
    definition = _small()
    node = next(node for node in definition.node if node.name == "hidden")
    node.op = op_type
    del node.attr["T"]
    if op_type == "EagerPyFunc":
        node.attr["token"].s = b"token"
        for key in ("Tin", "Tout"):
            node.attr[key].list.type.append(1)
    elif op_type == "TPUExecute":
        for key in ("Targs", "Tresults"):
            node.attr[key].list.type.append(1)
        key_input = definition.node.add(name="key", op="Placeholder")
        key_input.attr["dtype"].type = tf.string.as_datatype_enum
        node.input.append("key")
    graph = _imported(definition, "product")
    assert graph.report.opaque_ops == {op_type: 1}
    assert graph.report.estimated_ops == {}
    assert any(OPAQUE_OPS[op_type] in note for note in graph.report.notes)
    hidden = graph.op_index["hidden"]
    assert graph.bytes_read[hidden] >= 3 * 64 * 4
    assert graph.bytes_written[hidden] == 3 * 64 * 4
    assert graph.flops[graph.op_index["product"]] == 2 * 3 * 64 * 32


def test_a_call_of_a_function_that_is_missing_is_opaque() -> None:
    definition = _small()
    call = next(node for node in definition.node if node.name == "hidden")
    call.op = "PartitionedCall"
    del call.attr["T"]
    call.attr["f"].func.name = "absent"
    call.attr["Tin"].list.type.append(1)
    call.attr["Tout"].list.type.append(1)
    graph = _imported(definition, "product")
    assert graph.report.opaque_ops == {"PartitionedCall": 1}
    assert graph.kinds[graph.op_index["hidden"]] == OpKind.CUSTOM
    assert any("does not hold" in note for note in graph.report.notes)
    assert graph.flops[graph.op_index["product"]] == 2 * 3 * 64 * 32


def test_a_whole_model_in_one_op_is_opaque() -> None:
    definition = _small()
    model = next(node for node in definition.node if node.name == "hidden")
    model.op = "XlaCallModule"
    del model.attr["T"]
    model.attr["version"].i = 9
    model.attr["module"].s = b"no artifact"
    model.attr["Sout"].list.shape.add().dim.add(size=3)
    model.attr["Sout"].list.shape[0].dim.add(size=64)
    for key in ("Tin", "Tout"):
        model.attr[key].list.type.append(1)
    graph = _imported(definition, "product")
    assert graph.report.opaque_ops == {"XlaCallModule": 1}
    assert tuple(graph.output_shapes[graph.op_index["hidden"]]) == (1, 1, 3, 64)
    assert any("native_serialization" in note for note in graph.report.notes)
