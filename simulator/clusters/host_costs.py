"""What a device spends of its own time where no engine copies and launches beside it.

A core computes, and itself starts every run of ops, copies tensors out and copies them in. A run is
what goes between two such copies in one call.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool

from graphs.graph import Graph
from graphs.kinds import Storage
from simulator.errors import ClusterError

#: Weights beyond it are packed by kernels, and worth sharing.
_LARGE_BYTES = 1 << 16


@dataclass(frozen=True)
class HostCosts:
    """Seconds of the device's own time, beyond its kernels.

    To receive takes besides what the link's bandwidth says: the receiver copies at that pace.

    Raises:
        ClusterError: a figure that is negative or not finite.
    """

    launch_seconds: float = 0.0
    """To start a run of ops."""
    op_seconds: float = 0.0
    """For each op of a run, beyond its kernel."""
    border_seconds: float = 0.0
    """For each tensor that a run takes in or hands out."""
    input_seconds_per_byte: float = 0.0
    """For what a run takes in: it comes from farther away than what the run itself has made."""
    output_seconds_per_byte: float = 0.0
    send_seconds: float = 0.0
    send_seconds_per_byte: float = 0.0
    receive_seconds: float = 0.0
    contention: float = 0.0
    """By what share kernels take longer while every other device is busy."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ClusterError(f"host: {name} is {value}; it must be finite and >= 0")


#: Columns of the kernel's array: whether there are any, then the fields in their order.
PRESENT, LAUNCH, OP, BORDER, INPUT, OUTPUT, SEND, SEND_BYTE, RECEIVE, CONTENTION = range(10)


def runs_alone(graph: Graph) -> Bool[np.ndarray, " ops"]:
    """Ops that read a large weight which others read too, as in unrolled recurrent nets.

    They are runs of their own. Equal ones share a session, so that the weight is packed once and
    stays in the cache, however the plan cuts the rest.
    """
    alone = np.zeros(graph.op_count, bool)
    counts = np.diff(graph.consumer_offsets)
    large = (graph.tensor_storage == Storage.WEIGHT) & (graph.tensor_bytes > _LARGE_BYTES)
    for tensor in np.flatnonzero(large & (counts > 1)).tolist():
        alone[graph.consumers_of(tensor)] = True
    return alone
