"""How far steps are that overlap: what is left of each, on each device and of each phase."""

import numpy as np

from graphs.kinds import Phase
from simulator.compiled import inlined
from simulator.event_engine.agenda import touch
from simulator.event_engine.state import EngineState

_FORWARD = int(Phase.FORWARD)


@inlined
def reset_overlap(s: EngineState) -> None:
    """Nothing has been let in, nothing is done."""
    o = s.overlap
    o.made[:] = 0
    o.finished_here[:] = 0
    o.forward_left[:] = 0
    o.slot_left[:] = 0
    o.slot_step[:] = 0
    o.release_seconds[:] = 0.0
    o.end_seconds[:] = np.inf
    o.busy_seconds[:] = 0.0
    if o.forward_left.size > 0:
        for op in range(s.devices.size):
            if o.phases[op] == _FORWARD:
                o.forward_left[s.devices[op]] += o.steps


@inlined
def count_finished(s: EngineState, slot: int, op: int) -> None:
    """Note what an op's end means for its step, and for the order of steps on its device."""
    o = s.overlap
    device = s.devices[op]
    o.slot_left[slot] -= 1
    if slot == o.in_flight:
        return
    if o.windows.size > 0:
        at = slot * o.windows.size + device
        o.left_here[at] -= 1
        if o.left_here[at] == 0:
            o.finished_here[device] += 1
            touch(s, device)
    if o.forward_left.size > 0 and o.phases[op] == _FORWARD:
        o.forward_left[device] -= 1
        if o.forward_left[device] == 0:
            touch(s, device)
