"""Decides which nodes of a TensorFlow graph one step runs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from graphs.errors import ModelError
from graphs.importers.tensorflow_models.nodes import TensorflowNode, sources, split_input

#: Attribute that marks a node of a GraphDef as a result of a step; TensorFlow ignores it.
FETCH_MARK = "_graphwright_fetch"

_APPLY = re.compile(r"^(Resource)?(Sparse)?Apply[A-Z]")
_TRAIN_OP = re.compile(r"(^|/)train(_op|_step|ing_op)?$", re.IGNORECASE)
_HOUSEKEEPING = re.compile(
    r"(^|/)(save|init|restore|report_uninitialized_variables)(_\d+)?/"
    r"|(^|/)(init|init_op|initializer|init_all_tables|restore_all)(_\d+)?$"
)
_INITIALIZERS = frozenset({"Assign", "AssignVariableOp"})
_NEVER_RESULTS = frozenset(
    {
        "Const", "VarHandleOp", "Variable", "VariableV2", "VarIsInitializedOp", "SaveV2", "Save",
        "IsVariableInitialized", "RestoreV2", "Restore", "MergeV2Checkpoints", "Placeholder",
        "PlaceholderWithDefault", "ShardedFilename", "HashTableV2", "Assert", "NoOp",
    }
)  # fmt: skip


def chosen_fetches(nodes: Mapping[str, TensorflowNode]) -> tuple[list[str], str]:
    """The nodes that a step fetches, guessed from the graph, and a sentence that says how.

    Marked nodes come before any guess. A training graph is recognised by its optimizer updates;
    any other graph is taken to end in its sinks, except those that initialise, save or restore
    variables.
    """
    marked = [node.name for node in nodes.values() if FETCH_MARK in node.definition.attr]
    if marked:
        return marked, f"Pruned to what the {len(marked)} marked results need."
    readers = _readers(nodes)
    updates = [node.name for node in nodes.values() if _APPLY.match(node.op_type)]
    if updates:
        after = _reachable(updates, readers)
        named = [name for name in after if _TRAIN_OP.search(name)]
        if named:
            return named, f"Pruned to what the train op {named[0]!r} needs."
        sinks = [
            name
            for name in after
            if not readers.get(name) and nodes[name].op_type != "ReadVariableOp"
        ]
        if sinks:
            return sinks, f"Pruned to what the optimizer's updates need ({len(sinks)} results)."
    fed = _fed_nodes(nodes)
    sinks = [
        node.name
        for node in nodes.values()
        if not readers.get(node.name) and not _is_housekeeping(node, nodes, fed)
    ]
    if sinks:
        return sinks, (
            f"Pruned to what the graph's {len(sinks)} results need; variable initialisation, "
            "saving and restoring are left out."
        )
    return list(nodes), "Nothing looks like a result: all nodes are kept."


def prune(
    nodes: Mapping[str, TensorflowNode], fetches: Sequence[str], origin: str
) -> dict[str, TensorflowNode]:
    """The nodes that the fetches (op or tensor names) depend on, in file order.

    Raises:
        ModelError: a fetch is not in the graph.
    """
    roots = []
    for fetch in fetches:
        name = fetch if fetch in nodes else split_input(fetch)[0]
        if name not in nodes:
            near = get_close_matches(name, nodes, n=3)
            hint = f"; near it: {', '.join(map(repr, near))}" if near else ""
            raise ModelError(f"{origin}: fetch {fetch!r} is not a node of the graph{hint}")
        roots.append(name)
    needed = set(_reachable(roots, {name: sources(node) for name, node in nodes.items()}))
    return {name: node for name, node in nodes.items() if name in needed}


def _is_housekeeping(
    node: TensorflowNode, nodes: Mapping[str, TensorflowNode], fed: set[str]
) -> bool:
    seen = set()
    while node.op_type == "NoOp":
        # A group is a result unless what it groups is housekeeping; one that groups itself, or
        # nothing, is none.
        seen.add(node.name)
        if _HOUSEKEEPING.search(node.name) or not node.controls or node.controls[0] in seen:
            return True
        node = nodes[node.controls[0]]
    if node.op_type in _NEVER_RESULTS or _HOUSEKEEPING.search(node.name):
        return True
    if node.op_type in _INITIALIZERS:
        return node.name not in fed
    # Reads of variables that nothing uses come with every variable.
    reads = node.op_type in {"ReadVariableOp", "Identity"}
    read = [nodes[source].op_type for source in sources(node)[:1]] if reads else []
    return bool(read) and read[0] in {"VarHandleOp", "Variable", "VariableV2"}


def _fed_nodes(nodes: Mapping[str, TensorflowNode]) -> set[str]:
    """Nodes that depend on an input of the model."""
    inputs = [
        node.name
        for node in nodes.values()
        if node.op_type.startswith("Placeholder") or node.op_type == "IteratorGetNext"
    ]
    return set(_reachable(inputs, _readers(nodes)))


def _readers(nodes: Mapping[str, TensorflowNode]) -> dict[str, list[str]]:
    readers: dict[str, list[str]] = {}
    for node in nodes.values():
        for source in sources(node):
            readers.setdefault(source, []).append(node.name)
    return readers


def _reachable(roots: Iterable[str], edges: Mapping[str, Sequence[str]]) -> dict[str, None]:
    """Everything reachable from the roots, roots included, in the order found."""
    needed = dict.fromkeys(roots)
    stack = list(needed)
    while stack:
        for name in edges.get(stack.pop(), ()):
            if name not in needed:
                needed[name] = None
                stack.append(name)
    return needed
