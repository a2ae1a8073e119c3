"""ONNX's `Gradient` op: one node that stands for a whole backward pass."""

from collections.abc import Sequence

from onnx import NodeProto

from graphs.costs.work import Work, repeated

DOMAIN = "ai.onnx.preview.training"

#: A backward pass multiplies by the weights and by the activations, where forward does once.
_BACKWARD_PER_FORWARD = 2


def is_gradient(node: NodeProto) -> bool:
    """Whether a node is the training domain's `Gradient`."""
    return node.op_type == "Gradient" and node.domain == DOMAIN


def differentiate(node: NodeProto) -> list[str]:
    """The tensor that a `Gradient` differentiates: it names it in an attribute, not an input."""
    return [item.s.decode("utf-8", "replace") for item in node.attribute if item.name == "y"]


def gradient_work(
    node: NodeProto, earlier: Sequence[tuple[Sequence[str], Sequence[str], Work]]
) -> Work:
    """Work of a `Gradient`: twice that of the ops between its variables and its target.

    Args:
        node: the `Gradient`.
        earlier: what each op before it reads and writes, and its work, in order.
    """
    variables = {
        name.decode("utf-8", "replace")
        for item in node.attribute
        if item.name == "xs"
        for name in item.strings
    }
    dependent = set(variables)
    passed: list[tuple[Sequence[str], Sequence[str], Work]] = []
    for reads, writes, work in earlier:
        if dependent.intersection(reads):
            dependent.update(writes)
            passed.append((reads, writes, work))
    wanted = set(differentiate(node))
    parts: list[Work] = []
    for reads, writes, work in reversed(passed):
        if wanted.intersection(writes):
            wanted.update(reads)
            parts.append(work)
    return repeated(parts, _BACKWARD_PER_FORWARD)
