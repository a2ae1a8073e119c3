"""A legal plan for any graph: contiguous blocks of ops, colocation groups kept whole."""

import numpy as np

from graphs import Graph
from simulator import Plan


def spread(graph: Graph, devices: int) -> Plan:
    """Ops in order over all devices; a group goes where its first member would."""
    placed = np.arange(graph.op_count) * devices // graph.op_count
    grouped = graph.colocation >= 0
    groups, first = np.unique(graph.colocation[grouped], return_index=True)
    homes = placed[grouped][first]
    placed[grouped] = homes[np.searchsorted(groups, graph.colocation[grouped])]
    return Plan.of(placed)
