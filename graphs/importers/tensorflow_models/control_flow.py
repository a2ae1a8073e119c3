"""Loops and branches: each becomes one op with the cost of its body.

Version-1 loops are frames of Enter, Merge, Switch, NextIteration and Exit nodes and go round;
collapsing a frame into one node makes the graph acyclic. Version-2 loops and branches are ops
that name functions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphs.costs.work import TensorSpec, Work
from graphs.errors import ModelError
from graphs.importers.tensorflow_models.functions import Library, body_of
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode, parse_nodes, sources

LOOP_FRAME = "WhileFrame"
"""Op type given to a collapsed version-1 loop."""

_ENTER = frozenset({"Enter", "RefEnter"})
_EXIT = frozenset({"Exit", "RefExit"})
_LOOPS = frozenset({"While", "StatelessWhile"})
_BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
COMPOSITE_OPS = _LOOPS | _BRANCHES | {LOOP_FRAME}

_COUNTED = re.compile(r"^(Less|LessEqual)$")
_MAX_TRIPS = 1_000_000
_MAX_IDENTITIES = 8


@dataclass(frozen=True)
class Body:
    """A function that a control-flow op runs, as nodes."""

    nodes: Mapping[str, TensorflowNode]
    arguments: tuple[str, ...]
    trips: int
    """How often it runs; 1 where the number is decided at run time."""


def collapse_frames(nodes: Mapping[str, TensorflowNode], origin: str) -> dict[str, TensorflowNode]:
    """Replace every outermost version-1 loop by one node.

    The new node stands where the loop's first node stood; its outputs are the members' tensors
    that something outside reads, in order.

    Raises:
        ModelError: an Exit without an Enter, or frames that overlap.
    """
    frame_of = _frames(nodes, origin)
    if not frame_of:
        return dict(nodes)
    members: dict[str, list[TensorflowNode]] = {}
    for name, node in nodes.items():
        if name in frame_of:
            members.setdefault(frame_of[name], []).append(node)
    titles = {frame: _free_name(frame, nodes) for frame in members}
    exits: dict[str, dict[Endpoint, int]] = {frame: {} for frame in members}
    for node in nodes.values():
        for endpoint in node.inputs:
            frame = frame_of.get(endpoint[0])
            if frame is not None and frame_of.get(node.name) != frame:
                exits[frame].setdefault(endpoint, len(exits[frame]))

    def outside(node: TensorflowNode, own: str | None) -> TensorflowNode:
        inputs = []
        for endpoint in node.inputs:
            frame = frame_of.get(endpoint[0])
            if frame is None:
                inputs.append(endpoint)
            elif frame != own:
                inputs.append((titles[frame], exits[frame][endpoint]))
        controls = []
        for name in node.controls:
            frame = frame_of.get(name)
            if frame is None or frame != own:
                controls.append(name if frame is None else titles[frame])
        return replace(node, inputs=tuple(inputs), controls=tuple(dict.fromkeys(controls)))

    result: dict[str, TensorflowNode] = {}
    for name, node in nodes.items():
        frame = frame_of.get(name)
        if frame is None:
            result[name] = outside(node, None)
        elif titles[frame] not in result:
            inner = [outside(member, frame) for member in members[frame]]
            result[titles[frame]] = TensorflowNode(
                name=titles[frame],
                op_type=LOOP_FRAME,
                inputs=tuple(dict.fromkeys(e for member in inner for e in member.inputs)),
                controls=tuple(dict.fromkeys(c for member in inner for c in member.controls)),
                definition=members[frame][0].definition,
                members=tuple(members[frame]),
                exits=tuple(exits[frame]),
            )
    return result


def _frames(nodes: Mapping[str, TensorflowNode], origin: str) -> dict[str, str]:
    """Node name to the outermost frame that it runs in; nodes outside of loops are absent."""
    readers: dict[str, list[str]] = {}
    for node in nodes.values():
        for source in sources(node):
            readers.setdefault(source, []).append(node.name)
    stacks: dict[str, tuple[str, ...]] = {}
    work: list[str] = []
    waiting = [node for node in nodes.values() if node.op_type in _ENTER]
    if not waiting and not any(node.op_type in _EXIT for node in nodes.values()):
        return {}
    # Enter nodes inside of a loop are met again on the way, with a deeper stack.
    for enter in waiting:
        stacks[enter.name] = (_frame_name(enter),)
        work.append(enter.name)
    while work:
        name = work.pop()
        stack = stacks[name]
        node = nodes[name]
        after = stack[:-1] if node.op_type in _EXIT else stack
        if not after:
            continue
        for reader in readers.get(name, ()):
            target = nodes[reader]
            new = (*after, _frame_name(target)) if target.op_type in _ENTER else after
            if len(new) > 64:
                raise ModelError(f"{origin}: loops are nested more than 64 deep at {reader!r}")
            if len(new) > len(stacks.get(reader, ())):
                stacks[reader] = new
                work.append(reader)
    frames = {name: stack[0] for name, stack in stacks.items()}
    for node in nodes.values():
        if node.op_type in _EXIT and node.name not in frames:
            raise ModelError(f"{origin}: {node.name!r} leaves a loop that nothing enters")
    return frames


def _frame_name(enter: TensorflowNode) -> str:
    return enter.definition.attr["frame_name"].s.decode("utf-8", "replace") or enter.name


def _free_name(frame: str, nodes: Mapping[str, TensorflowNode]) -> str:
    name = frame
    while name in nodes:
        name += "/loop"
    return name


def bodies(
    node: TensorflowNode, library: Library, nodes: Mapping[str, TensorflowNode]
) -> list[list[Body]]:
    """The functions of a version-2 loop or branch: alternatives, each a list of what runs.

    Args:
        node: an op of a type in `COMPOSITE_OPS`.
        library: the functions of the graph.
        nodes: the graph that holds it, to count a loop's trips.

    Raises:
        ModelError: a function is missing or invalid.
    """
    attributes = node.definition.attr
    if node.op_type in _LOOPS:
        names = (attributes["cond"].func.name, attributes["body"].func.name)
        condition, body = (_body(name, node, library) for name in names)
        trips = _trips(node, condition, body, nodes)
        return [[replace(condition, trips=trips), replace(body, trips=trips)]]
    if "branches" in attributes:
        names = tuple(function.name for function in attributes["branches"].list.func)
    else:
        names = (attributes["then_branch"].func.name, attributes["else_branch"].func.name)
    return [[_body(name, node, library)] for name in names]


def _body(name: str, node: TensorflowNode, library: Library) -> Body:
    function = library.functions.get(name)
    if function is None:
        raise ModelError(
            f"{library.origin}: node {node.name!r} runs function {name!r}, which is not in the "
            "graph's library"
        )
    definitions, _ = body_of(function, library)
    arguments = tuple(arg.name for arg in function.signature.input_arg)
    return Body(parse_nodes(definitions, library.origin), arguments, 1)


def _trips(
    node: TensorflowNode, condition: Body, body: Body, outer: Mapping[str, TensorflowNode]
) -> int:
    """Trips of a loop that counts by ones from a constant to a constant; otherwise 1."""
    data = [name for name, _ in node.inputs]

    def value(nodes: Mapping[str, TensorflowNode], name: str) -> int | None:
        for _ in range(_MAX_IDENTITIES):
            if nodes[name].op_type != "Identity" or not nodes[name].inputs:
                break
            name = nodes[name].inputs[0][0]
        if name in condition.arguments:
            position = condition.arguments.index(name)
            return scalar(outer[data[position]]) if position < len(data) else None
        return scalar(nodes[name])

    if not any("Add" in inner.op_type for inner in body.nodes.values()):
        return 1
    counts = []
    for inner in condition.nodes.values():
        if _COUNTED.match(inner.op_type) and len(inner.inputs) == 2:
            start, limit = (value(condition.nodes, name) for name, _ in inner.inputs)
            if start is not None and limit is not None:
                counts.append(limit - start + (inner.op_type == "LessEqual"))
    return min(max(min(counts), 1), _MAX_TRIPS) if counts else 1


def scalar(node: TensorflowNode) -> int | None:
    """The value of an integer scalar constant."""
    if node.op_type != "Const":
        return None
    value = node.definition.attr["value"].tensor
    if value.tensor_shape.dim:
        return None
    for values in (value.int_val, value.int64_val):
        if len(values) == 1:
            return int(values[0])
    width = {3: 4, 9: 8}.get(value.dtype)
    if width == len(value.tensor_content):
        return int.from_bytes(value.tensor_content, "little", signed=True)
    return None


def total_work(parts: Sequence[tuple[Work, Sequence[TensorSpec]]], trips: int) -> Work:
    """Work of a body that runs `trips` times; its largest op's results are scratch memory."""
    return Work(
        trips * sum(work.flops for work, _ in parts),
        trips * sum(work.bytes_read for work, _ in parts),
        trips * sum(work.bytes_written for work, _ in parts),
        max(
            (w.workspace_bytes + sum(spec.bytes for spec in outputs) for w, outputs in parts),
            default=0,
        ),
    )
