"""The compiled decoder: ops one by one in their order, each choice drawn from a network's scores.

Like the list scheduler (`placement.heuristics.list_scheduling`) it keeps an estimate of when
devices and links are free and of what lies in memory. What it knows of each device goes into a
small network whose first layer takes what a large one said of the choice and of the device
beforehand. With nothing learned the choice falls on the earliest finish.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt64

from placement.decoding.draws import begin_draws, draw_gumbel
from simulator.compiled import compiled, inlined
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.transfer_time import transfer_seconds
from simulator.log_scale import log_of_share


class ChoiceArrays(NamedTuple):
    """What is decided, for the kernel; see `placement.decoding.choices`."""

    order: Int32[np.ndarray, " ops"]
    choice_of: Int32[np.ndarray, " ops"]
    decider: Int32[np.ndarray, " choices"]
    allowed: Bool[np.ndarray, "choices devices"]
    resident_bytes: Int64[np.ndarray, " choices"]
    early_offsets: Int32[np.ndarray, " choices+1"]
    early: Int32[np.ndarray, " earlies"]
    """Ops that come before the decider of their choice."""
    weight_offsets: Int32[np.ndarray, " choices+1"]
    weights: Int32[np.ndarray, " weight_reads"]
    """Constants that each choice reads; they lie on every device where they are read."""
    neighbour_offsets: Int32[np.ndarray, " choices+1"]
    neighbours: Int32[np.ndarray, " neighbour_edges"]
    """Choices that read what a choice makes, or that make what it reads after its decider."""
    neighbour_bytes: Float64[np.ndarray, " neighbour_edges"]
    alike: Int32[np.ndarray, " devices"]
    """The first device of those that this one could be exchanged for without a difference."""
    capacity: Int64[np.ndarray, " devices"]
    bound_seconds: Float64[np.ndarray, " 1"]
    pace: Float32[np.ndarray, "ops devices"]
    """Decades above the fastest device."""


class DecisionScorer(NamedTuple):
    """Weights: what was said of choices and devices beforehand, and two layers."""

    style_weights: Float32[np.ndarray, "styles columns"]
    """What each column counts, by style."""
    heard: Float32[np.ndarray, " styles"]
    """How much counts what was said of choices and devices: 0 leaves a style as it is."""
    choice_weights: Float32[np.ndarray, "choices columns"]
    """What it counts more for each choice."""
    choice_hidden: Float32[np.ndarray, "choices width"]
    device_hidden: Float32[np.ndarray, "devices width"]
    affinity: Float32[np.ndarray, "choices devices"]
    columns: Float32[np.ndarray, "columns width"]
    out: Float32[np.ndarray, " width"]


class Styles(NamedTuple):
    """How each plan of many is drawn."""

    temperature: Float64[np.ndarray, " plans"]
    """0 takes the best device; 1 draws from the chances that the scores stand for."""
    style: Int32[np.ndarray, " plans"]
    """Whose weights count."""
    memory_share: Float64[np.ndarray, " plans"]
    """Of each device's memory that the estimate may fill."""
    devices: Bool[np.ndarray, "plans devices"]
    """Those that may be used."""
    number: Int64[np.ndarray, " plans"]
    """Of the stream of random numbers."""


class Decoding(NamedTuple):
    """What changes while a plan is drawn."""

    op_device: Int32[np.ndarray, " ops"]
    finish: Float64[np.ndarray, " ops"]
    arrival: Float64[np.ndarray, "tensors devices"]
    readers_left: Int32[np.ndarray, " tensors"]
    held: Bool[np.ndarray, " ops"]
    """Ops whose outputs were charged."""
    channel_free: Float64[np.ndarray, " channels"]
    device_free: Float64[np.ndarray, " devices"]
    busy: Float64[np.ndarray, " devices"]
    used: Int64[np.ndarray, " devices"]
    units_on: Int32[np.ndarray, " devices"]
    first_use: Int32[np.ndarray, " devices"]
    row: Float32[np.ndarray, "devices columns"]
    considered: Bool[np.ndarray, " devices"]
    ends: Float64[np.ndarray, " devices"]
    starts: Float64[np.ndarray, " devices"]
    sending: Float64[np.ndarray, " devices"]
    waits: Float64[np.ndarray, " devices"]
    need: Int64[np.ndarray, " devices"]
    bytes_here: Float64[np.ndarray, " devices"]
    count_here: Float64[np.ndarray, " devices"]
    has_weight: Bool[np.ndarray, "weights devices"]
    """Constants that are on a device already."""
    pushing: Float64[np.ndarray, " devices"]
    neighbours_here: Float64[np.ndarray, " devices"]
    hidden: Float32[np.ndarray, " width"]
    random: UInt64[np.ndarray, " 1"]


class Recording(NamedTuple):
    """What was seen at each choice of each plan, for learning; of no plans where it is not
    wanted."""

    columns: Float32[np.ndarray, "recorded choices devices columns"]
    considered: Bool[np.ndarray, "recorded choices devices"]
    wanted: Bool[np.ndarray, " choices"]
    """The choices that are recorded."""


@compiled
def decode(
    p: ProgramArrays,
    choices: ChoiceArrays,
    scorer: DecisionScorer,
    styles: Styles,
    state: Decoding,
    seed: np.uint64,
    given: Int32[np.ndarray, "plans choices"],
    hints: Int32[np.ndarray, "plans choices"],
    recording: Recording,
    chosen: Int32[np.ndarray, "plans choices"],
) -> None:
    """Draw a plan for each style.

    Args:
        given: devices that are not drawn but taken; -1 draws.
        hints: devices in a plan that was drawn before, -1 where there is none; what is still open
            counts as being there.
        chosen: is filled with the device of each choice.
    """
    plans = chosen.shape[0]
    for plan in range(plans):
        _begin(p, choices, styles, state, seed, plan)
        for at in range(choices.order.size):
            op = choices.order[at]
            choice = choices.choice_of[op]
            if chosen[plan, choice] < 0 and choices.decider[choice] == op:
                best = given[plan, choice]
                recorded = plan < recording.considered.shape[0] and recording.wanted[choice]
                if best < 0 or recorded:
                    drawn = _choose(
                        p, choices, scorer, styles, state, plan, op, choice, hints, chosen
                    )
                    if best < 0:
                        best = drawn
                if recorded:
                    for device in range(state.device_free.size):
                        recording.considered[plan, choice, device] = state.considered[device]
                        for column in range(state.row.shape[1]):
                            recording.columns[plan, choice, device, column] = state.row[
                                device, column
                            ]
                chosen[plan, choice] = best
                for index in range(
                    choices.early_offsets[choice], choices.early_offsets[choice + 1]
                ):
                    state.op_device[choices.early[index]] = best
                state.used[best] += choices.resident_bytes[choice]
                for index in range(
                    choices.weight_offsets[choice], choices.weight_offsets[choice + 1]
                ):
                    weight = choices.weights[index]
                    if not state.has_weight[weight, best]:
                        state.has_weight[weight, best] = True
                        state.used[best] += p.weight_bytes[weight]
                state.units_on[best] += 1
                if state.first_use[best] < 0:
                    count = 0
                    for device in range(state.first_use.size):
                        count += state.first_use[device] >= 0
                    state.first_use[best] = count
            _put(p, choices, state, op, chosen[plan, choice])


@inlined
def _begin(
    p: ProgramArrays,
    choices: ChoiceArrays,
    styles: Styles,
    state: Decoding,
    seed: np.uint64,
    plan: int,
) -> None:
    """Nothing is placed."""
    begin_draws(state.random, seed, styles.number[plan])
    state.op_device[:] = -1
    state.held[:] = False
    state.has_weight[:] = False
    state.arrival[:] = -1.0
    for tensor in range(state.readers_left.size):
        state.readers_left[tensor] = p.consumer_offsets[tensor + 1] - p.consumer_offsets[tensor]
    state.channel_free[:] = 0.0
    state.device_free[:] = 0.0
    state.busy[:] = 0.0
    state.used[:] = 0
    state.units_on[:] = 0
    state.first_use[:] = -1


@inlined
def _choose(
    p: ProgramArrays,
    choices: ChoiceArrays,
    scorer: DecisionScorer,
    styles: Styles,
    state: Decoding,
    plan: int,
    op: int,
    choice: int,
    hints: Int32[np.ndarray, "plans choices"],
    chosen: Int32[np.ndarray, "plans choices"],
) -> int:
    """The device that is drawn for a choice; leaves what was seen in `state.row`."""
    count = state.device_free.size
    bound = choices.bound_seconds[0]
    first_end, first_free = np.inf, np.inf
    input_bytes = 0.0
    inputs = p.input_offsets[op + 1] - p.input_offsets[op]
    output_bytes = p.workspace_bytes[op]
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        output_bytes += p.local_bytes[tensor]
    roomiest, most_room = -1, np.int64(-(1 << 62))
    any_fits = False
    latest, critical = -1.0, -1
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        tensor = p.edge_tensors[p.input_edges[index]]
        source = state.op_device[p.tensor_producers[tensor]]
        input_bytes += p.tensor_bytes[tensor]
        if source >= 0 and state.finish[p.tensor_producers[tensor]] >= latest:
            latest = state.finish[p.tensor_producers[tensor]]
            critical = source
    known_neighbours = 0
    for device in range(count):
        state.pushing[device] = 0.0
        state.neighbours_here[device] = 0.0
    for index in range(choices.neighbour_offsets[choice], choices.neighbour_offsets[choice + 1]):
        other = choices.neighbours[index]
        there = chosen[plan, other]
        if there < 0:
            there = hints[plan, other]
        if there < 0:
            continue
        known_neighbours += 1
        state.neighbours_here[there] += 1.0
        for device in range(count):
            if device != there:
                state.pushing[device] += (
                    choices.neighbour_bytes[index] / p.link_bytes_per_second[device, there]
                    + p.link_latency_seconds[device, there]
                )
    for device in range(count):
        first_free = min(first_free, state.device_free[device])
        state.bytes_here[device] = 0.0
        state.count_here[device] = 0.0
        state.considered[device] = False
        allowed = choices.allowed[choice, device] and styles.devices[plan, device]
        if p.seconds[op, device] == np.inf:
            allowed = False
        if allowed and state.units_on[device] == 0:
            # Of devices that are alike and not used yet, the first stands for all.
            for other in range(choices.alike[device], device):
                if (
                    choices.alike[other] == choices.alike[device]
                    and state.units_on[other] == 0
                    and styles.devices[plan, other]
                ):
                    allowed = False
        if not allowed:
            continue
        ready, sending, waiting = 0.0, 0.0, 0.0
        need = output_bytes + choices.resident_bytes[choice]
        for index in range(choices.weight_offsets[choice], choices.weight_offsets[choice + 1]):
            if not state.has_weight[choices.weights[index], device]:
                need += p.weight_bytes[choices.weights[index]]
        for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
            tensor = p.edge_tensors[p.input_edges[index]]
            producer = p.tensor_producers[tensor]
            source = state.op_device[producer]
            when = state.finish[producer]
            if source >= 0 and source != device:
                if state.arrival[tensor, device] >= 0.0:
                    when = state.arrival[tensor, device]
                    state.count_here[device] += 0.5
                else:
                    need += p.remote_bytes[tensor]
                    lasting = transfer_seconds(p, tensor, source, device)
                    free = when
                    for slot in range(p.link_channels.shape[2]):
                        channel = p.link_channels[source, device, slot]
                        if channel >= 0:
                            free = max(free, state.channel_free[channel])
                    waiting = max(waiting, free - when)
                    when = free + lasting
                    sending += lasting
            else:
                state.bytes_here[device] += p.tensor_bytes[tensor]
                state.count_here[device] += 1.0
            ready = max(ready, when)
        start = max(ready, state.device_free[device])
        end = start + p.seconds[op, device]
        state.starts[device] = start
        state.ends[device] = end
        state.sending[device] = sending
        state.waits[device] = waiting
        state.need[device] = need
        room = (
            np.int64(choices.capacity[device] * styles.memory_share[plan])
            - state.used[device]
            - need
        )
        if room > most_room:
            roomiest, most_room = device, room
        if room >= 0:
            state.considered[device] = True
            any_fits = True
        first_end = min(first_end, end)
    if roomiest < 0:
        # Nothing that the style allows may run it: the first that may.
        for device in range(count):
            state.row[device, :] = 0.0
        for device in range(count):
            if choices.allowed[choice, device] and p.seconds[op, device] != np.inf:
                state.considered[device] = True
                return device
    if not any_fits:
        state.considered[roomiest] = True
    best, best_score = -1, -np.inf
    for device in range(count):
        if not state.considered[device]:
            state.row[device, :] = 0.0
            continue
        _see(p, choices, state, device, op, bound, first_end, first_free, input_bytes, inputs,
             critical)  # fmt: skip
        hint = hints[plan, choice]
        state.row[device, 20] = 1.0 if hint == device else 0.0
        state.row[device, 21] = state.neighbours_here[device] / max(known_neighbours, 1)
        state.row[device, 22] = 1.0 if hint >= 0 else 0.0
        score = _score(scorer, state, choice, device, styles.style[plan])
        if styles.temperature[plan] > 0.0:
            score += styles.temperature[plan] * draw_gumbel(state.random)
        if score > best_score:
            best, best_score = device, score
    return best


@inlined
def _see(
    p: ProgramArrays,
    choices: ChoiceArrays,
    state: Decoding,
    device: int,
    op: int,
    bound: float,
    first_end: float,
    first_free: float,
    input_bytes: float,
    inputs: int,
    critical: int,
) -> None:
    """Fill the row of a device; the columns are `DECISION_COLUMNS`."""
    row = state.row
    late = (state.ends[device] - first_end) / bound
    row[device, 0] = log_of_share(late)
    row[device, 1] = log_of_share(state.sending[device] / bound)
    row[device, 2] = log_of_share(state.pushing[device] / bound)
    row[device, 3] = log_of_share(state.waits[device] / bound)
    row[device, 4] = log_of_share((state.device_free[device] - first_free) / bound)
    idle = max(state.starts[device] - state.device_free[device], 0.0)
    row[device, 5] = log_of_share(idle / bound)
    row[device, 6] = min(state.busy[device] / bound, 4.0)
    capacity = float(max(choices.capacity[device], 1))
    row[device, 7] = max((capacity - state.used[device]) / capacity, -1.0)
    row[device, 8] = log_of_share(state.need[device] / capacity)
    row[device, 9] = 1.0 if critical == device else 0.0
    row[device, 10] = state.bytes_here[device] / max(input_bytes, 1.0)
    row[device, 11] = state.count_here[device] / max(inputs, 1)
    row[device, 12] = 1.0 if state.units_on[device] > 0 else 0.0
    last = state.op_device[op - 1] if op > 0 else -1
    row[device, 13] = 1.0 if last == device else 0.0
    after = state.op_device[op + 1] if op + 1 < state.op_device.size else -1
    row[device, 14] = 1.0 if after == device else 0.0
    row[device, 15] = choices.pace[op, device]
    row[device, 16] = state.first_use[device] / max(state.first_use.size, 1)
    row[device, 17] = min(first_free / bound, 4.0)
    row[device, 18] = log_of_share(p.seconds[op, device] / bound)
    row[device, 19] = 1.0 if late <= 0.0 else 0.0


@inlined
def _score(scorer: DecisionScorer, state: Decoding, choice: int, device: int, style: int) -> float:
    hidden, row, heard = state.hidden, state.row, scorer.heard[style]
    plain = np.float32(0.0)
    if heard == 0.0:
        for column in range(row.shape[1]):
            plain += row[device, column] * scorer.style_weights[style, column]
        return float(plain)
    for unit in range(hidden.size):
        hidden[unit] = scorer.choice_hidden[choice, unit] + scorer.device_hidden[device, unit]
    said = scorer.affinity[choice, device]
    for column in range(row.shape[1]):
        value = row[device, column]
        if value != 0.0:
            plain += value * scorer.style_weights[style, column]
            said += value * scorer.choice_weights[choice, column]
            for unit in range(hidden.size):
                hidden[unit] += value * scorer.columns[column, unit]
    for unit in range(hidden.size):
        if hidden[unit] > 0.0:
            said += hidden[unit] * scorer.out[unit]
    return float(plain + heard * said)


@inlined
def _put(p: ProgramArrays, choices: ChoiceArrays, state: Decoding, op: int, device: int) -> None:
    """Send an op's inputs, run it, and free what it was the last to read."""
    state.op_device[op] = device
    ready = 0.0
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        tensor = p.edge_tensors[p.input_edges[index]]
        producer = p.tensor_producers[tensor]
        source = state.op_device[producer]
        when = state.finish[producer]
        if source >= 0 and device >= 0 and source != device:
            if state.arrival[tensor, device] < 0.0:
                for slot in range(p.link_channels.shape[2]):
                    channel = p.link_channels[source, device, slot]
                    if channel >= 0:
                        when = max(when, state.channel_free[channel])
                free = when + p.tensor_bytes[tensor] / p.link_bytes_per_second[source, device]
                for slot in range(p.link_channels.shape[2]):
                    channel = p.link_channels[source, device, slot]
                    if channel >= 0:
                        state.channel_free[channel] = free
                state.arrival[tensor, device] = free + p.link_latency_seconds[source, device]
                state.used[device] += p.remote_bytes[tensor]
            when = state.arrival[tensor, device]
        ready = max(ready, when)
    lasting = p.seconds[op, device] if device >= 0 else 0.0
    if lasting > 0.0:
        start = max(ready, state.device_free[device])
        state.device_free[device] = start + lasting
        state.busy[device] += lasting
        state.finish[op] = start + lasting
    else:
        state.finish[op] = ready
    if device >= 0:
        for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
            if state.readers_left[tensor] > 0:
                state.used[device] += p.local_bytes[tensor]
        state.held[op] = True
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        tensor = p.edge_tensors[p.input_edges[index]]
        state.readers_left[tensor] -= 1
        producer = p.tensor_producers[tensor]
        if state.readers_left[tensor] > 0:
            continue
        source = state.op_device[producer]
        if state.held[producer]:
            state.used[source] -= p.local_bytes[tensor]
        for other in range(state.used.size):
            if other != source and state.arrival[tensor, other] >= 0.0:
                state.used[other] -= p.remote_bytes[tensor]
