"""Scheduling priorities: upward ranks, with or without a placement."""

import numpy as np
from jaxtyping import Float64, Int32

from placement.problem import Problem
from simulator.compiled import compiled
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.transfer_time import transfer_seconds
from simulator.kernel_checks import check_devices


def upward_ranks(
    problem: Problem,
    devices: Int32[np.ndarray, " ops"] | None = None,
    communication: float = 1.0,
) -> Float64[np.ndarray, " ops"]:
    """Seconds from an op's start to the end of the step along the longest chain.

    With `devices`, compute seconds are those of the op's device and only edges that cross
    devices cost time: critical-path priority. Without, both are means over devices (Topcuoglu et
    al., "HEFT", 2002, section 4). `communication` scales transfer times.
    """
    arrays = problem.simulator.program.arrays
    ops, count = arrays.seconds.shape
    ranks = np.zeros(ops)
    if devices is None:
        seconds = np.where(np.isfinite(problem.seconds), problem.seconds, np.nan)
        own = np.nanmean(seconds, axis=1)
        off = ~np.eye(count, dtype=bool)
        share = communication * (count - 1) / count if count > 1 else 0.0
        pace = float(np.mean(1 / arrays.link_bytes_per_second[off])) if count > 1 else 0.0
        latency = float(np.mean(arrays.link_latency_seconds[off])) if count > 1 else 0.0
        edges = share * (latency + arrays.tensor_bytes * pace)
        _ranks_by_tensor(arrays, own, edges, ranks)
        return ranks
    own = problem.simulator.seconds[np.arange(ops), devices]
    devices = devices.copy()  # numba compiles anew for arrays that cannot be written
    check_devices("devices", devices, count)
    _ranks_by_placement(arrays, own, devices, float(communication), ranks)
    return ranks


@compiled
def _ranks_by_tensor(
    p: ProgramArrays,
    own: Float64[np.ndarray, " ops"],
    tensor_seconds: Float64[np.ndarray, " tensors"],
    ranks: Float64[np.ndarray, " ops"],
) -> None:
    for op in range(own.size - 1, -1, -1):
        longest = 0.0
        for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
            for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
                longest = max(longest, tensor_seconds[tensor] + ranks[p.consumers[edge]])
        ranks[op] = own[op] + longest


@compiled
def _ranks_by_placement(
    p: ProgramArrays,
    own: Float64[np.ndarray, " ops"],
    devices: Int32[np.ndarray, " ops"],
    communication: float,
    ranks: Float64[np.ndarray, " ops"],
) -> None:
    for op in range(own.size - 1, -1, -1):
        longest = 0.0
        source = devices[op]
        for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
            for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
                consumer = p.consumers[edge]
                target = devices[consumer]
                path = ranks[consumer]
                if target != source:
                    path += communication * transfer_seconds(p, tensor, source, target)
                longest = max(longest, path)
        ranks[op] = own[op] + longest
