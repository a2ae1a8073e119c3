"""The compiled part of the best cut: loads of all stages that end at a piece, and the minimum."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int8, Int32, Int64

from placement.throughput.transfer_costs import TransferCosts
from simulator.compiled import compiled, inlined

#: Places in `StageWalk.flows`: bytes and numbers of what leaves a stage and of what comes in.
_OUT, _OUT_COUNT, _IN, _IN_COUNT = range(4)


class StageTables(NamedTuple):
    """A chain and devices by kind; see `Chain`."""

    seconds_before: Float64[np.ndarray, "ends devices"]
    bytes_before: Float64[np.ndarray, " ends"]
    updated_before: Float64[np.ndarray, " ends"]
    makers: Int32[np.ndarray, " tensors"]
    sizes: Float64[np.ndarray, " tensors"]
    shares: Float64[np.ndarray, " tensors"]
    degrees: Int32[np.ndarray, " tensors"]
    touched_offsets: Int64[np.ndarray, " ends"]
    touched: Int32[np.ndarray, " touches"]
    weight_bytes: Float64[np.ndarray, " weights"]
    weight_offsets: Int64[np.ndarray, " ends"]
    weights: Int32[np.ndarray, " weight_reads"]
    capacity_bytes: Float64[np.ndarray, " devices"]
    used: Int32[np.ndarray, "numbers kinds"]
    """Devices of each kind that are used, by the number of such a choice."""
    strides: Int64[np.ndarray, " kinds"]
    """What one device more adds to the number."""
    members: Int32[np.ndarray, "kinds widest"]
    kind_sizes: Int32[np.ndarray, " kinds"]
    overlaps: bool
    """Whether transfers go on beside compute."""
    most_replicas: int
    costs: TransferCosts


class StageWalk(NamedTuple):
    """What changes; a state is a kind of the last stage, then the devices used."""

    best: Float64[np.ndarray, "ends states"]
    came_from: Int32[np.ndarray, "ends states"]
    """The first piece of the last stage."""
    came_state: Int32[np.ndarray, "ends states"]
    inside: Int8[np.ndarray, " pieces"]
    counts: Int32[np.ndarray, " tensors"]
    """Pieces of the stage that read each tensor."""
    weight_counts: Int32[np.ndarray, " weights"]
    flows: Float64[np.ndarray, " 4"]


@inlined
def _flow(t: StageTables, w: StageWalk, tensor: int, sign: float) -> None:
    made_inside = w.inside[t.makers[tensor]] == 1
    if made_inside and w.counts[tensor] < t.degrees[tensor]:
        w.flows[_OUT] += sign * t.sizes[tensor]
        w.flows[_OUT_COUNT] += sign * t.shares[tensor]
    if not made_inside and w.counts[tensor] > 0:
        w.flows[_IN] += sign * t.sizes[tensor]
        w.flows[_IN_COUNT] += sign * t.shares[tensor]


@inlined
def _enter(t: StageTables, w: StageWalk, piece: int) -> float:
    """Add a piece to the stage; the bytes of shared weights that come with it."""
    for at in range(t.touched_offsets[piece], t.touched_offsets[piece + 1]):
        tensor = t.touched[at] // 2
        _flow(t, w, tensor, -1.0)
        if t.touched[at] % 2 == 1:
            w.counts[tensor] += 1
            _flow(t, w, tensor, 1.0)
        else:
            w.inside[piece] = 1
            _flow(t, w, tensor, 1.0)
            w.inside[piece] = 0
    w.inside[piece] = 1
    more = 0.0
    for at in range(t.weight_offsets[piece], t.weight_offsets[piece + 1]):
        weight = t.weights[at]
        if w.weight_counts[weight] == 0:
            more += t.weight_bytes[weight]
        w.weight_counts[weight] += 1
    return more


@inlined
def _leave_all(t: StageTables, w: StageWalk, first: int, end: int) -> None:
    """Empty the stage."""
    for piece in range(first, end):
        w.inside[piece] = 0
        for at in range(t.touched_offsets[piece], t.touched_offsets[piece + 1]):
            w.counts[t.touched[at] // 2] = 0
        for at in range(t.weight_offsets[piece], t.weight_offsets[piece + 1]):
            w.weight_counts[t.weights[at]] = 0
    w.flows[:] = 0.0


@inlined
def _stage_seconds(
    t: StageTables, w: StageWalk, first: int, end: int, device: int, before: int
) -> float:
    """Load of a device with the stage, or of its links, if its neighbour is the device before."""
    c = t.costs
    compute = t.seconds_before[end, device] - t.seconds_before[first, device]
    sent = w.flows[_OUT_COUNT] * (c.leave_seconds[device] + c.send_seconds[device, before])
    sent += w.flows[_OUT] * (
        c.leave_seconds_per_byte[device] + c.send_seconds_per_byte[device, before]
    )
    taken = w.flows[_IN_COUNT] * c.take_seconds[before, device]
    taken += w.flows[_IN] * c.take_seconds_per_byte[before, device]
    wire = max(
        w.flows[_OUT] * c.wire_seconds_per_byte[device, before],
        w.flows[_IN] * c.wire_seconds_per_byte[before, device],
    )
    return max(compute + sent + taken, wire)


@compiled
def fill_best(t: StageTables, w: StageWalk, bound: float) -> None:
    """Fill `best` for every end, of stages that take no longer than the bound.

    `best[0]` must be zero for the state without devices and infinite elsewhere.
    """
    numbers = t.used.shape[0]
    for end in range(1, w.inside.size + 1):
        shared = 0.0
        first = end
        while first > 0:
            first -= 1
            shared += _enter(t, w, first)
            held = t.bytes_before[end] - t.bytes_before[first] + shared
            if _is_hopeless(t, first, end, held, bound):
                break
            _extend(t, w, first, end, held, bound, numbers)
        _leave_all(t, w, first, end)


@inlined
def _is_hopeless(t: StageTables, first: int, end: int, held: float, bound: float) -> bool:
    """Whether a stage, and all longer ones, are too much for any device."""
    for device in range(t.capacity_bytes.size):
        compute = t.seconds_before[end, device] - t.seconds_before[first, device]
        if held <= t.capacity_bytes[device] and compute <= bound * t.most_replicas:
            return False
    return True


@inlined
def _extend(
    t: StageTables,
    w: StageWalk,
    first: int,
    end: int,
    held: float,
    bound: float,
    numbers: int,
) -> None:
    """Try the stage after every state."""
    kinds = t.kind_sizes.size
    for state in range(numbers * kinds):
        known = w.best[first, state]
        if known == np.inf:
            continue
        last, number = state // numbers, state % numbers
        for kind in range(kinds):
            free = t.kind_sizes[kind] - t.used[number, kind]
            if free == 0:
                continue
            device = t.members[kind, t.used[number, kind]]
            if held > t.capacity_bytes[device]:
                continue
            before = device
            if t.used[number, last] > 0:
                before = t.members[last, t.used[number, last] - 1]
            elif t.capacity_bytes.size > 1:
                before = 1 if device == 0 else 0
            whole = _stage_seconds(t, w, first, end, device, before)
            if not whole <= bound * t.most_replicas:
                continue
            for replicas in range(1, min(free, t.most_replicas) + 1):
                seconds = whole / replicas
                if replicas > 1:
                    # All-reduce of gradients over a ring, beside compute.
                    bytes_added = t.updated_before[end] - t.updated_before[first]
                    other = t.members[kind, t.used[number, kind] + 1]
                    ring = 2.0 * (replicas - 1) / replicas * bytes_added
                    seconds = max(seconds, ring * t.costs.wire_seconds_per_byte[device, other])
                target = kind * numbers + number + replicas * t.strides[kind]
                load = max(known, seconds)
                if load <= bound and load < w.best[end, target]:
                    w.best[end, target] = load
                    w.came_from[end, target] = first
                    w.came_state[end, target] = state
