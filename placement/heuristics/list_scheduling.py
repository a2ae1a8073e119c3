"""The compiled list scheduler behind HEFT and its variants: earliest finish, within memory."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from placement.heuristics.live_memory import finish_reading, hold_outputs, start_bytes
from placement.heuristics.partial_schedule import (
    PartialSchedule,
    begin_schedule,
    planned_program,
    put_op,
)
from placement.problem import Problem
from simulator.compiled import compiled
from simulator.errors import KernelInputError
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.transfer_time import transfer_seconds
from simulator.kernel_checks import check_array, check_ranks, check_record

#: Idle intervals remembered per device; the oldest are forgotten first.
_GAPS = 64


@dataclass(frozen=True)
class ListScheduling:
    """How the list scheduler chooses a device for the next op.

    The device with the least `finish + transfer_weight * (seconds spent on sending its inputs)`
    is taken among those with room.
    """

    transfer_weight: float = 0.0
    contention: bool = True
    """Estimate when a link is free; without, each transfer finds it idle, as in plain HEFT."""
    insertion: bool = True
    """Use idle intervals between ops that are placed already."""
    memory_share: float = 1.0
    """Part of each device's memory that the estimate may fill."""


class _Streams(NamedTuple):
    """When links and devices are taken."""

    channel_free: Float64[np.ndarray, " channels"]
    gaps: Float64[np.ndarray, "2 devices gaps"]
    """Begin and end of the idle intervals that are remembered."""
    gap_count: Int64[np.ndarray, " devices"]


def schedule(
    problem: Problem,
    order: Int32[np.ndarray, " ops"],
    choice: ListScheduling,
    device_mask: Bool[np.ndarray, " devices"] | None = None,
) -> Int32[np.ndarray, " ops"]:
    """Place ops one by one in `order`, which must respect the graph's edges.

    Memory is tracked along the order: resident bytes of a unit count from its first op on,
    outputs until their last consumer is placed. Where no device has room, the one with the most
    room is taken; the simulator judges the result.

    Raises:
        KernelInputError: the order leaves an op out or has a consumer before its producer.
    """
    seconds = problem.seconds
    if device_mask is not None:
        masked = np.where(device_mask, seconds, np.inf)
        possible = np.isfinite(masked).any(axis=1, keepdims=True)
        seconds = np.where(possible, masked, seconds)
    program = planned_program(problem, seconds)
    ops, count = seconds.shape
    order = order.copy()
    check_array("order", order, "int32", (ops,))
    check_ranks("order", order)
    partial = begin_schedule(problem, choice.memory_share)
    streams = _Streams(
        channel_free=np.zeros(max(program.channel_count, 1)),
        gaps=np.zeros((2, count, _GAPS)),
        gap_count=np.zeros(count, np.int64),
    )
    check_record(streams, devices=count)
    early = _schedule(
        program,
        order,
        partial,
        streams,
        float(choice.transfer_weight),
        bool(choice.contention),
        bool(choice.insertion),
    )
    if early >= 0:
        raise KernelInputError(
            f"order has op {early} before an op that it reads from; producers must come first"
        )
    return partial.devices


@compiled
def _schedule(
    p: ProgramArrays,
    order: Int32[np.ndarray, " ops"],
    partial: PartialSchedule,
    streams: _Streams,
    transfer_weight: float,
    contention: bool,
    insertion: bool,
) -> int:
    """Place all ops; returns the first one that came before a producer, or -1."""
    devices, finish, arrival = partial.devices, partial.finish, partial.arrival
    channel_free, gaps, gap_count = streams.channel_free, streams.gaps, streams.gap_count
    device_free, unit_device = partial.device_free, partial.unit_device
    used, capacity = partial.used, partial.capacity
    device_count = capacity.size
    width = p.link_channels.shape[2]
    gap_slots = gaps.shape[2]
    for op in order:
        unit = partial.unit_of[op]
        output_bytes = start_bytes(p, op)
        best, best_score = -1, np.inf
        roomiest, most_room = -1, np.int64(-(1 << 62))
        for device in range(device_count):
            if p.seconds[op, device] == np.inf:
                continue
            if unit_device[unit] >= 0 and unit_device[unit] != device:
                continue
            need = output_bytes
            if unit_device[unit] < 0:
                need += partial.unit_resident_bytes[unit]
            ready = 0.0
            sending = 0.0
            for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
                tensor = p.edge_tensors[p.input_edges[index]]
                producer = p.tensor_producers[tensor]
                source = devices[producer]
                when = finish[producer]
                if source != device:
                    if arrival[tensor, device] >= 0.0:
                        when = arrival[tensor, device]
                    else:
                        need += p.remote_bytes[tensor]
                        lasting = transfer_seconds(p, tensor, source, device)
                        if contention:
                            for slot in range(width):
                                channel = p.link_channels[source, device, slot]
                                if channel >= 0:
                                    when = max(when, channel_free[channel])
                        when += lasting
                        sending += lasting
                ready = max(ready, when)
            start = max(ready, device_free[device])
            if insertion:
                for gap in range(gap_count[device]):
                    begin = max(ready, gaps[0, device, gap])
                    if begin < start and begin + p.seconds[op, device] <= gaps[1, device, gap]:
                        start = begin
            room = capacity[device] - used[device] - need
            if room > most_room:
                roomiest, most_room = device, room
            score = start + p.seconds[op, device] + transfer_weight * sending
            if room >= 0 and score < best_score:
                best, best_score = device, score
        if best < 0:
            best = roomiest
        device = best

        put_op(partial, op, device)
        ready = 0.0
        for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
            tensor = p.edge_tensors[p.input_edges[index]]
            producer = p.tensor_producers[tensor]
            source = devices[producer]
            if source < 0:
                return op
            when = finish[producer]
            if source != device:
                if arrival[tensor, device] < 0.0:
                    for slot in range(width):
                        channel = p.link_channels[source, device, slot]
                        if contention and channel >= 0:
                            when = max(when, channel_free[channel])
                    free = when + p.tensor_bytes[tensor] / p.link_bytes_per_second[source, device]
                    for slot in range(width):
                        channel = p.link_channels[source, device, slot]
                        if channel >= 0:
                            channel_free[channel] = free
                    arrival[tensor, device] = free + p.link_latency_seconds[source, device]
                    used[device] += p.remote_bytes[tensor]
                when = arrival[tensor, device]
            ready = max(ready, when)
        lasting = p.seconds[op, device]
        start = max(ready, device_free[device])
        chosen = -1
        if insertion:
            for gap in range(gap_count[device]):
                begin = max(ready, gaps[0, device, gap])
                if begin < start and begin + lasting <= gaps[1, device, gap]:
                    start, chosen = begin, gap
        finish[op] = start + lasting
        if lasting > 0.0 and chosen >= 0:
            # The part of the interval before the op is dropped unless it is the larger one.
            if start - gaps[0, device, chosen] > gaps[1, device, chosen] - finish[op]:
                gaps[1, device, chosen] = start
            else:
                gaps[0, device, chosen] = finish[op]
        elif lasting > 0.0:
            if insertion and start > device_free[device]:
                slot = gap_count[device]
                if slot == gap_slots:
                    slot = 0
                    for gap in range(1, gap_slots):
                        if gaps[1, device, gap] < gaps[1, device, slot]:
                            slot = gap
                else:
                    gap_count[device] += 1
                gaps[0, device, slot] = device_free[device]
                gaps[1, device, slot] = start
            device_free[device] = finish[op]
        finish_reading(p, partial, op)
        hold_outputs(p, partial, op)
    return -1
