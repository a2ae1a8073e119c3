"""m-ETF and m-SCT: among ready ops, the one that can start earliest anywhere goes next.

After Jeon et al., "Baechi: Fast Device Placement of Machine Learning Graphs" (SoCC 2020),
section 3, whose devices are alike; on unlike ones a start counts as late by what the device is
slower than the op's fastest. SCT's favourite children, there from a linear program, come from a
greedy matching on transfer time here.
"""

import numpy as np
from jaxtyping import Int32

from placement.heuristics.live_memory import finish_reading, hold_outputs, start_bytes
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.compiled import compiled
from simulator.event_engine.program import ProgramArrays

#: Ready ops compared at each step; more change little and cost time linearly.
_WINDOW = 48


def earliest_start(
    problem: Problem, favourites: bool, memory_share: float = 1.0
) -> Int32[np.ndarray, " ops"]:
    """Place by earliest start within memory; with `favourites`, as SCT does.

    An op and its favourite child attract each other: the child counts as if its transfer from
    the parent's device cost double elsewhere.
    """
    arrays = problem.simulator.program.arrays
    seconds = problem.seconds
    ops, count = seconds.shape
    unit_resident = np.bincount(
        problem.unit_of, problem.graph.resident_bytes, problem.unit_count
    ).astype(np.int64)
    favourite_parent = _favourite_parents(problem) if favourites else np.full(ops, -1, np.int32)
    devices = np.full(ops, -1, np.int32)
    urgency = upward_ranks(problem)
    _place(
        arrays._replace(seconds=np.ascontiguousarray(seconds)),
        urgency,
        problem.unit_of,
        unit_resident,
        (problem.cluster.memory_bytes * memory_share).astype(np.int64),
        favourite_parent,
        devices,
        np.full(problem.unit_count, -1, np.int32),
        np.zeros(ops),
        np.full((problem.simulator.program.tensor_count, count), -1.0),
        np.zeros(count),
        np.diff(arrays.input_offsets),
        np.empty(ops, np.int32),
        np.diff(arrays.consumer_offsets),
        np.zeros(count, np.int64),
    )
    return devices


def _favourite_parents(problem: Problem) -> Int32[np.ndarray, " ops"]:
    """Match producers and consumers greedily, the longest transfer first, each at most once."""
    arrays = problem.simulator.program.arrays
    sources = arrays.tensor_producers[arrays.edge_tensors]
    order = np.argsort(-arrays.tensor_bytes[arrays.edge_tensors], kind="stable")
    parents = np.full(problem.graph.op_count, -1, np.int32)
    taken = np.zeros(problem.graph.op_count, bool)
    for source, target in zip(
        sources[order].tolist(), arrays.consumers[order].tolist(), strict=True
    ):
        if not taken[source] and parents[target] < 0:
            parents[target] = source
            taken[source] = True
    return parents


@compiled
def _place(
    p: ProgramArrays,
    urgency: np.ndarray,
    unit_of: np.ndarray,
    unit_resident: np.ndarray,
    capacity: np.ndarray,
    favourite_parent: np.ndarray,
    devices: np.ndarray,
    unit_device: np.ndarray,
    finish: np.ndarray,
    arrival: np.ndarray,
    device_free: np.ndarray,
    missing: np.ndarray,
    ready_ops: np.ndarray,
    readers_left: np.ndarray,
    used: np.ndarray,
) -> None:
    device_count = capacity.size
    ready_count = 0
    for op in range(devices.size):
        if missing[op] == 0:
            ready_ops[ready_count] = op
            ready_count += 1
    while ready_count > 0:
        best_slot, best_device, best_start = -1, -1, np.inf
        for slot in range(min(ready_count, _WINDOW)):
            op = ready_ops[slot]
            unit = unit_of[op]
            output_bytes = start_bytes(p, op)
            fastest = np.inf
            for device in range(device_count):
                fastest = min(fastest, p.seconds[op, device])
            for device in range(device_count):
                if p.seconds[op, device] == np.inf:
                    continue
                if unit_device[unit] >= 0 and unit_device[unit] != device:
                    continue
                need = output_bytes
                if unit_device[unit] < 0:
                    need += unit_resident[unit]
                start = device_free[device]
                for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
                    tensor = p.edge_tensors[p.input_edges[index]]
                    producer = p.tensor_producers[tensor]
                    source = devices[producer]
                    when = finish[producer]
                    if source != device:
                        if arrival[tensor, device] < 0.0:
                            need += p.remote_bytes[tensor]
                        lasting = p.link_latency_seconds[source, device] + (
                            p.tensor_bytes[tensor] / p.link_bytes_per_second[source, device]
                        )
                        if favourite_parent[op] == producer:
                            lasting *= 2
                        when += lasting
                    start = max(start, when)
                if used[device] + need > capacity[device] and unit_device[unit] < 0:
                    start += 1e6 * (1.0 + (used[device] + need) / capacity[device])
                # On unlike devices an early start on a slow one is worth nothing.
                start += p.seconds[op, device] - fastest
                # Ties in start go to the op with the longer way to the end.
                better = start < best_start or (
                    start == best_start and urgency[op] > urgency[ready_ops[best_slot]]
                )
                if better:
                    best_slot, best_device, best_start = slot, device, start
        op = ready_ops[best_slot]
        ready_count -= 1
        ready_ops[best_slot] = ready_ops[ready_count]
        device = best_device
        unit = unit_of[op]
        devices[op] = device
        if unit_device[unit] < 0:
            unit_device[unit] = device
            used[device] += unit_resident[unit]
        start = device_free[device]
        for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
            tensor = p.edge_tensors[p.input_edges[index]]
            producer = p.tensor_producers[tensor]
            source = devices[producer]
            when = finish[producer]
            if source != device:
                if arrival[tensor, device] < 0.0:
                    arrival[tensor, device] = finish[producer] + (
                        p.link_latency_seconds[source, device]
                        + p.tensor_bytes[tensor] / p.link_bytes_per_second[source, device]
                    )
                    used[device] += p.remote_bytes[tensor]
                when = arrival[tensor, device]
            start = max(start, when)
        finish[op] = start + p.seconds[op, device]
        if p.seconds[op, device] > 0.0:
            device_free[device] = finish[op]
        finish_reading(p, op, devices, arrival, readers_left, used)
        hold_outputs(p, op, device, readers_left, used)
        for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
            for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
                consumer = p.consumers[edge]
                missing[consumer] -= 1
                if missing[consumer] == 0:
                    ready_ops[ready_count] = consumer
                    ready_count += 1
