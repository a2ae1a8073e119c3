"""Why a device is idle: what the op that ended each pause had to wait for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulator.traces.trace import Trace

Cause = Literal["other device", "sending", "link busy", "nothing left"]
CAUSES: tuple[Cause, ...] = ("other device", "sending", "link busy", "nothing left")


@dataclass(frozen=True)
class Idle:
    """A stretch of time in which a device computes nothing, for one reason."""

    device: int
    start_seconds: float
    end_seconds: float
    cause: Cause
    source: int
    """The device that an input came from; -1 where nothing is left to do."""
    op: int
    """The op that ended the pause; -1 where nothing is left to do."""

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds


def idle_stretches(trace: Trace) -> Iterator[Idle]:
    """Every pause of every device, cut by cause.

    A pause ends with an op whose last input has arrived. Before the transfer of that input was
    asked for, its producer's device had not made it (`other device`); then its link carried
    something else (`link busy`), then the input itself (`sending`). Stretches of a device do not
    overlap and add up to the step time less its busy seconds.
    """
    for device in range(trace.cluster.device_count):
        mine = np.flatnonzero((trace.devices == device) & (trace.end > trace.start))
        clock = 0.0
        for op in mine[np.argsort(trace.start[mine], kind="stable")].tolist():
            begin = float(trace.start[op])
            if begin > clock:
                yield from _cut(trace, device, op, clock, begin)
            clock = max(clock, float(trace.end[op]))
        if trace.makespan_seconds > clock:
            yield Idle(device, clock, trace.makespan_seconds, "nothing left", -1, -1)


def _cut(trace: Trace, device: int, op: int, clock: float, begin: float) -> Iterator[Idle]:
    transfer = _find_awaited(trace, op)
    if transfer < 0:
        yield Idle(device, clock, begin, "other device", -1, op)
        return
    source = int(trace.transfer_sources[transfer])
    bounds: tuple[tuple[float, Cause], ...] = (
        (float(trace.transfer_request[transfer]), "other device"),
        (float(trace.transfer_start[transfer]), "link busy"),
        (begin, "sending"),
    )
    for until, cause in bounds:
        until = min(max(until, clock), begin)
        if until > clock:
            yield Idle(device, clock, until, cause, source, op)
        clock = until


def _find_awaited(trace: Trace, op: int) -> int:
    """The transfer that an op waited for, looking through ops that take no time; or -1."""
    while True:
        if trace.cause_transfer[op] >= 0:
            return int(trace.cause_transfer[op])
        before = int(trace.cause_op[op])
        if before < 0 or trace.end[before] > trace.start[before]:
            return -1
        op = before
