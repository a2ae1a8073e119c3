"""What is due: events in their order, and devices to look at when an instant's events are over."""

from simulator.compiled import inlined
from simulator.event_engine.heaps import push_event
from simulator.event_engine.keys import several
from simulator.event_engine.state import EVENTS, TOUCHED, EngineState


@inlined
def schedule(s: EngineState, time: float, key: int) -> None:
    """Note when something ends or arrives."""
    s.counts[EVENTS] = push_event(s.event_time, s.event_key, s.counts[EVENTS], time, key)


@inlined
def touch(s: EngineState, device: int) -> None:
    """Have a device looked at: it may start an op, or hold more memory."""
    s.touched[device] = 1
    s.counts[TOUCHED] = 1


@inlined
def occupy(s: EngineState, device: int, seconds: float, key: int, now: float) -> None:
    """Occupy a device from now on, for an op that ends then."""
    if several(s):
        s.overlap.busy_seconds[device] += seconds
    schedule(s, now + seconds, key)
