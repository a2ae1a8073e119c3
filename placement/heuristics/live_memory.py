"""The list schedulers' estimate of live memory: ops in the order in which they are placed."""

import numpy as np

from simulator.compiled import inlined
from simulator.event_engine.program import ProgramArrays


@inlined
def start_bytes(p: ProgramArrays, op: int) -> int:
    """What an op takes when it starts: workspace and outputs."""
    total = p.workspace_bytes[op]
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        total += p.local_bytes[tensor]
    return total


@inlined
def hold_outputs(
    p: ProgramArrays, op: int, device: int, readers_left: np.ndarray, used: np.ndarray
) -> None:
    """Charge the outputs that somebody reads."""
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        if readers_left[tensor] > 0:
            used[device] += p.local_bytes[tensor]


@inlined
def finish_reading(
    p: ProgramArrays,
    op: int,
    devices: np.ndarray,
    arrival: np.ndarray,
    readers_left: np.ndarray,
    used: np.ndarray,
) -> None:
    """Free the inputs that an op was the last to read, wherever they have copies."""
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        tensor = p.edge_tensors[p.input_edges[index]]
        readers_left[tensor] -= 1
        if readers_left[tensor] > 0:
            continue
        source = devices[p.tensor_producers[tensor]]
        used[source] -= p.local_bytes[tensor]
        for device in range(used.size):
            if device != source and arrival[tensor, device] >= 0.0:
                used[device] -= p.remote_bytes[tensor]
