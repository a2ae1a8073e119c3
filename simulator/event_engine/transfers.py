"""Transfers on their links: reserved in the order of request, with a buffer from their start."""

import numpy as np

from simulator.compiled import inlined
from simulator.event_engine.agenda import schedule
from simulator.event_engine.keys import reference_at, row_of, transfer_keys, transfer_place
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.state import STARTING, TRANSFERS, EngineState, Recording
from simulator.event_engine.transfer_time import reserve


@inlined
def _await_start(s: EngineState, transfer: int, link: int, start: float, now: float) -> None:
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


@inlined
def send(
    p: ProgramArrays,
    s: EngineState,
    r: Recording,
    slot: int,
    tensor: int,
    source: int,
    target: int,
    now: float,
) -> int:
    """Reserve the link's channels, first come first served; returns the transfer's place."""
    n = s.overlap.slots
    number = s.counts[TRANSFERS]
    s.counts[TRANSFERS] += 1
    transfer = transfer_place(n, number)
    start, awaited, arrival = reserve(p, s.channel_free, tensor, source, target, now)
    blocker = s.channel_copy[awaited] if awaited >= 0 else -1
    copy = n.rows * p.tensor_bytes.size + number
    for at in range(p.link_channels.shape[2]):
        channel = p.link_channels[source, target, at]
        if channel >= 0:
            s.channel_copy[channel] = copy
    s.transfer_device[transfer] = target
    s.transfer_tensor[transfer] = tensor
    s.transfer_slot[transfer] = slot
    s.transfer_number[transfer] = number
    link = source * s.running.size + target
    s.transfer_link[transfer] = link
    s.transfer_start[transfer] = start
    s.transfer_arrival[transfer] = arrival
    s.next_start[transfer] = -1
    s.next_arrival[transfer] = -1
    if p.host.size > 0:
        s.taken[reference_at(n, slot, p.tensor_bytes.size + transfer)] = -1
    _await_start(s, transfer, link, start, now)
    if s.last_arrival[link] < 0:
        schedule(s, arrival, transfer_keys(n) + number)
    else:
        s.next_arrival[s.last_arrival[link]] = transfer
    s.last_arrival[link] = transfer
    if r.op_start.size > 0:
        r.copy_tensor[copy] = row_of(n, slot) * p.tensor_bytes.size + tensor
        r.copy_device[copy] = target
        r.copy_request[copy] = now
        r.copy_start[copy] = start
        r.copy_arrival[copy] = arrival
        r.copy_blocker[copy] = blocker
    return transfer


@inlined
def take_buffer(p: ProgramArrays, s: EngineState, transfer: int) -> int:
    """Give a transfer its memory; returns the device that it is on."""
    device = s.transfer_device[transfer]
    s.memory[device] += p.remote_bytes[s.transfer_tensor[transfer]]
    return device


@inlined
def begin_waiting(p: ProgramArrays, s: EngineState, peak: np.ndarray, limit: float) -> None:
    """Start the transfers whose time came before `limit`, and find the next after it."""
    s.earliest_start[0] = np.inf
    for link in range(s.first_start.size):
        transfer = s.first_start[link]
        while transfer >= 0 and s.transfer_start[transfer] < limit:
            device = take_buffer(p, s, transfer)
            peak[device] = max(peak[device], s.memory[device])
            transfer = s.next_start[transfer]
        s.first_start[link] = transfer
        if transfer >= 0:
            s.earliest_start[0] = min(s.earliest_start[0], s.transfer_start[transfer])
