"""The event engine, compiled; `simulator.event_engine.reference` says the same in plain Python.

At each instant, in this order: ops and transfers that end are taken out of the event queue,
ties by priority rank, then by transfer number; each makes its consumers ready, reserves channels
for what must be sent and frees what nobody needs any more; transfers that begin now get their
buffers; idle devices start their best ready op; memory is sampled. On devices with host costs an
op takes besides what its device spends on receiving, starting and sending for it.

Several steps may be on the way (`simulator.event_engine.overlap`): the graph is one, what changes
is there once for each slot. An op of a step has a *key*, its place in the order of its device: the
step's row times the ops, and its rank; orders of training steps put a whole phase behind another.
"""

import numpy as np
from jaxtyping import Int32, Int64

from graphs.kinds import Phase
from simulator.compiled import compiled, inlined
from simulator.event_engine.agenda import occupy, schedule, touch
from simulator.event_engine.heaps import pop_event, pop_rank, push_rank
from simulator.event_engine.host_time import host_seconds, reset_hosts
from simulator.event_engine.keys import (
    edge_at,
    in_updates,
    kernel_seconds,
    key_of,
    op_at,
    rank_of_key,
    reference_at,
    row_of,
    runs_in,
    several,
    slot_of_key,
    transfer_keys,
    transfer_place,
)
from simulator.event_engine.most_memory import add_resident
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.progress import count_finished, may_start, reset_overlap
from simulator.event_engine.state import (
    EVENTS,
    FINISHED,
    LET_IN,
    STARTING,
    TOUCHED,
    EngineState,
    Recording,
)
from simulator.event_engine.transfers import begin_waiting, send, take_buffer

_UPDATE = int(Phase.UPDATE)


@inlined
def _allocate(p: ProgramArrays, s: EngineState, op: int) -> None:
    device = s.devices[op]
    s.memory[device] += p.workspace_bytes[op]
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        s.memory[device] += p.local_bytes[tensor]


@inlined
def _become_ready(
    p: ProgramArrays, s: EngineState, r: Recording, slot: int, op: int, now: float
) -> None:
    """Queue an op whose inputs are all there; one without a kernel ends at this instant."""
    n = s.overlap.slots
    device = s.devices[op]
    touch(s, device)
    if r.op_start.size > 0:
        at = op_at(n, row_of(n, slot), op)
        r.op_ready[at] = now
        r.op_start[at] = now
    key = key_of(n, s.overlap.order_offsets, slot, op, s.ranks[op])
    if kernel_seconds(n, p.seconds, s.overlap.accumulate_seconds, slot, op, device) == 0.0 and (
        p.host.size == 0 or s.crosses[op] == 0
    ):
        _allocate(p, s, op)
        schedule(s, now, key)
    else:
        push_rank(s.ready, s.ready_base[device], s.ready_size[device], key)
        s.ready_size[device] += 1


@inlined
def _deliver(
    p: ProgramArrays, s: EngineState, r: Recording, slot: int, edge: int, now: float
) -> None:
    n = s.overlap.slots
    op = p.consumers[edge]
    at = op_at(n, slot, op)
    s.missing[at] -= 1
    if s.missing[at] == 0:
        if r.op_start.size > 0:
            r.op_cause_edge[op_at(n, row_of(n, slot), op)] = edge
        _become_ready(p, s, r, slot, op, now)


@inlined
def _release(
    p: ProgramArrays, s: EngineState, r: Recording, slot: int, copy: int, now: float
) -> None:
    """Drop one reference; free the buffer with the last, then what it was a view of."""
    tensors = p.tensor_bytes.size
    o = s.overlap
    n = o.slots
    while copy >= 0:
        at = reference_at(n, slot, copy)
        s.references[at] -= 1
        if s.references[at] > 0:
            break
        if copy >= tensors:
            transfer = copy - tensors
            if r.op_start.size > 0:
                r.copy_free[n.rows * tensors + s.transfer_number[transfer]] = now
            s.memory[s.transfer_device[transfer]] -= p.remote_bytes[s.transfer_tensor[transfer]]
            break
        if r.op_start.size > 0:
            r.copy_free[row_of(n, slot) * tensors + copy] = now
        producer = p.tensor_producers[copy]
        if in_updates(n, slot) and o.phases[producer] != _UPDATE:
            s.memory[s.devices[producer]] -= o.accumulator_bytes[copy]
            break
        s.memory[s.devices[producer]] -= p.local_bytes[copy]
        alias = p.alias_edges[copy]
        copy = s.edge_copy[edge_at(n, slot, alias)] if alias >= 0 else -1


@inlined
def _hand_out(
    p: ProgramArrays, s: EngineState, r: Recording, slot: int, tensor: int, device: int, now: float
) -> int:
    """Give a tensor to its readers in a slot; returns how many readers and transfers need it."""
    o = s.overlap
    n = o.slots
    tensors = p.tensor_bytes.size
    number = row_of(n, slot) * tensors + tensor
    readers = 0
    for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
        if not runs_in(n, o.phases, slot, p.consumers[edge]):
            continue
        at = edge_at(n, slot, edge)
        target = s.devices[p.consumers[edge]]
        if target == device:
            s.edge_copy[at] = tensor
            readers += 1
            _deliver(p, s, r, slot, edge, now)
            continue
        if s.sent_tensor[target] != number:
            s.sent_tensor[target] = number
            s.sent_transfer[target] = send(p, s, r, slot, tensor, device, target, now)
            readers += 1
        copy = tensors + s.sent_transfer[target]
        s.edge_copy[at] = copy
        s.references[reference_at(n, slot, copy)] += 1
    return readers


@inlined
def _add_to_sum(
    p: ProgramArrays, s: EngineState, r: Recording, tensor: int, device: int, now: float
) -> bool:
    """Add a tensor of one step to the sum over all; whether this was the last step."""
    o = s.overlap
    o.made[tensor] += 1
    if o.made[tensor] == 1:
        s.memory[device] += o.accumulator_bytes[tensor]
        if r.op_start.size > 0:
            r.copy_start[o.slots.steps * o.slots.tensors + tensor] = now
    return o.made[tensor] == o.slots.steps


@inlined
def _finish_op(
    p: ProgramArrays, s: EngineState, r: Recording, slot: int, op: int, now: float
) -> None:
    device = s.devices[op]
    o = s.overlap
    n = o.slots
    row = row_of(n, slot)
    if s.running[device] == op_at(n, slot, op):
        s.running[device] = -1
        s.last_op[device] = op_at(n, row, op)
        touch(s, device)
    if r.op_start.size > 0:
        r.op_end[op_at(n, row, op)] = now
        r.finish_order[s.counts[FINISHED]] = op_at(n, row, op)
        s.counts[FINISHED] += 1
    s.memory[device] -= p.workspace_bytes[op]
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        into = slot
        while True:
            readers = _hand_out(p, s, r, into, tensor, device, now)
            alias = p.alias_edges[tensor] if into == slot else -1
            if readers > 0:
                s.references[reference_at(n, into, tensor)] = readers
                if alias >= 0:
                    viewed = s.edge_copy[edge_at(n, slot, alias)]
                    s.references[reference_at(n, slot, viewed)] += 1
            else:
                s.memory[device] -= p.local_bytes[tensor]
                if r.op_start.size > 0:
                    r.copy_free[row * p.tensor_bytes.size + tensor] = now
            if not several(n) or into == n.in_flight or n.updates == 0:
                break
            if o.into_update[tensor] == 0 or not _add_to_sum(p, s, r, tensor, device, now):
                break
            into = n.in_flight
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        copy = s.edge_copy[edge_at(n, slot, p.input_edges[index])]
        _release(p, s, r, slot, copy, now)
    if s.held.size > 0:
        for index in range(s.held_offsets[op], s.held_offsets[op + 1]):
            held = s.held[index]
            at = op_at(n, slot, held)
            s.missing[at] -= 1
            if s.missing[at] == 0:
                _become_ready(p, s, r, slot, held, now)
    if several(n):
        count_finished(s, slot, op)
        if o.slot_left[slot] == 0:
            o.end_seconds[row] = now
            if slot < n.in_flight:
                _let_in(p, s, r, now)


@inlined
def _let_in(p: ProgramArrays, s: EngineState, r: Recording, now: float) -> None:
    """Release steps while there is a slot for the next one: in their order."""
    o = s.overlap
    n = o.slots
    while s.counts[LET_IN] < n.steps:
        step = s.counts[LET_IN]
        slot = step % n.in_flight
        if o.slot_left[slot] > 0:
            break
        s.counts[LET_IN] += 1
        o.release_seconds[step] = now
        _fill_slot(p, s, r, slot, step, now)


@compiled  # seldom called, and inlined twice it would take long to compile
def _fill_slot(
    p: ProgramArrays, s: EngineState, r: Recording, slot: int, row: int, now: float
) -> None:
    """Begin a step, or the updates: everything is to be done, and what needs nothing is ready."""
    o = s.overlap
    n = o.slots
    ops = s.devices.size
    n.row[slot] = row
    o.slot_left[slot] = 0
    if p.host.size > 0:
        for tensor in range(p.tensor_bytes.size):
            s.taken[slot * p.tensor_bytes.size + tensor] = -1
    for device in range(o.windows.size):
        o.left_here[slot * o.windows.size + device] = 0
    for op in range(ops):
        s.missing[slot * ops + op] = p.input_offsets[op + 1] - p.input_offsets[op]
        if several(n) and runs_in(n, o.phases, slot, op):
            o.slot_left[slot] += 1
            if o.windows.size > 0:
                o.left_here[slot * o.windows.size + s.devices[op]] += 1
    for index in range(s.held.size):
        s.missing[slot * ops + s.held[index]] += 1
    for op in range(ops):
        if s.missing[slot * ops + op] == 0 and runs_in(n, o.phases, slot, op):
            _become_ready(p, s, r, slot, op, now)


@inlined
def _arrive(p: ProgramArrays, s: EngineState, r: Recording, transfer: int, now: float) -> None:
    o = s.overlap
    n = o.slots
    following = s.next_arrival[transfer]
    if following < 0:
        s.last_arrival[s.transfer_link[transfer]] = -1
    else:
        number = s.transfer_number[following]
        schedule(s, s.transfer_arrival[following], transfer_keys(n) + number)
    tensor = s.transfer_tensor[transfer]
    device = s.transfer_device[transfer]
    slot = s.transfer_slot[transfer]
    for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
        if s.devices[p.consumers[edge]] == device and runs_in(n, o.phases, slot, p.consumers[edge]):
            _deliver(p, s, r, slot, edge, now)
    _release(p, s, r, slot, tensor, now)


@inlined
def _start_best(p: ProgramArrays, s: EngineState, r: Recording, device: int, now: float) -> None:
    n = s.overlap.slots
    key = pop_rank(s.ready, s.ready_base[device], s.ready_size[device])
    s.ready_size[device] -= 1
    op = s.op_of_rank[rank_of_key(n, key)]
    slot = slot_of_key(n, key)
    s.running[device] = op_at(n, slot, op)
    s.work_left[device] -= p.seconds[op, device]
    _allocate(p, s, op)
    if r.op_start.size > 0:
        at = op_at(n, row_of(n, slot), op)
        r.op_start[at] = now
        r.op_previous[at] = s.last_op[device]
    if p.host.size > 0:
        s.starting_op[device] = op_at(n, slot, op)
    else:
        occupy(
            s,
            device,
            kernel_seconds(n, p.seconds, s.overlap.accumulate_seconds, slot, op, device),
            key,
            now,
        )


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
    makespan infinite. When each step of several began and ended is left in `s.overlap`.

    A single step that cannot end before `s.deadline`, since a device has more to do than there is
    time for, is not gone through with: what is returned lies after the deadline and not after the
    makespan, and `peak` is that of the part that ran.
    """
    ops = devices.size
    device_count = peak.size
    n = s.overlap.slots
    slots = n.in_flight + n.updates
    s.ready_base[:] = 0
    s.work_left[:] = 0.0
    for op in range(ops):
        if p.seconds[op, devices[op]] == np.inf:
            return np.inf
        s.devices[op] = devices[op]
        s.ranks[op] = ranks[op]
        s.op_of_rank[ranks[op]] = op
        s.ready_base[devices[op] + 1] += slots
        s.work_left[devices[op]] += p.seconds[op, devices[op]]
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
    add_resident(p, s.devices, s.memory, s.seen_weight)
    for device in range(device_count):
        peak[device] = s.memory[device]
    reset_overlap(s)
    _let_in(p, s, r, 0.0)
    if slots > n.in_flight:
        _fill_slot(p, s, r, n.in_flight, n.steps, 0.0)
    transfers = transfer_keys(n)

    now = 0.0
    while True:
        while s.counts[EVENTS] > 0 and s.event_time[0] == now:
            key = s.event_key[0]
            s.counts[EVENTS] = pop_event(s.event_time, s.event_key, s.counts[EVENTS])
            if key < transfers:
                _finish_op(p, s, r, slot_of_key(n, key), s.op_of_rank[rank_of_key(n, key)], now)
            else:
                number = key - transfers
                _arrive(p, s, r, transfer_place(n, number), now)
        if s.earliest_start[0] <= now:
            begin_waiting(p, s, peak, np.nextafter(now, np.inf))
        for index in range(s.counts[STARTING]):
            touch(s, take_buffer(p, s, s.starting[index]))
        s.counts[STARTING] = 0
        if s.counts[TOUCHED] != 0:
            s.counts[TOUCHED] = 0
            for device in range(device_count):
                if s.touched[device] == 0:
                    continue
                s.touched[device] = 0
                if s.running[device] < 0 and s.ready_size[device] > 0 and may_start(s, device):
                    if not several(n) and now + s.work_left[device] > s.deadline[0]:
                        return now + s.work_left[device]
                    _start_best(p, s, r, device, now)
                peak[device] = max(peak[device], s.memory[device])
            if p.host.size > 0:
                for device in range(device_count):
                    at = s.starting_op[device]
                    if at >= 0:
                        s.starting_op[device] = -1
                        slot = at // ops
                        op = at % ops
                        occupy(
                            s,
                            device,
                            host_seconds(p, s, slot, op),
                            key_of(n, s.overlap.order_offsets, slot, op, s.ranks[op]),
                            now,
                        )
        if s.counts[EVENTS] == 0:
            return now
        now = s.event_time[0]
        if s.earliest_start[0] < now:
            begin_waiting(p, s, peak, now)
