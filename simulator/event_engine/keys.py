"""Where an op of a step stands: its key, its slot, and what its step has of a tensor."""

from graphs.kinds import Phase
from simulator.compiled import inlined
from simulator.event_engine.program import ProgramArrays
from simulator.event_engine.state import EngineState

_FORWARD, _BACKWARD, _UPDATE = int(Phase.FORWARD), int(Phase.BACKWARD), int(Phase.UPDATE)


@inlined
def several(s: EngineState) -> bool:
    """Whether steps overlap; known when a kernel is compiled, once for either case."""
    return len(s.overlap.several) > 0


@inlined
def row_of(s: EngineState, slot: int) -> int:
    """The row of what is in a slot."""
    return s.overlap.slot_step[slot] if several(s) else 0


@inlined
def key_of(s: EngineState, slot: int, op: int) -> int:
    """Where an op stands in the order of its device, and of what ends at one instant."""
    key = int(s.ranks[op])
    if several(s):
        key += s.overlap.slot_step[slot] * s.devices.size
        if s.overlap.order_offsets.size > 0:
            key += s.overlap.order_offsets[op]
    return key


@inlined
def transfer_keys(s: EngineState) -> int:
    """Beyond all keys of ops: numbers of transfers begin here."""
    if not several(s):
        return s.devices.size
    rows = s.overlap.end_seconds.size
    return (rows + rows * (s.overlap.order_offsets.size > 0)) * s.devices.size


@inlined
def transfer_place(s: EngineState, number: int) -> int:
    """Where a transfer is kept while somebody needs it."""
    return number % s.overlap.transfers if several(s) else number


@inlined
def op_of_key(s: EngineState, key: int) -> int:
    """The op whose key it is."""
    return s.op_of_rank[key % s.devices.size if several(s) else key]


@inlined
def slot_of_key(s: EngineState, key: int) -> int:
    """The slot of the step that the key is of."""
    if not several(s):
        return 0
    rows = s.overlap.end_seconds.size
    row = key // s.devices.size
    if row >= rows:
        row -= rows
    return s.overlap.in_flight if row == s.overlap.steps else row % s.overlap.in_flight


@inlined
def reference_at(p: ProgramArrays, s: EngineState, slot: int, copy: int) -> int:
    """The place of a copy: originals slot by slot, then transfers, which are numbered for all."""
    if not several(s):
        return copy
    tensors = p.tensor_bytes.size
    if copy < tensors:
        return slot * tensors + copy
    return (s.overlap.slot_step.size - 1) * tensors + copy


@inlined
def edge_at(p: ProgramArrays, slot: int, edge: int) -> int:
    """The place of an edge of a slot."""
    return slot * p.consumers.size + edge


@inlined
def in_updates(s: EngineState, slot: int) -> bool:
    """Whether a slot is that of the updates."""
    return several(s) and slot == s.overlap.in_flight


@inlined
def runs_in(s: EngineState, slot: int, op: int) -> bool:
    """Whether an op runs in a slot: in a step, or with the updates."""
    if not several(s) or s.overlap.made.size == 0:
        return True
    return (s.overlap.phases[op] == _UPDATE) == (slot == s.overlap.in_flight)


@inlined
def kernel_seconds(p: ProgramArrays, s: EngineState, slot: int, op: int) -> float:
    """What an op takes on its device, and in steps after the first, adding to their sums."""
    device = s.devices[op]
    seconds = p.seconds[op, device]
    if several(s) and s.overlap.accumulate_seconds.shape[0] > 0 and s.overlap.slot_step[slot] > 0:
        seconds += s.overlap.accumulate_seconds[op, device]
    return seconds


@inlined
def may_start(s: EngineState, device: int) -> bool:
    """Whether the order of steps lets the first of the ops that are ready on a device start."""
    o = s.overlap
    if not several(s) or (o.windows.size == 0 and o.forward_left.size == 0):
        return True
    key = s.ready[s.ready_base[device]]
    phase = o.phases[op_of_key(s, key)]
    if o.windows.size > 0 and phase == _FORWARD:
        step = o.slot_step[slot_of_key(s, key)]
        return step < o.finished_here[device] + o.windows[device]
    return o.forward_left.size == 0 or phase != _BACKWARD or o.forward_left[device] == 0
