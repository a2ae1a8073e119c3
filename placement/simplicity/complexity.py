"""How complicated a plan is: devices first, then tensors that cross between them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, Storage


@dataclass(frozen=True, order=True)
class Complexity:
    """Sorts the simpler plan first."""

    devices: int
    """Devices that run something."""
    parts: int
    """Programs that the plan is cut into, where it is exported as such; else 0."""
    crossings: int
    """Tensors sent in a step, each counted once for every device that receives it."""

    def __str__(self) -> str:
        devices = f"{self.devices} device{'s' if self.devices != 1 else ''}"
        parts = f", {self.parts} part{'s' if self.parts != 1 else ''}" if self.parts else ""
        return f"{devices}{parts}, {self.crossings} crossing{'s' if self.crossings != 1 else ''}"


def complexity_of(graph: Graph, devices: Int32[np.ndarray, " ops"]) -> Complexity:
    """Count what a plan uses.

    Example:
        >>> complexity_of(graph, np.zeros(graph.op_count, np.int32)).devices
        1
    """
    busy = ~np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS])
    used = np.unique(devices[busy] if busy.any() else devices)
    return Complexity(len(used), 0, crossing_count(graph, devices))


def crossing_count(graph: Graph, devices: Int32[np.ndarray, " ops"]) -> int:
    """Pairs of a tensor and another device that reads it; weights lie wherever they are read."""
    edges = graph.edge_tensors
    sources = devices[graph.tensor_producers[edges]]
    targets = devices[graph.consumers]
    sent = (sources != targets) & (graph.tensor_storage[edges] != Storage.WEIGHT)
    return len(np.unique(edges[sent].astype(np.int64) * (int(devices.max()) + 1) + targets[sent]))


def is_contiguous(graph: Graph, devices: Int32[np.ndarray, " ops"]) -> bool:
    """Whether the model is cut into one stage a device: within each phase of a step, what leaves a
    device never comes back to it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(devices.max()) + 1
    stages = graph.phases.astype(np.int64) * count + devices
    edges = graph.edge_tensors
    sources = stages[graph.tensor_producers[edges]]
    targets = stages[graph.consumers]
    sent = (sources != targets) & (graph.tensor_storage[edges] != Storage.WEIGHT)
    size = int(stages.max()) + 1
    arcs = coo_array((np.ones(sent.sum()), (sources[sent], targets[sent])), shape=(size, size))
    strong, _ = connected_components(arcs, directed=True, connection="strong")
    return bool(strong == size)
