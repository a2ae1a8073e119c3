"""What no placement's period can be shorter than."""

import numpy as np

from placement.throughput.load_problem import LoadProblem
from placement.throughput.request import Transfers
from simulator.bounds import lower_bounds

#: Sums of many costs differ in their last digits by the order of addition.
_ROUNDING = 1e-9


def period_bound(loads: LoadProblem, op_seconds_scale: np.ndarray) -> float:
    """The largest of three bounds over all placements, in seconds.

    All work spread perfectly over the devices within their memories; the largest unit on its
    fastest device; and, where parameters fit on no single device, the cheapest of all transfers,
    for some tensor of a connected graph must cross then. Replicated stages may be faster.

    Args:
        op_seconds_scale: how often each op runs in a step.
    """
    problem = loads.problem
    if (op_seconds_scale == 1.0).all():
        spread = problem.bounds.load_seconds
    else:
        seconds = problem.seconds * op_seconds_scale[:, None]
        spread = lower_bounds(problem.graph, problem.cluster, seconds).load_seconds
    largest = float(loads.arrays.seconds.min(axis=1).max(initial=0.0))
    if any(device.host is not None for device in problem.cluster.devices):
        largest = 0.0  # loads of cores have estimates in them
    return max(spread, largest * (1 - _ROUNDING), _cheapest_cut(loads) * (1 - _ROUNDING))


def _cheapest_cut(loads: LoadProblem) -> float:
    """The cheapest transfer where one cannot be avoided; or 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    p, problem = loads.arrays, loads.problem
    resident = problem.graph.resident_bytes.sum()
    if resident <= problem.cluster.memory_bytes.max() or not p.makers.size:
        return 0.0
    sources = np.repeat(p.makers, np.diff(p.reader_offsets))
    arcs = coo_array(
        (np.ones(len(sources), np.int8), (sources, p.readers)), (loads.unit_count,) * 2
    )
    holding = np.bincount(problem.unit_of, problem.graph.resident_bytes, loads.unit_count) > 0
    _, piece = connected_components(arcs, directed=False)
    if np.unique(piece[holding]).size != 1:
        return 0.0
    touching = np.flatnonzero(piece[p.makers] == piece[holding][0])
    costs = p.costs
    off = ~np.eye(loads.device_count, dtype=bool)
    if loads.transfers == Transfers.HOPS:
        pace = float(np.sort(costs.leave_seconds_per_byte)[:2].max())
    else:
        pace = float(costs.wire_seconds_per_byte[off].min())
    return float((p.tensor_bytes * p.shares)[touching].min() * pace)
