"""When each step of a device program runs, given how long each takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from placement.runtime.programs.device_program import DeviceProgram, Receive, Send


@dataclass(frozen=True, eq=False)
class Timeline:
    """Begin and end of each step per device, in seconds."""

    begin: tuple[Float64[np.ndarray, " _"], ...]
    end: tuple[Float64[np.ndarray, " _"], ...]

    @property
    def seconds(self) -> float:
        """The step time of the whole program."""
        return max((float(end[-1]) for end in self.end if len(end)), default=0.0)


def replay(
    program: DeviceProgram,
    seconds: Sequence[Float64[np.ndarray, " _"]],
    latency_seconds: Float64[np.ndarray, "devices devices"] | None = None,
) -> Timeline:
    """Run a program on paper: steps of a device in their order, a receive after its send.

    Args:
        program: the steps.
        seconds: how long each step keeps its device busy.
        latency_seconds: between the end of a send and the earliest begin of its receive, by
            source and target; none without.
    """
    begin = [np.zeros(len(steps)) for steps in program.steps]
    end = [np.zeros(len(steps)) for steps in program.steps]
    position = [0] * len(program.steps)
    now = [0.0] * len(program.steps)
    sent: dict[int, float] = {}
    moved = True
    while moved:
        moved = False
        for device, steps in enumerate(program.steps):
            while position[device] < len(steps):
                at = position[device]
                step = steps[at]
                if isinstance(step, Receive):
                    if step.transfer not in sent:
                        break
                    now[device] = max(now[device], sent[step.transfer])
                begin[device][at] = now[device]
                now[device] += float(seconds[device][at])
                end[device][at] = now[device]
                if isinstance(step, Send):
                    target = program.transfers[step.transfer].target
                    wire = 0.0 if latency_seconds is None else latency_seconds[device, target]
                    sent[step.transfer] = now[device] + float(wire)
                position[device] += 1
                moved = True
    if any(at < len(steps) for at, steps in zip(position, program.steps, strict=True)):
        raise AssertionError("a device program waits for itself")
    return Timeline(tuple(begin), tuple(end))
