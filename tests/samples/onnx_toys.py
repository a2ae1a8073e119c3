"""Small ONNX models for tests, written in a line each."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphs.graph import Graph
from graphs.importers.onnx_models.model import import_onnx_model

node = helper.make_node
OPSET = 20


def tensor_info(name: str, shape: Any, elem_type: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A declared tensor."""
    return helper.make_tensor_value_info(name, elem_type, shape)


def toy_model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: list[str],
    weights: dict[str, np.ndarray] | None = None,
    **extra: Any,
) -> onnx.ModelProto:
    """A model of float inputs whose outputs declare no shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor_info(name, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", OPSET), *extra.pop("opsets", [])]
    ir_version = extra.pop("ir_version", 10)
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, **extra)


def imported(*args: Any, dims: dict[str, int] | None = None, **extra: Any) -> Graph:
    """The same as a graph."""
    return import_onnx_model(toy_model(*args, **extra), dims or {}, "toy")


def op_of(graph: Graph, name: str) -> int:
    """Index of an op."""
    return graph.op_index[name]


def shape_of(graph: Graph, name: str) -> list[int]:
    """Shape of an op's first output, padded to four sizes."""
    return graph.output_shapes[op_of(graph, name)].tolist()
