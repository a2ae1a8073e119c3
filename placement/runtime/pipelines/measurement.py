"""What running overlapping steps gives: period and latency, each with its spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from placement.runtime.measurement import Clock, Measurement
from placement.runtime.pipelines.messages import ExecutedSteps
from placement.runtime.pipelines.replay import evaluation_of, replay_steps
from placement.runtime.programs.device_program import DeviceProgram
from placement.runtime.samples import ACCEPTED_DELAY
from simulator.steps import StepSchedule, StepsEvaluation

#: Quiet rounds that a plan needs for its wall time to count.
_FEWEST_WALL = 3
_NANOSECONDS = 1e-9


@dataclass(frozen=True, eq=False)
class StepsMeasurement:
    """Overlapping steps of one plan on real devices."""

    schedule: StepSchedule
    period: Measurement
    """Seconds between the ends of successive steps once the pipeline is full, a sample a round."""
    latency: Measurement
    """Seconds from a step's release to its end, the mean of each round."""
    piece_seconds: tuple[Float64[np.ndarray, " _"], ...] = ()
    """Median CPU time of each piece of a step in a full pipeline, per device."""

    @staticmethod
    def failed(schedule: StepSchedule, reason: str, clock: Clock) -> "StepsMeasurement":
        """A run that gave no time."""
        nothing = Measurement.failed(reason, clock)
        return StepsMeasurement(schedule, nothing, nothing)

    @property
    def ok(self) -> bool:
        return self.period.ok

    @property
    def failure(self) -> str | None:
        return self.period.failure

    @property
    def steps_per_second(self) -> float:
        """Once the pipeline is full; 0 where the run failed."""
        return 1.0 / self.period.seconds


@dataclass(frozen=True, eq=False)
class StepsRound:
    """All steps of a plan, run once."""

    wall: StepsEvaluation
    accepted: bool
    """Whether the wall time counts: no worker waited for its core for long."""
    cpu: tuple[Float64[np.ndarray, "steps _"], ...]
    """Per device: CPU seconds of each piece of each step."""

    @staticmethod
    def of(executed: Sequence[ExecutedSteps | None], schedule: StepSchedule) -> "StepsRound":
        """Put the devices of one round together; of those that do nothing there is none."""
        there = [item for item in executed if item is not None]
        start = min(item.started for item in there)
        empty = np.zeros((schedule.steps, 0))
        begin, end, cpu = (
            tuple(
                empty if item is None else (getattr(item, name) - since) * _NANOSECONDS
                for item in executed
            )
            for name, since in (("begin", start), ("end", start), ("cpu", 0))
        )
        wall = evaluation_of(schedule, released(schedule, end), begin, end)
        accepted = all(item.delay <= ACCEPTED_DELAY * item.wall for item in there)
        return StepsRound(wall, accepted, cpu)

    def virtual(self, program: DeviceProgram) -> StepsEvaluation:
        """The same pieces with nobody else on the cores: CPU times, replayed by the same rule."""
        return replay_steps(program, self.cpu, self.wall.schedule).evaluation()


def released(
    schedule: StepSchedule, end: Sequence[Float64[np.ndarray, "steps _"]]
) -> Float64[np.ndarray, " steps"]:
    """When each step was let in: at the start, or when the one that many before had ended."""
    ends = np.max([last[:, -1] for last in end if last.shape[1]], axis=0)
    release = np.zeros(schedule.steps)
    release[schedule.most_in_flight :] = ends[: schedule.steps - schedule.most_in_flight]
    return release


def rounds_clock(rounds: Sequence[Sequence[StepsRound]], *, emulated: bool) -> Clock:
    """The clock for plans that are to be compared: wall only where every plan has enough of it."""
    if emulated:
        return Clock.EMULATED
    for plan in rounds:
        accepted = [item.accepted for item in plan]
        if plan and (sum(accepted) < min(_FEWEST_WALL, len(plan)) or np.mean(accepted) < 0.5):
            return Clock.VIRTUAL
    return Clock.WALL


def measured_steps(
    rounds: Sequence[StepsRound],
    program: DeviceProgram,
    schedule: StepSchedule,
    clock: Clock,
    *,
    checked: bool,
) -> StepsMeasurement:
    """All rounds of one plan as one value."""
    if clock is Clock.WALL:
        kept = [item.wall for item in rounds if item.accepted]
    else:
        kept = [item.virtual(program) for item in rounds]
    if not kept:
        return StepsMeasurement.failed(schedule, "no round ran without waiting for a core", clock)
    rejected = len(rounds) - len(kept)
    period, latency = (
        Measurement(values, clock, rounds=values, rejected=rejected, checked=checked)
        for values in (
            np.array([item.period_seconds for item in kept]),
            np.array([item.latency_seconds for item in kept]),
        )
    )
    full = schedule.steps // 2
    parts = zip(*([cpu[full:] for cpu in item.cpu] for item in rounds), strict=True)
    pieces = tuple(np.median(np.concatenate(part), axis=0) for part in parts)
    return StepsMeasurement(schedule, period, latency, pieces)
