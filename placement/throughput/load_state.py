"""Loads of devices and channels, kept up to date while units move: work in the unit's degree."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from placement.throughput.load_problem import LoadArrays
from simulator.compiled import compiled, inlined

#: Loads count by this power in `LoadState.sums`: near the largest, with a sense of the others.
POWER = 32.0
#: The power of a load so many times the scale drowns all others.
_LARGE = 1.5


class LoadState(NamedTuple):
    """A placement of units and what it comes to."""

    devices: Int32[np.ndarray, " units"]
    counts: Int32[np.ndarray, "tensors devices"]
    """Readers of each tensor on each device."""
    weight_counts: Int32[np.ndarray, "weights devices"]
    """Units that read each shared weight on each device."""
    loads: Float64[np.ndarray, " resources"]
    held_bytes: Float64[np.ndarray, " devices"]
    sums: Float64[np.ndarray, " 3"]
    """All loads over a scale, each to the power of `POWER`, added up; one over the scale; whether
    the sum must be worked out anew."""
    cut: Int32[np.ndarray, " tensors"]
    """Tensors that leave their device, in any order; the first `cut_count[0]`."""
    cut_at: Int32[np.ndarray, " tensors"]
    """Where each tensor is among them, or -1."""
    cut_count: Int32[np.ndarray, " 1"]


def load_state(
    p: LoadArrays, devices: Int32[np.ndarray, " units"], scale_seconds: float = 1.0
) -> LoadState:
    """The state of a placement, with loads of zero: `place_all` fills them in.

    Args:
        scale_seconds: about the largest load that will be met.
    """
    tensors, device_count = len(p.makers), len(p.capacity_bytes)
    return LoadState(
        devices.copy(),
        np.zeros((tensors, device_count), np.int32),
        np.zeros((len(p.weight_bytes), device_count), np.int32),
        np.zeros(device_count + len(p.channel_seconds)),
        np.zeros(device_count),
        np.array([0.0, 1.0 / scale_seconds, 0.0]),
        np.zeros(tensors, np.int32),
        np.full(tensors, -1, np.int32),
        np.zeros(1, np.int32),
    )


@inlined
def raised(value: float) -> float:
    """To the power of `POWER`."""
    square = value * value
    fourth = square * square
    eighth = fourth * fourth
    sixteenth = eighth * eighth
    return sixteenth * sixteenth


@inlined
def add_load(s: LoadState, resource: int, seconds: float) -> None:
    """Add to a load, or take away from it."""
    before = s.loads[resource] * s.sums[1]
    s.loads[resource] += seconds
    after = s.loads[resource] * s.sums[1]
    s.sums[0] += raised(after) - raised(before)
    if before > _LARGE or after > _LARGE:
        s.sums[2] = 1.0


@inlined
def add_up(s: LoadState) -> None:
    """Work out the sum of powers anew: differences of large numbers leave small errors."""
    s.sums[0] = 0.0
    s.sums[2] = 0.0
    for resource in range(s.loads.size):
        s.sums[0] += raised(s.loads[resource] * s.sums[1])


@inlined
def place_all(p: LoadArrays, s: LoadState) -> None:
    """Work out everything from the devices."""
    s.counts[:] = 0
    s.weight_counts[:] = 0
    s.loads[:] = 0.0
    s.held_bytes[:] = 0.0
    s.sums[0] = 0.0
    s.cut_at[:] = -1
    s.cut_count[0] = 0
    for unit in range(s.devices.size):
        device = s.devices[unit]
        s.loads[device] += p.seconds[unit, device]
        s.held_bytes[device] += p.memory_bytes[unit]
        for at in range(p.weight_offsets[unit], p.weight_offsets[unit + 1]):
            read_weight(p, s, p.weights[at], device, 1)
    add_up(s)
    for tensor in range(p.makers.size):
        for at in range(p.reader_offsets[tensor], p.reader_offsets[tensor + 1]):
            s.counts[tensor, s.devices[p.readers[at]]] += 1
        charge(p, s, tensor, 1.0)
    add_up(s)


@inlined
def read_weight(p: LoadArrays, s: LoadState, weight: int, device: int, more: int) -> None:
    """One reader more, or less, of a shared weight on a device."""
    s.weight_counts[weight, device] += more
    readers = s.weight_counts[weight, device]
    if more > 0 and readers == 1:
        s.held_bytes[device] += p.weight_bytes[weight]
    if more < 0 and readers == 0:
        s.held_bytes[device] -= p.weight_bytes[weight]


@inlined
def charge(p: LoadArrays, s: LoadState, tensor: int, sign: float) -> None:
    """Add what sending a tensor costs to the loads, or take it away; note whether it leaves."""
    home = s.devices[p.makers[tensor]]
    size = p.tensor_bytes[tensor]
    share = sign * p.shares[tensor]
    leaves = False
    for device in range(s.held_bytes.size):
        if device == home or s.counts[tensor, device] == 0:
            continue
        leaves = True
        s.held_bytes[device] += sign * p.copy_bytes[tensor]
        taken = p.costs.take_seconds[home, device]
        taken += size * p.costs.take_seconds_per_byte[home, device]
        if taken > 0.0:
            add_load(s, device, share * taken)
        sent = p.costs.send_seconds[home, device]
        sent += size * p.costs.send_seconds_per_byte[home, device]
        if sent > 0.0:
            add_load(s, home, share * sent)
        wire = share * size * p.costs.wire_seconds_per_byte[home, device]
        if wire != 0.0:
            for slot in range(p.costs.channels.shape[2]):
                channel = p.costs.channels[home, device, slot]
                if channel >= 0:
                    add_load(s, s.held_bytes.size + channel, wire)
    if leaves:
        left = p.costs.leave_seconds[home] + size * p.costs.leave_seconds_per_byte[home]
        if left > 0.0:
            add_load(s, home, share * left)
    if sign > 0.0:
        _note_cut(s, tensor, leaves)


@inlined
def _note_cut(s: LoadState, tensor: int, leaves: bool) -> None:
    at = s.cut_at[tensor]
    if leaves and at < 0:
        s.cut[s.cut_count[0]] = tensor
        s.cut_at[tensor] = s.cut_count[0]
        s.cut_count[0] += 1
    if not leaves and at >= 0:
        s.cut_count[0] -= 1
        last = s.cut[s.cut_count[0]]
        s.cut[at] = last
        s.cut_at[last] = at
        s.cut_at[tensor] = -1


@inlined
def move_unit(p: LoadArrays, s: LoadState, unit: int, target: int) -> None:
    """Move a unit to another device."""
    source = s.devices[unit]
    for half in range(2):  # one place that charges: it is inlined, and compiling it takes long
        sign = 2.0 * half - 1.0
        if half == 1:
            _move_itself(p, s, unit, source, target)
        for at in range(p.touched_offsets[unit], p.touched_offsets[unit + 1]):
            tensor = p.touched[at]
            if half == 1 and p.touch_reads[at] != 0:
                s.counts[tensor, source] -= 1
                s.counts[tensor, target] += 1
            charge(p, s, tensor, sign)


@inlined
def _move_itself(p: LoadArrays, s: LoadState, unit: int, source: int, target: int) -> None:
    add_load(s, source, -p.seconds[unit, source])
    add_load(s, target, p.seconds[unit, target])
    s.held_bytes[source] -= p.memory_bytes[unit]
    s.held_bytes[target] += p.memory_bytes[unit]
    for at in range(p.weight_offsets[unit], p.weight_offsets[unit + 1]):
        read_weight(p, s, p.weights[at], source, -1)
        read_weight(p, s, p.weights[at], target, 1)
    s.devices[unit] = target


@compiled
def move_units(
    p: LoadArrays,
    s: LoadState,
    units: Int32[np.ndarray, " moves"],
    targets: Int32[np.ndarray, " moves"],
) -> None:
    """Work out everything from the devices, then move units one after the other.

    Compiled here and not where it is called: numba's cache notices changes of this folder only
    for kernels that lie in it.
    """
    place_all(p, s)
    for at in range(units.size):
        move_unit(p, s, units[at], targets[at])
