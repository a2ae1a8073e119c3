"""Variables that a traced function captures: placeholders of resources become variables again."""

from collections.abc import Mapping
from typing import Any

from tensorflow.core.framework import node_def_pb2, tensor_shape_pb2, types_pb2

from graphs.importers.tensorflow_models.nodes import TensorflowNode, parse_node, type_attribute
from graphs.importers.tensorflow_models.values import PASSES

_READS = frozenset({"ReadVariableOp"})
#: Ops that show a handle to be a variable's, and the input of which the variable has the shape.
_WRITES = {"AssignVariableOp": 1, "AssignAddVariableOp": 1, "AssignSubVariableOp": 1}


def reveal_captured(
    nodes: Mapping[str, TensorflowNode],
) -> tuple[dict[str, TensorflowNode], list[str]]:
    """Turn placeholders of resources that are read as variables into variables.

    Their shapes are what the file states (`_handle_shapes`, or `_output_shapes` of what reads
    them). Also returned: the names of variables whose shape nothing states.
    """
    handles = {
        node.name: node
        for node in nodes.values()
        if node.op_type in {"Placeholder", "_Arg"}
        and types_pb2.DT_RESOURCE
        in (type_attribute(node.definition, "dtype"), type_attribute(node.definition, "T"))
    }
    if not handles:
        return dict(nodes), []
    uses: dict[str, list[tuple[TensorflowNode, int]]] = {}
    root = {name: name for name in handles}
    grown = True
    while grown:
        grown = False
        for node in nodes.values():
            handed_on = node.op_type in PASSES and node.inputs and node.name not in root
            if handed_on and node.inputs[0][0] in root:
                root[node.name] = root[node.inputs[0][0]]
                grown = True
    for node in nodes.values():
        for position, (source, _) in enumerate(node.inputs):
            if source in root and node.op_type not in PASSES:
                uses.setdefault(root[source], []).append((node, position))
    result = dict(nodes)
    shapeless: list[str] = []
    for name, node in handles.items():
        dtype = next((_dtype(user) for user, _ in uses.get(name, ()) if _dtype(user)), 0)
        if not dtype:
            continue  # a table, an iterator: no variable
        shape = _stated(node, uses[name], nodes)
        if shape is None:
            shapeless.append(name)
        result[name] = parse_node(_variable(node, dtype, shape))
    return result, shapeless


def _dtype(user: TensorflowNode) -> int:
    """The element type of the variable that an op reads or changes; 0 for other ops."""
    if user.op_type.startswith(("ResourceApply", "ResourceSparseApply")):
        return type_attribute(user.definition, "T")
    plain = user.op_type in _READS or user.op_type in _WRITES
    if plain or user.op_type.startswith(("ResourceGather", "ResourceScatter")):
        return type_attribute(user.definition, "dtype")
    return 0


def _stated(
    handle: TensorflowNode,
    users: list[tuple[TensorflowNode, int]],
    nodes: Mapping[str, TensorflowNode],
) -> Any | None:
    candidates = []
    if "_handle_shapes" in handle.definition.attr:
        candidates += handle.definition.attr["_handle_shapes"].list.shape
    for user, _ in users:
        if user.op_type in _READS and "_output_shapes" in user.definition.attr:
            candidates += user.definition.attr["_output_shapes"].list.shape[:1]
        elif user.op_type in _WRITES:
            source, number = user.inputs[_WRITES[user.op_type]]
            attributes = nodes[source].definition.attr
            if "_output_shapes" in attributes:
                candidates += attributes["_output_shapes"].list.shape[number : number + 1]
    for shape in candidates:
        if not shape.unknown_rank and all(dim.size >= 0 for dim in shape.dim):
            return shape
    return None


def _variable(handle: TensorflowNode, dtype: int, shape: Any | None) -> Any:
    definition = node_def_pb2.NodeDef(name=handle.name, op="VarHandleOp")
    definition.attr["dtype"].type = dtype
    unknown = tensor_shape_pb2.TensorShapeProto(unknown_rank=True)
    definition.attr["shape"].shape.CopyFrom(unknown if shape is None else shape)
    definition.input.extend(f"^{name}" for name in handle.controls)
    return definition
