"""The graph of groups that published placers decide on which go from op to op.

A graph of many ops is cut into groups of units by METIS, so that an episode has some tens of steps;
of few units each is a group. Units that may run on other devices are never in one group. Groups
are numbered by the mean position of their ops, and edges point from the lower to the higher number
whichever way the bytes go, so that the graph has no circle though contracting may make some.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from graphs.kinds import Storage
from placement.partition import cut, unit_graph
from placement.problem import Problem
from simulator.event_engine.transfer_time import LinkPace, link_pace


@dataclass(frozen=True, eq=False)
class GroupGraph:
    """Groups in their order, and what they send to each other."""

    of_op: Int32[np.ndarray, " ops"]
    seconds: Float64[np.ndarray, "groups devices"]
    """Compute seconds of all members; where a group may not run, those of its slowest device."""
    allowed: Bool[np.ndarray, "groups devices"]
    output_bytes: Float64[np.ndarray, " groups"]
    """Bytes that other groups read."""
    edges: Int64[np.ndarray, "2 edges"]
    """The earlier and the later group of each pair that exchanges anything."""
    edge_bytes: Float64[np.ndarray, " edges"]
    """Bytes that go either way."""
    links: LinkPace
    span_seconds: float
    """What times are told relative to: the lower bound of the step time."""

    @property
    def count(self) -> int:
        return len(self.seconds)

    @property
    def device_count(self) -> int:
        return self.seconds.shape[1]

    @property
    def is_decided(self) -> bool:
        """Whether no group has more than one device to go to."""
        return bool((self.allowed.sum(axis=1) == 1).all())

    @property
    def fastest(self) -> Int64[np.ndarray, " groups"]:
        """The device that is fastest for all; where a group may not use it, its first allowed."""
        best = int(self.seconds.sum(axis=0).argmin())
        return np.where(self.allowed[:, best], best, self.allowed.argmax(axis=1))

    @cached_property
    def adjacency(self) -> Float64[np.ndarray, "groups groups"]:
        """Bytes from each group to each later one; at least one where there is an edge."""
        matrix = np.zeros((self.count, self.count))
        matrix[self.edges[0], self.edges[1]] = np.maximum(self.edge_bytes, 1.0)
        return matrix

    @cached_property
    def descends(self) -> Bool[np.ndarray, "groups groups"]:
        """Whether the second of two groups depends on the first, at once or through others."""
        reached = self.adjacency > 0
        for group in range(self.count - 1, -1, -1):
            following = np.flatnonzero(reached[group])
            reached[group] |= reached[following].any(axis=0)
        return reached


def group_graph(problem: Problem, most: int, seed: int) -> GroupGraph:
    """Contract a problem to groups.

    Args:
        problem: what is to be placed.
        most: about how many groups there are, if there are more units; somewhat more where
            units may run on different devices.
        seed: of METIS.

    Raises:
        InfeasibleError: a unit that no device may run.
    """
    cut_to = cut(unit_graph(problem), min(most, problem.unit_count), seed)
    _, kinds = np.unique(problem.unit_allowed, axis=0, return_inverse=True)
    _, of_unit = np.unique(np.stack([cut_to, kinds.ravel()]), axis=1, return_inverse=True)
    of_op = of_unit.ravel()[problem.unit_of]
    count = int(of_op.max()) + 1
    members = np.bincount(of_op, minlength=count)
    position = np.bincount(of_op, np.arange(len(of_op)), count) / members
    rank = np.empty(count, np.int32)
    rank[np.argsort(position, kind="stable")] = np.arange(count, dtype=np.int32)
    of_op = rank[of_op]
    allowed = np.zeros((count, problem.cluster.device_count), bool)
    allowed[of_op] = problem.unit_allowed[problem.unit_of]
    seconds = np.zeros(allowed.shape)
    np.add.at(seconds, of_op, np.where(np.isfinite(problem.seconds), problem.seconds, 0.0))
    slowest = np.where(allowed, seconds, 0.0).max(axis=1, keepdims=True)
    edges, edge_bytes, output_bytes = _traffic(problem, of_op, count)
    return GroupGraph(
        of_op,
        np.where(allowed, seconds, slowest),
        allowed,
        output_bytes,
        edges,
        edge_bytes,
        link_pace(problem.cluster),
        max(float(problem.bounds.seconds), 1e-12),
    )


def _traffic(
    problem: Problem, of_op: Int32[np.ndarray, " ops"], count: int
) -> tuple[
    Int64[np.ndarray, "2 edges"], Float64[np.ndarray, " edges"], Float64[np.ndarray, " groups"]
]:
    """Edges with their bytes, and what each group sends; a tensor once to each group."""
    graph = problem.graph
    sources = of_op[graph.tensor_producers[graph.edge_tensors]].astype(np.int64)
    targets = of_op[graph.consumers].astype(np.int64)
    crosses = (sources != targets) & (graph.tensor_storage[graph.edge_tensors] != Storage.WEIGHT)
    tensors = graph.edge_tensors[crosses].astype(np.int64)
    _, first = np.unique(tensors * count + targets[crosses], return_index=True)
    sources, targets = sources[crosses][first], targets[crosses][first]
    sizes = graph.tensor_bytes[tensors[first]].astype(np.float64)
    keys, inverse = np.unique(
        np.minimum(sources, targets) * count + np.maximum(sources, targets), return_inverse=True
    )
    edge_bytes, output_bytes = np.zeros(len(keys)), np.zeros(count)
    np.add.at(edge_bytes, inverse.ravel(), sizes)
    np.add.at(output_bytes, sources, sizes)
    return np.stack([keys // count, keys % count]), edge_bytes, output_bytes
