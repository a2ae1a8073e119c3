"""Steps that overlap: how many run, how many are on the way at once, and what that comes to."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from simulator.errors import PlanError
from simulator.evaluation import OutOfMemory


class StepOrder(StrEnum):
    """Which of several steps a device works on, where more than one could go on."""

    OLDEST_FIRST = "oldest-first"
    """The oldest step that is ready; within a step, priorities decide."""
    GPIPE = "gpipe"
    """All forward, then all backward (Huang et al., GPipe, 2019); all steps are on the way."""
    ONE_F_ONE_B = "1f1b"
    """Backward before forward, with as many steps begun on a device as there are stages from it
    to the last (Narayanan et al., PipeDream, 2019, section 3.2)."""


@dataclass(frozen=True)
class StepSchedule:
    """How steps follow each other.

    Steps of an inference graph are requests. In a training graph, forward and backward run once
    for each step, a micro-batch, and weight gradients add up; updates run once, at the end.
    """

    steps: int
    """How many run; the graph says how large each is."""
    in_flight: int
    """Most steps on the way at once. A step is released when the one that many before has ended."""
    order: StepOrder = StepOrder.OLDEST_FIRST

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PlanError(f"{self.steps} steps: at least one must run")
        if self.in_flight < 1:
            raise PlanError(f"{self.in_flight} steps in flight: at least one must be on the way")
        if self.order == StepOrder.GPIPE and self.in_flight < self.steps:
            raise PlanError(
                f"gpipe runs all {self.steps} micro-batches forward before it runs any backward, "
                f"so all of them are in flight, not {self.in_flight}; 1f1b holds fewer"
            )

    @property
    def most_in_flight(self) -> int:
        """Steps on the way at once: no more than there are."""
        return min(self.steps, self.in_flight)


@dataclass(frozen=True, eq=False)
class StepsEvaluation:
    """The score of steps that overlap."""

    schedule: StepSchedule
    release_seconds: Float64[np.ndarray, " steps"]
    """When each step was let in."""
    end_seconds: Float64[np.ndarray, " steps"]
    makespan_seconds: float
    """From the first release to the end of everything, updates included."""
    busy_seconds: tuple[float, ...]
    """Compute time of each device in all."""
    peak_bytes: tuple[int, ...]
    failure: OutOfMemory | str | None = None
    excess_bytes: int = 0
    """Peak bytes over capacity, summed over devices."""

    @property
    def feasible(self) -> bool:
        """Whether every op can run and everything fits."""
        return self.failure is None

    @cached_property
    def period_seconds(self) -> float:
        """Between the ends of successive steps once the pipeline is full.

        The mean over the second half of the steps that end while others are still let in, or, where
        too few of them do, of all steps; of a single step, its makespan. What ends while the
        pipeline runs empty comes faster than it can go on.
        """
        first, last = self._full
        if first == last or not np.isfinite(self.makespan_seconds):
            return self.makespan_seconds
        ends = np.sort(self.end_seconds)
        return float((ends[last] - ends[first]) / (last - first))

    @cached_property
    def latency_seconds(self) -> float:
        """From a step's release to its end, the mean over the steps that the period is of."""
        first, last = self._full
        if not np.isfinite(self.makespan_seconds):
            return self.makespan_seconds
        taken = (self.end_seconds - self.release_seconds)[first + (first < last) : last + 1]
        return float(taken.mean())

    @property
    def _full(self) -> tuple[int, int]:
        """The step after which the pipeline counts as full, and the last one that does."""
        last = len(self.end_seconds) - 1
        full = last - self.schedule.most_in_flight
        if full > self.schedule.most_in_flight:
            last = full
        return last // 2, last

    @property
    def steps_per_second(self) -> float:
        """Once the pipeline is full."""
        return 1.0 / max(self.period_seconds, 1e-300)

    @property
    def bubble(self) -> float:
        """Share of the time of the devices that work at all in which they do not compute."""
        busy = [seconds for seconds in self.busy_seconds if seconds > 0.0]
        return 1.0 - sum(busy) / max(len(busy) * self.makespan_seconds, 1e-300)
