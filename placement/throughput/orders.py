"""Orders of a few nodes that keep what comes before, and the runs that they are cut into."""

from heapq import heapify, heappop, heappush

import numpy as np
from jaxtyping import Int32

from placement.throughput.ideals import Nodes, nodes_after
from placement.throughput.load_problem import LoadProblem


def topological_order(nodes: Nodes, seed: int) -> list[int]:
    """Nodes in an order that keeps `before`: depth first, as far as it goes, ties by the seed."""
    keys = np.random.default_rng(seed).random(nodes.count)
    after = nodes_after(nodes)
    missing = [mask.bit_count() for mask in nodes.before]
    ready = [(0, -keys[node], node) for node in range(nodes.count) if missing[node] == 0]
    heapify(ready)
    order: list[int] = []
    while ready:
        _, _, node = heappop(ready)
        order.append(node)
        for other in after[node]:
            missing[other] -= 1
            if missing[other] == 0:
                # Of what the last nodes have made ready, the latest comes first.
                heappush(ready, (-len(order), -keys[other], other))
    return order


def cut_order(
    problem: LoadProblem, nodes: Nodes, order: list[int]
) -> Int32[np.ndarray, " units"] | None:
    """Fill accelerators in turn up to the least limit on compute and memory that suffices."""
    p = problem.arrays
    accelerators = np.flatnonzero(problem.sends)
    if not accelerators.size:
        return None
    compute = np.bincount(nodes.node_of, p.seconds[:, accelerators[0]], nodes.count)[order]
    memory = np.bincount(nodes.node_of, p.memory_bytes, nodes.count)[order]
    capacity = p.capacity_bytes[accelerators[0]]
    if not np.isfinite(compute).all():
        return None
    low, high = float(compute.max()), float(compute.sum())
    found = None
    for _ in range(40):
        limit = (low + high) / 2
        stages = _filled(compute, memory, limit, float(capacity))
        if stages is not None and stages.max() < len(accelerators):
            found, high = stages, limit
        else:
            low = limit
    if found is None:
        stages = _filled(compute, memory, high, float(capacity))
        if stages is None or stages.max() >= len(accelerators):
            return None
        found = stages
    of_node = np.empty(nodes.count, np.int32)
    of_node[order] = accelerators[found]
    return of_node[nodes.node_of]


def _filled(
    compute: np.ndarray, memory: np.ndarray, limit: float, capacity: float
) -> np.ndarray | None:
    stage, busy, held = 0, 0.0, 0.0
    stages = np.empty(len(compute), np.int64)
    for at, (seconds, size) in enumerate(zip(compute.tolist(), memory.tolist(), strict=True)):
        if size > capacity:
            return None
        if busy + seconds > limit * (1 + 1e-12) or held + size > capacity:
            stage, busy, held = stage + 1, 0.0, 0.0
        busy, held = busy + seconds, held + size
        stages[at] = stage
    return stages
