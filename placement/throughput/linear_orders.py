"""Linear orders of all units that keep the forward order, at any size.

Units that must share a stage, for each comes before the other, are next to each other.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

from placement.throughput.load_problem import LoadProblem
from simulator.compiled import compiled
from simulator.kernel_checks import check_record


class _Arcs(NamedTuple):
    """An acyclic order of nodes, and room to walk it."""

    before_offsets: Int64[np.ndarray, " nodes+1"]
    before: Int32[np.ndarray, " arcs"]
    """Nodes directly before each; those at the end of longer chains first."""
    after_offsets: Int64[np.ndarray, " nodes+1"]
    after: Int32[np.ndarray, " arcs"]
    missing: Int32[np.ndarray, " nodes"]
    order: Int32[np.ndarray, " nodes"]
    stack: Int32[np.ndarray, " nodes"]
    stack_next: Int64[np.ndarray, " nodes"]
    heap: Float64[np.ndarray, " nodes+1"]
    keys: Float64[np.ndarray, " nodes"]
    """What is taken first of that which is ready: whole numbers below 2^52, each once."""
    node_of_key: Int32[np.ndarray, " nodes"]


def stage_nodes(problem: LoadProblem) -> Int32[np.ndarray, " units"]:
    """A number for each unit, the same for units that come before each other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    earlier, later = problem.order_pairs
    shape = (problem.unit_count,) * 2
    arcs = coo_array((np.ones(len(earlier), np.int8), (earlier, later)), shape=shape)
    _, labels = connected_components(arcs, directed=True, connection="strong")
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]


def linear_orders(problem: LoadProblem) -> dict[str, Int32[np.ndarray, " units"]]:
    """Position of each unit's node in several orders, by name.

    `depth first` comes to each unit just after what it needs, the longest chain first, so that few
    tensors cross any cut; `as given` follows the graph's own order; `level by level` goes by the
    length of the longest chain that leads to a unit. What the backward pass alone does comes as
    early as it may: beside the forward ops that it reads from.
    """
    node_of = stage_nodes(problem)
    count = int(node_of.max()) + 1
    earlier, later = (node_of[units] for units in problem.order_pairs)
    apart = earlier != later
    keys = np.unique(earlier[apart].astype(np.int64) * count + later[apart])
    earlier, later = keys // count, keys % count
    arcs = _arcs(count, earlier, later, np.zeros(count))
    given = np.arange(count)
    _take_ready(arcs, given)
    level = np.zeros(count, np.int32)
    _longest_chains(arcs, level)
    arcs = _arcs(count, earlier, later, level)
    is_last = np.diff(arcs.after_offsets) == 0
    roots = np.flatnonzero(is_last).astype(np.int32)
    # The longest chain first: short ones that end early are taken up where they branch off.
    roots = roots[np.argsort(-level[roots], kind="stable")]
    _walk_back(arcs, roots)
    depth_first = _inverse(arcs.order)
    forward = _has_forward(problem, node_of, count)
    found = {
        "depth first": depth_first,
        "as given": given,
        "level by level": np.lexsort((given, level)).argsort(),
    }
    return {
        name: _placed(arcs, np.where(forward, ranks, -1), given)[node_of]
        for name, ranks in found.items()
    }


def _arcs(count: int, earlier: np.ndarray, later: np.ndarray, level: np.ndarray) -> _Arcs:
    back = np.lexsort((-level[earlier], later))
    arcs = _Arcs(
        before_offsets=np.searchsorted(later[back], np.arange(count + 1)).astype(np.int64),
        before=earlier[back].astype(np.int32),
        after_offsets=np.searchsorted(earlier, np.arange(count + 1)).astype(np.int64),
        after=later.astype(np.int32),
        missing=np.zeros(count, np.int32),
        order=np.zeros(count, np.int32),
        stack=np.zeros(count, np.int32),
        stack_next=np.zeros(count, np.int64),
        heap=np.zeros(count + 1),
        keys=np.zeros(count),
        node_of_key=np.zeros(count, np.int32),
    )
    check_record(arcs)
    return arcs


def _has_forward(problem: LoadProblem, node_of: np.ndarray, count: int) -> np.ndarray:
    graph, unit_of = problem.problem.graph, problem.problem.unit_of
    forward = np.zeros(count, bool)
    forward[node_of[unit_of[graph.phases == 0]]] = True
    return forward


def _placed(arcs: _Arcs, ranks: np.ndarray, ties: np.ndarray) -> Int32[np.ndarray, " nodes"]:
    """Positions where of the nodes that are ready the one with the least rank comes next."""
    _take_ready(arcs, np.lexsort((ties, ranks)).argsort())
    return _inverse(arcs.order)


def _take_ready(arcs: _Arcs, keys: np.ndarray) -> None:
    arcs.keys[:] = keys
    arcs.node_of_key[keys] = np.arange(len(keys))
    _kahn(arcs)


def _inverse(order: np.ndarray) -> Int32[np.ndarray, " nodes"]:
    positions = np.empty(len(order), np.int32)
    positions[order] = np.arange(len(order), dtype=np.int32)
    return positions


@compiled
def _kahn(a: _Arcs) -> None:
    """Fill `order` by keys."""
    size = 0
    for node in range(a.keys.size):
        a.missing[node] = a.before_offsets[node + 1] - a.before_offsets[node]
        if a.missing[node] == 0:
            size = _push(a.heap, size, a.keys[node])
    done = 0
    while size > 0:
        node = a.node_of_key[int(a.heap[0])]
        size = _pop(a.heap, size)
        a.order[done] = node
        done += 1
        for at in range(a.after_offsets[node], a.after_offsets[node + 1]):
            other = a.after[at]
            a.missing[other] -= 1
            if a.missing[other] == 0:
                size = _push(a.heap, size, a.keys[other])


@compiled
def _push(heap: Float64[np.ndarray, " n"], size: int, key: float) -> int:
    at = size
    while at > 0 and heap[(at - 1) // 2] > key:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = key
    return size + 1


@compiled
def _pop(heap: Float64[np.ndarray, " n"], size: int) -> int:
    size -= 1
    key = heap[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key
    return size


@compiled
def _longest_chains(a: _Arcs, level: Int32[np.ndarray, " nodes"]) -> None:
    """Nodes on the longest chain before each; `order` must keep what comes before."""
    for at in range(a.order.size):
        node = a.order[at]
        for arc in range(a.after_offsets[node], a.after_offsets[node + 1]):
            other = a.after[arc]
            level[other] = max(level[other], level[node] + 1)


@compiled
def _walk_back(a: _Arcs, roots: Int32[np.ndarray, " roots"]) -> None:
    """Fill `order`: from the last nodes back to what each needs, which comes just before it."""
    a.missing[:] = 0
    done = 0
    for root in roots:
        if a.missing[root] != 0:
            continue
        depth = 0
        a.missing[root] = 1
        a.stack[0] = root
        a.stack_next[0] = a.before_offsets[root]
        while depth >= 0:
            node = a.stack[depth]
            arc = a.stack_next[depth]
            if arc == a.before_offsets[node + 1]:
                a.order[done] = node
                done += 1
                depth -= 1
                continue
            a.stack_next[depth] += 1
            other = a.before[arc]
            if a.missing[other] == 0:
                a.missing[other] = 1
                depth += 1
                a.stack[depth] = other
                a.stack_next[depth] = a.before_offsets[other]
