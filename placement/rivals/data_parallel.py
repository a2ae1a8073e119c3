"""Data parallelism: every device has the whole model and a part of the batch."""

import numpy as np

from graphs.kinds import Phase
from placement.problem import Problem
from placement.rivals.batch_share import BatchShare


def data_parallel_estimate(
    problem: Problem, share: BatchShare, devices: np.ndarray
) -> tuple[str, float, int, str] | None:
    """Forward and backward on a part of the batch, gradients summed over a ring, all updates.

    Sums run beside the backward pass, as frameworks do (Li et al., "PyTorch Distributed", VLDB
    2020), and take `2 (k - 1) / k` of the gradients' bytes over the slowest link of the ring
    (Patarasuk and Yuan, "Bandwidth optimal all-reduce", 2009).

    Returns:
        name, seconds, bytes on a device and what is assumed; None without gradients.
    """
    count = len(devices)
    if not share.gradient_bytes:
        return None
    seconds = share.on(1.0 / count)
    forward = float(seconds[share.phases == Phase.FORWARD].sum())
    backward = float(seconds[share.phases == Phase.BACKWARD].sum())
    update = float(seconds[share.phases == Phase.UPDATE].sum())
    summed = ring_seconds(problem, devices, share.gradient_bytes)
    peak = share.state_bytes + share.activation_bytes // count
    how = (
        f"the batch in {count} parts, gradients of {share.gradient_bytes / 1e6:.1f} MB summed over "
        "a ring beside the backward pass"
    )
    return "data parallel", forward + max(backward, summed) + update, peak, how


def ring_seconds(problem: Problem, devices: np.ndarray, size_bytes: int) -> float:
    """What summing takes over a ring through the devices, each link at once.

    Links that share a channel share its bandwidth.
    """
    arrays = problem.simulator.program.arrays
    count = len(devices)
    sources, targets = devices, np.roll(devices, -1)
    channels = arrays.link_channels[sources, targets]
    crowd = np.bincount(channels[channels >= 0], minlength=max(arrays.channel_count, 1))
    sharing = np.where(channels >= 0, crowd[np.maximum(channels, 0)], 1).max(axis=1, initial=1)
    pace = float((sharing / arrays.link_bytes_per_second[sources, targets]).max())
    latency = float(arrays.link_latency_seconds[sources, targets].max())
    return 2 * (count - 1) * (size_bytes / count * pace + latency)
