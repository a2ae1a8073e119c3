"""Names a device for every node of a TensorFlow graph, inside of functions as well."""

from collections.abc import Iterable
from typing import Any

from tensorflow.core.framework import function_pb2

from graphs.importers.tensorflow_models.control_flow import collapse_frames
from graphs.importers.tensorflow_models.functions import Library, library_of
from graphs.importers.tensorflow_models.nodes import parse_nodes
from placement.export.request import ExportRequest

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_MAX_DEPTH = 64


def device_targets(request: ExportRequest) -> tuple[str, ...]:
    """TensorFlow's name of each device of the cluster: `/device:GPU:1` unless told otherwise."""
    return tuple(
        request.targets.get(
            device.name,
            f"/device:{'CPU' if request.is_cpu(index) else 'GPU'}:{request.kind_ordinal(index)}",
        )
        for index, device in enumerate(request.cluster.devices)
    )


def place_nodes(graph_def: Any, request: ExportRequest) -> int:
    """Set `node.device`, in place; returns the number of nodes placed.

    Nodes that are not part of the step (initialisers, savers) keep what they have: TensorFlow puts
    them where their variables are. A function that is called from several places with different
    plans is copied for each.
    """
    placing = _Placing(graph_def, request)
    nodes = parse_nodes(graph_def.node, str(request.model))
    placing.place(graph_def.node, "", _frame_members(nodes, placing.library), 0)
    known = {function.signature.name for function in graph_def.library.function}
    for name, function in placing.functions.items():
        if name not in known:
            graph_def.library.function.add().CopyFrom(function)
    for function in graph_def.library.function:
        if function.signature.name in placing.functions:
            function.CopyFrom(placing.functions[function.signature.name])
    return placing.count


def _frame_members(nodes: Any, library: Library) -> dict[str, str]:
    """Nodes of version-1 loops, and the op that their loop is."""
    collapsed = collapse_frames(nodes, library.origin)
    return {member.name: op.name for op in collapsed.values() for member in op.members}


class _Placing:
    """Walks calls as the importer inlines them, so that names agree."""

    def __init__(self, graph_def: Any, request: ExportRequest) -> None:
        self.library = library_of(graph_def, str(request.model))
        self.request = request
        self.targets = device_targets(request)
        self.index = request.graph.op_index
        self.devices = request.plan.devices.tolist()
        self.functions: dict[str, Any] = {}
        self.count = 0

    def place(self, nodes: Iterable[Any], prefix: str, frames: dict[str, str], depth: int) -> None:
        for node in nodes:
            name = prefix + frames.get(node.name, node.name)
            callee = str(node.attr["f"].func.name) if node.op in _CALLS else node.op
            if callee in self.library.functions and depth < _MAX_DEPTH:
                self._place_call(node, callee, name, depth)
            elif name in self.index:
                node.device = self.targets[self.devices[self.index[name]]]
                self.count += 1

    def _place_call(self, node: Any, callee: str, name: str, depth: int) -> None:
        placed = function_pb2.FunctionDef()
        placed.CopyFrom(self.library.functions[callee])
        before = self.count
        self.place(placed.node_def, f"{name}/", {}, depth + 1)
        if self.count == before:
            return  # nothing of it is part of the step
        title = self._title(callee, placed)
        placed.signature.name = title
        self.functions[title] = placed
        if node.op in _CALLS:
            node.attr["f"].func.name = title
        else:
            node.op = title

    def _title(self, callee: str, placed: Any) -> str:
        """The function's own name for its first plan, and for every call with the same."""
        title, number = callee, 0
        while title in self.functions or (number and title in self.library.functions):
            known = self.functions.get(title)
            if known is not None:
                placed.signature.name = title
                if known.SerializeToString(deterministic=True) == placed.SerializeToString(
                    deterministic=True
                ):
                    return title
            number += 1
            title = f"{callee}_placed_{number}"
        return title
