"""Nodes of a TensorFlow graph with parsed inputs, and the checks that every graph must pass."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.errors import ModelError

Endpoint = tuple[str, int]
"""A tensor: the name of its node and the number of the output."""


@dataclass(frozen=True, slots=True)
class TensorflowNode:
    """One op; `definition` is its NodeDef, for attributes."""

    name: str
    op_type: str
    inputs: tuple[Endpoint, ...]
    controls: tuple[str, ...]
    definition: Any
    members: tuple["TensorflowNode", ...] = field(default=())
    """The nodes of a loop that was collapsed into this one."""
    exits: tuple[Endpoint, ...] = field(default=())
    """For a collapsed loop: the members' tensors that became its outputs, in order."""
    frames: tuple[tuple[str, ...], ...] = field(default=())
    """For a collapsed loop: the frames that each member runs in, outermost first."""


def split_input(text: str) -> Endpoint:
    """`name:3` to `("name", 3)`, `name` to `("name", 0)`; control inputs are not endpoints."""
    name, colon, number = text.rpartition(":")
    if colon and number.isdecimal():
        return name, int(number)
    return text, 0


def parse_node(definition: Any) -> TensorflowNode:
    """A `TensorflowNode` from a NodeDef."""
    data: list[Endpoint] = []
    controls: list[str] = []
    for text in definition.input:
        if text.startswith("^"):
            controls.append(text[1:])
        else:
            data.append(split_input(text))
    return TensorflowNode(definition.name, definition.op, tuple(data), tuple(controls), definition)


def parse_nodes(definitions: Iterable[Any], origin: str) -> dict[str, TensorflowNode]:
    """Nodes by name, in file order.

    Raises:
        ModelError: no nodes, a nameless node, a repeated name, or an input that no node produces.
    """
    nodes: dict[str, TensorflowNode] = {}
    for definition in definitions:
        node = parse_node(definition)
        if not node.name or not node.op_type:
            raise ModelError(f"{origin}: node {node.name!r} has no name or no op; each needs both")
        if node.name in nodes:
            raise ModelError(f"{origin}: node name {node.name!r} occurs more than once")
        nodes[node.name] = node
    if not nodes:
        raise ModelError(f"{origin}: the graph has no nodes; a model needs at least one")
    for node in nodes.values():
        for source in (*(name for name, _ in node.inputs), *node.controls):
            if source not in nodes:
                raise ModelError(
                    f"{origin}: node {node.name!r} consumes {source!r}, which is not in the graph"
                )
    return nodes


def topological_order(nodes: Mapping[str, TensorflowNode], origin: str) -> list[TensorflowNode]:
    """Producers before consumers; a file that is already in order keeps its order.

    Raises:
        ModelError: the graph has a cycle; the message names a node on it.
    """
    order: list[TensorflowNode] = []
    state: dict[str, bool] = {}  # False: entered, True: done
    for root in nodes.values():
        if root.name in state:
            continue
        stack: list[tuple[TensorflowNode, bool]] = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                state[node.name] = True
                order.append(node)
                continue
            if node.name in state:
                if state[node.name]:
                    continue
                raise ModelError(
                    f"{origin}: a cycle through node {node.name!r}; only loops made of Enter, "
                    "Merge, Switch, NextIteration and Exit may go round"
                )
            state[node.name] = False
            stack.append((node, True))
            stack.extend(
                (nodes[source], False)
                for source in reversed(sources(node))
                if state.get(source) is not True
            )
    return order


def sources(node: TensorflowNode) -> Sequence[str]:
    """Names of the nodes that a node waits for."""
    return [*(name for name, _ in node.inputs), *node.controls]


def int_attribute(definition: Any, key: str, default: int = 0) -> int:
    """An integer attribute of a NodeDef, which is not changed where it has none."""
    return int(definition.attr[key].i) if key in definition.attr else default


def type_attribute(definition: Any, key: str) -> int:
    """TensorFlow's number of a type attribute; 0 where the NodeDef has none."""
    return int(definition.attr[key].type) if key in definition.attr else 0
