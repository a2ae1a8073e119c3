"""Loads of devices, kept up to date while units move: work in the degree of the unit."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from placement.throughput.load_problem import LoadArrays
from simulator.compiled import inlined


class LoadState(NamedTuple):
    """A placement of units and what it comes to."""

    devices: Int32[np.ndarray, " units"]
    counts: Int32[np.ndarray, "tensors devices"]
    """Readers of each tensor on each device."""
    loads: Float64[np.ndarray, " devices"]
    held_bytes: Float64[np.ndarray, " devices"]


def load_state(p: LoadArrays, devices: Int32[np.ndarray, " units"]) -> LoadState:
    """The state of a placement, with loads of zero: `place_all` fills them in."""
    tensors, device_count = len(p.makers), len(p.capacity_bytes)
    return LoadState(
        devices.copy(),
        np.zeros((tensors, device_count), np.int32),
        np.zeros(device_count),
        np.zeros(device_count),
    )


@inlined
def place_all(p: LoadArrays, s: LoadState) -> None:
    """Work out loads and counts from the devices."""
    s.counts[:] = 0
    s.loads[:] = 0.0
    s.held_bytes[:] = 0.0
    for unit in range(s.devices.size):
        s.loads[s.devices[unit]] += p.seconds[unit, s.devices[unit]]
        s.held_bytes[s.devices[unit]] += p.memory_bytes[unit]
    for tensor in range(p.makers.size):
        for at in range(p.reader_offsets[tensor], p.reader_offsets[tensor + 1]):
            s.counts[tensor, s.devices[p.readers[at]]] += 1
        charge(p, s, tensor, 1.0)


@inlined
def charge(p: LoadArrays, s: LoadState, tensor: int, sign: float) -> None:
    """Add what sending a tensor costs to the loads, or take it away."""
    home = s.devices[p.makers[tensor]]
    hop = sign * p.hop_seconds[tensor]
    leaves = False
    for device in range(s.loads.size):
        if device != home and s.counts[tensor, device] > 0:
            leaves = True
            s.loads[device] += hop * p.sends[device]
    if leaves:
        s.loads[home] += hop * p.sends[home]


@inlined
def move_unit(p: LoadArrays, s: LoadState, unit: int, target: int) -> None:
    """Move a unit to another device."""
    source = s.devices[unit]
    for at in range(p.touched_offsets[unit], p.touched_offsets[unit + 1]):
        charge(p, s, p.touched[at], -1.0)
    s.loads[source] -= p.seconds[unit, source]
    s.loads[target] += p.seconds[unit, target]
    s.held_bytes[source] -= p.memory_bytes[unit]
    s.held_bytes[target] += p.memory_bytes[unit]
    s.devices[unit] = target
    for at in range(p.touched_offsets[unit], p.touched_offsets[unit + 1]):
        tensor = p.touched[at]
        for reader in range(p.reader_offsets[tensor], p.reader_offsets[tensor + 1]):
            if p.readers[reader] == unit:
                s.counts[tensor, source] -= 1
                s.counts[tensor, target] += 1
        charge(p, s, tensor, 1.0)
