"""A lower bound on the step time of a placement, whatever the order in which its ops run."""

import numpy as np
from jaxtyping import Int32

from placement.priorities import upward_ranks
from placement.problem import Problem

#: Sums of many costs differ in their last digits by the order of addition.
_ROUNDING = 1e-9


def order_bound_seconds(problem: Problem, devices: Int32[np.ndarray, " ops"]) -> float:
    """Seconds that no scheduling order of an unfused placement can beat.

    The largest of three: the work of a device; the longest chain, transfers included; the time for
    which a channel is busy, each tensor being sent once to each device that reads it.
    """
    arrays = problem.simulator.program.arrays
    ops = np.arange(len(devices))
    work = np.bincount(devices, arrays.seconds[ops, devices], problem.cluster.device_count)
    chain = float(upward_ranks(problem, devices).max(initial=0.0))
    busy = np.zeros(max(arrays.channel_count, 1))
    targets = devices[arrays.consumers]
    sources = devices[arrays.tensor_producers[arrays.edge_tensors]]
    crossing = sources != targets
    sent = np.unique(
        np.stack([arrays.edge_tensors[crossing], sources[crossing], targets[crossing]]), axis=1
    )
    tensors, senders, receivers = sent
    seconds = arrays.tensor_bytes[tensors] / arrays.link_bytes_per_second[senders, receivers]
    for slot in range(arrays.link_channels.shape[2]):
        channels = arrays.link_channels[senders, receivers, slot]
        np.add.at(busy, channels[channels >= 0], seconds[channels >= 0])
    return max(float(work.max()), chain, float(busy.max())) * (1 - _ROUNDING)
