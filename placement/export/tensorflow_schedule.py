"""Pins the order of a plan in a TensorFlow graph: a chain of control dependencies per device.

Ops that the plan holds back until another has ended get a control dependency on that one as well.
"""

import heapq
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32

from graphs.importers.tensorflow_models.control_flow import LOOP_FRAME
from placement.export.errors import ExportError
from placement.export.request import ExportRequest
from simulator.costs.registry import default_costs
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.traces.trace import Trace

_UNORDERED = frozenset(
    {"Placeholder", "Const", "NextIteration", "Merge", "VarHandleOp", "VariableV2", "Variable"}
)


@dataclass(frozen=True)
class PinnedOrder:
    """What became of a plan's order."""

    edges: int
    """Control inputs that were added."""
    held: int
    """Ops of the plan that wait for what it holds them for."""
    free: int
    """Ops that the plan holds back and the graph does not, as one of the two is no node that can
    wait: a loop, a step of a sum, a constant."""

    def sentence(self) -> str:
        words = f"{self.edges} control dependencies pin the order"
        if self.held:
            words += f"; {self.held} ops are held back by them"
        if self.free:
            words += f"; {self.free} more are not: one of the two is no node that can wait"
        return f"{words}."


def pin_order(graph_def: Any, request: ExportRequest, plan: Plan) -> PinnedOrder:
    """Add control inputs, in place.

    Ops follow each other as they start in the simulated step, and start after what they are held
    for, so that no cycle can come of it. Ops without a kernel (constants, views, variables) stay
    free, and so do loops.

    Args:
        graph_def: the graph, its fusion groups already made single nodes.
        request: what is exported.
        plan: the plan with those fusion groups only that are single nodes.

    Raises:
        ExportError: ops of the step lie inside of functions, where no edge can reach.
    """
    nodes = {node.name: node for node in graph_def.node}
    graph = request.graph
    inside = [
        name
        for op, name in enumerate(graph.op_names)
        if name not in nodes
        and plan.fusion[op] < 0
        and "/chain_" not in name
        and graph.op_types[op] != LOOP_FRAME
    ]
    if inside:
        raise ExportError(
            f"{request.model}: {len(inside)} ops of the step, such as {inside[0]!r}, "
            "lie inside of functions, which control dependencies cannot enter: freeze or inline "
            "the model first, or export without the schedule"
        )
    count = 0
    for chain in start_order(request, plan):
        present = [name for name in chain if name in nodes]
        for last, name in itertools.pairwise(present):
            count += _wait(nodes[name], last)
    held = free = 0
    for op in np.flatnonzero(plan.holds >= 0).tolist():
        name, source = graph.op_names[op], graph.op_names[plan.holds[op]]
        if name in nodes and source in nodes and nodes[name].op not in _UNORDERED:
            count += _wait(nodes[name], source)
            held += 1
        else:
            free += 1
    return PinnedOrder(count, held, free)


def start_order(request: ExportRequest, plan: Plan) -> list[list[str]]:
    """For each device the ops that take time, in the order in which the simulator starts them."""
    costs = request.costs or default_costs(request.graph, request.cluster)
    trace = Simulator(request.graph, request.cluster, costs).trace(plan)
    chains: list[list[str]] = [[] for _ in request.cluster.devices]
    for op in _linear_order(trace, plan.holds):
        if trace.end[op] > trace.start[op]:
            chains[int(trace.devices[op])].append(trace.graph.op_names[op])
    return chains


def _linear_order(trace: Trace, holds: Int32[np.ndarray, " _"]) -> list[int]:
    """Ops by their start, but never before what they read or are held for.

    Simulated ops do not wait for constants, which TensorFlow lets wait for other ops.
    """
    graph = trace.graph
    waiting = np.diff(graph.input_offsets).tolist()
    released: dict[int, list[int]] = {}
    for op in np.flatnonzero(holds >= 0).tolist():
        released.setdefault(int(holds[op]), []).append(op)
        waiting[op] += 1
    ready = [(trace.start[op], op) for op in range(graph.op_count) if not waiting[op]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, op = heapq.heappop(ready)
        order.append(op)
        read = [graph.consumers_of(tensor).tolist() for tensor in graph.outputs_of(op)]
        for later in (*itertools.chain.from_iterable(read), *released.get(op, ())):
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, (trace.start[later], later))
    return order


def _wait(node: Any, source: str) -> bool:
    """Let a node wait for another, unless it does or must not: initialisers need variables alone.

    Returns:
        whether a control input was added.
    """
    known = {text.removeprefix("^").partition(":")[0] for text in node.input}
    if node.op in _UNORDERED or source in known:
        return False
    node.input.append(f"^{source}")
    return True
