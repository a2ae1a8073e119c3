"""Makes a graph safe and cheap for TensorFlow to infer shapes on.

TensorFlow ends the process on some inconsistent graphs, so they are refused before; large
constants, loops and op types that it does not know are replaced by stand-ins of the same shape.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

from tensorflow.core.framework import graph_pb2, node_def_pb2, types_pb2

from graphs.costs.work import TensorSpec
from graphs.errors import ModelError
from graphs.importers.tensorflow_models.completion import Pin, pin_name
from graphs.importers.tensorflow_models.dimensions import Dimensions, input_shapes
from graphs.importers.tensorflow_models.functions import Library, calls_nothing
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode, split_input
from graphs.importers.tensorflow_models.parts import Part

_LARGE_CONSTANT_ELEMENTS = 1024
_MAX_OUTPUTS = 4096


def inferable_graph_def(
    nodes: Mapping[str, TensorflowNode],
    versions: Any,
    library: Library,
    dimensions: Dimensions,
    known: Mapping[str, TensorSpec],
    pins: Mapping[Endpoint, Pin],
    part: Part | None = None,
) -> Any:
    """A GraphDef whose nodes have the names and output shapes of `nodes`.

    Args:
        nodes: the graph; its NodeDefs are not changed.
        versions: the GraphDef's version record.
        library: functions that control-flow ops refer to.
        dimensions: sizes for open dimensions of the inputs; records what it is asked.
        known: specs of placeholders, by name.
        pins: shapes of tensors that inference does not find; their readers see them.
        part: which nodes are wanted; None: all.

    Raises:
        ModelError: a constant contradicts itself, or an op cannot be stood in for.
    """
    graph_def = graph_pb2.GraphDef()
    graph_def.versions.CopyFrom(versions)
    graph_def.library.function.extend(library.functions.values())
    output_counts = _output_counts(nodes)
    for node in nodes.values():
        if part is not None and node.name not in part.names:
            continue
        hidden = calls_nothing(node.definition, library)
        if hidden or library.op_def(node.op_type) is None:
            count = output_counts.get(node.name, 0)
            graph_def.node.append(_stand_in(node, count, library.origin))
            continue
        if node.op_type == "Const":
            _check_constant(node, library.origin)
            if _constant_elements(node) > _LARGE_CONSTANT_ELEMENTS:
                graph_def.node.append(_large_constant(node))
                continue
        target = graph_def.node.add()
        target.CopyFrom(node.definition)
        _adapt(target, node, nodes, dimensions, known)
    if part is not None:
        _cut(graph_def, part)
        pins = {endpoint: pin for endpoint, pin in pins.items() if endpoint[0] in part.names}
    _pin(graph_def, pins)
    return graph_def


def _cut(graph_def: Any, part: Part) -> None:
    """Put placeholders where a part reads what is not part of it."""
    for target in graph_def.node:
        texts = []
        for text in target.input:
            endpoint = split_input(text)
            if text.startswith("^"):
                if text[1:] in part.names:
                    texts.append(text)
            else:
                texts.append(pin_name(endpoint) if endpoint in part.borders else text)
        if texts != list(target.input):
            del target.input[:]
            target.input.extend(texts)
    for endpoint, border in part.borders.items():
        given = graph_def.node.add(name=pin_name(endpoint), op="Placeholder")
        given.attr["dtype"].type = border.dtype_enum
        _give_shape(given, TensorSpec(border.shape))


def _pin(graph_def: Any, pins: Mapping[Endpoint, Pin]) -> None:
    """Put an op that states the shape between each pinned tensor and its readers."""
    for target in graph_def.node:
        for index, text in enumerate(target.input):
            endpoint = split_input(text)
            if not text.startswith("^") and endpoint in pins:
                target.input[index] = pin_name(endpoint)
    for endpoint, pin in pins.items():
        stated = graph_def.node.add(name=pin_name(endpoint), op="EnsureShape")
        stated.input.append(f"{endpoint[0]}:{endpoint[1]}")
        stated.attr["T"].type = pin.dtype_enum
        shape = stated.attr["shape"].shape
        shape.SetInParent()
        for size in pin.shape:
            shape.dim.add(size=size)


def _adapt(
    target: Any,
    node: TensorflowNode,
    nodes: Mapping[str, TensorflowNode],
    dimensions: Dimensions,
    known: Mapping[str, TensorSpec],
) -> None:
    target.name = node.name
    target.device = ""
    for key in [key for key in target.attr if key.startswith("_")]:
        del target.attr[key]
    if node.name in known:
        _give_shape(target, known[node.name])
    elif node.op_type == "Enter":
        target.op = "Identity"  # has the same shape, which Enter's own inference forgets
        for key in [key for key in target.attr if key != "T"]:
            del target.attr[key]
    elif node.op_type == "Merge":
        _open_loop(target, node, nodes)
    else:
        for dims in input_shapes(TensorflowNode(node.name, node.op_type, (), (), target)):
            for axis, dim in enumerate(dims):
                if dim.size < 0:
                    dim.size = dimensions.size(node.name, axis, len(dims))


def _give_shape(target: Any, spec: TensorSpec) -> None:
    shape = target.attr["shape"].shape
    shape.Clear()
    shape.SetInParent()
    for size in spec.shape:
        shape.dim.add(size=size)


def _open_loop(target: Any, node: TensorflowNode, nodes: Mapping[str, TensorflowNode]) -> None:
    """Leave out what comes round: a loop's variables keep the shapes with which they enter.

    TensorFlow's inference would give up where the loop closes.
    """
    kept = {name for name, _ in node.inputs if nodes[name].op_type != "NextIteration"}
    texts = [text for text in node.definition.input if text.partition(":")[0] in kept]
    if texts and len(texts) < len(node.inputs):
        del target.input[:]
        target.input.extend(texts)
        target.attr["N"].i = len(texts)


def _constant_elements(node: TensorflowNode) -> int:
    return prod(dim.size for dim in node.definition.attr["value"].tensor.tensor_shape.dim)


def _check_constant(node: TensorflowNode, origin: str) -> None:
    attributes = node.definition.attr
    value = attributes["value"].tensor
    sizes = [dim.size for dim in value.tensor_shape.dim]
    if any(size < 0 for size in sizes) or prod(sizes) > 1 << 48 or value.tensor_shape.unknown_rank:
        raise ModelError(f"{origin}: constant {node.name!r} has an impossible shape {sizes}")
    if value.dtype != attributes["dtype"].type:
        raise ModelError(
            f"{origin}: constant {node.name!r} is declared as type {attributes['dtype'].type} but "
            f"holds type {value.dtype}; both must be the same"
        )


def _large_constant(node: TensorflowNode) -> Any:
    """A placeholder of the same shape: only small constants matter to shape inference."""
    value = node.definition.attr["value"].tensor
    placeholder = node_def_pb2.NodeDef(name=node.name, op="Placeholder")
    placeholder.attr["dtype"].type = value.dtype
    placeholder.attr["shape"].shape.CopyFrom(value.tensor_shape)
    placeholder.input.extend(f"^{name}" for name in node.controls)
    return placeholder


def _stand_in(node: TensorflowNode, output_count: int, origin: str) -> Any:
    """A registered op with as many outputs as the unknown one is seen to have."""
    if output_count > _MAX_OUTPUTS:
        raise ModelError(
            f"{origin}: node {node.name!r} of unknown type {node.op_type!r} would have "
            f"{output_count} outputs; at most {_MAX_OUTPUTS} are allowed"
        )
    attributes = node.definition.attr
    typed = next((attributes[key].type for key in ("T", "dtype", "Tout") if key in attributes), 0)
    types = [typed or types_pb2.DT_FLOAT] * output_count
    listed = list(attributes["Tout"].list.type) if "Tout" in attributes else []
    types = [*listed, *types[len(listed) :]]
    stand_in = node_def_pb2.NodeDef(name=node.name, op="PyFunc")
    stand_in.attr["token"].s = b"unknown op"
    stand_in.attr["Tin"].list.SetInParent()
    stand_in.attr["Tout"].list.type.extend(types)
    stand_in.input.extend(f"^{name}" for name in dict.fromkeys(s for s, _ in node.inputs))
    return stand_in


def _output_counts(nodes: Mapping[str, TensorflowNode]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in nodes.values():
        for source, number in node.inputs:
            counts[source] = max(counts.get(source, 1), number + 1)
    return counts
