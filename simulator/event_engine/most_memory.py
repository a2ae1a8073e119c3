"""Memory that no order of ops exceeds: everything that a device ever holds, at the same time."""

import numpy as np
from jaxtyping import Int32, Int64

from simulator.compiled import compiled, inlined
from simulator.event_engine.program import ProgramArrays


@inlined
def add_resident(
    p: ProgramArrays,
    devices: Int32[np.ndarray, " ops"],
    memory: Int64[np.ndarray, " devices"],
    seen: Int64[np.ndarray, " devices"],
) -> None:
    """Add what is resident before the step: parameters, and weights wherever they are read.

    Args:
        p: the program.
        devices: of each op.
        memory: bytes of each device, added to.
        seen: scratch.
    """
    for op in range(devices.size):
        memory[devices[op]] += p.resident_bytes[op]
    seen[:] = -1
    for weight in range(p.weight_bytes.size):
        for edge in range(p.weight_offsets[weight], p.weight_offsets[weight + 1]):
            device = devices[p.weight_consumers[edge]]
            if seen[device] != weight:
                seen[device] = weight
                memory[device] += p.weight_bytes[weight]


@compiled
def most_memory(
    p: ProgramArrays,
    devices: Int32[np.ndarray, " ops"],
    most: Int64[np.ndarray, " devices"],
    seen: Int64[np.ndarray, " devices"],
) -> None:
    """Fill `most` with bytes that no device exceeds in one step, whatever the order of its ops.

    That is what is resident, every tensor and every copy of one, and what kernels work in: of those
    that take time one at a time, of those that take none all together.

    Args:
        p: the program.
        devices: of each op.
        most: bytes of each device.
        seen: scratch.
    """
    most[:] = 0
    add_resident(p, devices, most, seen)
    seen[:] = 0  # the largest workspace of ops that take time
    for op in range(devices.size):
        device = devices[op]
        if p.seconds[op, device] == 0.0:
            most[device] += p.workspace_bytes[op]
        else:
            seen[device] = max(seen[device], p.workspace_bytes[op])
    for device in range(most.size):
        most[device] += seen[device]
    seen[:] = -1
    for tensor in range(p.tensor_bytes.size):
        home = devices[p.tensor_producers[tensor]]
        most[home] += p.local_bytes[tensor]
        for edge in range(p.consumer_offsets[tensor], p.consumer_offsets[tensor + 1]):
            device = devices[p.consumers[edge]]
            if device != home and seen[device] != tensor:
                seen[device] = tensor
                most[device] += p.remote_bytes[tensor]
