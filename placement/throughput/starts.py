"""Splits to begin from: orders of the units, cut where the largest load is least."""

import numpy as np
from jaxtyping import Int32

from placement.throughput.ideals import nodes_of
from placement.throughput.load_problem import LoadProblem
from placement.throughput.orders import cut_order, topological_order

_ORDERS = 5


def simple_splits(problem: LoadProblem, seed: int) -> list[Int32[np.ndarray, " units"]]:
    """Runs of several orders on the accelerators, and everything on the fastest device."""
    nodes = nodes_of(problem)
    found = []
    for number in range(_ORDERS):
        devices = cut_order(problem, nodes, topological_order(nodes, seed + number))
        if devices is not None:
            found.append(devices)
    totals = problem.arrays.seconds.sum(axis=0)
    found.append(np.full(problem.unit_count, int(totals.argmin()), np.int32))
    return found
