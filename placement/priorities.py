"""Scheduling priorities: upward ranks, with or without a placement."""

import numpy as np
from jaxtyping import Float64, Int32

from placement.problem import Problem
from simulator.compiled import compiled


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
        _ranks_by_tensor(
            own, edges, arrays.output_offsets, arrays.consumer_offsets, arrays.consumers, ranks
        )
        return ranks
    own = problem.simulator.seconds[np.arange(ops), devices]
    _ranks_by_placement(
        own,
        np.ascontiguousarray(devices),
        communication,
        arrays.tensor_bytes,
        arrays.link_bytes_per_second,
        arrays.link_latency_seconds,
        arrays.output_offsets,
        arrays.consumer_offsets,
        arrays.consumers,
        ranks,
    )
    return ranks


@compiled
def _ranks_by_tensor(
    own: np.ndarray,
    tensor_seconds: np.ndarray,
    output_offsets: np.ndarray,
    consumer_offsets: np.ndarray,
    consumers: np.ndarray,
    ranks: np.ndarray,
) -> None:
    for op in range(own.size - 1, -1, -1):
        longest = 0.0
        for tensor in range(output_offsets[op], output_offsets[op + 1]):
            for edge in range(consumer_offsets[tensor], consumer_offsets[tensor + 1]):
                longest = max(longest, tensor_seconds[tensor] + ranks[consumers[edge]])
        ranks[op] = own[op] + longest


@compiled
def _ranks_by_placement(
    own: np.ndarray,
    devices: np.ndarray,
    communication: float,
    tensor_bytes: np.ndarray,
    bytes_per_second: np.ndarray,
    latency_seconds: np.ndarray,
    output_offsets: np.ndarray,
    consumer_offsets: np.ndarray,
    consumers: np.ndarray,
    ranks: np.ndarray,
) -> None:
    for op in range(own.size - 1, -1, -1):
        longest = 0.0
        source = devices[op]
        for tensor in range(output_offsets[op], output_offsets[op + 1]):
            for edge in range(consumer_offsets[tensor], consumer_offsets[tensor + 1]):
                consumer = consumers[edge]
                target = devices[consumer]
                path = ranks[consumer]
                if target != source:
                    path += communication * (
                        latency_seconds[source, target]
                        + tensor_bytes[tensor] / bytes_per_second[source, target]
                    )
                longest = max(longest, path)
        ranks[op] = own[op] + longest
