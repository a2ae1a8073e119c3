"""Replaces calls of TensorFlow functions by the functions' bodies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tensorflow.core.framework import node_def_pb2
from tensorflow.python.framework import op_def_registry

from graphs.errors import ModelError

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall", "TPUPartitionedCall"})
_MAX_DEPTH = 64
_MAX_NODES = 1_000_000


@dataclass(frozen=True)
class Library:
    """The functions of a graph, by name."""

    functions: Mapping[str, Any]
    origin: str

    def op_def(self, op_type: str) -> Any | None:
        """The signature of an op or function; None: not known here."""
        if op_type in self.functions:
            return self.functions[op_type].signature
        return registered_op(op_type)


@cache
def registered_op(op_type: str) -> Any | None:
    """The OpDef of an op type that TensorFlow knows, or None."""
    return op_def_registry.get(op_type)


@dataclass
class _Inlining:
    library: Library
    nodes: list[Any] = field(default_factory=list)
    results: dict[str, list[str]] = field(default_factory=dict)
    """Call name to the tensors that its outputs became."""
    effects: dict[str, list[str]] = field(default_factory=dict)
    """Call name to the nodes that must have run when the call has."""


def library_of(graph_def: Any, origin: str) -> Library:
    """The function library of a GraphDef."""
    return Library({f.signature.name: f for f in graph_def.library.function}, origin)


def reveal_variables(graph_def: Any, function_graph: Any) -> None:
    """Turn the placeholders by which a traced function captures variables into variables.

    Args:
        graph_def: the function's graph; its nodes are changed in place.
        function_graph: the `FuncGraph` that it was written from.
    """
    variables = {id(variable.handle): variable for variable in function_graph.variables}
    captured = {
        inner.op.name: variables[id(outer)]
        for outer, inner in function_graph.captures
        if id(outer) in variables
    }
    for node in graph_def.node:
        if node.name in captured and node.op == "Placeholder":
            variable = captured[node.name]
            node.op = "VarHandleOp"
            node.attr.clear()
            node.attr["dtype"].type = variable.dtype.as_datatype_enum
            node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())


def inline_calls(
    definitions: Sequence[Any], library: Library, fetches: Sequence[str]
) -> tuple[list[Any], list[str]]:
    """Inline every function call, also nested ones.

    Returns the NodeDefs and the fetches, renamed where they named a call; the nodes that a
    function runs for their effects are fetched as well.

    Raises:
        ModelError: a function calls itself, or grows without bounds.
    """
    if not any(_callee(node, library) for node in definitions):
        return list(definitions), list(fetches)
    work = _Inlining(library)
    for node in definitions:
        _expand(node, work, 0)
    for index, node in enumerate(work.nodes):
        if any(_target(text) in work.results for text in node.input):
            rewritten = _unique([new for text in node.input for new in _chase(text, work)])
            copied = node_def_pb2.NodeDef()  # the caller's GraphDef stays as it is
            copied.CopyFrom(node)
            del copied.input[:]
            copied.input.extend(rewritten)
            work.nodes[index] = copied
    wanted: list[str] = []
    for fetch in fetches:
        if fetch in work.results:
            wanted += [new for text in work.results[fetch] for new in _chase(text, work)]
        else:
            wanted += _chase(fetch, work)
    wanted += [new for names in work.effects.values() for t in names for new in _chase(t, work)]
    return work.nodes, list(dict.fromkeys(text.removeprefix("^") for text in wanted))


def body_of(function: Any, library: Library) -> tuple[list[Any], list[str]]:
    """A function as NodeDefs, its arguments as placeholders, and the names of its results.

    Raises:
        ModelError: the function refers to ops or tensors that do not exist.
    """
    arguments = [arg.name for arg in function.signature.input_arg]
    placeholders = []
    for arg in function.signature.input_arg:
        node = node_def_pb2.NodeDef(name=f"{arg.name}", op="Placeholder")
        node.attr["dtype"].type = arg.type
        placeholders.append(node)
    actual = {name: f"{name}:0" for name in arguments}
    nodes, results, effects = _instantiate(function, library, "", actual, {}, [])
    return [*placeholders, *nodes], [*results, *(text.removeprefix("^") for text in effects)]


def calls_nothing(node: Any, library: Library) -> bool:
    """Whether a node calls a function that the graph does not hold: what it does is hidden."""
    return node.op in _CALLS and node.attr["f"].func.name not in library.functions


def _callee(node: Any, library: Library) -> str | None:
    if node.op in _CALLS:
        return None if calls_nothing(node, library) else str(node.attr["f"].func.name)
    return node.op if node.op in library.functions else None


def _expand(node: Any, work: _Inlining, depth: int) -> None:
    name = _callee(node, work.library)
    if name is None:
        work.nodes.append(node)
        if len(work.nodes) > _MAX_NODES:
            raise ModelError(
                f"{work.library.origin}: more than {_MAX_NODES} nodes after inlining functions"
            )
        return
    function = work.library.functions[name]
    if depth >= _MAX_DEPTH:
        raise ModelError(
            f"{work.library.origin}: function {name!r} is nested more than {_MAX_DEPTH} deep; "
            "recursive functions cannot become a finite graph"
        )
    arguments = [arg.name for arg in function.signature.input_arg]
    data = [text for text in node.input if not text.startswith("^")]
    controls = [text for text in node.input if text.startswith("^")]
    if len(arguments) != len(data):
        raise ModelError(
            f"{work.library.origin}: node {node.name!r} passes {len(data)} tensors to function "
            f"{name!r}, which takes {len(arguments)}"
        )
    actual = dict(zip(arguments, data, strict=True))
    body, results, effects = _instantiate(
        function, work.library, f"{node.name}/", actual, node.attr, controls
    )
    work.results[node.name] = results
    work.effects[node.name] = effects
    for inner in body:
        _expand(inner, work, depth + 1)


def _instantiate(
    function: Any,
    library: Library,
    prefix: str,
    actual: Mapping[str, str],
    attributes: Mapping[str, Any],
    controls: Sequence[str],
) -> tuple[list[Any], list[str], list[str]]:
    """Copies of a function's nodes with graph-style inputs, its results and its effects."""
    outputs = _flat_outputs(function, library, prefix)
    names = {node.name for node in function.node_def}

    def resolve(text: str) -> str:
        if text.startswith("^"):
            inner = text[1:]
            return f"^{prefix}{inner}" if inner in names else f"^{_target(actual.get(inner, ''))}"
        tensor = actual.get(text) or outputs.get(text)
        if tensor is None:
            raise ModelError(
                f"{library.origin}: function {function.signature.name!r} uses tensor {text!r}, "
                "which nothing in it produces"
            )
        return tensor

    nodes = []
    for source in function.node_def:
        node = node_def_pb2.NodeDef()
        node.CopyFrom(source)
        node.name = prefix + source.name
        rooted = not any(_target(text).partition(":")[0] in names for text in source.input)
        inputs = [resolve(text) for text in source.input]
        del node.input[:]
        node.input.extend(_unique([*inputs, *controls] if rooted else inputs))
        _substitute(node, attributes, prefix, names)
        nodes.append(node)
    results = [resolve(function.ret[arg.name]) for arg in function.signature.output_arg]
    effects = [f"^{prefix}{function.control_ret[key]}" for key in function.control_ret]
    return nodes, results, effects


def _flat_outputs(function: Any, library: Library, prefix: str) -> dict[str, str]:
    """`node:output:index`, as functions write it, to `node:number`, as graphs do."""
    flat: dict[str, str] = {}
    for node in function.node_def:
        op_def = library.op_def(node.op)
        if op_def is None:
            raise ModelError(
                f"{library.origin}: function {function.signature.name!r} holds op {node.op!r}, "
                "which TensorFlow does not know; import the library that registers it first"
            )
        number = 0
        for arg in op_def.output_arg:
            count = 1
            if arg.number_attr:
                count = node.attr[arg.number_attr].i
            elif arg.type_list_attr:
                count = len(node.attr[arg.type_list_attr].list.type)
            if not 0 <= count <= _MAX_NODES:
                raise ModelError(f"{library.origin}: node {node.name!r} has {count} outputs")
            for index in range(count):
                flat[f"{node.name}:{arg.name}:{index}"] = f"{prefix}{node.name}:{number}"
                number += 1
    return flat


def _substitute(node: Any, attributes: Mapping[str, Any], prefix: str, names: set[str]) -> None:
    for key in list(node.attr):
        value = node.attr[key]
        if value.placeholder and value.placeholder in attributes:
            node.attr[key].CopyFrom(attributes[value.placeholder])
    if prefix and "_class" in node.attr:
        groups = node.attr["_class"].list.s
        for index, group in enumerate(groups):
            target = group.decode("utf-8", "replace").removeprefix("loc:@")
            if target in names:
                groups[index] = f"loc:@{prefix}{target}".encode()


def _target(text: str) -> str:
    name, colon, number = text.removeprefix("^").rpartition(":")
    return name if colon and number.isdecimal() else text.removeprefix("^")


def _chase(text: str, work: _Inlining, depth: int = 0) -> list[str]:
    """What a reference to a call's output or completion has become."""
    name = _target(text)
    if name not in work.results:
        return [text]
    if depth > _MAX_DEPTH * 8:
        raise ModelError(f"{work.library.origin}: call {name!r} takes its own result as an input")
    if text.startswith("^"):
        after = [f"^{_target(result)}" for result in work.results[name]] + work.effects[name]
        return [new for item in after for new in _chase(item, work, depth + 1)]
    number = 0 if name == text else int(text.rpartition(":")[2])
    results = work.results[name]
    if number >= len(results):
        raise ModelError(
            f"{work.library.origin}: {text!r} is used, but {name!r} has {len(results)} outputs"
        )
    return _chase(results[number], work, depth + 1)


def _unique(texts: Sequence[str]) -> list[str]:
    """Data inputs as they are, then control inputs once each, as TensorFlow wants them."""
    data = [text for text in texts if not text.startswith("^")]
    return data + list(dict.fromkeys(text for text in texts if text.startswith("^")))
