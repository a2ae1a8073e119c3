"""What sending a tensor keeps busy: devices at both ends, and the channels in between."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from simulator.clusters.cluster import Cluster
from simulator.clusters.host_costs import HostCosts

_NONE = HostCosts()


class TransferCosts(NamedTuple):
    """Seconds by device, or by the devices that a tensor goes from and to."""

    leave_seconds: Float64[np.ndarray, " devices"]
    """Of the sender, once for a tensor that any other device reads."""
    leave_seconds_per_byte: Float64[np.ndarray, " devices"]
    send_seconds: Float64[np.ndarray, "devices devices"]
    """Of the sender, for each device that a tensor goes to."""
    send_seconds_per_byte: Float64[np.ndarray, "devices devices"]
    take_seconds: Float64[np.ndarray, "devices devices"]
    """Of the receiver."""
    take_seconds_per_byte: Float64[np.ndarray, "devices devices"]
    wire_seconds_per_byte: Float64[np.ndarray, "devices devices"]
    """Of every channel of the link; latency occupies none."""
    channels: Int32[np.ndarray, "devices devices width"]
    """Channel numbers, padded with -1."""


def channel_costs(cluster: Cluster) -> TransferCosts:
    """The simulated machine: channels are busy beside compute, cores copy themselves.

    What a core spends on a tensor is exact but for starting runs: one for each tensor that comes
    in, as `LinkArrays.latency_seconds` has it, where tensors that come together share one.
    """
    links, count = cluster.link_arrays, cluster.device_count
    hosts = [device.host or _NONE for device in cluster.devices]
    off = ~np.eye(count, dtype=bool)
    send = np.array([host.send_seconds for host in hosts])
    send_byte = np.array([host.send_seconds_per_byte for host in hosts])
    take = np.array(
        [host.receive_seconds + host.border_seconds + host.launch_seconds for host in hosts]
    )
    take_byte = np.array([host.input_seconds_per_byte for host in hosts])
    return TransferCosts(
        leave_seconds=np.array([host.border_seconds for host in hosts]),
        leave_seconds_per_byte=np.array([host.output_seconds_per_byte for host in hosts]),
        send_seconds=np.where(off, send[:, None], 0.0),
        send_seconds_per_byte=np.where(off, send_byte[:, None], 0.0),
        take_seconds=np.where(off, take, 0.0),
        take_seconds_per_byte=np.where(off, take_byte + links.receive_seconds_per_byte, 0.0),
        wire_seconds_per_byte=np.where(off, 1.0 / links.wire_bytes_per_second, 0.0),
        channels=np.array(links.channels, order="C"),
    )


def hop_costs(cluster: Cluster, hop_bytes_per_second: float) -> TransferCosts:
    """Through the host: an accelerator pays once for what leaves and once for what comes in.

    Devices that compute in the host's memory pay nothing.
    """
    count = cluster.device_count
    pace = np.array([0.0 if device.kind.startswith("cpu") else 1.0 for device in cluster.devices])
    pace /= hop_bytes_per_second
    nothing = np.zeros((count, count))
    take = np.where(np.eye(count, dtype=bool), 0.0, pace)
    return TransferCosts(
        leave_seconds=np.zeros(count),
        leave_seconds_per_byte=pace,
        send_seconds=nothing,
        send_seconds_per_byte=nothing.copy(),
        take_seconds=nothing.copy(),
        take_seconds_per_byte=take,
        wire_seconds_per_byte=nothing.copy(),
        channels=np.full((count, count, 1), -1, np.int32),
    )


def channel_count(costs: TransferCosts) -> int:
    """Channels are numbered from zero."""
    return int(costs.channels.max(initial=-1)) + 1
