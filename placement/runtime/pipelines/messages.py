"""What workers are told of overlapping steps, and what they answer; plain data that pickles."""

from dataclasses import dataclass

import numpy as np

from placement.runtime.processes.messages import Message, ProgramPart
from simulator.steps import StepSchedule


@dataclass(frozen=True)
class PipelinePart:
    """A device's part of a program, of which several steps are on the way at once."""

    part: ProgramPart
    schedule: StepSchedule
    working: tuple[int, ...]
    """Devices that have anything to do; the others are not asked."""


@dataclass(frozen=True, eq=False)
class ExecutedSteps:
    """Times of a device in nanoseconds, a row per step and a column per piece of it."""

    started: int
    """When all devices were ready, on the clock that all processes share."""
    begin: np.ndarray
    end: np.ndarray
    cpu: np.ndarray
    """CPU time of each piece; waiting for messages is left out."""
    wall: int
    """How long it took in all."""
    delay: int
    """How long of that the worker was ready to run and waited for its core."""
    wrong: str | None
    """Which output of which step is not the original's, and why; None where all are."""


@dataclass(frozen=True)
class ExecuteSteps(Message[ExecutedSteps]):
    """Run all steps of a loaded pipeline once."""

    number: int
    first_sequence: int
    """Number of the first step; no step of a program has another's."""
    timeout_seconds: float
    clear: bool = False
    """Whether to spoil all buffers first, so that nothing of earlier steps passes for new."""
