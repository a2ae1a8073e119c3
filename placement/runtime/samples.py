"""From what workers timed to step times on a clock."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from placement.runtime.measurement import Clock, Measurement
from placement.runtime.processes.messages import Executed

#: A wall sample counts if no worker waited for its core longer than this share of the step.
ACCEPTED_DELAY = 0.05
#: Wall samples that a plan needs for its wall time to count.
_FEWEST_WALL = 5
_NANOSECONDS = 1e-9


@dataclass(frozen=True)
class Sampling:
    """How often to run, and for how long at most."""

    rounds: int = 9
    """Several plans take turns: A B C A B C."""
    iterations: int = 3
    """Steps of each round that count."""
    warm_up: int = 1
    """Steps of each round that do not count: the caches hold another plan's data."""
    hot: int = 0
    """Repeat each run of ops so often in place and count the mean, for kernels by themselves."""
    clock: Clock | None = None
    """None takes wall time where the machine is quiet enough, else the virtual clock."""
    timeout_seconds: float = 60.0
    """For one round."""
    load_seconds: float = 120.0
    """At most, for making a plan's sessions."""


@dataclass(frozen=True, eq=False)
class StepTimes:
    """Step times of one round, seconds per counted step."""

    wall: Float64[np.ndarray, " steps"]
    accepted: Bool[np.ndarray, " steps"]
    """Whether the wall time counts."""
    virtual: Float64[np.ndarray, " steps"]
    cpu: tuple[Float64[np.ndarray, "_ _"], ...]
    """Per device: CPU seconds of each step of its program."""

    @staticmethod
    def of(executed: Sequence[Executed], warm_up: int) -> "StepTimes":
        """Put the devices of one round together."""
        begin = np.min([item.wall_begin for item in executed], axis=0)
        wall = np.max([item.wall_end for item in executed], axis=0) - begin
        delay = np.max([item.delay for item in executed], axis=0)
        virtual = np.max([item.virtual_end for item in executed], axis=0)
        return StepTimes(
            wall[warm_up:] * _NANOSECONDS,
            (delay <= ACCEPTED_DELAY * wall)[warm_up:],
            virtual[warm_up:] * _NANOSECONDS,
            tuple(item.step_cpu[warm_up:] * _NANOSECONDS for item in executed),
        )


def shared_clock(rounds: Sequence[Sequence[StepTimes]], *, emulated: bool) -> Clock:
    """The clock for plans that are to be compared: wall only where every plan has enough of it."""
    if emulated:
        return Clock.EMULATED
    for plan in rounds:
        accepted = np.concatenate([times.accepted for times in plan] or [np.zeros(0, bool)])
        if plan and (accepted.sum() < _FEWEST_WALL or accepted.mean() < 0.5):
            return Clock.VIRTUAL
    return Clock.WALL


def measured(rounds: Sequence[StepTimes], clock: Clock, *, checked: bool) -> Measurement:
    """All rounds of one plan as one value."""
    if clock is Clock.WALL:
        kept = [times.wall[times.accepted] for times in rounds]
    else:
        kept = [times.virtual for times in rounds]
    kept = [values for values in kept if values.size]
    if not kept:
        return Measurement.failed("no step ran without waiting for its core", clock)
    parts = zip(*(times.cpu for times in rounds), strict=True)
    return Measurement(
        samples=np.concatenate(kept),
        clock=clock,
        rounds=np.array([np.median(values) for values in kept]),
        step_seconds=tuple(np.median(np.concatenate(part), axis=0) for part in parts),
        rejected=int(sum((~times.accepted).sum() for times in rounds)) if clock == "wall" else 0,
        checked=checked,
    )
