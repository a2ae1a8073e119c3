"""m-ETF and m-SCT: among ready ops, the one that can start earliest anywhere goes next.

After Jeon et al., "Baechi: Fast Device Placement of Machine Learning Graphs" (SoCC 2020),
section 3, whose devices are alike; on unlike ones a start counts as late by what the device is
slower than the op's fastest. SCT's favourite children, there from a linear program, come from a
greedy matching on transfer time here.
"""

import numpy as np
from jaxtyping import Float64, Int32

from placement.heuristics.live_memory import finish_reading, hold_outputs, start_bytes
from placement.heuristics.partial_schedule import (
    PartialSchedule,
    begin_schedule,
    planned_program,
    put_op,
)
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.compiled import compiled
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.transfer_time import transfer_seconds

#: Ready ops compared at each step; more change little and cost time linearly.
_WINDOW = 48


def earliest_start(
    problem: Problem, favourites: bool, memory_share: float = 1.0
) -> Int32[np.ndarray, " ops"]:
    """Place by earliest start within memory; with `favourites`, as SCT does.

    An op and its favourite child attract each other: the child counts as if its transfer from
    the parent's device cost double elsewhere.
    """
    program = planned_program(problem, problem.seconds)
    ops = len(program.seconds)
    partial = begin_schedule(problem, memory_share)
    _place(
        program,
        partial,
        upward_ranks(problem),
        _favourite_parents(problem) if favourites else np.full(ops, -1, np.int32),
        np.diff(program.input_offsets),
        np.empty(ops, np.int32),
    )
    return partial.devices


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
    partial: PartialSchedule,
    urgency: Float64[np.ndarray, " ops"],
    favourite_parent: Int32[np.ndarray, " ops"],
    missing: Int32[np.ndarray, " ops"],
    ready_ops: Int32[np.ndarray, " ops"],
) -> None:
    """`missing` counts the inputs that each op waits for; `ready_ops` is scratch."""
    devices, finish, arrival = partial.devices, partial.finish, partial.arrival
    device_free, unit_device = partial.device_free, partial.unit_device
    used, capacity = partial.used, partial.capacity
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
            unit = partial.unit_of[op]
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
                    need += partial.unit_resident_bytes[unit]
                start = device_free[device]
                for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
                    tensor = p.edge_tensors[p.input_edges[index]]
                    producer = p.tensor_producers[tensor]
                    source = devices[producer]
                    when = finish[producer]
                    if source != device:
                        if arrival[tensor, device] < 0.0:
                            need += p.remote_bytes[tensor]
                        lasting = transfer_seconds(p, tensor, source, device)
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
        put_op(partial, op, device)
        start = device_free[device]
        for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
            tensor = p.edge_tensors[p.input_edges[index]]
            producer = p.tensor_producers[tensor]
            source = devices[producer]
            when = finish[producer]
            if source != device:
                if arrival[tensor, device] < 0.0:
                    lasting = transfer_seconds(p, tensor, source, device)
                    arrival[tensor, device] = finish[producer] + lasting
                    used[device] += p.remote_bytes[tensor]
                when = arrival[tensor, device]
            start = max(start, when)
        finish[op] = start + p.seconds[op, device]
        if p.seconds[op, device] > 0.0:
            device_free[device] = finish[op]
        finish_reading(p, partial, op)
        hold_outputs(p, partial, op)
        for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
            for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
                consumer = p.consumers[edge]
                missing[consumer] -= 1
                if missing[consumer] == 0:
                    ready_ops[ready_count] = consumer
                    ready_count += 1
