"""The best split into contiguous stages: exact, over all chains of ideals.

`best[I, k, l]` is the least largest load of placing ideal `I` on `k` accelerators and `l` CPU
cores; stages are differences of ideals (Tarnawski et al., NeurIPS 2020, section 4). From each ideal
the smaller ones are walked down one node at a time, and a branch ends where what it has cut off
takes longer than a split that is known.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int8, Int32, Int64

from placement.throughput.ideals import Ideals, Nodes, ideals_of, nodes_of
from placement.throughput.load_problem import LoadProblem
from placement.throughput.loads import fits, period_of
from placement.throughput.orders import cut_order, topological_order
from placement.throughput.request import Transfers
from simulator.compiled import compiled
from simulator.errors import InfeasibleError
from simulator.kernel_checks import check_record

#: More ideals than that are not listed.
MOST_IDEALS = 60_000
#: Splits of a known order of units that the walk is bounded by.
_ORDERS = 20


@dataclass(frozen=True, eq=False)
class ContiguousSplit:
    """A split and its largest load."""

    devices: Int32[np.ndarray, " units"]
    seconds: float
    ideals: int


class _Tables(NamedTuple):
    """Nodes and ideals for the walk; tensors between nodes as in `LoadArrays`."""

    accelerator_seconds: Float64[np.ndarray, " nodes"]
    cpu_seconds: Float64[np.ndarray, " nodes"]
    memory_bytes: Float64[np.ndarray, " nodes"]
    makers: Int32[np.ndarray, " tensors"]
    hop_seconds: Float64[np.ndarray, " tensors"]
    degrees: Int32[np.ndarray, " tensors"]
    touched_offsets: Int64[np.ndarray, " nodes+1"]
    touched: Int32[np.ndarray, " touches"]
    lower_offsets: Int64[np.ndarray, " ideals+1"]
    lower: Int32[np.ndarray, " covers"]
    lower_node: Int32[np.ndarray, " covers"]
    overlaps: bool
    """Whether what comes in and what leaves goes on beside compute."""


class _Walk(NamedTuple):
    """What changes during the walk."""

    best: Float64[np.ndarray, "ideals states"]
    came_from: Int32[np.ndarray, "ideals states"]
    on_cpu: Int8[np.ndarray, "ideals states"]
    marks: Int32[np.ndarray, " ideals"]
    inside: Int8[np.ndarray, " nodes"]
    counts: Int32[np.ndarray, " tensors"]
    """Readers of each tensor inside the stage."""
    flows: Float64[np.ndarray, " 2"]
    """Seconds that what leaves the stage takes, and what comes in."""
    stack: Int32[np.ndarray, " ideals"]
    stack_next: Int64[np.ndarray, " ideals"]
    """The next cover to look at."""
    stack_node: Int32[np.ndarray, " ideals"]


def best_contiguous_split(problem: LoadProblem, most: int = MOST_IDEALS) -> ContiguousSplit | None:
    """The least largest load of any split into contiguous stages; None with too many ideals.

    Accelerators must be alike, and so must CPU cores; any of them may stay empty.

    Raises:
        InfeasibleError: no contiguous split fits in memory.
    """
    nodes = nodes_of(problem)
    ideals = ideals_of(nodes, most)
    if ideals is None:
        return None
    sends = problem.sends.astype(bool)
    accelerators, cores = np.flatnonzero(sends), np.flatnonzero(~sends)
    tables = _tables(problem, nodes, ideals, accelerators, cores)
    states = (len(accelerators) + 1) * (len(cores) + 1)
    count = len(ideals.masks)
    walk = _Walk(
        best=np.full((count, states), np.inf),
        came_from=np.full((count, states), -1, np.int32),
        on_cpu=np.zeros((count, states), np.int8),
        marks=np.full(count, -1, np.int32),
        inside=np.zeros(nodes.count, np.int8),
        counts=np.zeros(len(tables.makers), np.int32),
        flows=np.zeros(2),
        stack=np.zeros(count, np.int32),
        stack_next=np.zeros(count, np.int64),
        stack_node=np.zeros(count, np.int32),
    )
    check_record(tables)
    check_record(walk, ideals=count)
    walk.best[0] = 0.0
    bound = _known_split_seconds(problem, nodes) * (1 + 1e-9)
    capacity = float(problem.arrays.capacity_bytes[accelerators].min()) if sends.any() else 0.0
    _walk_down(tables, walk, len(accelerators), len(cores), capacity, bound)
    seconds = float(walk.best[-1].min())
    if not np.isfinite(seconds):
        raise InfeasibleError(
            "no split into contiguous stages fits in memory; take more or larger accelerators"
        )
    return ContiguousSplit(_read_back(nodes, ideals, walk, accelerators, cores), seconds, count)


def _tables(
    problem: LoadProblem,
    nodes: Nodes,
    ideals: Ideals,
    accelerators: np.ndarray,
    cores: np.ndarray,
) -> _Tables:
    p, count = problem.arrays, nodes.count
    makers = nodes.node_of[p.makers]
    tensor_of = np.repeat(np.arange(len(p.makers)), np.diff(p.reader_offsets))
    readers = nodes.node_of[p.readers]
    apart = readers != makers[tensor_of]
    pairs = np.unique(np.stack([tensor_of[apart], readers[apart]]), axis=1)
    kept, numbers = np.unique(pairs[0], return_inverse=True)
    touches = np.unique(
        np.concatenate(
            [
                np.stack([makers[kept], np.arange(len(kept)), np.zeros(len(kept), np.int64)]),
                np.stack([pairs[1], numbers, np.ones(len(numbers), np.int64)]),
            ],
            axis=1,
        ),
        axis=1,
    )

    def summed(devices: np.ndarray) -> np.ndarray:
        if not len(devices):
            return np.full(count, np.inf)
        return np.bincount(nodes.node_of, p.seconds[:, devices[0]], count)

    return _Tables(
        accelerator_seconds=summed(accelerators),
        cpu_seconds=summed(cores),
        memory_bytes=np.bincount(nodes.node_of, p.memory_bytes, count),
        makers=makers[kept].astype(np.int32),
        hop_seconds=(p.tensor_bytes * p.shares)[kept] * pace_of(problem),
        degrees=np.bincount(numbers, minlength=len(kept)).astype(np.int32),
        touched_offsets=np.searchsorted(touches[0], np.arange(count + 1)).astype(np.int64),
        # Twice the tensor, and one more where the node reads it.
        touched=(2 * touches[1] + touches[2]).astype(np.int32),
        lower_offsets=ideals.lower_offsets,
        lower=ideals.lower,
        lower_node=ideals.lower_node,
        overlaps=problem.transfers == Transfers.CHANNELS,
    )


def pace_of(problem: LoadProblem) -> float:
    """Seconds per byte of a transfer, the slowest of any link or hop."""
    costs = problem.arrays.costs
    return float(max(costs.leave_seconds_per_byte.max(), costs.wire_seconds_per_byte.max()))


@compiled
def _walk_down(
    t: _Tables, w: _Walk, accelerators: int, cores: int, capacity: float, bound: float
) -> None:
    """Fill `best` for every ideal, the smaller ones first."""
    width = cores + 1
    for ideal in range(1, w.best.shape[0]):
        compute, on_core, memory = 0.0, 0.0, 0.0
        w.flows[:] = 0.0
        depth = 0
        w.stack[0] = ideal
        w.stack_next[0] = t.lower_offsets[ideal]
        w.stack_node[0] = -1
        w.marks[ideal] = ideal
        while depth >= 0:
            at = w.stack[depth]
            cover = w.stack_next[depth]
            if cover == t.lower_offsets[at + 1]:
                node = w.stack_node[depth]
                if node >= 0:
                    _leave(t, w, node)
                    compute -= t.accelerator_seconds[node]
                    on_core -= t.cpu_seconds[node]
                    memory -= t.memory_bytes[node]
                depth -= 1
                continue
            w.stack_next[depth] += 1
            below = t.lower[cover]
            if w.marks[below] == ideal:
                continue
            w.marks[below] = ideal
            node = t.lower_node[cover]
            fits = memory + t.memory_bytes[node] <= capacity
            quick = fits and compute + t.accelerator_seconds[node] <= bound
            if not quick and not on_core + t.cpu_seconds[node] <= bound:
                continue
            _enter(t, w, node)
            compute += t.accelerator_seconds[node]
            on_core += t.cpu_seconds[node]
            memory += t.memory_bytes[node]
            depth += 1
            w.stack[depth] = below
            w.stack_next[depth] = t.lower_offsets[below]
            w.stack_node[depth] = node
            stage = _load(t, w, compute)
            if quick and stage <= bound:
                for state in range(width, w.best.shape[1]):
                    load = max(w.best[below, state - width], stage)
                    if load < w.best[ideal, state]:
                        w.best[ideal, state] = load
                        w.came_from[ideal, state] = below
                        w.on_cpu[ideal, state] = 0
            if on_core <= bound:
                for state in range(w.best.shape[1]):
                    if state % width == 0:
                        continue
                    load = max(w.best[below, state - 1], on_core)
                    if load < w.best[ideal, state]:
                        w.best[ideal, state] = load
                        w.came_from[ideal, state] = below
                        w.on_cpu[ideal, state] = 1


@compiled
def _flow(t: _Tables, w: _Walk, tensor: int, sign: float) -> None:
    """What the stage pays for a tensor: once if it leaves, once if it comes in."""
    made_inside = w.inside[t.makers[tensor]] == 1
    if made_inside and w.counts[tensor] < t.degrees[tensor]:
        w.flows[0] += sign * t.hop_seconds[tensor]
    if not made_inside and w.counts[tensor] > 0:
        w.flows[1] += sign * t.hop_seconds[tensor]


@compiled
def _enter(t: _Tables, w: _Walk, node: int) -> None:
    for at in range(t.touched_offsets[node], t.touched_offsets[node + 1]):
        tensor = t.touched[at] // 2
        _flow(t, w, tensor, -1.0)
        if t.touched[at] % 2 == 1:
            w.counts[tensor] += 1
            _flow(t, w, tensor, 1.0)
        else:
            w.inside[node] = 1
            _flow(t, w, tensor, 1.0)
            w.inside[node] = 0
    # Each tensor was looked at with the maker's mark set for it alone: set it for good now.
    w.inside[node] = 1


@compiled
def _leave(t: _Tables, w: _Walk, node: int) -> None:
    w.inside[node] = 0
    for at in range(t.touched_offsets[node], t.touched_offsets[node + 1]):
        tensor = t.touched[at] // 2
        if t.touched[at] % 2 == 1:
            _flow(t, w, tensor, -1.0)
            w.counts[tensor] -= 1
            _flow(t, w, tensor, 1.0)
        else:
            w.inside[node] = 1
            _flow(t, w, tensor, -1.0)
            w.inside[node] = 0
            _flow(t, w, tensor, 1.0)


@compiled
def _load(t: _Tables, w: _Walk, compute: float) -> float:
    """Of an accelerator with the stage."""
    if t.overlaps:
        return max(compute, w.flows[0], w.flows[1])
    return compute + w.flows[0] + w.flows[1]


def _read_back(
    nodes: Nodes, ideals: Ideals, walk: _Walk, accelerators: np.ndarray, cores: np.ndarray
) -> Int32[np.ndarray, " units"]:
    of_node = np.zeros(nodes.count, np.int32)
    ideal = len(ideals.masks) - 1
    state = int(walk.best[ideal].argmin())
    width = len(cores) + 1
    free = [list(accelerators), list(cores)]
    while ideal > 0:
        below, on_cpu = int(walk.came_from[ideal, state]), int(walk.on_cpu[ideal, state])
        device = free[on_cpu].pop()
        stage = ideals.masks[ideal] & ~ideals.masks[below]
        for node in range(nodes.count):
            if stage >> node & 1:
                of_node[node] = device
        ideal, state = below, state - (1 if on_cpu else width)
    return of_node[nodes.node_of]


def _known_split_seconds(problem: LoadProblem, nodes: Nodes) -> float:
    """The largest load of some contiguous split, to bound the walk by; infinite where none fits."""
    best = np.inf
    for seed in range(_ORDERS):
        order = topological_order(nodes, seed)
        devices = cut_order(problem, nodes, order)
        if devices is not None and fits(problem, devices):
            best = min(best, period_of(problem, devices))
    return best
