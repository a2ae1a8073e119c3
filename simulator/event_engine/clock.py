"""How long a step takes, where nobody asks about memory: the clock of the event engine alone.

Memory makes no op wait, so that a plan's step time follows from ops, transfers and their order.
What is left out, beside recordings, several steps and devices with host costs, is every count of
who still needs which copy: a search asks for it only of plans that are fast enough to be kept.

Instants, ties and sums are those of `simulator.event_engine.kernel`, to the last bit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from simulator.compiled import compiled, inlined
from simulator.event_engine.heaps import pop_event, pop_rank, push_event, push_rank
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.transfer_time import reserve
from simulator.kernel_checks import check_record

#: Columns of `Clock.ops`: inputs that an op waits for, its device, its rank. One memory access
#: finds all of them.
_MISSING, _DEVICE, _RANK = range(3)

#: Columns of `Clock.transfers`; the transfer that arrives next on the same link, or -1.
_TENSOR, _TARGET, _LINK, _NEXT = range(4)

#: Places in `Clock.counts`.
_EVENTS, _TRANSFERS = range(2)


class Clock(NamedTuple):
    """What changes during a run; reusable for the next one."""

    ops: Int32[np.ndarray, "ops 4"]
    seconds: Float64[np.ndarray, " ops"]
    """Of each op on its device."""
    op_of_rank: Int32[np.ndarray, " ops"]
    ready: Int32[np.ndarray, " device_ops"]
    """A heap of ranks for each device, with room for all ops."""
    ready_size: Int64[np.ndarray, " devices"]
    running: Int32[np.ndarray, " devices"]
    """The op that runs on each device, or -1."""
    work_left: Float64[np.ndarray, " devices"]
    """Seconds of all ops that a device has not started yet."""
    touched: UInt8[np.ndarray, " devices"]
    """Devices that may start an op at this instant."""
    event_time: Float64[np.ndarray, " events"]
    event_key: Int64[np.ndarray, " events"]
    """The rank of an op that ends; beyond all ranks, the number of a transfer that arrives."""
    sent_tensor: Int32[np.ndarray, " devices"]
    """The tensor last sent to each device, to send it there once."""
    transfers: Int32[np.ndarray, "edges 4"]
    arrival: Float64[np.ndarray, " edges"]
    last_arrival: Int32[np.ndarray, " links"]
    """The transfer that arrives last of those on the way on each link, or -1."""
    channel_free: Float64[np.ndarray, " channels"]
    counts: Int64[np.ndarray, " 2"]


def make_clock(p: ProgramArrays) -> Clock:
    """Room for runs of one program, one at a time."""
    ops, devices = p.seconds.shape
    edges, events = len(p.consumers), ops + devices * (devices + 1)
    clock = Clock(
        ops=np.zeros((ops, 4), np.int32),
        seconds=np.zeros(ops),
        op_of_rank=np.zeros(ops, np.int32),
        ready=np.zeros(devices * ops, np.int32),
        ready_size=np.zeros(devices, np.int64),
        running=np.zeros(devices, np.int32),
        work_left=np.zeros(devices),
        touched=np.zeros(devices, np.uint8),
        event_time=np.zeros(events),
        event_key=np.zeros(events, np.int64),
        sent_tensor=np.zeros(devices, np.int32),
        transfers=np.zeros((edges, 4), np.int32),
        arrival=np.zeros(edges),
        last_arrival=np.zeros(devices * devices, np.int32),
        channel_free=np.zeros(p.channel_count),
        counts=np.zeros(2, np.int64),
    )
    check_record(clock, ops=ops, devices=devices, edges=edges, channels=p.channel_count)
    return clock


@inlined
def _schedule(c: Clock, time: float, key: int) -> None:
    c.counts[_EVENTS] = push_event(c.event_time, c.event_key, c.counts[_EVENTS], time, key)


@inlined
def _become_ready(c: Clock, op: int, now: float) -> None:
    """Queue an op whose inputs are all there; one without a kernel ends at this instant."""
    device = c.ops[op, _DEVICE]
    c.touched[device] = 1
    if c.seconds[op] == 0.0:
        _schedule(c, now, c.ops[op, _RANK])
    else:
        push_rank(c.ready, device * c.seconds.size, c.ready_size[device], c.ops[op, _RANK])
        c.ready_size[device] += 1


@inlined
def _deliver(c: Clock, op: int, now: float) -> None:
    c.ops[op, _MISSING] -= 1
    if c.ops[op, _MISSING] == 0:
        _become_ready(c, op, now)


@inlined
def _send(p: ProgramArrays, c: Clock, tensor: int, source: int, target: int, now: float) -> None:
    transfer = c.counts[_TRANSFERS]
    c.counts[_TRANSFERS] += 1
    link = source * c.running.size + target
    _, _, c.arrival[transfer] = reserve(p, c.channel_free, tensor, source, target, now)
    c.transfers[transfer, _TENSOR] = tensor
    c.transfers[transfer, _TARGET] = target
    c.transfers[transfer, _LINK] = link
    c.transfers[transfer, _NEXT] = -1
    if c.last_arrival[link] < 0:
        _schedule(c, c.arrival[transfer], c.seconds.size + transfer)
    else:
        c.transfers[c.last_arrival[link], _NEXT] = transfer
    c.last_arrival[link] = transfer


@inlined
def _finish_op(p: ProgramArrays, c: Clock, op: int, now: float) -> None:
    device = c.ops[op, _DEVICE]
    if c.running[device] == op:
        c.running[device] = -1
        c.touched[device] = 1
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
            consumer = p.consumers[edge]
            target = c.ops[consumer, _DEVICE]
            if target == device:
                _deliver(c, consumer, now)
            elif c.sent_tensor[target] != tensor:
                c.sent_tensor[target] = tensor
                _send(p, c, tensor, device, target, now)


@inlined
def _arrive(p: ProgramArrays, c: Clock, transfer: int, now: float) -> None:
    following = c.transfers[transfer, _NEXT]
    if following < 0:
        c.last_arrival[c.transfers[transfer, _LINK]] = -1
    else:
        _schedule(c, c.arrival[following], c.seconds.size + following)
    tensor, device = c.transfers[transfer, _TENSOR], c.transfers[transfer, _TARGET]
    for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
        consumer = p.consumers[edge]
        if c.ops[consumer, _DEVICE] == device:
            _deliver(c, consumer, now)


@inlined
def _start_best(c: Clock, device: int, now: float) -> None:
    rank = pop_rank(c.ready, device * c.seconds.size, c.ready_size[device])
    c.ready_size[device] -= 1
    op = c.op_of_rank[rank]
    c.running[device] = op
    c.work_left[device] -= c.seconds[op]
    _schedule(c, now + c.seconds[op], rank)


@inlined
def _take_plan(
    p: ProgramArrays,
    c: Clock,
    devices: Int32[np.ndarray, " ops"],
    ranks: Int32[np.ndarray, " ops"],
) -> bool:
    """Note what each op waits for, where it runs and for how long; False where it cannot."""
    c.work_left[:] = 0.0
    for op in range(devices.size):
        device = devices[op]
        seconds = p.seconds[op, device]
        if seconds == np.inf:
            return False
        c.ops[op, _MISSING] = p.input_offsets[op + 1] - p.input_offsets[op]
        c.ops[op, _DEVICE] = device
        c.ops[op, _RANK] = ranks[op]
        c.seconds[op] = seconds
        c.op_of_rank[ranks[op]] = op
        c.work_left[device] += seconds
    return True


@compiled
def run_clock(
    p: ProgramArrays,
    c: Clock,
    devices: Int32[np.ndarray, " ops"],
    ranks: Int32[np.ndarray, " ops"],
    deadline: float,
) -> float:
    """The makespan of a plan in seconds, of one step on devices without host costs.

    Args:
        p: the program.
        c: room for a run of it.
        devices: of each op; where one cannot run it, the makespan is infinite.
        ranks: a permutation, 0 the most urgent.
        deadline: a step that cannot end by then, since a device has more to do than there is time
            for, is not gone through with: what is returned lies after the deadline, and not after
            the makespan. Seconds; infinite for the whole step.
    """
    ops = devices.size
    if not _take_plan(p, c, devices, ranks):
        return np.inf
    c.ready_size[:] = 0
    c.running[:] = -1
    c.touched[:] = 0
    c.sent_tensor[:] = -1
    c.last_arrival[:] = -1
    c.channel_free[:] = 0.0
    c.counts[:] = 0
    for op in range(ops):
        if c.ops[op, _MISSING] == 0:
            _become_ready(c, op, 0.0)
    now = 0.0
    while True:
        while c.counts[_EVENTS] > 0 and c.event_time[0] == now:
            key = c.event_key[0]
            c.counts[_EVENTS] = pop_event(c.event_time, c.event_key, c.counts[_EVENTS])
            if key < ops:
                _finish_op(p, c, c.op_of_rank[key], now)
            else:
                _arrive(p, c, key - ops, now)
        for device in range(c.running.size):
            if c.touched[device] == 0:
                continue
            c.touched[device] = 0
            if c.running[device] < 0 and c.ready_size[device] > 0:
                if now + c.work_left[device] > deadline:
                    return now + c.work_left[device]
                _start_best(c, device, now)
        if c.counts[_EVENTS] == 0:
            return now
        now = c.event_time[0]
