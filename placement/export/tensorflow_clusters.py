"""Makes each fusion group of a plan one XLA cluster: a function that must be compiled whole."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import function_pb2, node_def_pb2

from graphs.importers.tensorflow_models.functions import registered_op
from graphs.importers.tensorflow_models.nodes import split_input
from placement.export.request import ExportRequest
from simulator.fusion import kernel_roots
from simulator.plan import Plan

#: Constants up to this size go into the function, where XLA may need to know them.
_LARGEST_CONSTANT = 4096


def cluster_groups(graph_def: Any, request: ExportRequest) -> tuple[int, Plan]:
    """Replace each group by a call of a function marked `_XlaMustCompile`, in place.

    The call has the name of the group's root, the only op of it that others read, so that no
    reader changes. Groups with an op that keeps state, or that is not a node of the main graph,
    stay as they are. Returns the number of clusters, and the plan with these groups only.
    """
    graph = request.graph
    if not request.plan.is_fused:
        return 0, request.plan
    roots = kernel_roots(graph, request.plan.fusion)
    members: dict[int, list[int]] = {}
    for op in np.flatnonzero(request.plan.fusion >= 0).tolist():
        members.setdefault(int(roots[op]), []).append(op)
    with tf.Graph().as_default() as live:
        tf.graph_util.import_graph_def(graph_def, name="")
    nodes = {node.name: node for node in graph_def.node}
    replaced: dict[str, Any] = {}
    dropped: dict[str, str] = {}
    fusion = request.plan.fusion.copy()
    for root, ops in members.items():
        names = [graph.op_names[op] for op in ops]
        title = graph.op_names[root]
        if not all(name in nodes and _is_pure(nodes[name], live) for name in names):
            fusion[ops] = -1
            continue
        outline = _Outline(title, names, nodes, live)
        graph_def.library.function.append(outline.function)
        replaced[title] = outline.call
        dropped.update((name, title) for name in names if name != title)
    kept = []
    read_elsewhere = _read_elsewhere(nodes, dropped)
    for node in graph_def.node:
        if node.name in dropped and node.name not in read_elsewhere:
            continue
        node = replaced.get(node.name, node)
        _redirect_controls(node, dropped)
        kept.append(node)
    del graph_def.node[:]
    graph_def.node.extend(kept)
    return len(replaced), Plan.of(request.plan.devices, request.plan.priorities, fusion)


def _read_elsewhere(nodes: dict[str, Any], dropped: dict[str, str]) -> set[str]:
    """Members that nodes outside of the step read, which never run: they must stay to be valid."""
    reached: set[str] = set()
    waiting = [node for name, node in nodes.items() if name not in dropped]
    while waiting:
        node = waiting.pop()
        for text in node.input:
            source = split_input(text)[0]
            inside = dropped.get(source)
            if inside is None or source in reached or inside == node.name:
                continue
            reached.add(source)
            waiting.append(nodes[source])
    return reached


def _is_pure(node: Any, live: Any) -> bool:
    op_def = registered_op(node.op)
    if op_def is None or op_def.is_stateful or any(arg.is_ref for arg in op_def.input_arg):
        return False
    op = live.get_operation_by_name(node.name)
    plain = {tensor.dtype.base_dtype for tensor in (*op.inputs, *op.outputs)}
    return not plain & {tf.resource, tf.variant, tf.string}


class _Outline:
    """A function made of a group's nodes, and the call that takes their place."""

    def __init__(self, title: str, names: list[str], nodes: dict[str, Any], live: Any) -> None:
        self.inner = {name: f"op_{index}" for index, name in enumerate(names)}
        self.nodes = nodes
        self.live = live
        self.arguments: dict[str, str] = {}
        self.controls: dict[str, None] = {}
        self.constants: dict[str, str] = {}
        self.function = function_pb2.FunctionDef()
        self.function.signature.name = "fused_" + "".join(c if c.isalnum() else "_" for c in title)
        self.call = node_def_pb2.NodeDef(name=title, op="PartitionedCall")
        self.call.device = nodes[title].device
        for name in names:
            self._add(name)
        for source, inner in self.constants.items():
            copied = self._copy(source, inner)
            del copied.input[:]
        self._give(title)
        self.call.input.extend([*self.arguments, *self.controls])
        self.call.attr["Tin"].list.SetInParent()
        self.call.attr["f"].func.name = self.function.signature.name
        self.call.attr["_XlaMustCompile"].b = True
        self.function.attr["_XlaMustCompile"].b = True
        self.function.attr["_noinline"].b = True

    def _copy(self, name: str, inner: str) -> Any:
        node = self.function.node_def.add()
        node.CopyFrom(self.nodes[name])
        node.name, node.device = inner, ""
        if "_class" in node.attr:
            del node.attr["_class"]
        return node

    def _add(self, name: str) -> None:
        node = self._copy(name, self.inner[name])
        texts = [self._input(text) for text in node.input]
        del node.input[:]
        node.input.extend(text for text in texts if text)

    def _input(self, text: str) -> str:
        """What a member's input is called inside; empty where only the call waits for it."""
        if text.startswith("^"):
            if text[1:] in self.inner:
                return f"^{self.inner[text[1:]]}"
            self.controls[text] = None
            return ""
        source, number = split_input(text)
        if source in self.inner:
            return _flat_name(self.nodes[source], self.inner[source], number)
        if _is_small_constant(self.nodes[source]):
            known = self.constants.setdefault(source, f"constant_{len(self.constants)}")
            return f"{known}:output:0"
        key = f"{source}:{number}"
        if key not in self.arguments:
            self.arguments[key] = f"argument_{len(self.arguments)}"
            kind = self.live.get_tensor_by_name(key).dtype.base_dtype.as_datatype_enum
            self.function.signature.input_arg.add(name=self.arguments[key], type=kind)
            self.call.attr["Tin"].list.type.append(kind)
        return self.arguments[key]

    def _give(self, title: str) -> None:
        """The root's outputs are the function's."""
        for number, tensor in enumerate(self.live.get_operation_by_name(title).outputs):
            kind = tensor.dtype.base_dtype.as_datatype_enum
            name = f"result_{number}"
            self.function.signature.output_arg.add(name=name, type=kind)
            self.function.ret[name] = _flat_name(self.nodes[title], self.inner[title], number)
            self.call.attr["Tout"].list.type.append(kind)


def _is_small_constant(node: Any) -> bool:
    return node.op == "Const" and node.ByteSize() <= _LARGEST_CONSTANT


def _flat_name(node: Any, inner: str, number: int) -> str:
    """`node:output:index`, as functions write it, for output `number` of a node."""
    op_def = registered_op(node.op)
    for arg in op_def.output_arg if op_def is not None else ():
        count = 1
        if arg.number_attr:
            count = node.attr[arg.number_attr].i
        elif arg.type_list_attr:
            count = len(node.attr[arg.type_list_attr].list.type)
        if number < count:
            return f"{inner}:{arg.name}:{number}"
        number -= count
    raise AssertionError(f"unreachable: {node.name!r} was imported with that output")


def _redirect_controls(node: Any, dropped: dict[str, str]) -> None:
    if not any(text.startswith("^") and text[1:] in dropped for text in node.input):
        return
    data = [text for text in node.input if not text.startswith("^")]
    waits = [f"^{dropped.get(text[1:], text[1:])}" for text in node.input if text.startswith("^")]
    del node.input[:]
    node.input.extend([*data, *(t for t in dict.fromkeys(waits) if t != f"^{node.name}")])
