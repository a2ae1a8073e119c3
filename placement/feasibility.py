"""Memory that no plan can do with: found by one look at the graph, before any search."""

import numpy as np
from jaxtyping import Int64

from graphs.kinds import Storage
from placement.problem import Problem
from simulator.units import format_bytes


def why_nothing_fits(problem: Problem) -> str | None:
    """One sentence where a single op or unit needs more memory than any device that may run it has,
    or everything together more than there is; None where a plan may fit.

    What passes may still be infeasible: the plan decides what is held at the same time.
    """
    graph, capacity = problem.graph, problem.cluster.memory_bytes
    shared = int(graph.tensor_bytes[_is_read_weight(problem)].sum())
    total, there = int(graph.resident_bytes.sum()) + shared, int(capacity.sum())
    if total > there:
        return (
            f"parameters and state take {format_bytes(total)}, the devices of "
            f"{problem.cluster.name} have {format_bytes(there)} together: no plan can fit; take "
            "more devices or larger ones, or a smaller data type"
        )
    resident = np.bincount(problem.unit_of, graph.resident_bytes, problem.unit_count)
    state = "the parameters and state of what must share a device with it"
    return _shortfall(problem, resident[problem.unit_of], state) or _shortfall(
        problem, _needed_bytes(problem), "its inputs, outputs, weights and workspace"
    )


def _shortfall(problem: Problem, needed: np.ndarray, what: str) -> str | None:
    allowed = problem.unit_allowed[problem.unit_of]
    largest = np.where(allowed, problem.cluster.memory_bytes, 0).max(axis=1)
    short = np.flatnonzero(needed > largest)
    if not short.size:
        return None
    op = int(short[np.argmax(needed[short] - largest[short])])
    return (
        f"no plan can fit: op {problem.graph.op_names[op]!r} ({problem.graph.op_types[op]}) "
        f"cannot run, for {what} take {format_bytes(float(needed[op]))} and the largest device "
        f"that may run it has {format_bytes(float(largest[op]))}; take a larger device, a smaller "
        "batch, or split the op in the model"
    )


def _is_read_weight(problem: Problem) -> np.ndarray:
    graph = problem.graph
    read = np.diff(graph.consumer_offsets) > 0
    return (graph.tensor_storage == Storage.WEIGHT) & read


def _needed_bytes(problem: Problem) -> Int64[np.ndarray, " ops"]:
    """What an op has on its device while it runs: its own, what it makes, and what it reads."""
    graph = problem.graph
    held = np.isin(graph.tensor_storage, (Storage.BUFFER, Storage.WEIGHT))
    sizes = np.where(held, graph.tensor_bytes, 0)
    made = np.where(graph.tensor_storage == Storage.BUFFER, graph.tensor_bytes, 0)
    needed = graph.resident_bytes + graph.workspace_bytes
    np.add.at(needed, graph.tensor_producers, made)
    np.add.at(needed, graph.consumers, sizes[graph.edge_tensors])
    return needed
