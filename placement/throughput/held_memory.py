"""Memory that a split takes, by an estimate that adds up over units.

Counted are parameters and optimizer state once, each weight once on every device that reads it,
what the forward pass leaves for the backward pass once for every micro-batch that is begun, and
what a device has received once for every step that waits there. Above these there must be room for
the op with the largest inputs, outputs and workspace; what else is alive while a step is computed
is left out. The event engine's word decides in the end.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from graphs.kinds import Phase, Storage
from placement.problem import Problem
from placement.throughput.request import Throughput


@dataclass(frozen=True, eq=False)
class HeldMemory:
    """What is held where, in bytes."""

    unit_bytes: Float64[np.ndarray, " units"]
    """Held by the device of each unit; weights that no other unit reads are among it."""
    shared_weights: Int64[np.ndarray, " weights"]
    """Tensors of the graph that several units read."""
    copy_bytes: Float64[np.ndarray, " tensors"]
    """By tensor of the graph: held by each device that receives it."""
    reserve_bytes: float
    """What the largest op needs to run."""


def held_memory(problem: Problem, steps: int) -> HeldMemory:
    """The estimate.

    Args:
        steps: on the way on any device at once; with 0 activations do not count, as in the
            benchmark's semantics.
    """
    graph, unit_of = problem.graph, problem.unit_of
    count = problem.unit_count
    held = np.bincount(unit_of, graph.resident_bytes, count).astype(np.float64)
    edges = graph.edge_tensors
    weight_edges = np.flatnonzero(graph.tensor_storage[edges] == Storage.WEIGHT)
    pairs = np.unique(
        np.stack([edges[weight_edges], unit_of[graph.consumers[weight_edges]]]), axis=1
    )
    readers = np.bincount(pairs[0], minlength=graph.tensor_count)
    alone = readers[pairs[0]] == 1
    np.add.at(held, pairs[1][alone], graph.tensor_bytes[pairs[0][alone]])
    copies = np.zeros(graph.tensor_count)
    reserve = 0.0
    if steps:
        np.add.at(held, unit_of[graph.tensor_producers], steps * _saved_bytes(problem))
        counted = ~np.isin(
            graph.tensor_storage, (Storage.WEIGHT, Storage.CONTROL, Storage.UNCOUNTED)
        )
        copies = np.where(counted, steps * graph.tensor_bytes.astype(np.float64), 0.0)
        reserve = float(_running_bytes(problem).max(initial=0))
    return HeldMemory(held, np.flatnonzero(readers > 1), copies, reserve)


def most_steps_held(problem: Problem, request: Throughput) -> int:
    """Steps that a device holds something of: of micro-batches in 1F1B's order as many as stages,
    of requests the one that it computes and one that waits."""
    training = bool((problem.graph.phases == Phase.BACKWARD).any())
    most = problem.cluster.device_count if training else 2
    if training:
        most = min(most, request.micro_batches)
    return max(1, min(most, request.in_flight or most))


def _saved_bytes(problem: Problem) -> Int64[np.ndarray, " tensors"]:
    """What forward ops make that backward ops read."""
    graph = problem.graph
    edges = graph.edge_tensors
    kept = graph.tensor_storage[edges] == Storage.BUFFER
    kept &= graph.phases[graph.tensor_producers[edges]] == Phase.FORWARD
    kept &= graph.phases[graph.consumers] == Phase.BACKWARD
    saved = np.zeros(graph.tensor_count, np.int64)
    tensors = edges[kept]
    saved[tensors] = graph.tensor_bytes[tensors]
    return saved


def _running_bytes(problem: Problem) -> Int64[np.ndarray, " ops"]:
    """Inputs, outputs and workspace of each op."""
    graph = problem.graph
    sizes = np.where(graph.tensor_storage == Storage.BUFFER, graph.tensor_bytes, 0)
    needed = graph.workspace_bytes.copy()
    np.add.at(needed, graph.tensor_producers, sizes)
    np.add.at(needed, graph.consumers, sizes[graph.edge_tensors])
    return needed
