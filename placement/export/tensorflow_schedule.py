"""Pins the order of a plan in a TensorFlow graph: a chain of control dependencies per device."""

import heapq
from typing import Any

import numpy as np

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


def pin_order(graph_def: Any, request: ExportRequest, plan: Plan) -> int:
    """Add control inputs, in place; returns their number.

    Ops follow each other as they start in the simulated step, so that no cycle can come of it.
    Ops without a kernel (constants, views, variables) stay free, and so do loops.

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
        last = None
        for name in (name for name in chain if name in nodes):
            if last is not None and _adds(nodes[name], last):
                nodes[name].input.append(f"^{last}")
                count += 1
            last = name
    return count


def start_order(request: ExportRequest, plan: Plan) -> list[list[str]]:
    """For each device the ops that take time, in the order in which the simulator starts them."""
    costs = request.costs or default_costs(request.graph, request.cluster)
    trace = Simulator(request.graph, request.cluster, costs).trace(plan)
    chains: list[list[str]] = [[] for _ in request.cluster.devices]
    for op in _linear_order(trace):
        if trace.end[op] > trace.start[op]:
            chains[int(trace.devices[op])].append(trace.graph.op_names[op])
    return chains


def _linear_order(trace: Trace) -> list[int]:
    """Ops by their start, but never before what they read.

    Simulated ops do not wait for constants, which TensorFlow lets wait for other ops.
    """
    graph = trace.graph
    waiting = np.diff(graph.input_offsets).tolist()
    ready = [(trace.start[op], op) for op in range(graph.op_count) if not waiting[op]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, op = heapq.heappop(ready)
        order.append(op)
        for tensor in graph.outputs_of(op):
            for reader in graph.consumers_of(tensor).tolist():
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready, (trace.start[reader], reader))
    return order


def _adds(node: Any, source: str) -> bool:
    """Whether a control input says something new, and may be: initialisers need variables alone."""
    if node.op in _UNORDERED:
        return False
    return f"^{source}" not in node.input and source not in (
        t.partition(":")[0] for t in node.input
    )
