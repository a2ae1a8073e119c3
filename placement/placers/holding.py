"""Ops that are held back so that a plan fits: what is made early need not be there early.

The engine starts whatever is ready, so that a device which waits for others fills with what it
will need much later. At the instant at which a device is over its capacity, the producers of what
lies there unused are held until the op that is running then has ended. Among others Checkmate (Jain
et al., MLSys 2020) and ROAM (arXiv 2310.19295) choose execution orders for the sake of memory; here
a device may stay idle for it.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int32

from placement.placer import Candidate
from placement.problem import Problem
from simulator.plan import Plan
from simulator.traces.trace import Trace

#: Holds that are tried at one instant, the largest buffers first.
_TRIED = 6
#: Holds that a plan may get.
_ROUNDS = 200
#: Simulations of one call: so many on a graph of a thousand ops, fewer on larger ones.
_EVALUATIONS, _FEWEST_EVALUATIONS, _EVALUATED_OPS = 400, 30, 400_000


def hold_back(problem: Problem, start: Candidate) -> Candidate:
    """Hold ops back for as long as the plan comes closer to fitting in memory.

    Returns:
        the plan with its holds, or `start` where none helps, or where it is fused.
    """
    if start.evaluation.feasible or start.plan.is_fused:
        return start
    left = int(np.clip(_EVALUATED_OPS / problem.graph.op_count, _FEWEST_EVALUATIONS, _EVALUATIONS))
    origin = f"repaired {start.origin.removeprefix('repaired ')}, held"
    best, refused = start, set[tuple[int, int]]()
    for _ in range(_ROUNDS):
        found = None
        trace = problem.simulator.trace(best.plan)
        for op, after in _suggestions(problem, trace, best.plan):
            if (op, after) in refused or left <= 0:
                continue
            left -= 1
            holds = _with_hold(best.plan, op, after)
            plan = replace(best.plan, holds=holds)
            item = Candidate(plan, problem.evaluate(plan), origin)
            if item.energy < best.energy:
                found = item
                break
            refused.add((op, after))
        if found is None:
            break
        best = found
        if best.evaluation.feasible:
            break
    return best


def _with_hold(plan: Plan, op: int, after: int) -> Int32[np.ndarray, " ops"]:
    holds = plan.holds.copy() if plan.is_held else np.full(len(plan.devices), -1, np.int32)
    holds[op] = after
    return holds


def _suggestions(problem: Problem, trace: Trace, plan: Plan) -> Iterator[tuple[int, int]]:
    """Ops, and what they might be held for: at the first instant at which a device is too full.

    Of two buffers that lie there together one may be made when the other is no longer needed: after
    its last reader, or after what runs at the instant.
    """
    failure = trace.evaluation.failure
    if failure is None or isinstance(failure, str) or failure.seconds is None:
        return
    graph, now = problem.graph, failure.seconds
    device = trace.cluster.device_index(failure.device)
    lying = np.flatnonzero(
        (trace.buffer_devices == device) & (trace.buffer_alloc <= now) & (now < trace.buffer_free)
    )
    largest = lying[np.argsort(-trace.buffer_bytes[lying], kind="stable")][:_TRIED]
    tensors = trace.buffer_tensors[largest].tolist()
    ends = [_last_reader(problem, trace, tensor, device) for tensor in tensors]
    running = np.flatnonzero((trace.start <= now) & (now < trace.end))
    waited = [*dict.fromkeys(ends), *running[np.argsort(-trace.end[running])][:_TRIED].tolist()]
    for tensor in tensors:
        producer = int(graph.tensor_producers[tensor])
        waiters = _waiters(problem, plan, producer)
        yield from ((producer, after) for after in waited if after >= 0 and not waiters[after])


def _last_reader(problem: Problem, trace: Trace, tensor: int, device: int) -> int:
    """The op on the device that reads a tensor last, or -1."""
    readers = problem.graph.consumers_of(tensor)
    readers = readers[trace.devices[readers] == device]
    return int(readers[np.argmax(trace.end[readers])]) if readers.size else -1


def _waiters(problem: Problem, plan: Plan, op: int) -> Bool[np.ndarray, " ops"]:
    """The ops that wait for one, over tensors or holds, and the op itself."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order

    graph = problem.graph
    held = np.flatnonzero(plan.holds >= 0)
    sources = np.concatenate([graph.tensor_producers[graph.edge_tensors], plan.holds[held]])
    targets = np.concatenate([graph.consumers, held])
    arcs = coo_array((np.ones(len(sources), np.int8), (sources, targets)), (graph.op_count,) * 2)
    order = breadth_first_order(arcs.tocsr(), op, return_predecessors=False)
    waiters = np.zeros(graph.op_count, bool)
    waiters[order] = True
    return waiters
