"""Lower bounds on the step time of any plan that is not fused."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from graphs.graph import Graph
from graphs.kinds import Storage
from simulator.clusters.cluster import Cluster

_DUAL_STEPS = 200
#: Sums of many costs differ in their last digits by the order of addition.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LowerBounds:
    """Seconds that no unfused plan can beat; each by another argument."""

    load_seconds: float
    """All work spread perfectly over the devices, within their memories."""
    critical_path_seconds: float
    """The longest chain, each op on its fastest device, transfers free."""
    memory_cut_seconds: float
    """The longest chain through the cheapest transfer that memory makes unavoidable; or 0."""

    @property
    def seconds(self) -> float:
        """The tightest of them."""
        return max(self.load_seconds, self.critical_path_seconds, self.memory_cut_seconds)


def lower_bounds(
    graph: Graph, cluster: Cluster, seconds: Float64[np.ndarray, "ops devices"]
) -> LowerBounds:
    """Bounds from op costs; forbid a device for an op by a cost of infinity.

    Example:
        >>> seconds = RooflineCosts().seconds(graph, cluster)
        >>> lower_bounds(graph, cluster, seconds).seconds > 0
        True
    """
    fastest = seconds.min(axis=1)
    head, tail = _longest_paths(graph, fastest)
    return LowerBounds(
        load_seconds=_load_bound(graph, cluster, seconds),
        critical_path_seconds=float((head + tail - fastest).max()),
        memory_cut_seconds=_memory_cut(graph, cluster, head, tail),
    )


def _longest_paths(
    graph: Graph, fastest: Float64[np.ndarray, " ops"]
) -> tuple[Float64[np.ndarray, " ops"], Float64[np.ndarray, " ops"]]:
    """Longest chain up to and from each op, the op included in both."""
    waits = graph.tensor_storage[graph.edge_tensors] != Storage.WEIGHT
    sources = graph.tensor_producers[graph.edge_tensors][waits].tolist()
    targets = graph.consumers[waits].tolist()
    weights = fastest.tolist()
    head = [0.0] * graph.op_count
    order = np.argsort(graph.consumers[waits], kind="stable").tolist()
    for edge in order:
        head[targets[edge]] = max(head[targets[edge]], head[sources[edge]] + weights[sources[edge]])
    tail = list(weights)
    for source, target in zip(reversed(sources), reversed(targets), strict=True):
        tail[source] = max(tail[source], weights[source] + tail[target])
    return np.array(head) + fastest, np.array(tail)


def _load_bound(
    graph: Graph, cluster: Cluster, seconds: Float64[np.ndarray, "ops devices"]
) -> float:
    """Lagrangian dual of fractional assignment: minimise the largest load within memory.

    For any device weights w >= 0 that sum to one and memory prices u >= 0,
    `sum_i min_j (w_j c_ij + u_j m_i) - sum_j u_j M_j` bounds the makespan from below.
    """
    devices = cluster.device_count
    needs = graph.resident_bytes.astype(np.float64)
    # Ops that are alike decide alike: one row stands for all of them.
    alike, copies = np.unique(np.column_stack([seconds, needs]), axis=0, return_counts=True)
    finite = np.where(np.isfinite(alike[:, :-1]), alike[:, :-1], 1e30)
    need = alike[:, -1]
    memory = cluster.memory_bytes.astype(np.float64)
    work = max(float(finite.min(axis=1) @ copies), 1e-30)
    needed = max(float(need @ copies), 1.0)
    scale = work / needed
    logits, prices = np.zeros(devices), np.zeros(devices)
    best = 0.0
    rows = np.arange(len(finite))
    for step in range(_DUAL_STEPS):
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        reduced = finite * weights + need[:, None] * (prices * scale)
        choice = reduced.argmin(axis=1)
        value = float(reduced[rows, choice] @ copies - (prices * scale) @ memory)
        best = max(best, value)
        loads = np.bincount(choice, finite[rows, choice] * copies, devices) / work
        used = np.bincount(choice, need * copies, devices)
        rate = 1.0 / (1.0 + 0.2 * step)
        logits += rate * (loads - loads @ weights) * devices
        prices = np.maximum(0.0, prices + rate * (used - memory) / needed)
        if devices == 1:
            break
    return best * (1 - _ROUNDING)


def _memory_cut(
    graph: Graph,
    cluster: Cluster,
    head: Float64[np.ndarray, " ops"],
    tail: Float64[np.ndarray, " ops"],
) -> float:
    """Where parameters fit on no single device, some edge of a connected graph must cross."""
    if graph.resident_bytes.sum() <= cluster.memory_bytes.max() or cluster.device_count < 2:
        return 0.0
    links = cluster.link_arrays
    off = ~np.eye(cluster.device_count, dtype=bool)
    bandwidth = links.bytes_per_second[off].max()
    latency = links.latency_seconds[off].min()
    crossing = graph.tensor_storage[graph.edge_tensors] != Storage.WEIGHT
    tensors = graph.edge_tensors[crossing]
    sources, targets = graph.tensor_producers[tensors], graph.consumers[crossing]
    if not tensors.size or not _is_connected(graph.op_count, sources, targets):
        return 0.0
    through = head[sources] + latency + graph.tensor_bytes[tensors] / bandwidth + tail[targets]
    return float(through.min())


def _is_connected(count: int, sources: np.ndarray, targets: np.ndarray) -> bool:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(sources), np.int8), (sources, targets)), shape=(count, count))
    pieces, _ = connected_components(edges, directed=False)
    return bool(pieces == 1)
