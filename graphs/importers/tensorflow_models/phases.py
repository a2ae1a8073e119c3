"""Tells the forward pass, the backward pass and the update of a training step apart."""

import re
from collections.abc import Mapping, Sequence

from graphs.importers.tensorflow_models.nodes import TensorflowNode
from graphs.kinds import OpKind, Phase

_GRADIENT_SCOPE = re.compile(r"(^|/)(gradients|gradient_tape)(_\d+)?/")
_GRADIENT_TYPE = re.compile(r"(Grad(V\d|Grad)?|Backprop(Input|Filter)?(V\d)?|BackpropV\d)$")
_NOT_GRADIENTS = frozenset({"StopGradient", "PreventGradient"})
_STATE = frozenset({OpKind.VARIABLE, OpKind.CONSTANT, OpKind.INPUT})


def phases_of(nodes: Sequence[TensorflowNode], kinds: Mapping[str, OpKind]) -> dict[str, Phase]:
    """Phase of every node, from names, types and dataflow.

    An op belongs to the update if it changes variables or serves nothing else; to the backward
    pass if it lies in a gradient scope, is a gradient by type, or follows from one that is.

    Args:
        nodes: in topological order.
        kinds: kind of each node.
    """
    phases: dict[str, Phase] = {}
    scoped: set[str] = set()
    for node in nodes:
        if kinds[node.name] is OpKind.OPTIMIZER_UPDATE:
            phases[node.name] = Phase.UPDATE
        elif _GRADIENT_SCOPE.search(node.name) or _is_gradient(node.op_type):
            phases[node.name] = Phase.BACKWARD
            scoped.add(node.name)
        elif any(phases[source] is not Phase.FORWARD for source, _ in node.inputs):
            phases[node.name] = Phase.BACKWARD
        else:
            phases[node.name] = Phase.FORWARD
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for source in (*(name for name, _ in node.inputs), *node.controls):
            readers.setdefault(source, []).append(node.name)
    for node in reversed(nodes):
        name = node.name
        if name in scoped or phases[name] is Phase.UPDATE:
            continue
        served = readers.get(name)
        if served:
            only_updates = all(phases[reader] is Phase.UPDATE for reader in served)
        else:  # a train op that only groups updates
            only_updates = bool(node.controls) and all(
                phases[source] is Phase.UPDATE for source in node.controls
            )
        if only_updates and (kinds[name] not in _STATE or served):
            phases[name] = Phase.UPDATE
    return phases


def _is_gradient(op_type: str) -> bool:
    return op_type not in _NOT_GRADIENTS and _GRADIENT_TYPE.search(op_type) is not None
