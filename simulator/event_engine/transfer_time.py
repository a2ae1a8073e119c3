"""What it takes to send a tensor: where links are free, and where channels are taken."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

from simulator.clusters.cluster import Cluster
from simulator.compiled import inlined
from simulator.event_engine.program import ProgramArrays


@inlined
def transfer_seconds(p: ProgramArrays, tensor: int, source: int, target: int) -> float:
    """Seconds from one device to another one."""
    return (
        p.tensor_bytes[tensor] / p.link_bytes_per_second[source, target]
        + p.link_latency_seconds[source, target]
    )


@inlined
def reserve(
    p: ProgramArrays,
    channel_free: Float64[np.ndarray, " channels"],
    tensor: int,
    source: int,
    target: int,
    now: float,
) -> tuple[float, int, float]:
    """Reserve all channels of a link for a tensor, from when the last of them is free.

    Returns:
        When it starts, the channel that it waited for or -1, and when it arrives.
    """
    start, awaited = now, -1
    for at in range(p.link_channels.shape[2]):
        channel = p.link_channels[source, target, at]
        if channel >= 0 and channel_free[channel] > start:
            start, awaited = channel_free[channel], channel
    free = start + p.tensor_bytes[tensor] / p.wire_bytes_per_second[source, target]
    for at in range(p.link_channels.shape[2]):
        channel = p.link_channels[source, target, at]
        if channel >= 0:
            channel_free[channel] = free
    return start, awaited, free + p.wire_latency_seconds[source, target]


class LinkPace(NamedTuple):
    """What sending takes from each device to each other; nothing where a tensor stays."""

    seconds_per_byte: Float64[np.ndarray, "devices devices"]
    latency_seconds: Float64[np.ndarray, "devices devices"]

    def pull_seconds(
        self, tensor_bytes: Int64[np.ndarray, " tensors"], sources: Int32[np.ndarray, " tensors"]
    ) -> Float64[np.ndarray, "tensors devices"]:
        """Seconds that tensors on the given devices take to each device."""
        return (
            tensor_bytes[:, None] * self.seconds_per_byte[sources] + self.latency_seconds[sources]
        )

    def push_seconds(
        self, tensor_bytes: Int64[np.ndarray, " tensors"], targets: Int32[np.ndarray, " tensors"]
    ) -> Float64[np.ndarray, "tensors devices"]:
        """Seconds that tensors take to the given devices, from each device."""
        return (
            tensor_bytes[:, None] * self.seconds_per_byte[:, targets].T
            + self.latency_seconds[:, targets].T
        )


def link_pace(cluster: Cluster) -> LinkPace:
    """The pace of a cluster's links."""
    links = cluster.link_arrays
    others = ~np.eye(cluster.device_count, dtype=bool)
    return LinkPace(
        np.where(others, 1 / links.bytes_per_second, 0.0),
        np.where(others, links.latency_seconds, 0.0),
    )
