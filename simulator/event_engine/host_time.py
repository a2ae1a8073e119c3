"""How long ops occupy devices that send, receive and start by themselves: parts of the kernel."""

from simulator.clusters.host_costs import (
    BORDER,
    CONTENTION,
    INPUT,
    LAUNCH,
    OP,
    OUTPUT,
    PRESENT,
    RECEIVE,
    SEND,
    SEND_BYTE,
)
from simulator.compiled import inlined
from simulator.event_engine.keys import kernel_seconds, reference_at
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.state import EngineState


@inlined
def reset_hosts(p: ProgramArrays, s: EngineState) -> None:
    """Begin a run; note the ops on host devices that read or make what goes between devices."""
    s.starting_op[:] = -1
    s.run[:] = 0
    s.cut[:] = 1
    s.counted[:] = -1
    s.taken[:] = -1
    s.crosses[:] = 0
    for tensor in range(p.tensor_bytes.size):
        producer = p.tensor_producers[tensor]
        source = s.devices[producer]
        for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
            target = s.devices[p.consumers[edge]]
            if source != target:
                if p.host[source, PRESENT] != 0.0:
                    s.crosses[producer] = 1
                if p.host[target, PRESENT] != 0.0:
                    s.crosses[p.consumers[edge]] = 1


@inlined
def _receive_seconds(p: ProgramArrays, s: EngineState, slot: int, op: int) -> float:
    """What an op's device spends on copying in what no other op has read there before."""
    device = s.devices[op]
    total = 0.0
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        copy = s.edge_copy[slot * p.consumers.size + p.input_edges[index]]
        if copy >= p.tensor_bytes.size and s.taken[reference_at(p, s, slot, copy)] == -1:
            tensor = p.edge_tensors[p.input_edges[index]]
            source = s.devices[p.tensor_producers[tensor]]
            pace = p.receive_seconds_per_byte[source, device]
            total += p.host[device, RECEIVE] + p.tensor_bytes[tensor] * pace
    return total


@inlined
def _send_seconds(p: ProgramArrays, s: EngineState, op: int) -> float:
    """What an op's device spends on copying out, once for each device that reads a tensor."""
    device = s.devices[op]
    total = 0.0
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
            target = s.devices[p.consumers[edge]]
            if target != device and s.counted[target] != tensor:
                s.counted[target] = tensor
                total += p.host[device, SEND] + p.tensor_bytes[tensor] * p.host[device, SEND_BYTE]
        s.counted[:] = -1
    return total


@inlined
def _border_seconds(p: ProgramArrays, s: EngineState, slot: int, op: int) -> float:
    """What tensors cost that come from other runs; remembers that they were taken in."""
    device = s.devices[op]
    run = s.run[device]
    total = 0.0
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        edge = p.input_edges[index]
        at = reference_at(p, s, slot, s.edge_copy[slot * p.consumers.size + edge])
        before = s.taken[at]
        if before == run or before == -2 - run:
            continue
        size = p.tensor_bytes[p.edge_tensors[edge]]
        if before < -1:
            total += p.host[device, BORDER] + size * p.host[device, OUTPUT]
        total += p.host[device, BORDER] + size * p.host[device, INPUT]
        s.taken[at] = run
    return total


@inlined
def _make_outputs(p: ProgramArrays, s: EngineState, slot: int, op: int) -> float:
    """Note which run makes an op's outputs; what those that leave the device cost at its border."""
    device = s.devices[op]
    total = 0.0
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        at = slot * p.tensor_bytes.size + tensor
        s.taken[at] = -2 - s.run[device]
        for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
            if s.devices[p.consumers[edge]] != device:
                s.taken[at] = s.run[device]
                s.cut[device] = 1
        if s.taken[at] >= 0:
            total += p.host[device, BORDER] + p.tensor_bytes[tensor] * p.host[device, OUTPUT]
    return total


@inlined
def host_seconds(p: ProgramArrays, s: EngineState, slot: int, op: int) -> float:
    """How long an op that starts now occupies a device that sends and receives by itself.

    Reads which other devices are at work: all that start now must be marked as running.
    """
    device = s.devices[op]
    kernel = kernel_seconds(p, s, slot, op)
    received = _receive_seconds(p, s, slot, op)
    if kernel == 0.0:  # an input of the step: nothing runs, but it may have to be sent
        for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
            copy = s.edge_copy[slot * p.consumers.size + p.input_edges[index]]
            at = reference_at(p, s, slot, copy)
            if s.taken[at] == -1:
                s.taken[at] = s.run[device]
        return received + _send_seconds(p, s, op)
    if received > 0.0 or s.cut[device] != 0 or p.alone[op] != 0:
        s.run[device] += 1
        received += p.host[device, LAUNCH]
    s.cut[device] = p.alone[op]
    busy = 0
    for other in range(s.running.size):
        if other != device and s.running[other] >= 0:
            busy += 1
    if busy > 0:
        kernel += kernel * p.host[device, CONTENTION] * (busy / (s.running.size - 1))
    received += p.host[device, OP] + _border_seconds(p, s, slot, op)
    return received + kernel + _make_outputs(p, s, slot, op) + _send_seconds(p, s, op)
