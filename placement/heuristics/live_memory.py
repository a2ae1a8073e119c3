"""The list schedulers' estimate of live memory: ops in the order in which they are placed."""

from placement.heuristics.partial_schedule import PartialSchedule
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
def hold_outputs(p: ProgramArrays, partial: PartialSchedule, op: int) -> None:
    """Charge the outputs of an op, which was just placed, that somebody reads."""
    device = partial.devices[op]
    for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
        if partial.readers_left[tensor] > 0:
            partial.used[device] += p.local_bytes[tensor]


@inlined
def finish_reading(p: ProgramArrays, partial: PartialSchedule, op: int) -> None:
    """Free the inputs that an op was the last to read, wherever they have copies."""
    for index in range(p.input_offsets[op], p.input_offsets[op + 1]):
        tensor = p.edge_tensors[p.input_edges[index]]
        partial.readers_left[tensor] -= 1
        if partial.readers_left[tensor] > 0:
            continue
        source = partial.devices[p.tensor_producers[tensor]]
        partial.used[source] -= p.local_bytes[tensor]
        for device in range(partial.used.size):
            if device != source and partial.arrival[tensor, device] >= 0.0:
                partial.used[device] -= p.remote_bytes[tensor]
