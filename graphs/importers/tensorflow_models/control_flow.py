"""Loops and branches: each becomes one op with the cost of its body.

Version-1 loops are frames of Enter, Merge, Switch, NextIteration and Exit nodes and go round;
collapsing a frame into one node makes the graph acyclic. Version-2 loops and branches are ops
that name functions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphs.costs.work import TensorSpec, Work, repeated
from graphs.errors import ModelError
from graphs.importers.tensorflow_models.functions import Library, body_of, inline_calls
from graphs.importers.tensorflow_models.nodes import (
    Endpoint,
    TensorflowNode,
    parse_nodes,
    sources,
    split_input,
)

LOOP_FRAME = "WhileFrame"
"""Op type given to a collapsed version-1 loop."""

_ENTER = frozenset({"Enter", "RefEnter"})
_EXIT = frozenset({"Exit", "RefExit"})
LOOPS = frozenset({"While", "StatelessWhile"})
_BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
COMPOSITE_OPS = LOOPS | _BRANCHES | {LOOP_FRAME}


@dataclass(frozen=True)
class Body:
    """A function that a control-flow op runs, as nodes."""

    name: str
    nodes: Mapping[str, TensorflowNode]
    arguments: tuple[str, ...]
    results: tuple[Endpoint, ...]


def collapse_frames(nodes: Mapping[str, TensorflowNode], origin: str) -> dict[str, TensorflowNode]:
    """Replace every outermost version-1 loop by one node.

    The new node stands where the loop's first node stood; its outputs are the members' tensors
    that something outside reads, in order.

    Raises:
        ModelError: an Exit without an Enter, or frames that overlap.
    """
    stacks = frame_stacks(nodes, origin)
    frame_of = {name: stack[0] for name, stack in stacks.items()}
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
                frames=tuple(stacks[member.name] for member in members[frame]),
            )
    return result


def frame_stacks(nodes: Mapping[str, TensorflowNode], origin: str) -> dict[str, tuple[str, ...]]:
    """Node name to the frames that it runs in, outermost first; others are absent.

    Raises:
        ModelError: an Exit without an Enter, or loops nested too deeply.
    """
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
    for node in nodes.values():
        if node.op_type in _EXIT and node.name not in stacks:
            raise ModelError(f"{origin}: {node.name!r} leaves a loop that nothing enters")
    return stacks


def _frame_name(enter: TensorflowNode) -> str:
    return enter.definition.attr["frame_name"].s.decode("utf-8", "replace") or enter.name


def _free_name(frame: str, nodes: Mapping[str, TensorflowNode]) -> str:
    name = frame
    while name in nodes:
        name += "/loop"
    return name


def bodies(node: TensorflowNode, library: Library) -> list[list[Body]]:
    """The functions of a version-2 loop or branch: alternatives, each a list of what runs.

    A loop has one, of its condition and its body.

    Args:
        node: an op of a type in `COMPOSITE_OPS`.
        library: the functions of the graph.

    Raises:
        ModelError: a function is missing or invalid.
    """
    names = function_names(node)
    if node.op_type in LOOPS:
        return [[_body(name, node, library) for name in names]]
    return [[_body(name, node, library)] for name in names]


def function_names(node: TensorflowNode) -> tuple[str, ...]:
    """The functions that a loop or a branch names: a loop's condition, then its body."""
    attributes = node.definition.attr
    if "branches" in attributes:
        return tuple(function.name for function in attributes["branches"].list.func)
    keys = ("cond", "body") if node.op_type in LOOPS else ("then_branch", "else_branch")
    return tuple(attributes[key].func.name for key in keys)


def _body(name: str, node: TensorflowNode, library: Library) -> Body:
    function = library.functions.get(name)
    if function is None:
        raise ModelError(
            f"{library.origin}: node {node.name!r} runs function {name!r}, which is not in the "
            "graph's library"
        )
    definitions, results = body_of(function, library)
    arguments = tuple(arg.name for arg in function.signature.input_arg)
    results = results[: len(function.signature.output_arg)]
    whole, _ = inline_calls(definitions, library, [])
    if len(whole) != len(definitions):
        results = [inline_calls(definitions, library, [text])[1][0] for text in results]
    returned = tuple(split_input(text) for text in results)
    return Body(name, parse_nodes(whole, library.origin), arguments, returned)


def passed_to(node: TensorflowNode, body: Body, origin: str) -> tuple[Endpoint, ...]:
    """The tensors that a control-flow op passes to a function; a branch's condition stays behind.

    Raises:
        ModelError: it passes fewer than the function takes.
    """
    endpoints = node.inputs[len(node.inputs) - len(body.arguments) :]
    if len(endpoints) != len(body.arguments):
        raise ModelError(
            f"{origin}: {node.name!r} passes {len(node.inputs)} tensors to a "
            f"function that takes {len(body.arguments)}"
        )
    return endpoints


def total_work(parts: Sequence[tuple[Work, Sequence[TensorSpec]]], trips: int) -> Work:
    """Work of a body that runs `trips` times; its largest op's results are scratch memory."""
    scratch = max(
        (w.workspace_bytes + sum(spec.bytes for spec in outputs) for w, outputs in parts),
        default=0,
    )
    return replace(repeated([work for work, _ in parts], trips), workspace_bytes=scratch)
