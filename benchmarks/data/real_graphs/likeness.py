"""How alike two graphs are built, whatever their sizes: by the neighbourhoods of their ops."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from graphs.graph import Graph

#: How far a neighbourhood reaches, in tensors against their direction.
ROUNDS = 4
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def neighbourhoods(graph: Graph, rounds: int = ROUNDS) -> Mapping[int, float]:
    """The share of ops with each neighbourhood: the kinds and phases of an op, of its producers,
    of theirs, and so on; producers count as a set with repetitions.

    Args:
        graph: any graph.
        rounds: tensors from an op to the farthest that counts.
    """
    labels = _mixed(graph.kinds.astype(np.uint64) * np.uint64(8) + graph.phases.astype(np.uint64))
    producers, consumers = graph.tensor_producers[graph.edge_tensors], graph.consumers
    for _ in range(rounds):
        gathered = np.zeros(graph.op_count, np.uint64)
        np.add.at(gathered, consumers, _mixed(labels[producers]))
        labels = _mixed(labels * np.uint64(3) + gathered)
    counts = Counter(labels.tolist())
    return {label: count / graph.op_count for label, count in counts.items()}


def likeness(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """The share of ops whose neighbourhoods both graphs have equally often; 1 for copies."""
    return sum(min(share, other.get(label, 0.0)) for label, share in one.items())


def _mixed(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(31))) * _MULTIPLIER
        return (values ^ (values >> np.uint64(29))) * _MULTIPLIER
