"""The event engine, compiled; `simulator.event_engine.reference` says the same in plain Python.

At each instant, in this order: ops and transfers that end are taken out of the event queue,
ties by priority rank, then by transfer number; each makes its consumers ready, reserves channels
for what must be sent and frees what nobody needs any more; transfers that begin now get their
buffers; idle devices start their best ready op; memory is sampled. On devices with host costs an
op takes besides what its device spends on receiving, starting and sending for it.
"""

import numpy as np
from jaxtyping import Int32, Int64

from simulator.compiled import compiled, inlined
from simulator.event_engine.heaps import pop_event, pop_rank, push_event, push_rank
from simulator.event_engine.host_time import host_seconds, reset_hosts
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.state import (
    EVENTS,
    FINISHED,
    STARTING,
    TOUCHED,
    TRANSFERS,
    EngineState,
    Recording,
)


@inlined
def base_memory(p: ProgramArrays, s: EngineState) -> None:
    """Add what is resident before the step: parameters, and weights wherever they are read."""
    for op in range(s.devices.size):
        s.memory[s.devices[op]] += p.resident_bytes[op]
    s.seen_weight[:] = -1
    for weight in range(p.weight_bytes.size):
        for edge in range(p.weight_offsets[weight], p.weight_offsets[weight + 1]):
            device = s.devices[p.weight_consumers[edge]]
            if s.seen_weight[device] != weight:
                s.seen_weight[device] = weight
                s.memory[device] += p.weight_bytes[weight]


@inlined
def _schedule(s: EngineState, time: float, key: int) -> None:
    s.counts[EVENTS] = push_event(s.event_time, s.event_key, s.counts[EVENTS], time, key)


@inlined
def _touch(s: EngineState, device: int) -> None:
    s.touched[device] = 1
    s.counts[TOUCHED] = 1


@inlined
def _allocate(p: ProgramArrays, s: EngineState, op: int) -> None:
    device = s.devices[op]
    s.memory[device] += p.workspace_bytes[op]
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        s.memory[device] += p.local_bytes[tensor]


@inlined
def _become_ready(p: ProgramArrays, s: EngineState, r: Recording, op: int, now: float) -> None:
    """Queue an op whose inputs are all there; one without a kernel ends at this instant."""
    device = s.devices[op]
    _touch(s, device)
    if r.op_start.size > 0:
        r.op_ready[op] = now
        r.op_start[op] = now
    if p.seconds[op, device] == 0.0 and (p.host.size == 0 or s.crosses[op] == 0):
        _allocate(p, s, op)
        _schedule(s, now, s.ranks[op])
    else:
        push_rank(s.ready, s.ready_base[device], s.ready_size[device], s.ranks[op])
        s.ready_size[device] += 1


@inlined
def _deliver(p: ProgramArrays, s: EngineState, r: Recording, edge: int, now: float) -> None:
    op = p.consumers[edge]
    s.missing[op] -= 1
    if s.missing[op] == 0:
        if r.op_start.size > 0:
            r.op_cause_edge[op] = edge
        _become_ready(p, s, r, op, now)


@inlined
def _send(
    p: ProgramArrays,
    s: EngineState,
    r: Recording,
    tensor: int,
    source: int,
    target: int,
    now: float,
) -> int:
    """Reserve the link's channels, first come first served; returns the transfer's number."""
    transfer = s.counts[TRANSFERS]
    s.counts[TRANSFERS] += 1
    start = now
    blocker = -1
    for slot in range(p.link_channels.shape[2]):
        channel = p.link_channels[source, target, slot]
        if channel >= 0 and s.channel_free[channel] > start:
            start = s.channel_free[channel]
            blocker = s.channel_copy[channel]
    free = start + p.tensor_bytes[tensor] / p.wire_bytes_per_second[source, target]
    arrival = free + p.wire_latency_seconds[source, target]
    copy = p.tensor_bytes.size + transfer
    for slot in range(p.link_channels.shape[2]):
        channel = p.link_channels[source, target, slot]
        if channel >= 0:
            s.channel_free[channel] = free
            s.channel_copy[channel] = copy
    s.transfer_device[transfer] = target
    s.transfer_tensor[transfer] = tensor
    link = source * s.running.size + target
    s.transfer_link[transfer] = link
    s.transfer_start[transfer] = start
    s.transfer_arrival[transfer] = arrival
    s.next_start[transfer] = -1
    s.next_arrival[transfer] = -1
    if start <= now:
        s.starting[s.counts[STARTING]] = transfer
        s.counts[STARTING] += 1
    else:
        if s.first_start[link] < 0:
            s.first_start[link] = transfer
            s.earliest_start[0] = min(s.earliest_start[0], start)
        else:
            s.next_start[s.last_start[link]] = transfer
        s.last_start[link] = transfer
    if s.last_arrival[link] < 0:
        _schedule(s, arrival, s.devices.size + transfer)
    else:
        s.next_arrival[s.last_arrival[link]] = transfer
    s.last_arrival[link] = transfer
    if r.op_start.size > 0:
        r.copy_tensor[copy] = tensor
        r.copy_device[copy] = target
        r.copy_request[copy] = now
        r.copy_start[copy] = start
        r.copy_arrival[copy] = arrival
        r.copy_blocker[copy] = blocker
    return transfer


@inlined
def _release(p: ProgramArrays, s: EngineState, r: Recording, copy: int, now: float) -> None:
    """Drop one reference; free the buffer with the last, then what it was a view of."""
    tensors = p.tensor_bytes.size
    while copy >= 0:
        s.references[copy] -= 1
        if s.references[copy] > 0:
            break
        if r.op_start.size > 0:
            r.copy_free[copy] = now
        if copy >= tensors:
            transfer = copy - tensors
            s.memory[s.transfer_device[transfer]] -= p.remote_bytes[s.transfer_tensor[transfer]]
            break
        s.memory[s.devices[p.tensor_producers[copy]]] -= p.local_bytes[copy]
        alias = p.alias_edges[copy]
        copy = s.edge_copy[alias] if alias >= 0 else -1


@inlined
def _finish_op(p: ProgramArrays, s: EngineState, r: Recording, op: int, now: float) -> None:
    device = s.devices[op]
    tensors = p.tensor_bytes.size
    if s.running[device] == op:
        s.running[device] = -1
        s.last_op[device] = op
        _touch(s, device)
    if r.op_start.size > 0:
        r.op_end[op] = now
        r.finish_order[s.counts[FINISHED]] = op
        s.counts[FINISHED] += 1
    s.memory[device] -= p.workspace_bytes[op]
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        readers = 0
        for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
            target = s.devices[p.consumers[edge]]
            if target == device:
                s.edge_copy[edge] = tensor
                readers += 1
                _deliver(p, s, r, edge, now)
                continue
            if s.sent_tensor[target] != tensor:
                s.sent_tensor[target] = tensor
                s.sent_transfer[target] = _send(p, s, r, tensor, device, target, now)
                readers += 1
            copy = tensors + s.sent_transfer[target]
            s.edge_copy[edge] = copy
            s.references[copy] += 1
        alias = p.alias_edges[tensor]
        if readers > 0:
            s.references[tensor] = readers
            if alias >= 0:
                s.references[s.edge_copy[alias]] += 1
        else:
            s.memory[device] -= p.local_bytes[tensor]
            if r.op_start.size > 0:
                r.copy_free[tensor] = now
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        _release(p, s, r, s.edge_copy[p.input_edges[index]], now)
    if s.held.size > 0:
        for index in range(s.held_offsets[op], s.held_offsets[op + 1]):
            held = s.held[index]
            s.missing[held] -= 1
            if s.missing[held] == 0:
                _become_ready(p, s, r, held, now)


@inlined
def _arrive(p: ProgramArrays, s: EngineState, r: Recording, transfer: int, now: float) -> None:
    following = s.next_arrival[transfer]
    if following < 0:
        s.last_arrival[s.transfer_link[transfer]] = -1
    else:
        _schedule(s, s.transfer_arrival[following], s.devices.size + following)
    tensor = s.transfer_tensor[transfer]
    device = s.transfer_device[transfer]
    for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
        if s.devices[p.consumers[edge]] == device:
            _deliver(p, s, r, edge, now)
    _release(p, s, r, tensor, now)


@inlined
def _take_buffer(p: ProgramArrays, s: EngineState, transfer: int) -> int:
    device = s.transfer_device[transfer]
    s.memory[device] += p.remote_bytes[s.transfer_tensor[transfer]]
    return device


@inlined
def _begin_waiting(p: ProgramArrays, s: EngineState, peak: np.ndarray, limit: float) -> None:
    """Start the transfers whose time came before `limit`, and find the next after it."""
    s.earliest_start[0] = np.inf
    for link in range(s.first_start.size):
        transfer = s.first_start[link]
        while transfer >= 0 and s.transfer_start[transfer] < limit:
            device = _take_buffer(p, s, transfer)
            peak[device] = max(peak[device], s.memory[device])
            transfer = s.next_start[transfer]
        s.first_start[link] = transfer
        if transfer >= 0:
            s.earliest_start[0] = min(s.earliest_start[0], s.transfer_start[transfer])


@inlined
def _start_best(p: ProgramArrays, s: EngineState, r: Recording, device: int, now: float) -> None:
    rank = pop_rank(s.ready, s.ready_base[device], s.ready_size[device])
    s.ready_size[device] -= 1
    op = s.op_of_rank[rank]
    s.running[device] = op
    _allocate(p, s, op)
    if r.op_start.size > 0:
        r.op_start[op] = now
        r.op_previous[op] = s.last_op[device]
    if p.host.size > 0:
        s.starting_op[device] = op
    else:
        _schedule(s, now + p.seconds[op, device], rank)


@compiled
def run_kernel(
    p: ProgramArrays,
    s: EngineState,
    devices: Int32[np.ndarray, " ops"],
    ranks: Int32[np.ndarray, " ops"],
    peak: Int64[np.ndarray, " devices"],
    r: Recording,
) -> float:
    """Execute a plan; returns the makespan in seconds and fills `peak` bytes per device.

    `ranks` is a permutation, 0 the most urgent. An op on a device that cannot run it makes the
    makespan infinite.
    """
    ops = devices.size
    device_count = peak.size
    s.ready_base[:] = 0
    for op in range(ops):
        if p.seconds[op, devices[op]] == np.inf:
            return np.inf
        s.devices[op] = devices[op]
        s.ranks[op] = ranks[op]
        s.op_of_rank[ranks[op]] = op
        s.ready_base[devices[op] + 1] += 1
        s.missing[op] = p.input_offsets[op + 1] - p.input_offsets[op]
    for index in range(s.held.size):
        s.missing[s.held[index]] += 1
    for device in range(device_count):
        s.ready_base[device + 1] += s.ready_base[device]
        s.ready_size[device] = 0
        s.running[device] = -1
        s.last_op[device] = -1
        s.sent_tensor[device] = -1
        s.touched[device] = 0
        s.memory[device] = 0
    s.references[:] = 0
    s.first_start[:] = -1
    s.earliest_start[0] = np.inf
    s.last_arrival[:] = -1
    s.channel_free[:] = 0.0
    s.channel_copy[:] = -1
    s.counts[:] = 0
    if p.host.size > 0:
        reset_hosts(p, s)
    base_memory(p, s)
    for device in range(device_count):
        peak[device] = s.memory[device]
    for op in range(ops):
        if s.missing[op] == 0:
            _become_ready(p, s, r, op, 0.0)

    now = 0.0
    while True:
        while s.counts[EVENTS] > 0 and s.event_time[0] == now:
            key = s.event_key[0]
            s.counts[EVENTS] = pop_event(s.event_time, s.event_key, s.counts[EVENTS])
            if key < ops:
                _finish_op(p, s, r, s.op_of_rank[key], now)
            else:
                _arrive(p, s, r, key - ops, now)
        if s.earliest_start[0] <= now:
            _begin_waiting(p, s, peak, np.nextafter(now, np.inf))
        for index in range(s.counts[STARTING]):
            _touch(s, _take_buffer(p, s, s.starting[index]))
        s.counts[STARTING] = 0
        if s.counts[TOUCHED] != 0:
            s.counts[TOUCHED] = 0
            for device in range(device_count):
                if s.touched[device] == 0:
                    continue
                s.touched[device] = 0
                if s.running[device] < 0 and s.ready_size[device] > 0:
                    _start_best(p, s, r, device, now)
                peak[device] = max(peak[device], s.memory[device])
            if p.host.size > 0:
                for device in range(device_count):
                    op = s.starting_op[device]
                    if op >= 0:
                        s.starting_op[device] = -1
                        _schedule(s, now + host_seconds(p, s, op), s.ranks[op])
        if s.counts[EVENTS] == 0:
            return now
        now = s.event_time[0]
        if s.earliest_start[0] < now:
            _begin_waiting(p, s, peak, now)
