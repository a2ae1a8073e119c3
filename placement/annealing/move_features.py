"""What the trace of a plan tells of one move: a group of ops, as a whole, to a device.

Compiled, and worked out for one move at a time: a search that draws some moves and asks a network
which of them to simulate pays for those alone.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from placement.annealing.moves import MoveGroups
from simulator.compiled import compiled, inlined
from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.state import TRANSFERS, EngineState, Recording
from simulator.event_engine.transfer_time import transfer_seconds
from simulator.kernel_checks import check_record
from simulator.log_scale import log_of_share, signed_log_of_share
from simulator.traces.slack import CRITICAL_SHARE, RanOps, slack_backward

#: Of the group; of its compute; of the devices; of what it reads and writes; of memory; of the
#: plan as a whole; of earlier tries of the same move.
MOVE_COLUMNS = (
    "level", "moved_count", "moved_share", "is_split", "first_start", "last_end",
    "seconds_here", "seconds_there", "pace", "critical_here", "critical_change", "least_slack",
    "most_slack", "queued", "critical_queued",
    "busy_there", "busy_here", "busy_there_after", "busy_most", "load_there", "load_here",
    "critical_there", "load_around_there", "idle_after_there",
    "pull_now", "pull_after", "push_now", "push_after", "change", "critical_pull",
    "critical_push", "late_in", "earlier_in", "late_out", "earlier_out", "inputs_there",
    "inputs_here", "outputs_there", "outputs_here", "sent_there", "received_there", "sent_here",
    "received_here",
    "peak_there", "peak_there_after", "peak_here", "excess",
    "devices", "critical_sending", "mean_busy", "op_count", "heat",
    "was_tried", "tried_ago", "tried_change", "tried_better", "group_tried_ago",
)  # fmt: skip

(
    _LEVEL, _MOVED_COUNT, _MOVED_SHARE, _IS_SPLIT, _FIRST_START, _LAST_END,
    _SECONDS_HERE, _SECONDS_THERE, _PACE, _CRITICAL_HERE, _CRITICAL_CHANGE, _LEAST_SLACK,
    _MOST_SLACK, _QUEUED, _CRITICAL_QUEUED,
    _BUSY_THERE, _BUSY_HERE, _BUSY_THERE_AFTER, _BUSY_MOST, _LOAD_THERE, _LOAD_HERE,
    _CRITICAL_THERE, _LOAD_AROUND_THERE, _IDLE_AFTER_THERE,
    _PULL_NOW, _PULL_AFTER, _PUSH_NOW, _PUSH_AFTER, _CHANGE, _CRITICAL_PULL,
    _CRITICAL_PUSH, _LATE_IN, _EARLIER_IN, _LATE_OUT, _EARLIER_OUT, _INPUTS_THERE,
    _INPUTS_HERE, _OUTPUTS_THERE, _OUTPUTS_HERE, _SENT_THERE, _RECEIVED_THERE, _SENT_HERE,
    _RECEIVED_HERE,
    _PEAK_THERE, _PEAK_THERE_AFTER, _PEAK_HERE, _EXCESS,
    _DEVICES, _CRITICAL_SENDING, _MEAN_BUSY, _OP_COUNT, _HEAT,
    _WAS_TRIED, _TRIED_AGO, _TRIED_CHANGE, _TRIED_BETTER, _GROUP_TRIED_AGO,
) = range(len(MOVE_COLUMNS))  # fmt: skip

#: Columns that a network which does not see the trace may read: the plan itself. Of the trace they
#: hold the step time alone, which seconds are shares of.
BLIND_COLUMNS = (
    "level", "moved_count", "moved_share", "is_split", "seconds_here", "seconds_there", "pace",
    "pull_now", "pull_after", "push_now", "push_after", "change", "inputs_there", "inputs_here",
    "outputs_there", "outputs_here", "devices", "op_count", "heat",
)  # fmt: skip

#: Instants between which busy time is interpolated.
_BUCKETS = 64
#: How far around a group its surroundings reach, as a share of the step: farther than around the
#: single ops of `envs.features.trace_features`.
_WINDOW = 0.05

_SPAN, _SENDING, _BUSIEST, _MEAN, _OVER = range(5)


class Reading(NamedTuple):
    """What was read off the trace of one plan."""

    slack: Float64[np.ndarray, " ops"]
    """How much later each op could end, while every device keeps its order."""
    edge_arrival: Float64[np.ndarray, " edges"]
    """When each edge's tensor was where it is read."""
    edge_producers: Int32[np.ndarray, " edges"]
    passed: Bool[np.ndarray, " ops"]
    """Scratch of the pass over slack."""
    readers: Int32[np.ndarray, "tensors devices"]
    held_bytes: Float64[np.ndarray, " ops"]
    """Resident bytes and outputs: fixed by the graph."""
    busy: Float64[np.ndarray, "devices bounds"]
    """Compute seconds of each device up to each instant of an even grid."""
    critical: Float64[np.ndarray, "devices bounds"]
    """The same of ops without slack."""
    sent: Float64[np.ndarray, " devices"]
    received: Float64[np.ndarray, " devices"]
    peak: Int64[np.ndarray, " devices"]
    capacity: Int64[np.ndarray, " devices"]
    whole: Float64[np.ndarray, " figures"]


def make_reading(p: ProgramArrays, capacity: Int64[np.ndarray, " devices"]) -> Reading:
    """Room to read traces of one program's plans into."""
    ops, devices = p.seconds.shape
    produced = np.bincount(p.tensor_producers, p.tensor_bytes, ops)
    reading = Reading(
        slack=np.zeros(ops),
        edge_arrival=np.zeros(len(p.consumers)),
        edge_producers=p.tensor_producers[p.edge_tensors],
        passed=np.zeros(ops, bool),
        readers=np.zeros((len(p.tensor_bytes), devices), np.int32),
        held_bytes=p.resident_bytes + produced,
        busy=np.zeros((devices, _BUCKETS + 1)),
        critical=np.zeros((devices, _BUCKETS + 1)),
        sent=np.zeros(devices),
        received=np.zeros(devices),
        peak=np.zeros(devices, np.int64),
        capacity=capacity.copy(),
        whole=np.zeros(5),
    )
    check_record(reading, ops=ops, devices=devices)
    return reading


@compiled
def read_trace(
    p: ProgramArrays,
    s: EngineState,
    r: Recording,
    devices: Int32[np.ndarray, " ops"],
    ranks: Int32[np.ndarray, " ops"],
    reading: Reading,
) -> None:
    """Run a plan and read its trace."""
    r.op_previous[:] = -1
    span = max(run_kernel(p, s, devices, ranks, reading.peak, r), 1e-12)
    tensors = p.tensor_bytes.size
    for edge in range(p.consumers.size):
        copy = s.edge_copy[edge]
        if copy < tensors:
            reading.edge_arrival[edge] = r.op_end[p.tensor_producers[copy]]
        else:
            reading.edge_arrival[edge] = r.copy_arrival[copy]
    ran = RanOps(
        r.finish_order,
        r.op_start,
        r.op_end,
        r.op_previous,
        p.input_offsets,
        p.input_edges,
        reading.edge_producers,
        reading.edge_arrival,
        reading.passed,
    )
    slack_backward(ran, span, reading.slack)
    reading.readers[:] = 0
    for edge in range(p.consumers.size):
        reading.readers[p.edge_tensors[edge], devices[p.consumers[edge]]] += 1
    _tally_compute(p, r, devices, reading, span)
    reading.sent[:] = 0.0
    reading.received[:] = 0.0
    for transfer in range(s.counts[TRANSFERS]):
        seconds = s.transfer_arrival[transfer] - s.transfer_start[transfer]
        reading.sent[devices[p.tensor_producers[s.transfer_tensor[transfer]]]] += seconds
        reading.received[s.transfer_device[transfer]] += seconds
    _tally_whole(reading, span)


@inlined
def _tally_compute(
    p: ProgramArrays,
    r: Recording,
    devices: Int32[np.ndarray, " ops"],
    reading: Reading,
    span: float,
) -> None:
    reading.busy[:] = 0.0
    reading.critical[:] = 0.0
    width = span / _BUCKETS
    for op in range(devices.size):
        start, end = r.op_start[op], r.op_end[op]
        device = devices[op]
        if end <= start or p.seconds[op, device] == 0.0:
            continue
        is_critical = reading.slack[op] <= CRITICAL_SHARE * span
        bucket = min(int(start / width), _BUCKETS - 1)
        while True:
            upper = (bucket + 1) * width
            part = min(end, upper) - start
            if bucket == _BUCKETS - 1:
                part = end - start
            reading.busy[device, bucket + 1] += part
            if is_critical:
                reading.critical[device, bucket + 1] += part
            if end <= upper or bucket == _BUCKETS - 1:
                break
            start = upper
            bucket += 1
    for device in range(reading.sent.size):
        for bucket in range(_BUCKETS):
            reading.busy[device, bucket + 1] += reading.busy[device, bucket]
            reading.critical[device, bucket + 1] += reading.critical[device, bucket]


@inlined
def _tally_whole(reading: Reading, span: float) -> None:
    computing, busiest, total, over, room = 0.0, 0.0, 0.0, 0.0, 0.0
    for device in range(reading.sent.size):
        computing += reading.critical[device, _BUCKETS]
        busiest = max(busiest, reading.busy[device, _BUCKETS])
        total += reading.busy[device, _BUCKETS]
        over += max(reading.peak[device] - reading.capacity[device], 0)
        room += reading.capacity[device]
    reading.whole[_SPAN] = span
    reading.whole[_SENDING] = max(0.0, 1.0 - computing / span)
    reading.whole[_BUSIEST] = busiest
    reading.whole[_MEAN] = total / reading.sent.size
    reading.whole[_OVER] = over / room


@inlined
def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@inlined
def _until(totals: np.ndarray, device: int, share: float) -> float:
    """Seconds up to an instant, given as a share of the step."""
    position = _clip(share, 0.0, 1.0) * _BUCKETS
    bucket = min(int(position), _BUCKETS - 1)
    below = totals[device, bucket]
    return below + (position - bucket) * (totals[device, bucket + 1] - below)


@inlined
def _load(totals: np.ndarray, device: int, first: float, last: float, span: float) -> float:
    """Share of the time between two instants in which a device computes."""
    return (_until(totals, device, last) - _until(totals, device, first)) / (
        max(last - first, 1.0 / _BUCKETS) * span
    )


@inlined
def _sending(p: ProgramArrays, tensor: int, source: int, target: int) -> float:
    """Seconds from a device to another one or itself."""
    if source == target:
        return 0.0
    return transfer_seconds(p, tensor, source, target)


class Evidence(NamedTuple):
    """What features of moves are read from: the last trace that was read, and the groups."""

    program: ProgramArrays
    recording: Recording
    reading: Reading
    groups: MoveGroups
    labels: Int32[np.ndarray, "levels ops"]
    """Group of each op at each level."""
    depths: Float64[np.ndarray, " levels"]
    """How fine each level is."""


@inlined
def move_features(
    evidence: Evidence,
    devices: Int32[np.ndarray, " ops"],
    level: int,
    group: int,
    there: int,
    row: Float32[np.ndarray, " columns"],
) -> bool:
    """Fill `row` but for the columns of the plan's heat and of earlier tries; False where the
    move changes nothing. The trace that was read is of `devices`, or of a plan not far from it.
    """
    p, r, reading, labels = evidence.program, evidence.recording, evidence.reading, evidence.labels
    members = evidence.groups.members
    first_member = evidence.groups.member_offsets[group]
    last_member = evidence.groups.member_offsets[group + 1]
    span = reading.whole[_SPAN]
    tight = CRITICAL_SHARE * span
    moved, here = 0, -1
    seconds_here, seconds_there, critical_here, critical_there = 0.0, 0.0, 0.0, 0.0
    least_slack, most_slack = np.inf, 0.0
    queued, critical_queued = 0.0, 0.0
    first_start, last_end = np.inf, 0.0
    pull_now, pull_after, push_now, push_after = 0.0, 0.0, 0.0, 0.0
    critical_pull, critical_push = 0.0, 0.0
    late_in, late_out = -1.0, -1.0
    earlier_in, earlier_out = 1.0, 1.0
    inputs, inputs_there, inputs_here = 0, 0, 0
    outputs, outputs_there, outputs_here = 0, 0, 0
    held, is_split = 0.0, False
    for index in range(first_member, last_member):
        op = members[index]
        now = devices[op]
        if now == there:
            is_split = True
            continue
        if here < 0:
            here = now
        elif now != here:
            is_split = True
        moved += 1
        held += reading.held_bytes[op]
        slack = reading.slack[op]
        is_critical = slack <= tight
        before, after = p.seconds[op, now], p.seconds[op, there]
        seconds_here += before
        seconds_there += after
        wait = r.op_start[op] - r.op_ready[op]
        queued += wait
        if is_critical:
            critical_here += before
            critical_there += after
            critical_queued += wait
        if before > 0.0:
            least_slack = min(least_slack, slack)
            most_slack = max(most_slack, slack)
        first_start = min(first_start, r.op_start[op])
        last_end = max(last_end, r.op_end[op])
        arrival = 0.0
        for position in range(p.input_offsets[op], p.input_offsets[op + 1]):
            edge = p.input_edges[position]
            tensor = p.edge_tensors[edge]
            producer = p.tensor_producers[tensor]
            source = devices[producer]
            inside = labels[level, producer] == group
            if source != now:
                copies = max(reading.readers[tensor, now], 1)
                took = _sending(p, tensor, source, now) / copies
                pull_now += took
                if slack + r.op_start[op] - reading.edge_arrival[edge] <= tight:
                    critical_pull += (reading.edge_arrival[edge] - r.op_end[producer]) / copies
            if inside:
                arrival = max(arrival, r.op_end[producer])
                continue
            inputs += 1
            inputs_there += source == there
            inputs_here += source == now
            if source != there:
                takes = _sending(p, tensor, source, there)
                if reading.readers[tensor, there] == 0:
                    pull_after += takes / max(reading.readers[tensor, now], 1)
                arrival = max(arrival, r.op_end[producer] + takes)
            else:
                arrival = max(arrival, r.op_end[producer])
        late_in = max(late_in, (arrival - r.op_start[op] - slack) / span)
        if is_critical and before > 0.0:
            earlier_in = min(earlier_in, (arrival - r.op_ready[op]) / span)
        done = r.op_end[op] + after - before
        for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
            for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
                consumer = p.consumers[edge]
                target = devices[consumer]
                if labels[level, consumer] == group:
                    continue
                outputs += 1
                outputs_there += target == there
                outputs_here += target == now
                reached = reading.edge_arrival[edge]
                room = reading.slack[consumer] + r.op_start[consumer]
                copies = max(reading.readers[tensor, target], 1)
                if target != now:
                    push_now += _sending(p, tensor, now, target) / copies
                    if room - reached <= tight:
                        critical_push += (reached - r.op_end[op]) / copies
                arrives = done
                if target != there:
                    takes = _sending(p, tensor, there, target)
                    push_after += takes / copies
                    arrives += takes
                late_out = max(late_out, (arrives - room) / span)
                if room - reached <= tight:
                    earlier_out = min(earlier_out, (arrives - reached) / span)
    if moved == 0:
        return False
    count = reading.sent.size
    first, last = first_start / span, last_end / span
    busy_there = reading.busy[there, _BUCKETS]
    busy_here = reading.busy[here, _BUCKETS]
    row[_LEVEL] = evidence.depths[level] / 4.0
    row[_MOVED_COUNT] = np.log10(moved) / 4.0
    row[_MOVED_SHARE] = moved / (last_member - first_member)
    row[_IS_SPLIT] = is_split
    row[_FIRST_START] = first
    row[_LAST_END] = last
    row[_SECONDS_HERE] = log_of_share(seconds_here / span)
    row[_SECONDS_THERE] = log_of_share(seconds_there / span)
    row[_PACE] = np.log10(max(seconds_there, 1e-9) / max(seconds_here, 1e-9))
    row[_CRITICAL_HERE] = log_of_share(critical_here / span)
    row[_CRITICAL_CHANGE] = _clip(10.0 * (critical_there - critical_here) / span, -2.0, 2.0)
    row[_LEAST_SLACK] = log_of_share(min(least_slack, span) / span)
    row[_MOST_SLACK] = log_of_share(most_slack / span)
    row[_QUEUED] = log_of_share(queued / span)
    row[_CRITICAL_QUEUED] = log_of_share(critical_queued / span)
    row[_BUSY_THERE] = busy_there / span
    row[_BUSY_HERE] = busy_here / span
    row[_BUSY_THERE_AFTER] = min((busy_there + seconds_there) / span, 4.0)
    row[_BUSY_MOST] = reading.whole[_BUSIEST] / span
    row[_LOAD_THERE] = _load(reading.busy, there, first, last, span)
    row[_LOAD_HERE] = _load(reading.busy, here, first, last, span)
    row[_CRITICAL_THERE] = _load(reading.critical, there, first, last, span)
    row[_LOAD_AROUND_THERE] = _load(reading.busy, there, first - _WINDOW, last + _WINDOW, span)
    row[_IDLE_AFTER_THERE] = _clip(
        ((last - first) * span - (row[_LOAD_THERE] * (last - first) * span) - seconds_there) / span,
        -1.0,
        1.0,
    )
    row[_PULL_NOW] = log_of_share(pull_now / span)
    row[_PULL_AFTER] = log_of_share(pull_after / span)
    row[_PUSH_NOW] = log_of_share(push_now / span)
    row[_PUSH_AFTER] = log_of_share(push_after / span)
    row[_CHANGE] = _clip(10.0 * (pull_after + push_after - pull_now - push_now) / span, -2.0, 2.0)
    row[_CRITICAL_PULL] = log_of_share(critical_pull / span)
    row[_CRITICAL_PUSH] = log_of_share(critical_push / span)
    row[_LATE_IN] = signed_log_of_share(late_in)
    row[_EARLIER_IN] = signed_log_of_share(earlier_in)
    row[_LATE_OUT] = signed_log_of_share(late_out)
    row[_EARLIER_OUT] = signed_log_of_share(earlier_out)
    row[_INPUTS_THERE] = inputs_there / max(inputs, 1)
    row[_INPUTS_HERE] = inputs_here / max(inputs, 1)
    row[_OUTPUTS_THERE] = outputs_there / max(outputs, 1)
    row[_OUTPUTS_HERE] = outputs_here / max(outputs, 1)
    row[_SENT_THERE] = min(reading.sent[there] / span, 2.0)
    row[_RECEIVED_THERE] = min(reading.received[there] / span, 2.0)
    row[_SENT_HERE] = min(reading.sent[here] / span, 2.0)
    row[_RECEIVED_HERE] = min(reading.received[here] / span, 2.0)
    row[_PEAK_THERE] = min(reading.peak[there] / reading.capacity[there], 4.0)
    row[_PEAK_THERE_AFTER] = min((reading.peak[there] + held) / reading.capacity[there], 4.0)
    row[_PEAK_HERE] = min(reading.peak[here] / reading.capacity[here], 4.0)
    row[_EXCESS] = min(10.0 * reading.whole[_OVER], 2.0)
    row[_DEVICES] = np.log2(count) / 3.0
    row[_CRITICAL_SENDING] = reading.whole[_SENDING]
    row[_MEAN_BUSY] = reading.whole[_MEAN] / span
    row[_OP_COUNT] = np.log10(devices.size) / 5.0
    return True


@inlined
def tried_features(
    heat: float,
    tries_ago: float,
    change: float,
    group_tries_ago: float,
    row: Float32[np.ndarray, " columns"],
) -> None:
    """What came of the last try of the same move: how many accepted moves ago (negative: never),
    and the change of energy; when any move of the group was tried."""
    row[_HEAT] = heat
    row[_WAS_TRIED] = tries_ago >= 0.0
    row[_TRIED_AGO] = np.log10(1.0 + max(tries_ago, 0.0)) / 3.0 if tries_ago >= 0.0 else 1.5
    row[_TRIED_CHANGE] = signed_log_of_share(_clip(change, -1.0, 1.0)) if tries_ago >= 0.0 else 0.0
    row[_TRIED_BETTER] = tries_ago >= 0.0 and change < 0.0
    row[_GROUP_TRIED_AGO] = (
        np.log10(1.0 + max(group_tries_ago, 0.0)) / 3.0 if group_tries_ago >= 0.0 else 1.5
    )
