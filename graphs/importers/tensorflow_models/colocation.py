"""Which ops TensorFlow ties to one device: `loc:@` classes, references and resources."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphs.importers.groups import Groups
from graphs.importers.tensorflow_models.nodes import TensorflowNode


def colocation_keys(
    nodes: Sequence[TensorflowNode],
    is_resource: Callable[[str, int], bool],
    op_def: Callable[[str], Any | None],
) -> Mapping[str, str]:
    """Node name to a group key; nodes that stand alone are absent.

    Args:
        nodes: the graph, loops collapsed.
        is_resource: whether output `number` of node `name` is a resource handle.
        op_def: signature of an op type, to find inputs that are references.
    """
    groups = Groups()
    for node in nodes:
        for member in (node, *node.members):
            if "_class" in member.definition.attr:
                for label in member.definition.attr["_class"].list.s:
                    if label.startswith(b"loc:@"):
                        groups.join(label[5:].decode("utf-8", "replace"), node.name)
            if member is not node:
                groups.join(node.name, member.name)
        references = _reference_inputs(op_def(node.op_type))
        for position, (source, number) in enumerate(node.inputs):
            if position in references or is_resource(source, number):
                groups.join(source, node.name)
    return {node.name: groups.find(node.name) for node in nodes if node.name in groups}


def _reference_inputs(op_def: Any | None) -> frozenset[int]:
    """Positions of reference inputs; such ops take no lists before them."""
    if op_def is None:
        return frozenset()
    return frozenset(index for index, arg in enumerate(op_def.input_arg) if arg.is_ref)
