"""Which ops run forward, which backward in each step, and which once for all steps."""

import numpy as np
from jaxtyping import UInt8

from graphs.graph import Graph
from graphs.kinds import Storage


def step_phases(graph: Graph) -> UInt8[np.ndarray, " ops"]:
    """Forward, backward, or once for all steps: what depends on a later phase belongs to it."""
    phases = np.array(graph.phases, np.uint8)
    if not phases.any():
        return phases
    own = phases.tolist()
    waits = graph.tensor_storage[graph.edge_tensors] != Storage.WEIGHT
    producers = graph.tensor_producers[graph.edge_tensors][waits]
    consumers = graph.consumers[waits]
    order = np.argsort(consumers, kind="stable")
    for source, target in zip(producers[order].tolist(), consumers[order].tolist(), strict=True):
        own[target] = max(own[target], own[source])
    return np.array(own, np.uint8)
