"""Devices that could change places without any difference."""

import numpy as np
from jaxtyping import Int32

from placement.problem import Problem


def alike_devices(problem: Problem) -> Int32[np.ndarray, " devices"]:
    """For each device the first that it could be exchanged for: as fast, as large, as connected.

    Two devices are alike if the problem stays as it is when they change places.
    """
    cluster = problem.cluster
    links, seconds, memory = cluster.link_arrays, problem.seconds, cluster.memory_bytes
    count = cluster.device_count
    first = np.arange(count, dtype=np.int32)
    hosts = [device.host for device in cluster.devices]
    apart = ~np.eye(count, dtype=bool)
    tables = [links.bytes_per_second, links.latency_seconds]
    sharing = _sharing(links.channels)
    for device in range(1, count):
        for other in range(device):
            if first[other] != other or memory[other] != memory[device]:
                continue
            if hosts[other] != hosts[device]:
                continue
            if not np.array_equal(seconds[:, other], seconds[:, device]):
                continue
            swapped = np.arange(count)
            swapped[[other, device]] = device, other
            moved = np.ix_(swapped, swapped)
            pairs = (swapped[:, None] * count + swapped).ravel()
            if all(
                np.array_equal(table[moved][apart], table[apart]) for table in tables
            ) and np.array_equal(sharing[np.ix_(pairs, pairs)], sharing):
                first[device] = other
                break
    return first


def _sharing(
    channels: Int32[np.ndarray, "devices devices width"],
) -> Int32[np.ndarray, "pairs pairs"]:
    """How many channels each two links share, links numbered by source and target."""
    flat = channels.reshape(len(channels) ** 2, -1)
    uses = np.zeros((len(flat), int(channels.max(initial=-1)) + 1), np.int32)
    rows, columns = np.nonzero(flat >= 0)
    uses[rows, flat[rows, columns]] = 1
    return uses @ uses.T
